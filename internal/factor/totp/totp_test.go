package totp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor/totp"
)

// atStep is the first second of a time step.
func atStep(step int64) time.Time { return time.Unix(step*30, 0) }

// fresh is a state in which no code was used yet, not even that of step 0.
func fresh(t *testing.T, secret, algorithm string, digits int) *totp.State {
	t.Helper()
	seed, err := totp.DecodeSeed(secret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := totp.FromSeed(seed, algorithm, digits, 30)
	if err != nil {
		t.Fatal(err)
	}
	s.LastStep = -1
	return s
}

func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil || len(files) != 3 {
		t.Fatalf("vector files %q, %v", files, err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n := 0
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) == 0 || fields[0] == "#" {
				continue
			}
			secret, algorithm, code := fields[0], fields[1], fields[3]
			step, err := strconv.ParseInt(fields[2], 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			s := fresh(t, secret, algorithm, len(code))
			if got := s.Verify(code, atStep(step)); got != totp.Correct {
				t.Errorf("%s: %s step %d: %s is %v", file, algorithm, step, code, got)
			}
			// Not by way of a neighbouring step.
			if s.LastStep != step || s.Drift != 0 {
				t.Errorf("%s: %s step %d: found at step %d, drift %d", file, algorithm, step, s.LastStep, s.Drift)
			}
			n++
		}
		if n == 0 {
			t.Errorf("%s has no vectors", file)
		}
	}
}

// The secret of the tests that follow, and codes of it by RFC 4226's appendix D.
const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

var codeAt = map[int64]string{0: "755224", 1: "287082", 2: "359152", 3: "969429", 4: "338314",
	5: "254676", 6: "287922", 7: "162583", 8: "399871", 9: "520489"}

func TestEachStepIsGoodOnceAndOnlyForwards(t *testing.T) {
	s := fresh(t, secret, "", 0)
	for _, c := range []struct {
		now, code int64
		want      totp.Result
	}{
		{5, 5, totp.Correct},
		{5, 5, totp.Used},
		{6, 5, totp.Used},    // a step later the same code is still known as used
		{5, 4, totp.Used},    // never used, but older than the last used one
		{4, 5, totp.Used},    // the clock went back
		{5, 6, totp.Correct}, // the next step is not
		{5, 6, totp.Used},
		{8, 5, totp.Wrong}, // outside the window nothing is known of it
	} {
		if got := s.Verify(codeAt[c.code], atStep(c.now)); got != c.want {
			t.Errorf("at step %d the code of step %d is %v, want %v", c.now, c.code, got, c.want)
		}
	}
	if s.LastStep != 6 {
		t.Errorf("the last step is %d", s.LastStep)
	}
}

func TestNoCodeIsRightBeforeTheTimeOfTheLast(t *testing.T) {
	s := fresh(t, secret, "", 0)
	s.Drift = 3
	const used = 1000
	s.LastStep = used
	for now := int64(used - 10); now < used; now++ {
		for offset := int64(-6); offset <= 6; offset++ {
			got := s.Verify(codeOf(t, s, now+offset), atStep(now))
			if ahead := now < used-4; got == totp.Correct && now+offset <= used || ahead != (got == totp.ClockWasAhead) || ahead != s.ClockWasAhead(atStep(now)) {
				t.Fatalf("at step %d the code of step %d is %v", now, now+offset, got)
			}
			s.LastStep, s.Drift = used, 3
		}
	}
}

// Once in a million neighbours, two steps have the same code. It is good once
// all the same.
func TestTwoStepsWithOneCode(t *testing.T) {
	const first, code = 59061240, "963181"
	s := fresh(t, secret, "", 0)
	if codeOf(t, s, first) != code || codeOf(t, s, first+1) != code {
		t.Fatal("the steps do not have one code")
	}
	if got := s.Verify(code, atStep(first)); got != totp.Correct {
		t.Fatalf("at first it is %v", got)
	}
	for _, now := range []int64{first, first + 1} {
		if got := s.Verify(code, atStep(now)); got != totp.Used {
			t.Errorf("again, %d steps later: %v", now-first, got)
		}
	}
}

func TestOnlyARightCodeChangesTheState(t *testing.T) {
	s := fresh(t, secret, "", 0)
	s.Verify(codeAt[5], atStep(5))
	before := *s
	for _, code := range []string{"", "0", "000000", codeAt[5], codeAt[4], codeAt[9], codeAt[6] + "0", " " + codeAt[6], codeAt[6][:5]} {
		if got := s.Verify(code, atStep(5)); got == totp.Correct {
			t.Errorf("%q was taken", code)
		}
	}
	if fmt.Sprint(before.LastStep, before.Drift) != fmt.Sprint(s.LastStep, s.Drift) {
		t.Errorf("step %d, drift %d; it was step %d, drift %d", s.LastStep, s.Drift, before.LastStep, before.Drift)
	}
}

