package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// directory is what the system knows, and what it fails to tell.
type directory struct {
	uids    map[string]uint32   // every spelling of every name
	groups  map[string][]string // the members' own names
	failing []string            // names and groups whose look-up fails
	seen    map[string]uint32   // group: who was in it not long ago
}

func (d directory) IsUser(name string, id identity.ID) policy.Membership {
	known, ok := d.uids[name]
	switch {
	case slices.Contains(d.failing, name):
		return policy.Unknown
	case ok && identity.UID(known) == id:
		return policy.Member
	}
	return policy.NotMember
}

func (d directory) Membership(user, group string) policy.Membership {
	members, ok := d.groups[group]
	switch {
	case !ok || slices.Contains(d.failing, group):
		return policy.Unknown
	case slices.Contains(members, user):
		return policy.Member
	}
	return policy.NotMember
}

func (d directory) LastSeen(id identity.ID, group string) bool {
	uid, ok := d.seen[group]
	return ok && identity.UID(uid) == id
}

var company = directory{
	uids:   map[string]uint32{"root": 0, "alice": 1000, "ALICE": 1000, "alice@corp": 1000, "bob": 1001},
	groups: map[string][]string{"staff": {"alice", "bob"}, "ops": {"bob"}, "empty": {}},
}

var (
	alice = policy.Subject{Name: "alice", ID: identity.UID(1000), Resolved: true, Service: "sshd", Trusted: true}
	bob   = policy.Subject{Name: "bob", ID: identity.UID(1001), Resolved: true, Service: "sshd", Trusted: true}
	root  = policy.Subject{Name: "root", ID: identity.UID(0), Resolved: true, Service: "login", Trusted: true}
	ghost = policy.Subject{Service: "sshd", Trusted: true}
)

// from is the subject coming from a remote host, as loginsvc tells it.
func from(s policy.Subject, host string) policy.Subject {
	addr, err := netip.ParseAddr(host)
	s.Remote, s.RemoteUnknown = addr, err != nil
	return s
}

// decide compiles and decides.
func decide(local policy.Rules, who policy.Subject, names policy.Resolver) policy.Decision {
	p, err := policy.Compile(local, nil, false)
	if err != nil {
		panic(err)
	}
	return p.Decide(who, names)
}

// both does with the organisation's policy beside.
func both(local, central policy.Rules, allowExemptions bool, who policy.Subject) policy.Decision {
	p, err := policy.Compile(local, &central, allowExemptions)
	if err != nil {
		panic(err)
	}
	return p.Decide(who, company)
}

