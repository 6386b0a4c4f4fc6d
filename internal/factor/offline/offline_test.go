package offline_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor/offline"
)

const (
	device = "ATHNESSGRNI3SNDEBFZECXYBXE"
	user   = "maya"
)

// key is a key of the tests: 00 01 02 ... 1f.
var key = func() (k []byte) {
	for i := range offline.KeySize {
		k = append(k, byte(i))
	}
	return k
}()

var start = clock.Instant{Wall: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), Boot: time.Hour, BootID: "one"}

// after is so much later, in the same boot.
func after(d time.Duration) clock.Instant {
	i := start
	i.Wall, i.Boot = i.Wall.Add(d), i.Boot+d
	return i
}

func bare(code string) string { return strings.ReplaceAll(code, "-", "") }

func answer(t *testing.T, c offline.Challenge, life time.Duration) string {
	t.Helper()
	a, err := offline.Answer(key, device, user, c, life)
	if err != nil {
		t.Fatal(err)
	}
	return bare(a.Reveal())
}

// TestTheAnswerIsWhatTheDocumentationSays computes it from the words of the package
// documentation, without the package.
func TestTheAnswerIsWhatTheDocumentationSays(t *testing.T) {
	for i, life := range offline.Lives {
		digit := fmt.Sprint(i + 1)
		var m []byte
		for _, field := range []string{"sallyport offline bypass v1", device, user, "K7QF9M2X", digit} {
			m = append(m, byte(len(field)>>8), byte(len(field)))
			m = append(m, field...)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(m)
		want := fmt.Sprintf("%s%011d", digit, binary.BigEndian.Uint64(mac.Sum(nil))%100_000_000_000)
		if got := answer(t, "K7QF9M2X", life); got != want {
			t.Errorf("%v: %s, want %s", life, got, want)
		}
	}
}

// TestVectors are what devices and authorities of every version have to agree on.
// They were computed by another program, once; a change of them is a new domain.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		challenge offline.Challenge
		life      time.Duration
		want      string
	}{
		{"K7QF9M2X", 15 * time.Minute, "1881-7896-4304"},
		{"K7QF9M2X", time.Hour, "2023-4042-9212"},
		{"00000000", 4 * time.Hour, "3691-1682-2343"},
		{"ZZZZZZZZ", 24 * time.Hour, "4807-6977-7278"},
	} {
		a, err := offline.Answer(key, device, user, v.challenge, v.life)
		if err != nil || a.Reveal() != v.want {
			t.Errorf("%s, %v: %s, %v, want %s", v.challenge, v.life, a.Reveal(), err, v.want)
		}
	}
	if got := offline.PretendChallenge([]byte("seed"), device, user).String(); got != "SJRP-11GM" {
		t.Error(got)
	}
}

// TestAnAnswerIsBoundToAll: the key, the device, the user, the challenge and the
// life each change it, and no field can be pushed into the next.
func TestAnAnswerIsBoundToAll(t *testing.T) {
	seen := map[string]string{}
	other := bytes.Repeat([]byte{1}, offline.KeySize)
	for _, c := range []struct {
		what         string
		key          []byte
		device, user string
		challenge    offline.Challenge
	}{
		{"as it is", key, device, user, "K7QF9M2X"}, {"another key", other, device, user, "K7QF9M2X"}, {"another device", key, "B" + device[1:], user, "K7QF9M2X"},
		{"another user", key, device, "zoe", "K7QF9M2X"}, {"another challenge", key, device, user, "K7QF9M2Y"},
		{"a field moved", key, device + "m", "aya", "K7QF9M2X"}, {"and back", key, device[:25], "E" + user, "K7QF9M2X"},
	} {
		for _, life := range offline.Lives {
			a, err := offline.Answer(c.key, c.device, c.user, c.challenge, life)
			if err != nil {
				t.Fatal(err)
			}
			code := bare(a.Reveal())[1:] // without the life, which shows
			if before, twice := seen[code]; twice {
				t.Errorf("%s, %v: the same as %s", c.what, life, before)
			}
			seen[code] = fmt.Sprint(c.what, life)
		}
	}
}

func TestLives(t *testing.T) {
	open := offline.NewOpen(device, user, start)
	for i, life := range offline.Lives {
		code := answer(t, open.Challenge, life)
		for _, c := range []struct {
			at          time.Duration
			right, late bool
		}{{0, true, false}, {life - time.Second, true, false}, {life, false, true}, {life + time.Hour, false, true}} {
			if right, late := open.Verify(key, code, after(c.at)); right != c.right || late != c.late {
				t.Errorf("an answer for %v after %v: right %v, late %v", life, c.at, right, late)
			}
		}
		// The digit of another life is another code.
		for j := range offline.Lives {
			if right, late := open.Verify(key, fmt.Sprint(j+1)+code[1:], start); j != i && (right || late) {
				t.Errorf("an answer for %v is one for %v", life, offline.Lives[j])
			}
		}
	}
	if _, err := offline.Answer(key, device, user, open.Challenge, 2*time.Hour); !errors.Is(err, offline.ErrLife) {
		t.Error(err)
	}
	if _, err := offline.Answer(key[1:], device, user, open.Challenge, time.Hour); err == nil {
		t.Error("a short key was taken")
	}
}

