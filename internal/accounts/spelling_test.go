package accounts

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

func TestNamesAsPeopleOnWindowsTypeThem(t *testing.T) {
	for name, want := range map[string]Spelling{
		`alice`:                            {"", "alice"},
		`CORP\alice`:                       {"CORP", "alice"},
		`corp.example\alice`:               {"corp.example", "alice"},
		`.\alice`:                          {".", "alice"},
		`alice@corp.example`:               {"", "alice@corp.example"},
		`MicrosoftAccount\a@example.com`:   {"MicrosoftAccount", "a@example.com"},
		`AzureAD\alice@corp.example`:       {"AzureAD", "alice@corp.example"},
		`AzureAD\Alice Smith`:              {"AzureAD", "Alice Smith"},
		`NT AUTHORITY\SYSTEM`:              {"NT AUTHORITY", "SYSTEM"},
		`CORP\jürgen`:                      {"CORP", "jürgen"},
		`CORP\` + strings.Repeat("a", 256): {"CORP", strings.Repeat("a", 256)},
	} {
		if got, ok := Spell(name); got != want || !ok || got.String() != name {
			t.Errorf("%q is %+v, %v", name, got, ok)
		}
	}
	for _, name := range []string{
		"", "\x00", "alice\x00", "CORP\\alice\x00", "CORP\x00\\alice", "alice\n", "alice\r", "CORP\\\talice", "alice\x7f", "alice\u0085",
		" alice", "alice ", `CORP\ alice`, `CORP \alice`, "alice\u00a0", `\alice`, `\\alice`, `CORP\`, `\`, `CORP\\alice`, `CORP\sales\alice`,
		"@", "@corp.example", "alice@", "CORP\\@x", "PC1$", `CORP\PC1$`, `.\svc$`, "\xff\xfe", "CORP\\al\xefce", " ", ".\\",
	} {
		if got, ok := Spell(name); ok {
			t.Errorf("%q is taken for %+v", name, got)
		}
	}
}

func TestABareNameHasNoDomain(t *testing.T) {
	for name, want := range map[string]bool{"alice": true, `.\alice`: false, `CORP\alice`: false, "alice@corp.example": false, `AzureAD\a@b`: false} {
		if s, _ := Spell(name); s.Bare() != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestWhatTwoSpellingsTellByThemselves(t *testing.T) {
	for _, c := range []struct {
		listed, known string
		want          policy.Membership
	}{
		{`CORP\alice`, `CORP\alice`, policy.Member},
		{`corp\ALICE`, `CORP\alice`, policy.Member},
		{`CORP\bob`, `CORP\alice`, policy.NotMember},
		{`CORP\alice2`, `CORP\alice`, policy.NotMember},
		{`corp.example\alice`, `CORP\alice`, policy.Unknown}, // may be the same domain
		{`SALES\alice`, `CORP\alice`, policy.Unknown},
		{`alice`, `CORP\alice`, policy.Unknown},
		{`alice`, `alice`, policy.Unknown},
		{`alice@corp.example`, `CORP\alice`, policy.Unknown},
		{`.\alice`, `PC1\alice`, policy.Unknown},
		{`CORP\jose`, `CORP\josé`, policy.Unknown}, // one account to some directories
		{`CORP\ſmith`, `CORP\smith`, policy.Unknown},
		{`CORP\alice `, `CORP\alice`, policy.Unknown},
		{"CORP\\alice\x00", `CORP\alice`, policy.Unknown},
		{``, `CORP\alice`, policy.Unknown},
		{`CORP\alice`, ``, policy.Unknown},
		{``, ``, policy.Unknown},
	} {
		if got := alike(c.listed, c.known); got != c.want {
			t.Errorf("%q on a list, and %q: %v, want %v", c.listed, c.known, got, c.want)
		}
	}
}

// TestWhenNoMappingMeansNoSuchAccount: Windows says the same when the domain is
// out of reach, and "no such user" would then mean "not on the list".
func TestWhenNoMappingMeansNoSuchAccount(t *testing.T) {
	for _, c := range []struct {
		name, home        string
		answered, certain bool
	}{
		{`.\alice`, "", false, true},
		{`pc1\alice`, "", false, true},
		{`PC1\alice`, "CORP", false, true},
		{`.\alice`, "CORP", false, true},
		{`MicrosoftAccount\a@example.com`, "", false, true},
		{`MICROSOFTACCOUNT\a@example.com`, "CORP", false, true},
		{`alice`, "", false, true},
		{`CORP\alice`, "", false, true}, // in no domain there is nobody to ask
		{`alice`, "CORP", false, false},
		{`alice`, "CORP", true, true},
		{`CORP\alice`, "CORP", false, false},
		{`corp\alice`, "CORP", true, true},
		{`SALES\alice`, "CORP", true, false}, // asked by way of another
		{`corp.example\alice`, "CORP", true, false},
		{`alice@corp.example`, "CORP", true, false},
		{`alice@example.com`, "", true, false},
		{`AzureAD\alice`, "", true, false},
		{`AzureAD\alice@corp.example`, "CORP", true, false},
	} {
		s, ok := Spell(c.name)
		if got := s.certain("PC1", c.home, func() bool { return c.answered }); !ok || got != c.certain {
			t.Errorf("%s in domain %q (answers: %v): %v", c.name, c.home, c.answered, got)
		}
	}
}

func TestWhichNamesAreAsWindowsSpellsThem(t *testing.T) {
	for name, want := range map[string]bool{`CORP\alice`: true, `corp\john smith`: true, "alice": false, `.\alice`: false, "alice@corp.example": false, `CORP\alice@corp.example`: false} {
		if s, ok := Spell(name); !ok || s.qualified() != want {
			t.Errorf("%q: %v", name, !want)
		}
		if CanWait(name) != (want || !domains) {
			t.Errorf("%q can wait: %v", name, CanWait(name))
		}
	}
}

func TestAGroupThatWasFoundStaysFound(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel() // stands for a directory that is out of reach
	var n Names
	n.groups.known = map[string]answer{"CORP\\staff": {id: "sid:S-1-5-21-1-2-3-1100"}} // long ago
	in := n.Resolver(gone, nil, User{}, []identity.ID{"sid:S-1-5-21-1-2-3-1100"})
	out := n.Resolver(gone, nil, User{}, []identity.ID{})
	if in.Membership("", "CORP\\staff") != policy.Member || out.Membership("", "CORP\\staff") != policy.NotMember {
		t.Error("a group that was found is forgotten")
	}
	for _, group := range []string{"CORP\\sales", "", "CORP\\staff\x00"} {
		if m := in.Membership("", group); m != policy.Unknown {
			t.Errorf("%q: %v", group, m)
		}
	}
	if _, err := n.groupID(gone, "CORP\\sales"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