func TestDecide(t *testing.T) {
	type list = []string
	enrolled := func(required, exempt policy.Match) policy.Rules {
		return policy.Rules{Ask: policy.AskEnrolled, Required: required, Exempt: exempt}
	}
	everyone := func(exempt policy.Match) policy.Rules { return policy.Rules{Ask: policy.AskRequired, Exempt: exempt} }
	failing := func(names ...string) directory { d := company; d.failing = names; return d }
	seenIn := func(group string) directory {
		d := company
		d.groups = map[string][]string{group: {}}
		d.seen = map[string]uint32{group: 1000}
		return d
	}
	untrusted := func(s policy.Subject) policy.Subject { s.Trusted = false; return s }
	none := policy.Match{}

	for _, c := range []struct {
		name  string
		rules policy.Rules
		who   policy.Subject
		names directory
		want  policy.Effect
		rule  string
	}{
		{"no list, ask the enrolled", enrolled(none, none), alice, company, policy.IfEnrolled, "default=enrolled"},
		{"no list, ask everyone", everyone(none), alice, company, policy.Ask, "default=required"},
		{"an unknown user, ask the enrolled", enrolled(none, none), ghost, company, policy.IfEnrolled, "default=enrolled"},
		{"an unknown user, ask everyone", everyone(none), ghost, company, policy.Ask, "default=required"},
		{"the zero rules ask", policy.Rules{}, alice, company, policy.Ask, "default=required"},
		{"the zero rules ask nobody known, too", policy.Rules{}, policy.Subject{}, company, policy.Ask, "default=required"},

		{"required by uid", enrolled(policy.Match{UIDs: []uint32{1000}}, none), alice, company, policy.Ask, "required.uids=1000"},
		{"required by uid, another", enrolled(policy.Match{UIDs: []uint32{1000}}, none), bob, company, policy.IfEnrolled, "default=enrolled"},
		{"required by name", enrolled(policy.Match{Users: list{"bob", "alice"}}, none), alice, company, policy.Ask, "required.users=alice"},
		{"required by another spelling", enrolled(policy.Match{Users: list{"ALICE"}}, none), alice, company, policy.Ask, "required.users=ALICE"},
		{"required by an alias", enrolled(policy.Match{Users: list{"alice@corp"}}, none), alice, company, policy.Ask, "required.users=alice@corp"},
		{"required by a name nobody has", enrolled(policy.Match{Users: list{"carol"}}, none), alice, company, policy.IfEnrolled, "default=enrolled"},
		{"required by a name that cannot be looked up", enrolled(policy.Match{Users: list{"alice@corp"}}, none), alice, failing("alice@corp"), policy.Ask, "required.users=alice@corp (look-up failed)"},
		{"required by name while its look-up fails", enrolled(policy.Match{Users: list{"alice"}}, none), alice, failing("alice"), policy.Ask, "required.users=alice"},
		{"required by group", enrolled(policy.Match{Groups: list{"ops", "staff"}}, none), alice, company, policy.Ask, "required.groups=staff"},
		{"required by group, not in it", enrolled(policy.Match{Groups: list{"ops", "empty"}}, none), alice, company, policy.IfEnrolled, "default=enrolled"},
		{"a required group that does not resolve", enrolled(policy.Match{Groups: list{"nosuch"}}, none), alice, company, policy.Ask, "required.groups=nosuch (look-up failed)"},
		{"a required group that fails, root too", enrolled(policy.Match{Groups: list{"staff"}}, none), root, failing("staff"), policy.Ask, "required.groups=staff (look-up failed)"},
		{"one group fails, another has them", enrolled(policy.Match{Groups: list{"nosuch", "staff"}}, none), alice, company, policy.Ask, "required.groups=staff"},
		{"the silence of a directory that is down", enrolled(policy.Match{Groups: list{"staff"}}, none), alice, seenIn("staff"), policy.Ask, "required.groups=staff (last seen)"},
		{"who was never in it", enrolled(policy.Match{Groups: list{"staff"}}, none), bob, seenIn("staff"), policy.IfEnrolled, "default=enrolled"},
		{"last seen in an exempt group exempts nobody", everyone(policy.Match{Groups: list{"staff"}}), alice, seenIn("staff"), policy.Ask, "default=required"},
		{"required by service", enrolled(policy.Match{Services: list{"login", "sshd"}}, none), alice, company, policy.Ask, "required.services=sshd"},
		{"required by service, of an unknown user", enrolled(policy.Match{Services: list{"sshd"}}, none), ghost, company, policy.Ask, "required.services=sshd"},
		{"required by another service", enrolled(policy.Match{Services: list{"sudo"}}, none), alice, company, policy.IfEnrolled, "default=enrolled"},
		{"a service is no prefix", enrolled(policy.Match{Services: list{"ssh"}}, none), alice, company, policy.IfEnrolled, "default=enrolled"},

		{"exempt by uid", everyone(policy.Match{UIDs: []uint32{0}}), root, company, policy.Skip, "exempt.uids=0"},
		{"exempt by name", everyone(policy.Match{Users: list{"alice"}}), alice, company, policy.Skip, "exempt.users=alice"},
		{"exempt by an alias", everyone(policy.Match{Users: list{"alice@corp"}}), alice, company, policy.Skip, "exempt.users=alice@corp"},
		{"exempt by a name that cannot be looked up", everyone(policy.Match{Users: list{"alice@corp"}}), alice, failing("alice@corp"), policy.Ask, "default=required"},
		{"exempt by group", everyone(policy.Match{Groups: list{"staff"}}), alice, company, policy.Skip, "exempt.groups=staff"},
		{"an exempt group that fails", everyone(policy.Match{Groups: list{"staff"}}), alice, failing("staff"), policy.Ask, "default=required"},
		{"exempt by service", everyone(policy.Match{Services: list{"sshd"}}), alice, company, policy.Skip, "exempt.services=sshd"},
		{"exempt by address", everyone(policy.Match{Remote: list{"192.0.2.0/24"}}), from(alice, "192.0.2.7"), company, policy.Skip, "exempt.remote=192.0.2.0/24"},
		{"exempt beats required", enrolled(policy.Match{Groups: list{"staff"}}, policy.Match{UIDs: []uint32{1000}}), alice, company, policy.Skip, "exempt.uids=1000"},
		{"exempt by uid first, whatever else fails", enrolled(policy.Match{Groups: list{"nosuch"}}, policy.Match{UIDs: []uint32{0}, Groups: list{"nosuch"}, Users: list{"x"}}), root, failing("x", "nosuch"), policy.Skip, "exempt.uids=0"},
		{"an exempt group that fails beats nothing", enrolled(policy.Match{Groups: list{"staff"}}, policy.Match{Groups: list{"nosuch"}}), alice, company, policy.Ask, "required.groups=staff"},
		{"exempt is certain though a required look-up fails", enrolled(policy.Match{Groups: list{"nosuch"}}, policy.Match{Groups: list{"staff"}}), alice, company, policy.Skip, "exempt.groups=staff"},

		{"only exemptions still ask the enrolled", enrolled(none, policy.Match{Users: list{"bob"}, Groups: list{"ops"}}), alice, company, policy.IfEnrolled, "default=enrolled"},
		{"only exemptions still ask everyone", everyone(policy.Match{Users: list{"bob"}}), alice, company, policy.Ask, "default=required"},

		{"an unknown user is never exempt by service", everyone(policy.Match{Services: list{"sshd"}}), ghost, company, policy.Ask, "default=required"},
		{"an unknown user is never exempt by address", everyone(policy.Match{Remote: list{"0.0.0.0/0", "::/0"}}), from(ghost, "192.0.2.7"), company, policy.Ask, "default=required"},
		{"an unknown user is not uid 0", everyone(policy.Match{UIDs: []uint32{0}, Users: list{"root"}}), ghost, company, policy.Ask, "default=required"},
		{"an unknown user is no failed look-up", enrolled(policy.Match{Groups: list{"nosuch"}, Users: list{"x"}}, none), ghost, failing("x"), policy.IfEnrolled, "default=enrolled"},

		{"the service of a process that is not root exempts nobody", everyone(policy.Match{Services: list{"sshd"}}), untrusted(alice), company, policy.Ask, "default=required"},
		{"nor does its address", everyone(policy.Match{Remote: list{"192.0.2.0/24"}}), untrusted(from(alice, "192.0.2.7")), company, policy.Ask, "default=required"},
		{"who it is still does", everyone(policy.Match{Users: list{"alice"}}), untrusted(alice), company, policy.Skip, "exempt.users=alice"},
		{"its service may require", enrolled(policy.Match{Services: list{"sshd"}}, none), untrusted(alice), company, policy.Ask, "required.services=sshd"},
		{"and its address", enrolled(policy.Match{Remote: list{"192.0.2.7"}}, none), untrusted(from(alice, "192.0.2.7")), company, policy.Ask, "required.remote=192.0.2.7"},

		{"required by address", enrolled(policy.Match{Remote: list{"198.51.100.1", "192.0.2.0/24"}}, none), from(alice, "192.0.2.255"), company, policy.Ask, "required.remote=192.0.2.0/24"},
		{"another address", enrolled(policy.Match{Remote: list{"192.0.2.0/24"}}, none), from(alice, "192.0.3.0"), company, policy.IfEnrolled, "default=enrolled"},
		{"the console has no address", enrolled(policy.Match{Remote: list{"0.0.0.0/0", "::/0"}}, none), alice, company, policy.IfEnrolled, "default=enrolled"},
		{"a name for an address requires", enrolled(policy.Match{Remote: list{"192.0.2.0/24"}}, none), from(alice, "host.example.org"), company, policy.Ask, "required.remote (look-up failed)"},
		{"no address for a remote login requires", enrolled(policy.Match{Remote: list{"192.0.2.0/24"}}, none), from(alice, ""), company, policy.Ask, "required.remote (look-up failed)"},
		{"a name for an address without such a rule", enrolled(policy.Match{Services: list{"x"}}, none), from(alice, "host.example.org"), company, policy.IfEnrolled, "default=enrolled"},
		{"a name for an address exempts nobody", everyone(policy.Match{Remote: list{"0.0.0.0/0", "::/0"}}), from(alice, "localhost"), company, policy.Ask, "default=required"},
		{"neither does none", everyone(policy.Match{Remote: list{"0.0.0.0/0", "::/0"}}), from(alice, ""), company, policy.Ask, "default=required"},
		{"IPv4 in IPv6 notation", enrolled(policy.Match{Remote: list{"192.0.2.0/24"}}, none), from(alice, "::ffff:192.0.2.7"), company, policy.Ask, "required.remote=192.0.2.0/24"},
		{"the list in IPv6 notation", enrolled(policy.Match{Remote: list{"::ffff:192.0.2.0/120"}}, none), from(alice, "192.0.2.7"), company, policy.Ask, "required.remote=::ffff:192.0.2.0/120"},
		{"one address in IPv6 notation", enrolled(policy.Match{Remote: list{"::ffff:192.0.2.7"}}, none), from(alice, "192.0.2.7"), company, policy.Ask, "required.remote=::ffff:192.0.2.7"},
		{"a zone", enrolled(policy.Match{Remote: list{"fe80::/10"}}, none), from(alice, "fe80::1%eth0"), company, policy.Ask, "required.remote=fe80::/10"},
		{"IPv6", everyone(policy.Match{Remote: list{"2001:db8::/32"}}), from(alice, "2001:db8:1::1"), company, policy.Skip, "exempt.remote=2001:db8::/32"},
		{"a range that is written with a host's address", everyone(policy.Match{Remote: list{"192.0.2.77/24"}}), from(alice, "192.0.2.7"), company, policy.Skip, "exempt.remote=192.0.2.77/24"},
		{"IPv6's everything is not IPv4's", everyone(policy.Match{Remote: list{"::/0"}}), from(alice, "192.0.2.7"), company, policy.Ask, "default=required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.rules.Ask != "" {
				if err := c.rules.Validate(); err != nil {
					t.Fatal(err)
				}
			}
			got := decide(c.rules, c.who, c.names)
			if got.Effect != c.want || got.Rule != c.rule {
				t.Errorf("%+v, want %d by %s", got, c.want, c.rule)
			}
			// What is remembered of a directory is what it said just now.
			group, decided := strings.CutPrefix(got.Rule, "required.groups=")
			if decided = decided && !strings.HasSuffix(group, ")"); decided != (len(got.Groups) == 1) || decided && got.Groups[0] != group {
				t.Errorf("the groups that decided are %q, want %q", got.Groups, group)
			}
		})
	}
}

