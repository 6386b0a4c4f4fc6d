package policy

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxFailedLookups is how many groups that cannot be looked up are waited for: each
// may take seconds, and a login that takes too long is refused.
const maxFailedLookups = 2

// facts is what the conditions of one login see: a cel.Activation that looks up what
// a condition asks for, and nothing else.
type facts struct {
	s     *Subject
	names Resolver

	members map[string]Membership // looked up once for each login
	failed  int                   // of these look-ups
	// noClaims: what a program that is not root says is not known.
	noClaims bool
	// asSeen: who was in a group not long ago is taken to be in it now.
	asSeen bool
	absent []string // groups of the last evaluation in which they are not now, but were not long ago

	told *told // what Explain shows; nil in Decide
}

// ResolveName implements cel.Activation.
func (f *facts) ResolveName(name string) (any, bool) {
	i := slices.IndexFunc(variables[:], func(v variable) bool { return v.name == name })
	if i < 0 {
		return nil, false
	}
	v := &variables[i]
	value := v.of(f)
	f.told.fact(v, value)
	if v.claim && f.noClaims && !f.s.Trusted {
		return types.NewUnknown(1, types.NewAttributeTrail(name)), true
	}
	return value, true
}

// Parent implements cel.Activation.
func (*facts) Parent() cel.Activation { return nil }

// variable is one thing that conditions can ask about.
type variable struct {
	name string
	kind *cel.Type
	// claim: the hook says it. What a program that is not root says is not known
	// where it would weaken.
	claim bool
	of    func(*facts) ref.Val
}

// Variables that need more than a value of the language's own types.
const (
	groupsVariable  = "groups"
	addressVariable = "@address" // what remote.within compares; no text can name it
)

// variables are all.
var variables = [...]variable{
	{"user", cel.StringType, false, func(f *facts) ref.Val { return types.String(f.s.Name) }},
	{"uid", cel.IntType, false, func(f *facts) ref.Val {
		if uid, ok := f.s.ID.UID(); ok && f.s.Resolved {
			return types.Int(uid)
		}
		return types.NewErr("uid is not known: the account has none")
	}},
	{"sid", cel.StringType, false, func(f *facts) ref.Val {
		if sid, ok := f.s.ID.SID(); ok && f.s.Resolved {
			return types.String(sid)
		}
		return types.NewErr("sid is not known: the account has none")
	}},
	{groupsVariable, groupsType, false, func(f *facts) ref.Val { return groups{f: f} }},
	{"hook", cel.StringType, true, func(f *facts) ref.Val { return types.String(f.s.Hook) }},
	{"service", cel.StringType, true, func(f *facts) ref.Val { return types.String(f.s.Service) }},
	{"scenario", cel.StringType, true, func(f *facts) ref.Val { return types.String(f.s.Scenario) }},
	{"remote", cel.StringType, true, func(f *facts) ref.Val {
		if f.s.Host == "" && !f.s.local() {
			return types.NewErr("remote is not known: it comes over the network, and the service does not say from where")
		}
		return types.String(f.s.Host)
	}},
	{addressVariable, addressType, true, func(f *facts) ref.Val {
		if f.s.RemoteUnknown {
			return types.NewErr("the address of remote is not known: %q is not one", f.s.Host)
		}
		return address{Addr: f.s.Remote}
	}},
	{"local", cel.BoolType, true, func(f *facts) ref.Val { return types.Bool(f.s.local()) }},
	{"session", cel.StringType, true, func(f *facts) ref.Val { return types.String(f.s.Session) }},
	{"online", cel.BoolType, false, func(f *facts) ref.Val { return types.Bool(f.s.Online) }},
	{"now", cel.TimestampType, false, func(f *facts) ref.Val { return f.clock(types.Timestamp{Time: f.s.Now}) }},
	{"hour", cel.IntType, false, func(f *facts) ref.Val { return f.clock(types.Int(f.s.Now.Hour())) }},
	{"weekday", cel.StringType, false, func(f *facts) ref.Val { return f.clock(types.String(strings.ToLower(f.s.Now.Weekday().String()))) }},
	{"device.encrypted", cel.BoolType, false, func(f *facts) ref.Val {
		return known("device.encrypted", f.s.Device.Encrypted, func(v bool) ref.Val { return types.Bool(v) })
	}},
	{"device.tpm", cel.BoolType, false, func(f *facts) ref.Val {
		return known("device.tpm", f.s.Device.TPM, func(v bool) ref.Val { return types.Bool(v) })
	}},
	{"device.os", cel.StringType, false, func(f *facts) ref.Val {
		return known("device.os", Fact[string]{Value: f.s.Device.OS, Known: f.s.Device.OS != ""}, text)
	}},
	{"device.os_version", cel.StringType, false, func(f *facts) ref.Val { return known("device.os_version", f.s.Device.OSVersion, text) }},
	{"device.authority", cel.StringType, false, func(f *facts) ref.Val { return known("device.authority", f.s.Device.Authority, text) }},
	{"last.factor", cel.StringType, false, func(f *facts) ref.Val {
		return known("last.factor", f.s.Last, func(l Last) ref.Val { return types.String(l.Factor) })
	}},
	// Where there is none yet, it is longer ago than any time.
	{"last.age", cel.DurationType, false, func(f *facts) ref.Val {
		return known("last.age", f.s.Last, func(l Last) ref.Val {
			if l.Factor == "" {
				return types.Duration{Duration: math.MaxInt64}
			}
			return types.Duration{Duration: l.Age}
		})
	}},
}

