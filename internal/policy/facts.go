package policy

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// facts is what the conditions of one login see. What a condition asks for is looked
// up when it does, and nothing else is.
type facts struct {
	s     *Subject
	names Resolver

	members map[string]Membership // looked up once for each login
	// noClaims: what a program that is not root says is not known.
	noClaims bool
	// asSeen: who was in a group not long ago is taken to be in it now.
	asSeen bool
	absent []string // groups of the last evaluation in which they are not now, but were not long ago

	told *told // what Explain shows; nil in Decide
}

// look is what one variable is.
func (f *facts) look(v *variable) value {
	is := v.of(f)
	f.told.fact(f, v.name, is)
	return f.claim(v.claim, is)
}

// claim leaves out what a program says that is not root's, where it would weaken.
func (f *facts) claim(claim bool, v value) value {
	if claim && f.noClaims {
		return value{kind: hanging}
	}
	return v
}

// variable is one thing that conditions can ask about.
type variable struct {
	name  string
	kind  kind
	claim bool // the hook says it
	of    func(*facts) value
}

// variables are all.
var variables = []variable{
	{"user", text, false, func(f *facts) value {
		if f.s.Typed {
			return fails("user is not known: the system cannot be asked how it spells the name that was typed")
		}
		return textOf(f.s.Name)
	}},
	{"uid", number, false, func(f *facts) value {
		if uid, ok := f.s.ID.UID(); ok && f.s.Resolved {
			return value{kind: number, n: int64(uid)}
		}
		return fails("uid is not known: the account has none")
	}},
	{"sid", text, false, func(f *facts) value {
		if sid, ok := f.s.ID.SID(); ok && f.s.Resolved {
			return textOf(sid)
		}
		return fails("sid is not known: the account has none")
	}},
	{"hook", text, true, func(f *facts) value { return textOf(f.s.Hook) }},
	{"service", text, true, func(f *facts) value { return textOf(f.s.Service) }},
	{"scenario", text, true, func(f *facts) value { return textOf(f.s.Scenario) }},
	{"remote", text, true, func(f *facts) value {
		if f.s.Host == "" && !f.s.local() {
			return fails("remote is not known: it comes over the network, and the service does not say from where")
		}
		return textOf(f.s.Host)
	}},
	{"local", boolean, true, func(f *facts) value { return boolOf(f.s.local()) }},
	{"session", text, true, func(f *facts) value { return textOf(f.s.Session) }},
	{"online", boolean, false, func(f *facts) value { return boolOf(f.s.Online) }},
	{"now", timestamp, false, func(f *facts) value { return f.clock(moment(f.s.Now)) }},
	{"hour", number, false, func(f *facts) value { return f.clock(value{kind: number, n: int64(f.s.Now.Hour())}) }},
	{"weekday", text, false, func(f *facts) value { return f.clock(textOf(strings.ToLower(f.s.Now.Weekday().String()))) }},
	{"device.encrypted", boolean, false, func(f *facts) value { return known("device.encrypted", f.s.Device.Encrypted, boolOf) }},
	{"device.tpm", boolean, false, func(f *facts) value { return known("device.tpm", f.s.Device.TPM, boolOf) }},
	{"device.os", text, false, func(f *facts) value {
		return known("device.os", Fact[string]{Value: f.s.Device.OS, Known: f.s.Device.OS != ""}, textOf)
	}},
	{"device.os_version", text, false, func(f *facts) value { return known("device.os_version", f.s.Device.OSVersion, textOf) }},
	{"device.authority", text, false, func(f *facts) value { return known("device.authority", f.s.Device.Authority, textOf) }},
	{"last.factor", text, false, func(f *facts) value {
		return known("last.factor", f.s.Last, func(l Last) value { return textOf(l.Factor) })
	}},
	// Where there is none yet, it is longer ago than any time.
	{"last.age", duration, false, func(f *facts) value {
		return known("last.age", f.s.Last, func(l Last) value {
			if l.Factor == "" {
				return value{kind: duration, n: math.MaxInt64}
			}
			return value{kind: duration, n: int64(l.Age)}
		})
	}},
}

func variableNamed(name string) *variable {
	i := slices.IndexFunc(variables, func(v variable) bool { return v.name == name })
	if i < 0 {
		return nil
	}
	return &variables[i]
}

func known[T any](name string, f Fact[T], of func(T) value) value {
	switch {
	case f.Known:
		return of(f.Value)
	case f.Why != "":
		return fails("%s is not known: %s", name, f.Why)
	}
	return fails("%s is not known", name)
}

func (f *facts) clock(v value) value {
	if f.s.Now.IsZero() {
		return fails("%s", cmp.Or(f.s.NoTime, "the time is not known"))
	}
	return v
}

// networks are those of remote.within.
type networks []netip.Prefix

// within says whether the login comes from one of them; none is at the computer itself.
func (f *facts) within(in networks) value {
	v := boolOf(slices.ContainsFunc(in, func(p netip.Prefix) bool { return contains(p, f.s.Remote) }))
	if f.s.RemoteUnknown {
		v = fails("the address of remote is not known: %q is not one", f.s.Host)
	}
	f.told.fact(f, "remote", textOf(f.s.Host))
	return f.claim(true, v)
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
		if f.members == nil {
			f.members = map[string]Membership{}
		}
		f.members[group] = m
	}
	return m
}

// inGroup is "name" in groups.
func (f *facts) inGroup(group string) value {
	switch f.member(group) {
	case Member:
		f.told.group(group, "true", "")
		return boolOf(true)
	case NotMember:
		if f.s.Resolved && f.names.LastSeen(f.s.ID, group) {
			f.told.group(group, "false", "but was not long ago, and a directory that is down looks the same")
			f.absent = append(f.absent, group)
			return boolOf(f.asSeen)
		}
		f.told.group(group, "false", "")
		return boolOf(false)
	}
	f.told.group(group, "", "the look-up failed, or there is no such group")
	return fails("whether %s is in the group %q cannot be looked up", f.s.Name, group)
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

func (t *told) fact(f *facts, name string, v value) {
	if t == nil {
		return
	}
	seen := Seen{Name: name}
	switch v.kind {
	case notKnown:
		seen.Text = v.s
	case text:
		seen.Value = strconv.Quote(v.s)
	case boolean:
		seen.Value = strconv.FormatBool(v.n != 0)
	case number:
		seen.Value = strconv.FormatInt(v.n, 10)
	case timestamp:
		seen.Value = f.s.Now.Format(time.RFC3339)
	case duration:
		if seen.Value = time.Duration(v.n).Round(time.Second).String(); v.n == math.MaxInt64 {
			seen.Value, seen.Text = "never", "no factor was given here yet"
		}
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
