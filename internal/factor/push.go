package factor

import (
	"bytes"
	"maps"
	"slices"

	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
)

// The reasons of push, as those of every other factor; see internal/factor/push.
const (
	PushApproved    = Reason(push.Approved)
	PushDenied      = Reason(push.Denied)
	PushReported    = Reason(push.Reported)
	PushWrongNumber = Reason(push.WrongNumber)
	PushForged      = Reason(push.Forged)
	PushLate        = Reason(push.Late)
	PushRepeated    = Reason(push.Repeated)
	PushTimedOut    = Reason(push.TimedOut)
	PushTooMany     = Reason(push.TooMany)
	PushPaused      = Reason(push.Paused)
	PushOffline     = Reason(push.Offline)
)

// maxApprovers is how many passkeys one challenge names.
const maxApprovers = 16

// Approvers are the passkeys whose answer is taken for an account: those enrolled
// here, then those that the organisation signed. None for whoever has no code:
// nobody is push-only.
func (a *Account) Approvers(signed []push.Approver, allowSynced bool) (list []push.Approver) {
	if !a.IsEnrolled() {
		return nil
	}
	for _, k := range slices.Concat(a.Phones, signed) {
		same := func(l push.Approver) bool { return bytes.Equal(l.CredentialID, k.CredentialID) }
		if (allowSynced || !k.Synced) && len(list) < maxApprovers && !slices.ContainsFunc(list, same) {
			list = append(list, k)
		}
	}
	return list
}

// BeginPush counts a request to approve a login, or says why there can be none
// now. pausedNow: what was not answered before has just switched push off. The
// caller keeps the account before a phone rings, or is told no.
func (a *Account) BeginPush(id, resource string, now clock.Instant, l push.Limits) (refused Reason, pausedNow bool) {
	if a.Push == nil {
		a.Push = new(push.State)
	}
	paused := a.Push.IsPaused(now)
	refused = Reason(a.Push.Begin(id, resource, now, l))
	return refused, !paused && a.Push.IsPaused(now)
}

// PushOutcome is what a phone's answer was worth. The zero value lets nobody in.
type PushOutcome struct {
	Outcome
	Phone     string // whose answer it was
	Detail    string // of PushForged, for the log
	PausedNow bool   // this answer switched push off for a while
}

// CheckPush decides what a phone's answer to the live challenge is worth and
// changes the account accordingly; the caller keeps it in the same transaction,
// before the verdict leaves. Of all answers to one challenge at most one counts.
func CheckPush(a *Account, live *push.Live, answer push.Answer, approvers []push.Approver, rules push.Rules, now clock.Instant, l push.Limits) PushOutcome {
	if !a.IsEnrolled() || !a.Push.Open(live.Challenge.ID) {
		return PushOutcome{Outcome: Outcome{Factor: Push, Reason: PushRepeated}}
	}
	v := live.Verify(answer, approvers, a.Push.Counters, rules, now)
	o := PushOutcome{Outcome: Outcome{OK: v.OK, Factor: Push, Reason: Reason(v.Reason)}, Phone: v.Phone, Detail: v.Detail}
	if v.Reason == push.Late {
		return o // it stays pending, and becomes a miss
	}
	if v.Reason != push.Forged {
		// Those of phones that are gone are forgotten.
		maps.DeleteFunc(a.Push.Counters, func(key string, _ uint32) bool {
			return !slices.ContainsFunc(approvers, func(k push.Approver) bool { return push.CounterKey(k.CredentialID) == key })
		})
		if v.Counter > 0 {
			if a.Push.Counters == nil {
				a.Push.Counters = map[string]uint32{}
			}
			a.Push.Counters[push.CounterKey(answer.CredentialID)] = v.Counter
		}
	}
	paused := a.Push.IsPaused(now)
	a.Push.End(live.Challenge.ID, v.Reason, now, l)
	o.PausedNow = !paused && a.Push.IsPaused(now)
	if v.Reason == push.Reported {
		a.Remembered = nil
	}
	if o.OK {
		o.Outcome = a.accept(Push, now)
		o.Outcome.Reason = PushApproved
	}
	return o
}
