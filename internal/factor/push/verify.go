package push

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sallyport/internal/clock"
)

// Reason says what an answer or a request came to; stable, for events.
type Reason string

// The reasons.
const (
	Approved    Reason = "push_approved"
	Denied      Reason = "push_denied"
	Reported    Reason = "push_reported" // "Not me": push is locked until the helpdesk clears it
	WrongNumber Reason = "wrong_number"
	Forged      Reason = "push_answer_forged" // it does not verify: whoever relayed it is to be looked at
	Late        Reason = "push_answer_late"
	Repeated    Reason = "push_answer_repeated"
	TimedOut    Reason = "push_timed_out"

	TooMany Reason = "too_many_push_requests"
	Paused  Reason = "push_paused"           // too many were denied or not answered in a row
	Offline Reason = "authority_unreachable" // it did not answer in time
)

// Answer is what a phone answered, as it came.
type Answer struct {
	Decision Decision
	Assertion
}

// Rules are the settings that an answer goes by.
type Rules struct {
	RelyingParty RelyingParty
	AllowSynced  bool // passkeys that are copied between the person's devices count
}

// Verified is what an answer came to. The zero value lets nobody in.
type Verified struct {
	OK      bool
	Reason  Reason
	Phone   string
	Counter uint32
	Detail  string // of Forged: for the log
}

// Verify decides what an answer is worth to the challenge that is live. It is
// the only way to an approval. That the challenge is answered once is State's
// to know.
func (l *Live) Verify(a Answer, approvers []Approver, counters map[string]uint32, rules Rules, now clock.Instant) Verified {
	if l.Until.Passed(now) {
		return Verified{Reason: Late}
	}
	i := slices.IndexFunc(approvers, func(k Approver) bool { return bytes.Equal(k.CredentialID, a.CredentialID) })
	if i < 0 {
		return forged(errors.New("the passkey is none that is enrolled for this user"))
	}
	key := approvers[i]
	if key.Synced && !rules.AllowSynced {
		return forged(errors.New("the passkey is synced, which push.allow_synced = false refuses"))
	}
	signed, counter, err := verifySigned(a.Assertion, key, rules.RelyingParty)
	if err != nil {
		return forged(err)
	}
	// A counter that does not rise is a copy of the key. Zero: there is none.
	if last := counters[CounterKey(key.CredentialID)]; (last != 0 || counter != 0) && counter <= last {
		return forged(fmt.Errorf("the passkey's counter went from %d to %d: there may be a copy of it", last, counter))
	}
	v := Verified{Phone: key.Phone, Counter: counter}
	is := func(d Decision, number string) bool {
		want := Digest(l.Bytes, d, number)
		return a.Decision == d && bytes.Equal(signed, want[:])
	}
	switch {
	case is(Approve, l.Number):
		v.OK, v.Reason = true, Approved
	case is(Deny, ""):
		v.Reason = Denied
	case is(Report, ""):
		v.Reason = Reported
	case a.Decision == Approve && l.anyNumber(signed):
		v.Reason = WrongNumber
	default:
		return forged(errChallenge)
	}
	return v
}

func forged(err error) Verified { return Verified{Reason: Forged, Detail: err.Error()} }

// likelyDigits is up to how many digits a person is thought to have typed by
// mistake, whatever the number's length.
const likelyDigits = 4

// anyNumber says whether an approval with another number, or with none, was
// signed: a person mistyped, and nobody forged. With six digits that is a tenth
// of a second's work, and only for whoever has the passkey.
func (l *Live) anyNumber(signed []byte) bool {
	message := beforeNumber(l.Bytes, Approve)
	start := len(message)
	for digits := 0; digits <= MaxDigits; digits++ {
		if digits > likelyDigits && digits != len(l.Number) {
			continue
		}
		message = append(message[:start], "000000"[:digits]...)
		for more := true; more; more = countUp(message[start:]) {
			if sum := sha256.Sum256(message); bytes.Equal(signed, sum[:]) {
				return true
			}
		}
	}
	return false
}

// countUp adds one to a number in digits; false when it has begun again at 0.
func countUp(digits []byte) bool {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i]++; digits[i] <= '9' {
			return true
		}
		digits[i] = '0'
	}
	return false
}
