package migrate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// "12345678901234567890", the key of RFC 4226 appendix D.
const (
	rfcBase32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	rfcHex    = "3132333435363738393031323334353637383930"
)

func TestParseGoogle(t *testing.T) {
	g, err := ParseGoogle([]byte(rfcBase32 + `
" RATE_LIMIT 3 30 1700000000
" WINDOW_SIZE 17
" DISALLOW_REUSE 56666667 56666669 56666668
" TIME_SKEW -2
" TOTP_AUTH
12345678
87654321
`))
	if err != nil {
		t.Fatal(err)
	}
	if string(g.Secret) != "12345678901234567890" || g.Algorithm != "SHA1" || g.Digits != 6 || g.Period != 30 ||
		g.LastStep != 56666669 || g.ScratchCodes != 2 || g.Skew != -2 {
		t.Errorf("%+v", g)
	}
}

func TestParseGoogleSecrets(t *testing.T) {
	for secret, want := range map[string]int{
		"2SH3V3GDW7ZNMGYE":                        10, // the old default: 80 bits
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ":              16, // the new default: 26 letters, 130 bits
		"gezd gnbv-gy3t qojq gezd gnbv gy3t qojq": 20,
		"GEZDGNBVGY3TQOJQ====":                    10,
		"0181018101810181":                        10, // typed by hand: O, L, B
	} {
		g, err := ParseGoogle([]byte(secret + "\n\" TOTP_AUTH\n"))
		if err != nil || len(g.Secret) != want {
			t.Errorf("%s: %d bytes, %v", secret, len(g.Secret), err)
		}
	}
}

func TestParseGoogleRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":                 {"", "0 bytes"},
		"short":                 {"GEZDGNBV\n\" TOTP_AUTH\n", "5 bytes"},
		"long":                  {strings.Repeat("A", 400) + "\n\" TOTP_AUTH\n", "250 bytes"},
		"not base32":            {"!!!CANARY!!!\n\" TOTP_AUTH\n", "line 1: the secret is not base32"},
		"counter":               {rfcBase32 + "\n\" HOTP_COUNTER 5\n", "line 2: the code is counter-based"},
		"no kind":               {rfcBase32 + "\n", "no TOTP_AUTH"},
		"a step of 60 s":        {rfcBase32 + "\n\" TOTP_AUTH\n\" STEP_SIZE 60\n", "line 3: STEP_SIZE"},
		"a reuse that is none":  {rfcBase32 + "\n\" DISALLOW_REUSE 1 x\n\" TOTP_AUTH\n", "line 2: DISALLOW_REUSE"},
		"a skew that is none":   {rfcBase32 + "\n\" TIME_SKEW x\n\" TOTP_AUTH\n", "line 2: TIME_SKEW"},
		"a line that is not it": {rfcBase32 + "\n\" TOTP_AUTH\nroot:x:0:0\n", "line 3: neither"},
		"not text":              {rfcBase32 + "\n\xff\xfe", "not text"},
	} {
		_, err := ParseGoogle([]byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		} else if strings.Contains(err.Error(), rfcBase32[:8]) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
	if _, err := ParseGoogle([]byte(rfcBase32 + "\n\" TOTP_AUTH\n\" STEP_SIZE 30\n")); err != nil {
		t.Errorf("a step of 30 s: %v", err)
	}
}