func TestZeroValues(t *testing.T) {
	if policy.Ask != 0 || policy.Unknown != 0 {
		t.Error("the zero effect must ask, and the zero membership must be unknown")
	}
}

func TestValidate(t *testing.T) {
	for says, r := range map[string]policy.Rules{
		`policy.ask is ""`:                             {},
		`policy.ask is "Enrolled"`:                     {Ask: "Enrolled"},
		`policy.required.remote: "example.org"`:        {Ask: "enrolled", Required: policy.Match{Remote: []string{"192.0.2.1", "example.org"}}},
		`policy.required.remote: "192.0.2.0/33"`:       {Ask: "enrolled", Required: policy.Match{Remote: []string{"192.0.2.0/33"}}},
		`policy.exempt.remote: "192.0.2."`:             {Ask: "enrolled", Exempt: policy.Match{Remote: []string{"192.0.2."}}},
		`policy.exempt.remote: ""`:                     {Ask: "enrolled", Exempt: policy.Match{Remote: []string{""}}},
		`policy.exempt.remote: "fe80::1%eth0"`:         {Ask: "enrolled", Exempt: policy.Match{Remote: []string{"fe80::1%eth0"}}},
		`policy.exempt.users: "" is empty`:             {Ask: "enrolled", Exempt: policy.Match{Users: []string{"alice", ""}}},
		`policy.required.groups: " staff" begins or`:   {Ask: "enrolled", Required: policy.Match{Groups: []string{" staff"}}},
		`policy.exempt.groups: "S-1-2-1" tells how`:    {Ask: "enrolled", Exempt: policy.Match{Groups: []string{"S-1-5-32-544", "S-1-2-1"}}},
		`policy.required.groups: "s-1-5-14" tells how`: {Ask: "enrolled", Required: policy.Match{Groups: []string{"s-1-5-14"}}},
		`policy.required.services: "sshd\n" begins or`: {Ask: "enrolled", Required: policy.Match{Services: []string{"sshd\n"}}},
	} {
		if err := r.Validate(); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
	good := policy.Rules{Ask: "required", Required: policy.Match{Users: []string{`CORP\alice`, "alice@corp.example", "host$", "a-b+c!"},
		Groups: []string{"1000", "domain users", `CORP\Domain Users`, "r&d", "S-1-5-32-544", "S-1-5-11", "network"}, Services: []string{"sudo-i", "polkit-1"}, Remote: []string{"192.0.2.1", "::1", "10.0.0.0/8"}}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// TestOtherProductsSyntaxIsRefused: sshd_config, sudoers and access.conf write
// lists, patterns and exceptions in one entry. Taken as a name that nobody has,
// a requirement would silently hold for nobody.
func TestOtherProductsSyntaxIsRefused(t *testing.T) {
	for entry, why := range map[string]string{
		"!root": `begins with "!"`, "-alice": `begins with "-"`, "+alice": `begins with "+"`, "@admins": `begins with "@"`, "%wheel": `begins with "%"`,
		"alice,bob": "a comma", "*": "an asterisk", "adm*": "an asterisk", "*@corp.example": "an asterisk",
		"alice bob": "a space", "alice\tbob": "a space", "alice\u00a0bob": "a space",
	} {
		for _, key := range []string{"required.users", "required.groups", "required.services", "exempt.users", "exempt.groups", "exempt.services"} {
			r := policy.Rules{Ask: policy.AskEnrolled}
			m := &r.Required
			if strings.HasPrefix(key, "exempt") {
				m = &r.Exempt
			}
			list := []string{"good", entry}
			switch {
			case strings.HasSuffix(key, "users"):
				m.Users = list
			case strings.HasSuffix(key, "groups"):
				if entry == "alice bob" {
					continue // could be a group of Active Directory
				}
				m.Groups = list
			default:
				m.Services = list
			}
			err := r.Validate()
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("policy.%s: %q ", key, entry)) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s %q: %v", key, entry, err)
			}
		}
	}
}

// strength orders the effects by how much they ask.
func strength(d policy.Decision) int {
	return map[policy.Effect]int{policy.Skip: 0, policy.IfEnrolled: 1, policy.Ask: 2}[d.Effect]
}

// TestNothingUncertainWeakens draws rules and people at random. Whatever a
// process that is not root claims, whatever look-up fails, and whatever address
// is missing, at least as much is asked as without.
func TestNothingUncertainWeakens(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(from ...string) (list []string) {
		for _, s := range from {
			if r.IntN(4) == 0 {
				list = append(list, s)
			}
		}
		return list
	}
	match := func() policy.Match {
		m := policy.Match{Users: pick("alice", "ALICE", "alice@corp", "bob", "carol"), Groups: pick("staff", "ops", "empty", "nosuch"),
			Services: pick("sshd", "login", "sudo"), Remote: pick("192.0.2.0/24", "198.51.100.1", "::/0", "0.0.0.0/0")}
		if r.IntN(6) == 0 {
			m.UIDs = []uint32{uint32(1000 + r.IntN(2))}
		}
		return m
	}
	for round := range 20_000 {
		rules := policy.Rules{Ask: []string{policy.AskEnrolled, policy.AskRequired}[r.IntN(2)], Required: match(), Exempt: match()}
		who := []policy.Subject{alice, bob, root, ghost}[r.IntN(4)]
		who.Service = []string{"sshd", "login", "sudo", ""}[r.IntN(4)]
		if host := r.IntN(4); host > 0 {
			who = from(who, []string{"192.0.2.7", "198.51.100.1", "2001:db8::1"}[host-1])
		}
		certain := decide(rules, who, company)
		fails := func(what string, d policy.Decision, than policy.Decision) {
			if strength(d) < strength(than) {
				t.Fatalf("seed %d, round %d: %s: %+v where it was %+v\nrules %+v\nwho %+v", seed, round, what, d, than, rules, who)
			}
		}

		down := company
		down.failing = pick("alice", "ALICE", "alice@corp", "bob", "staff", "ops", "empty")
		fails(fmt.Sprint("look-ups of ", down.failing, " fail"), decide(rules, who, down), certain)

		claimed := who
		claimed.Trusted = false
		fails("a process that is not root", decide(rules, claimed, company), certain)
		silent := claimed
		silent.Service, silent.Remote, silent.RemoteUnknown = "", netip.Addr{}, false
		fails("what a process that is not root says of itself", decide(rules, claimed, company), decide(rules, silent, company))

		if who.Remote.IsValid() {
			fails("the address is not known", decide(rules, from(who, "unknown"), company), certain)
		}
		central := policy.Rules{Ask: []string{policy.AskEnrolled, policy.AskRequired, "", "later"}[r.IntN(4)], Required: match(), Exempt: match()}
		d := both(rules, central, false, who)
		fails("the organisation's policy on top", d, certain)
		if certain.Effect == policy.Skip && d.Effect != policy.Skip {
			t.Fatalf("seed %d, round %d: whom root exempts is required: %+v\nrules %+v\ncentral %+v", seed, round, d, rules, central)
		}
		if !who.Resolved && certain.Effect == policy.Skip {
			t.Fatalf("seed %d, round %d: an unknown user is exempt: %+v\nrules %+v", seed, round, certain, rules)
		}
	}
}

// hanging is a directory that does not answer, after a while.
type hanging struct{ waits *int }

func (h hanging) IsUser(string, identity.ID) policy.Membership { *h.waits++; return policy.Unknown }
func (h hanging) Membership(string, string) policy.Membership  { *h.waits++; return policy.Unknown }
func (hanging) LastSeen(identity.ID, string) bool              { return false }

// TestADirectoryThatHangsIsWaitedForOnce: seconds for each of the hundreds whom
// the organisation requires would keep everybody out.
func TestADirectoryThatHangsIsWaitedForOnce(t *testing.T) {
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprint("user", i))
	}
	alsoAlice := append(slices.Clone(many), "alice")
	for name, c := range map[string]struct {
		rules  policy.Rules
		effect policy.Effect
		waits  int
	}{
		"required":        {policy.Rules{Ask: policy.AskEnrolled, Required: policy.Match{Users: many}}, policy.Ask, 1},
		"required, alice": {policy.Rules{Ask: policy.AskEnrolled, Required: policy.Match{Users: alsoAlice}}, policy.Ask, 0},
		"exempt, alice":   {policy.Rules{Ask: policy.AskRequired, Exempt: policy.Match{Users: alsoAlice}}, policy.Skip, 0},
	} {
		waits := 0
		if d := decide(c.rules, alice, hanging{&waits}); d.Effect != c.effect || waits != c.waits {
			t.Errorf("%s: %+v after %d look-ups", name, d, waits)
		}
	}
}
