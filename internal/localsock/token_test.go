package localsock

import (
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/identity"
)

// What is in the tokens of the cases below.
const (
	enabled  = 0x7 // SE_GROUP_MANDATORY, ENABLED_BY_DEFAULT, ENABLED
	denyOnly = groupDenyOnly

	low    = 0x1000
	medium = 0x2000
	high   = 0x3000
	system = 0x4000

	alice = "S-1-5-21-3623811015-3361044348-30300820-1013"
)

func groups(sids ...string) (out []tokenGroup) {
	for _, sid := range append(sids, "S-1-1-0", "S-1-5-11") {
		out = append(out, tokenGroup{sid, enabled})
	}
	return out
}

func TestWhoAClientsTokenIs(t *testing.T) {
	interactive := groups("S-1-5-4", "S-1-5-32-545")
	admins := func(attributes uint32) []tokenGroup {
		return append(interactive[:len(interactive):len(interactive)], tokenGroup{sidAdministrators, attributes})
	}
	for name, c := range map[string]struct {
		token   token
		want    Peer
		refused string // part of why
	}{
		"SYSTEM": {token: token{user: "S-1-5-18", groups: []tokenGroup{{sidAdministrators, 0xe}}, member: true, level: 2, integrity: system},
			want: Peer{identity.System, true}},
		"SYSTEM at Identification": {token: token{user: "S-1-5-18", groups: []tokenGroup{{sidAdministrators, 0xe}}, member: true, level: 1, integrity: system},
			want: Peer{identity.System, true}},
		"SYSTEM without the administrators": {token: token{user: "S-1-5-18", level: 2, integrity: system}, refused: "without its rights"},
		"SYSTEM with low integrity": {token: token{user: "S-1-5-18", groups: []tokenGroup{{sidAdministrators, 0xe}}, member: true, level: 2, integrity: low},
			refused: "sandbox"},
		"an elevated administrator": {token: token{user: alice, groups: admins(enabled), member: true, level: 1, integrity: high},
			want: Peer{"sid:" + alice, true}},
		"an administrator at the login with rights": {token: token{user: alice, groups: admins(enabled | 0x8), member: true, level: 3, integrity: high},
			want: Peer{"sid:" + alice, true}},
		"an administrator without elevation": {token: token{user: alice, groups: admins(denyOnly), level: 1, integrity: medium},
			want: Peer{"sid:" + alice, false}},
		"administrators enabled and deny-only": {token: token{user: alice, groups: admins(enabled | denyOnly), member: true, level: 1, integrity: high},
			want: Peer{"sid:" + alice, false}},
		"an administrator's restricted token": {token: token{user: alice, groups: admins(enabled), level: 1, integrity: high},
			want: Peer{"sid:" + alice, false}},
		"administrators that the groups do not name": {token: token{user: alice, groups: interactive, member: true, level: 1, integrity: high},
			want: Peer{"sid:" + alice, false}},
		"administrators disabled": {token: token{user: alice, groups: admins(0x1), member: true, level: 1, integrity: high},
			want: Peer{"sid:" + alice, false}},
		"administrators at medium integrity": {token: token{user: alice, groups: admins(enabled), member: true, level: 1, integrity: medium},
			want: Peer{"sid:" + alice, false}},
		"a user": {token: token{user: alice, groups: interactive, level: 1, integrity: medium},
			want: Peer{"sid:" + alice, false}},
		"a user whose own SID looks like the administrators'": {token: token{user: "S-1-5-21-32-544-0-544", groups: interactive, level: 1, integrity: high},
			want: Peer{"sid:S-1-5-21-32-544-0-544", false}},
		"a user over RDP": {token: token{user: alice, groups: groups("S-1-5-4", "S-1-5-14"), level: 1, integrity: medium},
			want: Peer{"sid:" + alice, false}},
		"NETWORK SERVICE": {token: token{user: "S-1-5-20", groups: groups("S-1-5-6"), level: 2, integrity: system},
			want: Peer{"sid:S-1-5-20", false}},
		"LOCAL SERVICE": {token: token{user: "S-1-5-19", groups: groups("S-1-5-6"), level: 2, integrity: system},
			want: Peer{"sid:S-1-5-19", false}},
		"another service": {token: token{user: "S-1-5-80-1-2-3-4-5", groups: groups("S-1-5-6"), level: 2, integrity: high},
			want: Peer{"sid:S-1-5-80-1-2-3-4-5", false}},
		"the group of administrators as the user": {token: token{user: sidAdministrators, level: 2, integrity: high},
			want: Peer{identity.Administrators, false}},

		"the guest account": {token: token{user: "S-1-5-21-1-2-3-501", groups: interactive, level: 1, integrity: medium}, refused: "guest"},
		"a guest":           {token: token{user: alice, groups: groups("S-1-5-4", sidGuests), level: 1, integrity: medium}, refused: "guest"},
		"anonymous":         {token: token{user: sidAnonymous, level: 2, integrity: medium}, refused: "anonymous"},
		"level Anonymous":   {token: token{user: alice, groups: interactive, level: 0, integrity: medium}, refused: "identified"},
		"a network logon":   {token: token{user: alice, groups: groups(sidNetwork), level: 1, integrity: medium}, refused: "over the network"},
		"an administrator's network logon": {token: token{user: alice, groups: append(admins(enabled), tokenGroup{sidNetwork, enabled}), member: true, level: 2, integrity: high},
			refused: "over the network"},
		"a network logon, for denials only": {token: token{user: alice, groups: append(admins(enabled), tokenGroup{sidNetwork, denyOnly}), member: true, level: 2, integrity: high},
			refused: "over the network"},
		"an app container": {token: token{user: alice, groups: interactive, level: 1, integrity: medium, appContainer: true}, refused: "sandbox"},
		"an elevated app container": {token: token{user: alice, groups: admins(enabled), member: true, level: 1, integrity: high, appContainer: true},
			refused: "sandbox"},
		"SYSTEM, restricted": {token: token{user: "S-1-5-18", groups: admins(enabled), level: 2, integrity: system}, refused: "without its rights"},
		"low integrity":      {token: token{user: alice, groups: interactive, level: 1, integrity: low}, refused: "sandbox"},
		"no integrity":       {token: token{user: alice, groups: interactive, level: 1}, refused: "sandbox"},
		"nothing":            {token: token{}, refused: "identified"},
		"no user":            {token: token{groups: admins(enabled), member: true, level: 2, integrity: high}, refused: "the client's user"},
		"a broken user":      {token: token{user: "alice", level: 2, integrity: high}, refused: "the client's user"},
	} {
		got, err := peerOfToken(c.token)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) || got != (Peer{}) {
				t.Errorf("%s: %+v, %v; it is to be refused: %s", name, got, err, c.refused)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func TestWhichOwnerOfAPipeIsTheAgent(t *testing.T) {
	const me, other = identity.ID("sid:" + alice), identity.ID("sid:S-1-5-21-3623811015-3361044348-30300820-1014")
	for name, c := range map[string]struct {
		owner, self identity.ID
		elevated    bool
		trusted     bool
	}{
		"the system's":                                {identity.System, me, false, true},
		"the system's, seen by an administrator":      {identity.System, me, true, true},
		"the administrators'":                         {identity.Administrators, me, false, true},
		"one's own":                                   {me, me, false, true},
		"one's own, made without the rights one has":  {me, me, true, false},
		"another user's":                              {other, me, false, false},
		"another user's, seen by an administrator":    {other, me, true, false},
		"another user's, seen by the system":          {other, identity.System, true, false},
		"another service's":                           {"sid:S-1-5-20", identity.System, true, false},
		"the users' group's":                          {"sid:S-1-5-32-545", me, false, false},
		"nobody's":                                    {"", me, false, false},
		"nobody's, seen by nobody":                    {"", "", false, false},
		"another's, by whom this process cannot tell": {other, "", false, false},
	} {
		if err := trustOwner(c.owner, c.self, c.elevated); (err == nil) != c.trusted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// ace is one entry of an access control list in SDDL.
var ace = regexp.MustCompile(`\((A|D);;([^;]+);;;([^)]+)\)`)

func TestWhoMayConnectToAPipe(t *testing.T) {
	const me = identity.ID("sid:" + alice)
	for _, c := range []struct {
		access   Access
		self     identity.ID
		elevated bool
		owner    string
		allowed  map[string]string
	}{
		{OwnerOnly, identity.System, true, "SY", map[string]string{"SY": "GA", "BA": "GA"}},
		{Everyone, identity.System, true, "SY", map[string]string{"SY": "GA", "BA": "GA", "IU": "0x12019b"}},
		{Everyone, identity.System, false, "SY", map[string]string{"SY": "GA", "BA": "GA", "IU": "0x12019b"}},
		{OwnerOnly, me, true, "BA", map[string]string{"SY": "GA", "BA": "GA"}},
		{Everyone, me, true, "BA", map[string]string{"SY": "GA", "BA": "GA", "IU": "0x12019b"}},
		{OwnerOnly, me, false, alice, map[string]string{"SY": "GA", "BA": "GA", alice: "GA"}},
		{Access(7), me, false, alice, map[string]string{"SY": "GA", "BA": "GA", alice: "GA"}},
	} {
		sddl, err := descriptor(c.access, c.self, c.elevated)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(sddl, "(")
		if want := "O:" + c.owner + "D:P"; head != want {
			t.Errorf("%+v: %s, want %s", c, head, want)
		}
		denied, allowed := map[string]bool{}, map[string]string{}
		for _, e := range ace.FindAllStringSubmatch(sddl, -1) {
			if e[1] == "A" {
				allowed[e[3]] = e[2]
				continue
			}
			if len(allowed) > 0 {
				t.Errorf("%s: a denial stands behind what is allowed, and does not count", sddl)
			}
			denied[e[3]] = e[2] == "GA"
		}
		if !denied["NU"] || !denied["AN"] || !denied["BG"] || len(denied) != 3 {
			t.Errorf("%s: denied are %v", sddl, denied)
		}
		if len(allowed) != len(c.allowed) {
			t.Errorf("%s: allowed are %v, want %v", sddl, allowed, c.allowed)
		}
		for who, what := range c.allowed {
			if allowed[who] != what {
				t.Errorf("%s: %s may %s, want %s", sddl, who, allowed[who], what)
			}
		}
	}
	for _, self := range []identity.ID{"", identity.Root} {
		if sddl, err := descriptor(Everyone, self, true); err == nil {
			t.Errorf("of %q: %s", self, sddl)
		}
	}
	// FILE_CREATE_PIPE_INSTANCE, WRITE_DAC, WRITE_OWNER, DELETE.
	for _, right := range []int{0x4, 0x40000, 0x80000, 0x10000} {
		if clientRights&right != 0 {
			t.Errorf("every client has the right %#x", right)
		}
	}
}

func TestWhichNamesOnlyAdministratorsCanMake(t *testing.T) {
	for path, want := range map[string]bool{
		`\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`: true,
		`\\.\PIPE\protectedprefix\administrators\x`:               true,
		`\\.\pipe\ProtectedPrefix\Administrators\`:                false,
		`\\.\pipe\ProtectedPrefix\Users\sallyport`:                false,
		`\\.\pipe\sallyport\login`:                                false,
	} {
		if isProtected(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

func TestWhatIsAPipesName(t *testing.T) {
	for path, ok := range map[string]bool{
		`\\.\pipe\sallyport\login`: true,
		`\\.\PIPE\x`:               true,
		`\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`: true,
		`\\.\pipe\`:                         false,
		`\\.\pipe`:                          false,
		``:                                  false,
		`\\server\pipe\sallyport\login`:     false,
		`\\?\pipe\sallyport\login`:          false,
		`C:\sallyport\login`:                false,
		`\\.\C:\login`:                      false,
		`\\.\pipe\..\C:\login`:              false,
		`\\.\pipe\..\UNC\server\pipe\login`: false,
		`\\.\pipe\x\..\..\C:\login`:         false,
		`\\.\pipe\x/../../C:/login`:         false,
		`\\.\pipe\\x`:                       false,
		"\\\\.\\pipe\\x\x00y":               false,
	} {
		if err := checkPipeName(path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
}
