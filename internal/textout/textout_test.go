package textout

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	const text = "the organisation key lies on the authority: whoever owns it can enrol a phone for anybody"
	got := Fold(text, 40, 10)
	if want := "the organisation key lies on\n          the authority: whoever owns it\n          can enrol a phone for anybody"; got != want {
		t.Errorf("%s", got)
	}
	for i, l := range strings.Split(got, "\n") {
		if n := utf8.RuneCountInString(l); i == 0 && n > 30 || n > 40 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	for name, width := range map[string]int{"a pipe": 0, "too narrow": 25, "wide enough": 200} {
		if got := Fold(text, width, 10); got != text {
			t.Errorf("%s: %s", name, got)
		}
	}
	url := strings.Repeat("x", 50)
	if got := Fold("see "+url+" now", 40, 4); got != "see\n    "+url+"\n    now" {
		t.Errorf("a word that is too long: %s", got)
	}
}

func TestQuoteArg(t *testing.T) {
	for _, c := range []struct{ name, linux, windows string }{
		{"alice", "alice", "alice"},
		{"alice@example.com", "alice@example.com", "alice@example.com"},
		{`CORP\alice`, `'CORP\alice'`, `CORP\alice`},
		{"Zoë Müller", "'Zoë Müller'", `"Zoë Müller"`},
		{"o'neil", `'o'\''neil'`, `"o'neil"`},
		{"", "''", `""`},
		{"a\x1b", `'a\x1b'`, `"a\x1b"`},
	} {
		if got := quoteArg(c.name, false); got != c.linux {
			t.Errorf("%q: %s, want %s", c.name, got, c.linux)
		}
		if got := quoteArg(c.name, true); got != c.windows {
			t.Errorf("%q on Windows: %s, want %s", c.name, got, c.windows)
		}
	}
}
