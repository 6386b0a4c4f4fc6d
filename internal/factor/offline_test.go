package factor_test

import (
	"bytes"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/secret"
)

const thisDevice = "ATHNESSGRNI3SNDEBFZECXYBXE"

var bypassKey = bytes.Repeat([]byte{7}, offline.KeySize)

// away is a computer beyond its limit, of which the authority has the key.
var away = factor.Line{Reached: true, Key: bypassKey}

func (w *world) typesOn(line factor.Line, code string) factor.Outcome {
	w.Helper()
	w.last = factor.CheckOffline(w.account, secret.New(code), w.now(), codeKey, line)
	return w.last
}

func (w *world) answerFor(life time.Duration) string {
	w.Helper()
	c := w.account.Challenge(thisDevice, "alice", w.now())
	a, err := offline.Answer(bypassKey, thisDevice, "alice", c, life)
	if err != nil {
		w.Fatal(err)
	}
	return a.Reveal()
}

// bypassed is a helpdesk's bypass of the usual kind.
func (w *world) bypassed() string {
	w.Helper()
	code, spoken, err := onetime.NewSpoken(codeKey, w.account.Key, w.now().In(time.Hour))
	if err != nil {
		w.Fatal(err)
	}
	w.account.Bypass = spoken
	return code
}

func TestAtTheLimitNoCodeIsTakenOrUsedUp(t *testing.T) {
	w := enrolled(t)
	code, paper := w.phone(), w.recovery[0]
	for _, typed := range []string{code, paper, "000000", "hunter2", ""} {
		for range 20 {
			if o := w.typesOn(away, typed); o.OK || o.Reason != factor.OfflineLimit || o.LockedNow {
				t.Fatalf("%q: %+v", typed, o)
			}
		}
	}
	if w.account.Lockout.Failures != 0 {
		t.Errorf("%d failures were counted", w.account.Lockout.Failures)
	}
	for _, typed := range []string{code, paper} {
		if o := w.typesOn(factor.Line{}, typed); !o.OK {
			t.Errorf("back online %q is worth %+v", typed, o)
		}
	}
	// Nobody known: in the same words.
	if o := factor.CheckOffline(nil, secret.New("123456"), w.now(), codeKey, away); o.Reason != factor.OfflineLimit {
		t.Errorf("%+v", o)
	}
}

func TestABypassThatWasIssuedBeforeCountsAtTheLimit(t *testing.T) {
	w := enrolled(t)
	code := w.bypassed()
	w.answerFor(time.Hour) // a challenge is open too
	if o := w.typesOn(away, code); !o.OK || o.Factor != factor.Bypass {
		t.Errorf("%+v", o)
	}
}

func TestTheAnswerIsGoodOnce(t *testing.T) {
	w := enrolled(t)
	answer := w.answerFor(time.Hour)
	if w.answerFor(time.Hour) != answer {
		t.Fatal("another challenge within the life of the first")
	}
	if o := w.typesOn(away, " "+answer+" "); !o.OK || o.Factor != factor.OfflineBypass || o.Reason != factor.Accepted {
		t.Fatalf("%+v", o)
	}
	if o := w.typesOn(away, answer); o.OK || o.Reason != factor.WrongCode {
		t.Errorf("again: %+v", o)
	}
	if w.answerFor(time.Hour) == answer {
		t.Error("the next challenge is the last one")
	}
	// It works before the limit as well, and for whoever has no other factor.
	n := newWorld(t)
	if o := n.typesOn(factor.Line{Key: bypassKey}, n.answerFor(time.Hour)); !o.OK {
		t.Errorf("%+v", o)
	}
}

func TestWithoutAKeyNoAnswerIsTaken(t *testing.T) {
	w := enrolled(t)
	answer := w.answerFor(time.Hour)
	for _, line := range []factor.Line{{}, {Reached: true}, {Key: []byte{}}, {Key: bypassKey[1:]}, {Key: bytes.Repeat([]byte{8}, offline.KeySize)}} {
		if o := w.typesOn(line, answer); o.OK {
			t.Errorf("%+v: %+v", line.Reached, o)
		}
	}
}