// parse collects what a users.oath holds.
func parse(t testing.TB, text string, now time.Time) (entries []Entry, refused []Refused) {
	t.Helper()
	err := ParseOATH(strings.NewReader(text), now,
		func(e Entry) error { entries = append(entries, e); return nil },
		func(r Refused) error { refused = append(refused, r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return entries, refused
}

func TestParseOATH(t *testing.T) {
	entries, refused := parse(t, `# users
HOTP/T30 alice - `+rfcHex+`

HOTP/T30/6	bob	+	`+strings.ToUpper(rfcHex)+`
HOTP/T30/8 carol - `+rfcHex+` 17
HOTP dave - `+rfcHex+` 4
HOTP/E/6 erin - `+rfcHex+`
HOTP/T60 frank - `+rfcHex+`
HOTP/T30/7 grace - `+rfcHex+`
HOTP/T30 heidi 1234 `+rfcHex+`
HOTP/T30 ivan - 00
HOTP/T30 judy - xyz
HOTP/T30 mallory
CANARY
`, time.Now())
	if len(entries) != 3 {
		t.Fatalf("%v", entries)
	}
	for i, want := range []Entry{{User: "alice", Digits: 6, Line: 2}, {User: "bob", Digits: 6, Line: 4}, {User: "carol", Digits: 8, Line: 5}} {
		e := entries[i]
		if e.User != want.User || e.Digits != want.Digits || e.Line != want.Line || string(e.Secret) != "12345678901234567890" ||
			e.Period != 30 || e.Algorithm != "SHA1" || e.LastStep != 0 {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
	want := []struct {
		line         int
		user, reason string
	}{{6, "dave", "counter-based"}, {7, "erin", "counter-based"}, {8, "frank", "60 s"}, {9, "grace", "7 digits"},
		{10, "heidi", "PIN"}, {11, "ivan", "1 bytes"}, {12, "judy", "hexadecimal"}, {13, "mallory", "cut short"}, {14, "", "not a type"}}
	if len(refused) != len(want) {
		t.Fatalf("%v", refused)
	}
	for i, w := range want {
		r := refused[i]
		if r.Line != w.line || r.User != w.user || !strings.Contains(r.Reason, w.reason) {
			t.Errorf("%+v, want %+v", r, w)
		}
		if strings.Contains(r.Reason, "CANARY") || strings.Contains(r.Reason, "1234") {
			t.Errorf("the reason quotes the line: %s", r.Reason)
		}
	}
}

// The code of the last login must not be good again after the move, wherever in
// pam_oath's window it was.
func TestOATHLastCodeStaysUsed(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	at := now.Add(-20 * time.Second)
	secret, _ := hex.DecodeString(rfcHex)
	line := func(code uint32, when time.Time) string {
		return fmt.Sprintf("HOTP/T30 alice - %s 3 %06d %s", rfcHex, code, when.Format("2006-01-02T15:04:05L"))
	}
	for _, offset := range []int64{0, 1, -1, 2, 17, -30} {
		step := at.Unix()/30 + offset
		entries, refused := parse(t, line(hotp(secret, step, 6), at), now)
		if len(refused) > 0 {
			t.Fatal(refused)
		}
		want := step
		if newest := now.Unix()/30 + 3; step > newest {
			want = at.Unix() / 30 // too far ahead to be true: the login's own time stands
		}
		if entries[0].LastStep != want {
			t.Errorf("offset %d: step %d, want %d", offset, entries[0].LastStep, want)
		}
	}
	future, _ := parse(t, line(999999, now.Add(30*24*time.Hour)), now)
	if got, most := future[0].LastStep, now.Unix()/30+3; got > most {
		t.Errorf("a login in the future keeps the user out: step %d, now %d", got, most)
	}
	_, refused := parse(t, line(1, at)[:len(line(1, at))-3], now)
	if len(refused) != 1 {
		t.Error("a broken time was taken")
	}
}

func TestHOTPVectors(t *testing.T) {
	secret, _ := hex.DecodeString(rfcHex)
	for i, want := range []uint32{755224, 287082, 359152, 969429, 338314, 254676, 287922, 162583, 399871, 520489} {
		if got := hotp(secret, int64(i), 6); got != want {
			t.Errorf("counter %d: %06d, want %06d", i, got, want)
		}
	}
	if got := hotp(secret, 59/30, 8); got != 94287082 { // RFC 6238 appendix B
		t.Errorf("T=59: %08d", got)
	}
}

func TestParseOATHStops(t *testing.T) {
	stop := errors.New("stop")
	err := ParseOATH(strings.NewReader("HOTP/T30 a - "+rfcHex), time.Now(), func(Entry) error { return stop }, nil)
	if !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	err = ParseOATH(strings.NewReader(strings.Repeat("x", 10000)), time.Now(), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
}

func TestOATH100000LinesAreFast(t *testing.T) {
	var b bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&b, "HOTP/T30 user%d - %s\n", i, rfcHex)
	}
	// Some hundred milliseconds: only what grows with more than the lines takes so long.
	begin, n := time.Now(), 0
	if err := ParseOATH(&b, begin, func(Entry) error { n++; return nil }, func(Refused) error { return nil }); err != nil || n != 100_000 {
		t.Fatalf("%d, %v", n, err)
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func FuzzParseGoogle(f *testing.F) {
	f.Add([]byte(rfcBase32 + "\n\" TOTP_AUTH\n12345678\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGoogle(data)
		if err == nil && (len(g.Secret) < MinSecret || len(g.Secret) > MaxSecret || g.LastStep < 0) {
			t.Errorf("%+v", g)
		}
		if err != nil && g.Secret != nil {
			t.Error("an error with a secret")
		}
	})
}

func FuzzParseOATH(f *testing.F) {
	f.Add([]byte("HOTP/T30 alice - " + rfcHex + " 3 755224 2026-11-22T12:00:00L\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		now := time.Unix(1795348800, 0)
		_ = ParseOATH(bytes.NewReader(data), now, func(e Entry) error {
			if len(e.Secret) < MinSecret || len(e.Secret) > MaxSecret || e.LastStep < 0 || e.LastStep > now.Unix()/30+3 || e.User == "" {
				t.Errorf("%+v", e)
			}
			return nil
		}, func(r Refused) error {
			if r.Line == 0 || r.Reason == "" {
				t.Errorf("%+v", r)
			}
			return nil
		})
	})
}
