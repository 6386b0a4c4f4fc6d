package hosttest

import (
	"fmt"
	"strings"
	"testing"
)

// TestNames: what is typed, or listed by Windows, goes to the agent and to Windows as
// one and the same account.
func TestNames(t *testing.T) {
	home := computerName(t)
	long := strings.Repeat("n", 256)
	umlauts := "Jörg.Öttl-Müßig"
	for name, c := range map[string]struct {
		typed        string
		agent        string
		domain, user string
	}{
		"DOMAIN\\user":        {`CORP\alice`, `CORP\alice`, "CORP", "alice"},
		"UPN":                 {"alice@corp.example", "alice@corp.example", "", "alice@corp.example"},
		".\\user":             {`.\alice`, home + `\alice`, home, "alice"},
		"user":                {"alice", home + `\alice`, home, "alice"},
		"a local name":        {home + `\alice`, home + `\alice`, home, "alice"},
		"a DNS domain":        {`corp.example\alice`, `corp.example\alice`, "corp.example", "alice"},
		"umlauts":             {`CORP\` + umlauts, `CORP\` + umlauts, "CORP", umlauts},
		"umlauts, UPN":        {umlauts + "@köln.example", umlauts + "@köln.example", "", umlauts + "@köln.example"},
		"a combining accent":  {"CORP\\Andre\u0301", "CORP\\Andre\u0301", "CORP", "Andre\u0301"},
		"beyond the BMP":      {"CORP\\\U0001F600", "CORP\\\U0001F600", "CORP", "\U0001F600"},
		"256 letters":         {`CORP\` + long, `CORP\` + long, "CORP", long},
		"256 umlauts":         {`CORP\` + strings.Repeat("ü", 256), `CORP\` + strings.Repeat("ü", 256), "CORP", strings.Repeat("ü", 256)},
		"spaces inside":       {`CORP\Alice B. Sample`, `CORP\Alice B. Sample`, "CORP", "Alice B. Sample"},
		"format (%)":          {`CORP\%s%n`, `CORP\%s%n`, "CORP", "%s%n"},
		"\\user":              {`\alice`, "", "", ""},
		"DOMAIN\\":            {`CORP\`, "", "", ""},
		"empty":               {"", "", "", ""},
		"spaces":              {"   ", "", "", ""},
		"two backslashes":     {`CORP\alice\bob`, "", "", ""},
		"NUL, in effect":      {"CORP\\ali\nce", "", "", ""},
		"a control character": {"CORP\\ali\x1bce", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.agent == "" {
				agentPlays(t) // is not asked
			} else {
				agentPlays(t, func(s *session) {
					if got := string(s.begin.GetUser()); got != c.agent {
						s.fail("the user is %q, want %q", got, c.agent)
					}
					codeThen(allow())(s)
				})
			}
			s := atOther(t)
			s.types("User name", c.typed)
			s.typesPassword()
			if c.agent == "" {
				if a := s.last; a.Response != "not finished" || a.Credential != nil || !strings.Contains(a.Text, "user name") {
					t.Errorf("got %q, %q", a.Response, a.Text)
				}
			} else {
				s.isAsked(codePrompt)
				s.typesCode("123456")
				s.isIn(c.domain, c.user)
			}
			s.leaves()
		})
	}
}

// TestNamesTooLong: longer than any account's; said, and never cut short: that would
// be somebody else's.
func TestNamesTooLong(t *testing.T) {
	for name, typed := range map[string]string{
		"a user":                          `CORP\` + strings.Repeat("n", 1000),
		"a domain":                        strings.Repeat("d", 300) + `\alice`,
		"a UPN":                           strings.Repeat("x", 1100) + "@corp.example",
		"by one, as long as any may be":   strings.Repeat("d", 255) + `\` + strings.Repeat("n", 513),
		"what is good without its ending": strings.Repeat("d", 255) + `\` + strings.Repeat("n", 512) + " and so on",
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t) // is not asked
			s := atOther(t)
			s.types("User name", typed)
			s.typesPassword()
			if a := s.last; a.Response != "not finished" || a.Credential != nil || a.Text == "" {
				t.Errorf("got %q, %q", a.Response, a.Text)
			}
			s.leaves()
		})
	}
}

// TestNamesOfTiles are Windows' own words for the user.
func TestNamesOfTiles(t *testing.T) {
	home := computerName(t)
	for name, c := range map[string]struct{ listed, domain, user string }{
		"a domain's":         {`CORP\alice`, "CORP", "alice"},
		"a local user's":     {home + `\alice`, home, "alice"},
		"with umlauts":       {`CORP\Jörg Ö.`, "CORP", "Jörg Ö."},
		"a Microsoft user's": {`MicrosoftAccount\alice@example.com`, "MicrosoftAccount", "alice@example.com"},
		"Entra":              {`AzureAD\AliceSample`, "AzureAD", "AliceSample"},
		"of 256 letters":     {`CORP\` + strings.Repeat("n", 256), "CORP", strings.Repeat("n", 256)},
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, func(s *session) {
				if got := string(s.begin.GetUser()); got != c.listed {
					s.fail("the user is %q, want %q", got, c.listed)
				}
				codeThen(allow())(s)
			})
			s := sit(t, visit{people: []person{{aliceSID, c.listed}}})
			s.selects(0)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn(c.domain, c.user)
			s.leaves()
		})
	}
}

// TestTilesOfWhom: a tile for each user, each with its SID, and "Other user" where
// Windows wants one or there is nobody else.
func TestTilesOfWhom(t *testing.T) {
	for name, c := range map[string]struct {
		visit visit
		want  []string
	}{
		"nobody":                        {visit{}, []string{""}},
		"two":                           {visit{people: []person{alice, bob}}, []string{aliceSID, bobSID}},
		"two and another":               {visit{people: []person{alice, bob}, other: "local"}, []string{aliceSID, bobSID, ""}},
		"an unlock is the user's alone": {visit{scenario: "unlock", people: []person{alice}, other: "local"}, []string{aliceSID}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sit(t, c.visit)
			var got []string
			for _, tile := range s.tiles {
				got = append(got, tile.SID)
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") || len(got) != len(c.want) {
				t.Errorf("the tiles are of %q, want %q", got, c.want)
			}
			s.leaves()
		})
	}
}

// TestManyUsers: of a server with hundreds.
func TestManyUsers(t *testing.T) {
	v := visit{}
	for i := range 300 {
		v.people = append(v.people, person{fmt.Sprintf("S-1-5-21-1-2-3-%d", 1000+i), fmt.Sprintf(`CORP\user%d`, i)})
	}
	s := sit(t, v)
	if n := len(s.tiles); n < 200 || n > 300 {
		t.Errorf("%d tiles", n)
	}
	s.leaves()
}

// TestPasswordTooLong: longer than Windows takes; cut short it would be another one.
func TestPasswordTooLong(t *testing.T) {
	agentPlays(t)
	s := atLogon(t)
	s.types("Password", strings.Repeat("p", 257))
	if a := s.submits(); a.Response != "not finished" || a.Credential != nil || !strings.Contains(a.Text, "password is longer") {
		t.Errorf("got %q, %q", a.Response, a.Text)
	}
	s.leaves()
}

// TestPasswordsOfAnyLetters go through as they are.
func TestPasswordsOfAnyLetters(t *testing.T) {
	for name, p := range map[string]string{
		"one umlaut":         "ä",
		"spaces around":      " leading and trailing ",
		"beyond the BMP":     "\u00e9\u0301\U0001F600",
		"signs":              "\"<&%s\\",
		"256 sharp s":        strings.Repeat("ß", 256),
		"256 of three bytes": strings.Repeat("語", 256),
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, func(s *session) {
				if got := string(s.begin.GetPassword()); got != p {
					s.fail("the password is %q, want %q", got, p)
				}
				codeThen(allow())(s)
			})
			s := atLogon(t)
			s.types("Password", p)
			s.submits()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isInWith("CORP", "alice", p)
			s.leaves()
		})
	}
}

// computerName is what Windows calls this computer.
func computerName(t *testing.T) string {
	t.Helper()
	need(t)
	out, err := windows(t).Command(t.Context(), "cmd", "/c", "echo %COMPUTERNAME%").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