func TestAnExpiredAnswerEndsItsChallenge(t *testing.T) {
	w := enrolled(t)
	answer := w.answerFor(15 * time.Minute)
	w.later(15 * time.Minute)
	if o := w.typesOn(away, answer); o.OK || o.Reason != factor.Expired || o.Factor != factor.OfflineBypass {
		t.Errorf("%+v", o)
	}
	if w.account.Offline.Open != nil || w.account.Lockout.Failures != 0 {
		t.Errorf("%+v", w.account.Offline)
	}
}

// TestGuessesAreBounded: five end a challenge, ten in a row keep answers out, and
// neither keeps the helpdesk's usual bypass out, nor do wrong codes this one.
func TestGuessesAreBounded(t *testing.T) {
	w := enrolled(t)
	first := w.answerFor(24 * time.Hour)
	for range offline.Tries {
		w.typesOn(away, "111111111111")
	}
	if w.account.Offline.Open != nil {
		t.Fatal("five wrong answers, and the challenge stands")
	}
	if o := w.typesOn(away, first); o.OK {
		t.Fatal("the answer to a challenge that ended")
	}
	second := w.answerFor(24 * time.Hour)
	for range offline.Tries - 1 {
		w.typesOn(away, "111111111111")
	}
	w.later(time.Second)
	if o := w.typesOn(away, second); !o.OK {
		t.Fatalf("after nine wrong ones: %+v", o)
	}

	// Ten in a row.
	for range 2 {
		w.answerFor(time.Hour)
		for range offline.Tries {
			w.typesOn(away, "111111111111")
		}
	}
	right := w.answerFor(24 * time.Hour)
	if o := w.typesOn(away, right); o.OK || o.Reason != factor.Locked || o.LockedFor != 15*time.Minute || o.Factor != factor.OfflineBypass {
		t.Fatalf("%+v", o)
	}
	if w.account.Offline.Open == nil || w.account.Offline.Open.Wrong != 0 {
		t.Error("what is typed while locked counts")
	}
	usual := w.bypassed()
	if o := w.typesOn(away, usual); !o.OK {
		t.Errorf("the usual bypass: %+v", o)
	}
	w.later(16 * time.Minute)
	if o := w.typesOn(away, right); !o.OK {
		t.Errorf("after the lock: %+v", o)
	}

	// Wrong codes lock codes, and no answer.
	for range 12 {
		w.typesOn(factor.Line{}, "000000")
	}
	if o := w.typesOn(factor.Line{Key: bypassKey}, w.answerFor(time.Hour)); !o.OK {
		t.Errorf("codes are locked: %+v", o)
	}
	// The helpdesk's unlock ends both.
	for range 2 {
		w.answerFor(time.Hour)
		for range offline.Tries {
			w.typesOn(away, "111111111111")
		}
	}
	w.account.Unlock()
	if o := w.typesOn(away, w.answerFor(time.Hour)); !o.OK {
		t.Errorf("unlocked: %+v", o)
	}
}

// TestAnotherSecretEndsTheChallenge, as it ends a bypass: the one before may be
// stolen. What was counted stays.
func TestAnotherSecretEndsTheChallenge(t *testing.T) {
	w := enrolled(t)
	answer := w.answerFor(time.Hour)
	w.account.Offline.Used = offline.Used{Serial: 1, Logins: 3}
	w.enrol("another secret......")
	if o := w.typesOn(away, answer); o.OK {
		t.Errorf("%+v", o)
	}
	if w.account.Offline.Used.Logins != 3 {
		t.Errorf("%+v", w.account.Offline)
	}
}

// TestChallengesEnd after a day, after a rename, and where the computer has joined anew.
func TestChallengesEnd(t *testing.T) {
	a := &factor.Account{Key: "uid:1000"}
	now := clock.Instant{Wall: midnight, Boot: time.Hour, BootID: "one"}
	first := a.Challenge(thisDevice, "alice", now)
	same := func(device, user string, after time.Duration) bool {
		later := now
		later.Wall, later.Boot = now.Wall.Add(after), now.Boot+after
		b := &factor.Account{Offline: factor.Offline{Open: new(offline.Open)}}
		*b.Offline.Open = *a.Offline.Open
		return b.Challenge(device, user, later) == first
	}
	if !same(thisDevice, "alice", 23*time.Hour) || same(thisDevice, "alice", 24*time.Hour) || same("B"+thisDevice[1:], "alice", 0) || same(thisDevice, "alicia", 0) {
		t.Error("challenges last too long, or not long enough")
	}
}
