package factor_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/factor/totp"
	"sallyport/internal/secret"
)

// world is one person with a phone, and one computer with a clock that may be
// wrong. A test reads like what happens to them:
//
//	w.at("12:00:10").types(w.phone()).gets(allow)
//
// The account goes through JSON between two logins, as it does in the vault.
type world struct {
	*testing.T
	account *factor.Account
	seed    []byte

	real     time.Time     // what time it is
	clockOff time.Duration // the computer's clock is ahead by this
	phoneOff time.Duration // and the phone's by this
	boots    int
	booted   time.Time
	highest  time.Time // what the vault remembers

	recovery []string // the codes that were shown
	last     factor.Outcome
}

const (
	allow = factor.Accepted
	step  = 30 * time.Second
)

// codeKey keys the hashes of one-time codes.
var codeKey = []byte("the key of the one-time codes...")

// midnight is when every world begins.
var midnight = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// newWorld has uid 1000, known to the vault but with no factor.
func newWorld(t *testing.T) *world {
	return &world{T: t, account: &factor.Account{Key: "uid:1000", Name: "alice"}, real: midnight, booted: midnight.Add(-time.Hour)}
}

// enrolled has uid 1000 enrolled.
func enrolled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.enrol("12345678901234567890")
	return w
}

func (w *world) enrol(seed string) *world {
	w.Helper()
	w.seed = []byte(seed)
	state, err := totp.FromSeed([]byte(seed), "", 0, 0)
	if err != nil {
		w.Fatal(err)
	}
	if w.recovery, err = w.account.Enrol(state, w.now(), codeKey); err != nil {
		w.Fatal(err)
	}
	return w
}

// now is the computer's idea of the time, with what the vault adds to it.
func (w *world) now() clock.Instant {
	wall := w.real.Add(w.clockOff)
	if wall.After(w.highest) {
		w.highest = wall
	}
	return clock.Instant{Wall: wall, Boot: w.real.Sub(w.booted), BootID: fmt.Sprint("boot ", w.boots), Highest: w.highest}
}

// at lets time go by until the clock on the wall shows hhmmss, for real.
func (w *world) at(hhmmss string) *world {
	w.Helper()
	of, err := time.Parse(time.TimeOnly, hhmmss)
	if err != nil {
		w.Fatal(err)
	}
	day := w.real.Truncate(24 * time.Hour)
	to := day.Add(of.Sub(of.Truncate(24 * time.Hour)))
	if to.Before(w.real) {
		w.Fatalf("it is past %s already", hhmmss)
	}
	w.real = to
	return w
}

// later lets time go by.
func (w *world) later(d time.Duration) *world { w.real = w.real.Add(d); return w }

// clockSet moves the computer's clock; no time goes by.
func (w *world) clockSet(by time.Duration) *world { w.clockOff += by; return w }

// phoneSet moves the phone's clock.
func (w *world) phoneSet(by time.Duration) *world { w.phoneOff += by; return w }

// reboots starts the computer anew.
func (w *world) reboots() *world { w.boots++; w.booted = w.real; return w }

// phone is the code the phone shows.
func (w *world) phone() string { return w.phoneIn(0) }

// phoneIn is the code the phone will show so many steps from now, or did.
func (w *world) phoneIn(steps int64) string {
	return hotp(w.seed, w.real.Add(w.phoneOff).Unix()/30+steps)
}

// wrong is a code that is not right at any time near now.
func (w *world) wrong() string {
	for code := 0; ; code++ {
		text := fmt.Sprintf("%06d", code)
		near := false
		for s := int64(-500); s < 500; s++ {
			near = near || w.phoneIn(s) == text
		}
		if !near {
			return text
		}
	}
}

// types answers the prompt for a code.
func (w *world) types(answer string) *world {
	w.Helper()
	w.throughJSON()
	w.last = factor.Check(w.account, secret.New(answer), w.now(), codeKey)
	return w
}

func (w *world) throughJSON() {
	w.Helper()
	b, err := json.Marshal(w.account)
	if err != nil {
		w.Fatal(err)
	}
	w.account = new(factor.Account)
	if err := json.Unmarshal(b, w.account); err != nil {
		w.Fatal(err)
	}
}

// gets checks what came of it.
func (w *world) gets(reason factor.Reason) *world {
	w.Helper()
	if w.last.Reason != reason || w.last.OK != (reason == allow) {
		w.Fatalf("at %s: %+v, want %s", w.real.Format(time.TimeOnly), w.last, reason)
	}
	return w
}

// of checks for which factor the answer was taken.
func (w *world) of(name factor.Name) *world {
	w.Helper()
	if w.last.Factor != name {
		w.Errorf("at %s: taken for %q, want %q", w.real.Format(time.TimeOnly), w.last.Factor, name)
	}
	return w
}

// counted checks how many failures in a row are on record.
func (w *world) counted(n int) *world {
	w.Helper()
	if w.account.Lockout.Failures != n {
		w.Fatalf("at %s: %d failures on record, want %d", w.real.Format(time.TimeOnly), w.account.Lockout.Failures, n)
	}
	return w
}

// typesWrongCodes answers with n wrong codes, none of which locks.
func (w *world) typesWrongCodes(n int) *world {
	w.Helper()
	for range n {
		w.types(w.wrong()).gets(factor.WrongCode).of(factor.TOTP)
		if w.last.LockedNow {
			w.Fatalf("at %s: locked by an earlier code than the tenth", w.real.Format(time.TimeOnly))
		}
	}
	return w
}

// locksItself answers with ten wrong codes and wants to be locked out for d.
func (w *world) locksItself(d time.Duration) *world {
	w.Helper()
	w.typesWrongCodes(9).types(w.wrong()).gets(factor.WrongCode)
	if !w.last.LockedNow || w.last.LockedFor != d {
		w.Fatalf("at %s: the tenth wrong code gives %+v, want a lock of %s", w.real.Format(time.TimeOnly), w.last, d)
	}
	return w
}

// locked checks that the right code is refused, and for how much longer.
func (w *world) locked(left time.Duration) *world {
	w.Helper()
	w.types(w.phone()).gets(factor.Locked)
	if w.last.LockedFor != left || w.last.LockedNow {
		w.Fatalf("at %s: %+v, want %s left", w.real.Format(time.TimeOnly), w.last, left)
	}
	return w
}

// bypass issues a code as the helpdesk does.
func (w *world) bypass(d time.Duration) string {
	w.Helper()
	code, spoken, err := onetime.NewSpoken(codeKey, w.account.Key, w.now().In(d))
	if err != nil {
		w.Fatal(err)
	}
	w.account.Bypass = spoken
	return code
}

// hotp is RFC 4226 section 5.3 with SHA-1 and six digits, written again so that
// the tests do not ask the code that they test.
func hotp(key []byte, counter int64) string {
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, counter)
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&0xf:])&0x7fffffff%1_000_000)
}