func TestTheWindowIsTheDriftAndOneStepToEachSide(t *testing.T) {
	for drift := -3; drift <= 3; drift++ {
		for offset := -6; offset <= 6; offset++ {
			s := fresh(t, secret, "", 0)
			s.Drift = drift
			const now = 100
			code := codeOf(t, s, now+int64(offset))
			got := s.Verify(code, atStep(now))
			if within := offset >= drift-1 && offset <= drift+1; within != (got == totp.Correct) {
				t.Errorf("drift %d: a code %d steps off is %v", drift, offset, got)
			} else if within && s.Drift != max(-3, min(3, offset)) {
				t.Errorf("drift %d: after a code %d steps off it is %d", drift, offset, s.Drift)
			}
		}
	}
}

func TestStepsBeforeTheEpochAreNone(t *testing.T) {
	s := fresh(t, secret, "", 0)
	s.Drift = -3
	if got := s.Verify(codeAt[0], atStep(0)); got != totp.Wrong {
		t.Errorf("step -4 and on at time 0: %v", got)
	}
	if got := s.Verify("000000", time.Unix(-1_000_000, 0)); got != totp.Wrong {
		t.Errorf("before 1970: %v", got)
	}
}

// A record without a seed would let in whoever knows that it has none.
func TestTheZeroStateTakesNothing(t *testing.T) {
	noSeed := codeOf(t, &totp.State{Algorithm: "SHA1", Digits: 6, Period: 30}, 5)
	for name, s := range map[string]*totp.State{
		"zero":         {},
		"no seed":      {Algorithm: "SHA1", Digits: 6, Period: 30, LastStep: -1},
		"no period":    {Algorithm: "SHA1", Digits: 6, Seed: totp.Seed("12345678901234567890"), LastStep: -1},
		"no algorithm": {Digits: 6, Period: 30, Seed: totp.Seed("12345678901234567890"), LastStep: -1},
	} {
		for _, code := range []string{"", noSeed, codeAt[5]} {
			if got := s.Verify(code, atStep(5)); got != totp.Wrong {
				t.Errorf("%s: %q is %v", name, code, got)
			}
		}
	}
}

// codeOf is the code of a step by the test's own arithmetic.
func codeOf(t *testing.T, s *totp.State, step int64) string {
	t.Helper()
	return hotp(s.Seed, step, 6)
}

func TestNewSecrets(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		s, err := totp.New("", 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Seed) != 20 || s.Algorithm != "SHA1" || s.Digits != 6 || s.Period != 30 || s.LastStep != 0 || s.Drift != 0 {
			t.Errorf("%d bytes, %s, %d digits, %d s, step %d, drift %d", len(s.Seed), s.Algorithm, s.Digits, s.Period, s.LastStep, s.Drift)
		}
		if len(s.SeedText()) != 32 || seen[s.SeedText()] {
			t.Error("a seed of another length, or a second time")
		}
		seen[s.SeedText()] = true
	}
	if s, err := totp.New("sha512", 8); err != nil || s.Algorithm != "SHA512" || s.Digits != 8 {
		t.Errorf("sha512, 8: %v", err)
	}
}

func TestWhatIsNotAcceptedAsASecret(t *testing.T) {
	ok := bytes.Repeat([]byte{'k'}, 20)
	for _, c := range []struct {
		seed           []byte
		algorithm      string
		digits, period int
		says           string
	}{
		{nil, "", 0, 0, "0 bytes"},
		{ok[:9], "", 0, 0, "9 bytes"},
		{bytes.Repeat(ok, 7), "", 0, 0, "140 bytes"},
		{ok, "MD5", 0, 0, "algorithm is not"},
		{ok, "SHA-1", 0, 0, "algorithm is not"},
		{ok, "", 7, 0, "7 digits"},
		{ok, "", -6, 0, "-6 digits"},
		{ok, "", 10, 0, "10 digits"},
		{ok, "", 0, 60, "60 seconds"},
		{ok, "", 0, -30, "-30 seconds"},
		{ok, "", 0, 1, "1 seconds"},
	} {
		if _, err := totp.FromSeed(c.seed, c.algorithm, c.digits, c.period); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d bytes, %q, %d, %d: %v", len(c.seed), c.algorithm, c.digits, c.period, err)
		}
	}
}