func text(s string) ref.Val { return types.String(s) }

func known[T any](name string, f Fact[T], value func(T) ref.Val) ref.Val {
	switch {
	case f.Known:
		return value(f.Value)
	case f.Why != "":
		return types.NewErr("%s is not known: %s", name, f.Why)
	}
	return types.NewErr("%s is not known", name)
}

func (f *facts) clock(v ref.Val) ref.Val {
	if f.s.Now.IsZero() {
		return types.NewErr("the time is not known")
	}
	return v
}

// member says whether the person is in a group. Nobody whom the system does not know
// is in one.
func (f *facts) member(group string) Membership {
	if !f.s.Resolved {
		return NotMember
	}
	m, looked := f.members[group]
	if !looked {
		m = f.names.Membership(f.s.Name, group)
		if m == Unknown {
			f.failed++
		}
		if f.members == nil {
			f.members = map[string]Membership{}
		}
		f.members[group] = m
	}
	return m
}

// groups is the variable of that name: it is asked about one group at a time.
type groups struct {
	opaque
	f *facts
}

// Contains implements traits.Container.
func (g groups) Contains(name ref.Val) ref.Val {
	f, group := g.f, string(name.(types.String))
	if _, looked := f.members[group]; !looked && f.failed >= maxFailedLookups {
		return types.NewErr("the group %q was not looked up, as others could not be", group)
	}
	switch f.member(group) {
	case Member:
		f.told.group(group, "true", "")
		return types.True
	case NotMember:
		if f.s.Resolved && f.names.LastSeen(f.s.ID, group) {
			f.told.group(group, "false", "but was not long ago, and a directory that is down looks the same")
			f.absent = append(f.absent, group)
			return types.Bool(f.asSeen)
		}
		f.told.group(group, "false", "")
		return types.False
	}
	why := fmt.Sprintf("whether %s is in the group %q cannot be looked up", f.s.Name, group)
	f.told.group(group, "", "the look-up failed, or there is no such group")
	return types.NewErr("%s", why)
}

// in are the groups that were looked at and that the person is in.
func (f *facts) in() (groups []string) {
	for group, m := range f.members {
		if m == Member {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	return groups
}

// opaque is what a value can do that only our own functions can use.
type opaque struct{}

// ConvertToNative implements ref.Val.
func (opaque) ConvertToNative(reflect.Type) (any, error) { return nil, errors.New("not a value") }

// ConvertToType implements ref.Val.
func (opaque) ConvertToType(ref.Type) ref.Val { return types.NewErr("not a value") }

// Equal implements ref.Val.
func (opaque) Equal(ref.Val) ref.Val { return types.NewErr("not a value") }

// Value implements ref.Val.
func (opaque) Value() any { return nil }

// Type implements ref.Val.
func (groups) Type() ref.Type { return groupsType }

// Type implements ref.Val.
func (address) Type() ref.Type { return addressType }

// told collects what an Explanation tells. A nil one collects nothing.
type told struct {
	steps []Step
	facts []Seen
}

func (t *told) step(side *side, rule string, outcome Outcome, text string) {
	if t != nil {
		t.steps = append(t.steps, Step{rule, side.source, outcome, text})
	}
}

func (t *told) fact(v *variable, value ref.Val) {
	if t == nil || v.name == groupsVariable {
		return
	}
	seen := Seen{Name: v.name}
	if v.name == addressVariable {
		seen.Name = "address of remote"
	}
	switch value := value.(type) {
	case *types.Err:
		seen.Text = value.Error()
	case types.String:
		seen.Value = strconv.Quote(string(value))
	case types.Timestamp:
		seen.Value = value.Format(time.RFC3339)
	case types.Duration:
		if seen.Value = value.Duration.Round(time.Second).String(); value.Duration == math.MaxInt64 {
			seen.Value, seen.Text = "never", "no factor was given here yet"
		}
	case address:
		if seen.Value = value.String(); !value.IsValid() {
			seen.Value = "this computer"
		}
	default:
		seen.Value = fmt.Sprint(value.Value())
	}
	t.add(seen)
}

func (t *told) group(name, value, text string) {
	if t != nil {
		t.add(Seen{strconv.Quote(name) + " in groups", value, text})
	}
}

func (t *told) add(seen Seen) {
	if !slices.Contains(t.facts, seen) {
		t.facts = append(t.facts, seen)
	}
}

// contains says whether an address is in a range. Zones are not compared.
func contains(p netip.Prefix, addr netip.Addr) bool { return p.Contains(addr.Unmap().WithZone("")) }
