package accounts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// me is who runs the test, by its token, and this computer's name.
func me(t *testing.T) (u User, computer, name string) {
	t.Helper()
	token, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.SID(token.User.Sid.String())
	if err != nil {
		t.Fatal(err)
	}
	name, domain, _, err := token.User.Sid.LookupAccount("")
	if err != nil {
		t.Fatal(err)
	}
	if computer, err = windows.ComputerName(); err != nil {
		t.Fatal(err)
	}
	if domain != computer {
		t.Skipf("the test runs as %s\\%s, no account of this computer's own", domain, name)
	}
	return User{Name: domain + `\` + name, ID: id}, computer, name
}

func TestEverySpellingIsTheSameAccount(t *testing.T) {
	want, computer, name := me(t)
	var n Names
	for _, typed := range []string{name, `.\` + name, computer + `\` + name, strings.ToLower(computer) + `\` + name, want.Name} {
		if u, err := n.Lookup(t.Context(), typed); err != nil || u != want {
			t.Errorf("%q is %+v, %v; want %+v", typed, u, err, want)
		}
		if n.IsUser(t.Context(), typed, want.ID) != policy.Member || n.IsUser(t.Context(), typed, identity.System) != policy.NotMember {
			t.Errorf("%q on a list is not %s, or is LocalSystem", typed, want.ID)
		}
	}
	if u, err := n.ByID(t.Context(), want.ID); err != nil || u != want {
		t.Errorf("%s is %+v, %v", want.ID, u, err)
	}
}

func TestWhatIsNoUserIsNobodys(t *testing.T) {
	_, computer, name := me(t)
	var n Names
	for _, typed := range []string{
		"SYSTEM", `NT AUTHORITY\SYSTEM`, `NT AUTHORITY\NETWORK SERVICE`, "Administrators", `BUILTIN\Administrators`, "Users", "Everyone", computer,
		"nosuchuser", `.\nosuchuser`, computer + `\nosuchuser`, "", "\x00", name + "\x00", name + "\x00x", "\x00" + name, name + "\n", " " + name,
		name + " ", `\` + name, name + `\`, name + "@", "@" + computer, computer + `\\` + name, computer + `\` + name + "\x00", "PC1$", "\xff\xfe",
		strings.Repeat(name, 300), strings.Repeat("a", 100_000), "S-1-5-18", "*", "%s", name + "\u202e",
	} {
		if u, err := n.Lookup(t.Context(), typed); !errors.Is(err, ErrUnknown) || u != (User{}) {
			t.Errorf("%.40q is %+v, %v", typed, u, err)
		}
	}
	for _, id := range []identity.ID{"", identity.Root, identity.System, "sid:S-1-5-19", "sid:S-1-5-32-544", "sid:S-1-1-0", "sid:S-1-5-21-1-2-3-1001", "sid:S-1"} {
		if u, err := n.ByID(t.Context(), id); !errors.Is(err, ErrUnknown) || u != (User{}) {
			t.Errorf("%s is %+v, %v", id, u, err)
		}
	}
}

// TestAUserPrincipalNameNobodyAnswersFor: its domain may be out of reach.
func TestAUserPrincipalNameNobodyAnswersFor(t *testing.T) {
	_, _, name := me(t)
	var n Names
	for _, typed := range []string{name + "@corp.example", "CanaryPassword@corp.example"} {
		u, err := n.Lookup(t.Context(), typed)
		if err == nil || errors.Is(err, ErrUnknown) || u != (User{}) || strings.Contains(err.Error(), "corp.example") {
			t.Errorf("%q is %+v, %v", typed, u, err)
		}
		if m := n.IsUser(t.Context(), typed, identity.System); m != policy.Unknown {
			t.Errorf("%q on a list: %v", typed, m)
		}
	}
}

// TestANameThatWasTypedIsNotTheOnlyOne: the domain, out of reach, may have another
// one for the account.
func TestANameThatWasTypedIsNotTheOnlyOne(t *testing.T) {
	who, computer, _ := me(t)
	other := computer + `\a.smith`
	for typed, want := range map[bool]policy.Membership{true: policy.Member, false: policy.NotMember} {
		var n Names
		r := n.Resolver(t.Context(), nil, User{Name: other, ID: who.ID, Typed: typed}, nil)
		if got := r.IsUser(strings.ToUpper(other), who.ID); got != policy.Member {
			t.Errorf("typed %v, the same name: %v", typed, got)
		}
		if got := r.IsUser(who.Name, who.ID); got != want {
			t.Errorf("typed %v, another name of the same account: %v, want %v", typed, got, want)
		}
	}
}

func TestErrorsDoNotHoldTheName(t *testing.T) {
	var n Names
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), gone} {
		if _, err := n.Lookup(ctx, "CanaryPassword"); err == nil || strings.Contains(err.Error(), "Canary") {
			t.Errorf("%v", err)
		}
	}
}

func TestATokenSaysWhoseItIsAndWhichGroups(t *testing.T) {
	want, _, _ := me(t)
	user, groups, err := OfToken(windows.GetCurrentProcessToken())
	if err != nil || user != want {
		t.Fatalf("%+v, %v; want %+v", user, err, want)
	}
	for _, sid := range []identity.ID{"sid:S-1-1-0", "sid:S-1-5-32-545"} { // Everyone, Users
		if !slices.Contains(groups, sid) {
			t.Errorf("%s is not among %v", sid, groups)
		}
	}
	for _, id := range groups {
		if strings.HasPrefix(string(id), "sid:S-1-5-5-") || strings.HasPrefix(string(id), "sid:S-1-16-") {
			t.Errorf("%s is a logon session or a level, no group", id)
		}
		if id.IsLogonGroup() {
			t.Errorf("%s tells how this process's session came to be", id)
		}
	}
	if _, _, err := OfToken(windows.Token(0xdeadbeef)); err == nil {
		t.Error("a handle that is no token says whose it is")
	}
}

// TestTheSessionKnowsItsUser: what is left when the domain is out of reach.
func TestTheSessionKnowsItsUser(t *testing.T) {
	want, _, _ := me(t)
	token := windows.GetCurrentProcessToken()
	owner, err := token.GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	u, err := sessionUser(token, owner.User.Sid)
	if errors.Is(err, errNoName) && u == (User{}) {
		t.Skip("this Windows keeps no names in logon sessions (Wine)")
	}
	if err != nil || u.ID != want.ID || !strings.EqualFold(u.Name, want.Name) {
		t.Errorf("%+v, %v; want %+v", u, err, want)
	}
}

func TestWhichEntriesOfATokenAreMemberships(t *testing.T) {
	sid := func(text string) *windows.SID {
		s, err := windows.StringToSid(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// TOKEN_GROUPS is a count with an array behind it.
	var b struct {
		count uint32
		all   [10]windows.SIDAndAttributes
	}
	b.count = 10
	const on = windows.SE_GROUP_MANDATORY | windows.SE_GROUP_ENABLED_BY_DEFAULT | windows.SE_GROUP_ENABLED
	b.all = [10]windows.SIDAndAttributes{
		{Sid: sid("S-1-5-32-545"), Attributes: on},
		{Sid: sid("S-1-5-4"), Attributes: on},                                      // INTERACTIVE: the check of the password was
		{Sid: sid("S-1-2-1"), Attributes: on},                                      // CONSOLE LOGON
		{Sid: sid("S-1-5-64-10"), Attributes: on},                                  // NTLM Authentication
		{Sid: sid("S-1-18-1"), Attributes: on},                                     // Authentication authority asserted identity
		{Sid: sid("S-1-5-32-544"), Attributes: windows.SE_GROUP_USE_FOR_DENY_ONLY}, // User Account Control
		{Sid: sid("S-1-5-5-0-77"), Attributes: windows.SE_GROUP_LOGON_ID | windows.SE_GROUP_MANDATORY | windows.SE_GROUP_ENABLED},
		{Sid: sid("S-1-16-8192"), Attributes: windows.SE_GROUP_INTEGRITY | windows.SE_GROUP_INTEGRITY_ENABLED},
		{Sid: sid("S-1-5-21-1-2-3-1100"), Attributes: windows.SE_GROUP_ENABLED | windows.SE_GROUP_RESOURCE},
		{Sid: sid("S-1-5-21-1-2-3-1101"), Attributes: windows.SE_GROUP_RESOURCE}, // switched off
	}
	got, err := members((*windows.Tokengroups)(unsafe.Pointer(&b)))
	if want := []identity.ID{"sid:S-1-5-32-545", "sid:S-1-5-32-544", "sid:S-1-5-21-1-2-3-1100"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	b.count = 0
	if got, err := members((*windows.Tokengroups)(unsafe.Pointer(&b))); err != nil || got == nil {
		t.Errorf("no groups are %v, %v: nil would be \"not known\"", got, err)
	}
}

func TestGroupsOfLogonsAreKnownByName(t *testing.T) {
	names := logonGroupNames()
	if len(names) < 5 {
		t.Errorf("this Windows knows %v", names)
	}
	// Also in another language than English.
	all := map[string]bool{`CORP\Staff`: false, "Administrators": false, "Users": false, "nosuchgroup": false, "": false, `CORP\`: false}
	for _, s := range names {
		all[s.User], all[s.String()], all[strings.ToLower(s.String())], all[`CORP\`+s.User] = true, true, true, false
	}
	for name, want := range all {
		if IsLogonGroup(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	sid, err := windows.StringToSid("S-1-5-4")
	if err != nil {
		t.Fatal(err)
	}
	if name, domain, _, err := sid.LookupAccount(""); err != nil || !slices.Contains(names, Spelling{domain, name}) {
		t.Errorf("%s\\%s is not among %v: %v", domain, name, names, err)
	}
}

func TestTheGroupsOfATokenDecide(t *testing.T) {
	var n Names
	r := n.Resolver(t.Context(), nil, User{}, []identity.ID{"sid:S-1-5-32-544", "sid:S-1-1-0", "sid:S-1-5-4"})
	for group, want := range map[string]policy.Membership{
		"S-1-5-32-544":             policy.Member,
		"s-1-5-32-544":             policy.Member,
		"Administrators":           policy.Member,
		`BUILTIN\Administrators`:   policy.Member,
		"Everyone":                 policy.Member,
		"Users":                    policy.NotMember,
		"S-1-5-21-1-2-3-1100":      policy.NotMember,
		"nosuchgroup":              policy.Unknown,
		"CORP\\nosuchgroup":        policy.Unknown,
		"":                         policy.Unknown,
		"Administrators\x00":       policy.Unknown,
		"Administrators ":          policy.Unknown,
		`NT AUTHORITY\nosuchgroup`: policy.Unknown,
		"S-1-5-4":                  policy.Unknown, // not refused by who wrote the policy
		"INTERACTIVE":              policy.Unknown,
		`NT AUTHORITY\INTERACTIVE`: policy.Unknown,
	} {
		if got := r.Membership("", group); got != want {
			t.Errorf("%q: %v, want %v", group, got, want)
		}
	}
	who, _, name := me(t)
	if got := r.Membership(name, who.Name); got != policy.Unknown {
		t.Errorf("a user's name, for a group: %v", got)
	}
}

// TestWithoutATokenAMembershipIsAskedFor: whatever does not answer is Unknown.
func TestWithoutATokenAMembershipIsAskedFor(t *testing.T) {
	who, _, _ := me(t)
	var n Names
	for _, c := range [][2]string{{who.Name, "nosuchgroup"}, {who.Name, ""}, {who.Name, "S-1-5-32-544\x00"}, {"nosuchuser", "S-1-5-32-545"}, {"", "Users"},
		{"SYSTEM", "S-1-1-0"}, {who.Name + "\x00", "Users"}} {
		if got := n.Membership(t.Context(), c[0], c[1]); got != policy.Unknown {
			t.Errorf("%q in %q: %v", c[0], c[1], got)
		}
	}
	if procAuthzInitializeResourceManager.Find() != nil {
		t.Skip("this Windows has no authz.dll")
	}
	sid, err := windows.StringToSid(strings.TrimPrefix(string(who.ID), "sid:"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reckoned(sid); errors.Is(err, windows.ERROR_CALL_NOT_IMPLEMENTED) {
		if got := n.Membership(t.Context(), who.Name, "Users"); got != policy.Unknown {
			t.Errorf("nobody reckons groups here, and %s in Users is %v", who.Name, got)
		}
		return
	}
	if got := n.Membership(t.Context(), who.Name, "Users"); got != policy.Member {
		t.Errorf("%s in Users: %v", who.Name, got)
	}
	if got := n.Membership(t.Context(), who.Name, "Guests"); got != policy.NotMember {
		t.Errorf("%s in Guests: %v", who.Name, got)
	}
}
