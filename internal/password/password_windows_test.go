package password

import (
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"sallyport/internal/accounts"
)

const canary = "Canary-Passwörd-1"

// TestNamesThatNeverReachWindows: what is no name, or no account's alone, is not
// asked about.
func TestNamesThatNeverReachWindows(t *testing.T) {
	for name, want := range map[string]string{
		"": ReasonWrong, "\x00": ReasonWrong, "CORP\\root\x00": ReasonWrong, `\root`: ReasonWrong, `CORP\`: ReasonWrong, "root\n": ReasonWrong,
		`.\PC1$`: ReasonWrong, "\xff": ReasonWrong, "root": ReasonUnqualified,
	} {
		if r := System()(t.Context(), name, []byte(canary)); r.Verdict == Right || r.Reason != want || r.Text == "" || r.Detail != "" {
			t.Errorf("%q: %+v", name, r)
		}
	}
	for _, p := range []string{"pass\x00word", "\xff"} {
		if r := System()(t.Context(), `.\nosuchuser`, []byte(p)); r.Verdict != Wrong || r.Reason != ReasonWrong {
			t.Errorf("%q: %+v", p, r)
		}
	}
}

func TestTheCallersPasswordIsLeftAlone(t *testing.T) {
	mine := []byte(canary)
	r := System()(t.Context(), `.\nosuchuser`, mine)
	if string(mine) != canary {
		t.Error("the caller's password was changed")
	}
	if strings.Contains(r.Text+r.Detail+r.Reason, "anary") || strings.Contains(r.Text+r.Detail, "nosuchuser") {
		t.Errorf("%+v tells the name or the password", r)
	}
}

// TestWindowsRefusesAnUnknownUser is for a real Windows: Wine's LogonUserW says yes
// to everybody, with a token that is none.
func TestWindowsRefusesAnUnknownUser(t *testing.T) {
	r := System()(t.Context(), `.\nosuchuser`, []byte(canary))
	if r.Verdict == Right && strings.Contains(r.Detail, "the token") {
		if r.User != (accounts.User{}) || r.Groups != nil {
			t.Errorf("a token that is none says %+v", r)
		}
		t.Skip("LogonUserW takes any password here (Wine)")
	}
	if r.Verdict != Wrong {
		t.Errorf("%+v", r)
	}
}

func TestARightPasswordBringsWhoAndWhichGroups(t *testing.T) {
	var token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_QUERY, &token); err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	user, groups, err := accounts.OfToken(token)
	if err != nil {
		t.Fatal(err)
	}
	r := proven(token)
	if r.Verdict != Right || r.User != user || len(r.Groups) != len(groups) || r.Reason != "" {
		t.Errorf("%+v, want %+v", r, user)
	}
}