func TestFromURI(t *testing.T) {
	const key = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	for _, c := range []struct {
		uri  string
		want string // "algorithm digits", or what the error says
	}{
		{"otpauth://totp/ACME:alice?secret=" + key, "SHA1 6"},
		{"  otpauth://totp/ACME:alice?secret=" + key + "\r\n", "SHA1 6"},
		{"otpauth://totp/?secret=" + key, "SHA1 6"},
		{"otpauth://totp?secret=" + key, "SHA1 6"},
		{"OTPAUTH://totp/x?secret=" + key, "SHA1 6"},
		{"otpauth://totp/x?secret=" + strings.ToLower(key) + "&issuer=Big%20Corp", "SHA1 6"},
		{"otpauth://totp/x?secret=gezd+gnbv-gy3t+qojq+gezd+gnbv+gy3t+qojq", "SHA1 6"},
		{"otpauth://totp/x?secret=" + key + "%3D%3D&algorithm=sha256&digits=8&period=30", "SHA256 8"},
		{"otpauth://totp/x?secret=" + key + "&algorithm=SHA512&digits=6", "SHA512 6"},
		{"otpauth://totp/x?secret=" + key + "&image=https%3A%2F%2Fexample.org%2Fi.png&unknown=1", "SHA1 6"},
		{"", "not an otpauth"},
		{key, "not an otpauth"},
		{"https://totp/x?secret=" + key, "not an otpauth"},
		{"otpauth://hotp/x?secret=" + key + "&counter=0", "another type"},
		{"otpauth:totp/x?secret=" + key, "another type"},
		{"otpauth://user:" + key + "@totp/x", "base32"},
		{"otpauth://totp/x", "base32"},
		{"otpauth://totp/x?secret=", "base32"},
		{"otpauth://totp/x?secret=0189", "base32"},
		{"otpauth://totp/x?secret=" + key + "!", "base32"},
		{"otpauth://totp/x?secret=GEZDGNBV", "5 bytes"},
		{"otpauth://totp/x?secret=" + key + "&digits=7", "7 digits"},
		{"otpauth://totp/x?secret=" + key + "&digits=six", "digits is not a number"},
		{"otpauth://totp/x?secret=" + key + "&digits=-6", "digits is not a number"},
		{"otpauth://totp/x?secret=" + key + "&digits=0", "digits is not a number"},
		{"otpauth://totp/x?secret=" + key + "&digits=99999999999999999999", "digits is not a number"},
		{"otpauth://totp/x?secret=" + key + "&period=60", "60 seconds"},
		{"otpauth://totp/x?secret=" + key + "&period=30s", "period is not a number"},
		{"otpauth://totp/x?secret=" + key + "&algorithm=MD5", "algorithm is not"},
		{"otpauth://totp/%zz?secret=" + key, "not an otpauth"},
		{"otpauth://to tp/?secret=" + key, "not an otpauth"},
	} {
		s, err := totp.FromURI(c.uri)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", c.uri, err, c.want)
			}
			if strings.Contains(strings.ToUpper(err.Error()), key[:8]) {
				t.Errorf("the error holds the secret: %v", err)
			}
			continue
		}
		if got := fmt.Sprint(s.Algorithm, " ", s.Digits); got != c.want || s.SeedText() != key {
			t.Errorf("%s: %s, want %s", c.uri, got, c.want)
		}
	}
}

func TestURIIsReadBack(t *testing.T) {
	for _, algorithm := range []string{"SHA1", "SHA256", "SHA512"} {
		for _, digits := range []int{6, 8} {
			for _, name := range []string{"alice", "alice@corp.example", `CORP\alice`, "Zoë Ångström", "a/b?c#d&e=f+g%h", "", "a:b"} {
				s, err := totp.New(algorithm, digits)
				if err != nil {
					t.Fatal(err)
				}
				uri := s.URI("Sallyport über alles & co", name)
				back, err := totp.FromURI(uri)
				if err != nil {
					t.Fatalf("%q: %v", name, err)
				}
				if !bytes.Equal(back.Seed, s.Seed) || back.Algorithm != algorithm || back.Digits != digits || back.Period != 30 {
					t.Errorf("%q: %s, %d digits, %d s came back", name, back.Algorithm, back.Digits, back.Period)
				}
				if strings.ContainsAny(uri[strings.Index(uri, "?"):], "+ ") {
					t.Errorf("%q: the query has a + for a space, which some apps show as such", name)
				}
				u, err := url.Parse(uri)
				if err != nil || u.Path != "/Sallyport über alles & co:"+name || u.Query().Get("issuer") != "Sallyport über alles & co" {
					t.Errorf("%q: label %q, issuer %q, %v", name, u.Path, u.Query().Get("issuer"), err)
				}
			}
		}
	}
}

func TestDecodeSeed(t *testing.T) {
	want := []byte("12345678901234567890")
	for _, text := range []string{secret, strings.ToLower(secret), "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ",
		"GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ", secret + "======"} {
		if got, err := totp.DecodeSeed(text); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "=", " - ", "1", "GEZDGNB1", "GEZDGNB!", "ß", secret + "\x00"} {
		if got, err := totp.DecodeSeed(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestNothingPrintsTheSeed(t *testing.T) {
	const canary = "CANARYcanaryCANARYca"
	s, err := totp.FromSeed([]byte(canary), "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, v := range []any{s, *s, s.Seed, []totp.Seed{s.Seed}, struct{ S totp.State }{*s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{s, *s, s.Seed} {
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v, slog.Group("g", "v", v))
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v, slog.Group("g", "v", v))
	}
	fmt.Fprintln(&out, errors.Join(fmt.Errorf("%v %w", s, errors.New("x"))))
	leaks := []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprint([]byte(canary)), s.SeedText(), "Q0FOQVJZ", "103 101"}
	for line := range strings.Lines(out.String()) {
		for _, leak := range leaks {
			if strings.Contains(line, leak) {
				t.Errorf("the seed was printed: %s", line)
			}
		}
	}
	// And yet the vault keeps it.
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back totp.State
	if err := json.Unmarshal(b, &back); err != nil || string(back.Seed) != canary {
		t.Errorf("the seed does not survive JSON: %v", err)
	}
}