// TestClockSetBackGivesAnAnswerNoLongerLife: in the same boot, and after another.
func TestClockSetBackGivesAnAnswerNoLongerLife(t *testing.T) {
	open := offline.NewOpen(device, user, start)
	code := answer(t, open.Challenge, 15*time.Minute)
	back := after(20 * time.Minute)
	back.Wall = start.Wall.Add(-time.Hour)
	if _, late := open.Verify(key, code, back); !late {
		t.Error("the clock set back in this boot")
	}
	rebooted := clock.Instant{Wall: start.Wall.Add(-time.Hour), Boot: time.Minute, BootID: "two", Highest: start.Wall.Add(20 * time.Minute)}
	if _, late := open.Verify(key, code, rebooted); !late {
		t.Error("the clock set back before the next boot")
	}
	if open.Current(device, user, after(24*time.Hour)) || !open.Current(device, user, after(23*time.Hour)) {
		t.Error("a challenge lives for a day")
	}
}

func TestWrongAnswers(t *testing.T) {
	open := offline.NewOpen(device, user, start)
	code := answer(t, open.Challenge, time.Hour)
	for i := range code { // each digit counts
		wrong := code[:i] + string('0'+(code[i]-'0'+1)%10) + code[i+1:]
		if right, late := open.Verify(key, wrong, start); right || late {
			t.Errorf("%s was taken for %s", wrong, code)
		}
	}
	for _, odd := range []string{"", "0", code[:11], code + "0", "0" + code[1:], "5" + code[1:], "9" + code[1:], strings.Repeat("A", 12), strings.Repeat("\x00", 12)} {
		if right, late := open.Verify(key, odd, start); right || late {
			t.Errorf("%q was taken", odd)
		}
	}
	for _, k := range [][]byte{nil, {}, key[:31], bytes.Repeat([]byte{0}, 32)} {
		if right, _ := open.Verify(k, code, start); right {
			t.Errorf("taken with the key %x", k)
		}
	}
	if right, _ := (*offline.Open)(nil).Verify(key, code, start); right {
		t.Error("taken with no challenge")
	}
	open.Wrong = offline.Tries
	if right, _ := open.Verify(key, code, start); right || open.Current(device, user, start) {
		t.Error("taken after five wrong ones")
	}
}

func TestChallengesAreReadAloud(t *testing.T) {
	c := offline.PretendChallenge([]byte("seed"), device, user)
	said := c.String()
	if len(said) != 9 || said[4] != '-' {
		t.Error(said)
	}
	misread := strings.NewReplacer("0", "o", "1", "l").Replace(strings.ToLower(said))
	for _, typed := range []string{said, string(c), " " + said + " ", strings.ToLower(said), misread, said[:2] + " " + said[2:]} {
		if got, err := offline.ParseChallenge(typed, device, user); err != nil || got != c {
			t.Errorf("%q: %s, %v", typed, got, err)
		}
	}
	for _, odd := range []string{"", "K7QF", said + "0", "U" + said[1:], said[:8], strings.Repeat("A", 100), "é" + said[1:]} {
		if _, err := offline.ParseChallenge(odd, device, user); !errors.Is(err, offline.ErrChallenge) {
			t.Errorf("%q: %v", odd, err)
		}
	}
}

// TestTheChecksumFindsMistakes in about 31 of 32 cases: a character misheard, and
// the wrong computer or person chosen.
func TestTheChecksumFindsMistakes(t *testing.T) {
	const n = 2000
	missed := map[string]int{}
	for i := range n {
		c := offline.PretendChallenge(fmt.Append(nil, i), device, user)
		wrong := "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[i%32 : i%32+1]
		if wrong == string(c[i%7]) {
			wrong = "Z"
		}
		for what, err := range map[string]error{
			"computer": second(offline.ParseChallenge(string(c), "B"+device[1:], user)), "person": second(offline.ParseChallenge(string(c), device, "Maya")),
			"character": second(offline.ParseChallenge(string(c[:i%7])+wrong+string(c[i%7+1:]), device, user)),
		} {
			if err == nil {
				missed[what]++
			} else if !errors.Is(err, offline.ErrOther) {
				t.Fatal(what, err)
			}
		}
	}
	for what, m := range missed {
		if m > n/16 {
			t.Errorf("a wrong %s passed in %d of %d cases", what, m, n)
		}
	}
}

func second(_ offline.Challenge, err error) error { return err }

func TestNewOnesDiffer(t *testing.T) {
	seen := map[offline.Challenge]bool{}
	for range 1000 {
		c := offline.NewChallenge(device, user)
		if _, err := offline.ParseChallenge(string(c), device, user); err != nil || seen[c] {
			t.Fatal(c, err)
		}
		seen[c] = true
	}
	if a, b := offline.NewKey(), offline.NewKey(); len(a) != offline.KeySize || bytes.Equal(a, b) {
		t.Error("keys")
	}
}

func FuzzParseChallenge(f *testing.F) {
	for _, s := range []string{"K7QF-9M2X", "", "oooo-llll", "\xff\xfe", strings.Repeat("-", 32)} {
		f.Add(s, "maya")
	}
	f.Fuzz(func(t *testing.T, typed, user string) {
		c, err := offline.ParseChallenge(typed, device, user)
		if err != nil {
			if c != "" {
				t.Error("both a challenge and an error")
			}
			return
		}
		if again, err := offline.ParseChallenge(c.String(), device, user); err != nil || again != c || len(c) != 8 {
			t.Errorf("%q is %q, and that %q, %v", typed, c, again, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	open := offline.NewOpen(device, user, start)
	f.Add("123456789012")
	f.Add("\xff23456789012")
	f.Fuzz(func(t *testing.T, typed string) {
		right, late := open.Verify(key, typed, start)
		if late || right && (len(typed) != 12 || strings.Trim(typed, "0123456789") != "") {
			t.Errorf("%q: right %v, late %v", typed, right, late)
		}
	})
}
