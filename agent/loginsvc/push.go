package loginsvc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/engine"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
)

// Courier takes challenges to phones and brings their answers. It decides
// nothing: every answer is verified here.
type Courier interface {
	// Send has the user's phones ring and returns once the authority took the
	// challenge (1.5 s at most), or why it did not: a push.Reason such as
	// push.TooMany, or PushOffline. approvers are the keys that will be taken.
	// Answers come on Sent.Answers until Sent.End.
	Send(ctx context.Context, user string, c *push.Live, approvers []push.Approver) (Sent, error)
}

// Sent is a challenge on its way.
type Sent struct {
	Phone   string // the phones' names, for the screen
	Answers <-chan push.Answer
	// End tells the authority how the login ended: "approved", "code", "denied",
	// "reported", "wrong_number", "timed_out", "cancelled". To be called once.
	End func(outcome string)
}

// PushRefused is the error of Courier.Send when there is no push for this login.
type PushRefused struct {
	Reason push.Reason
	Text   string // for the log
}

func (e *PushRefused) Error() string { return string(e.Reason) + ": " + e.Text }

// PushOffline: the authority did not answer in time; a code is asked for.
const PushOffline = push.Offline

// sendTime is how long the authority may take to say that phones ring.
const sendTime = 1500 * time.Millisecond

// reasonPushRefused: the authority has a reason of its own to ring no phone.
const reasonPushRefused factor.Reason = "push_refused"

// pushing is a challenge of this login that waits for its answer.
type pushing struct {
	live    *push.Live
	sent    Sent
	expired <-chan time.Time
	answer  push.Answer // the one that came
}

// mayPush says whether a phone may be asked in this login at all. Only for root's
// hooks, and where the password was checked here: who asks a phone must have proven
// it, or whoever runs a program on this computer could have the phone of its user
// ring until they give in. What is not root says itself which service it is, and
// nobody asked it for a password. It still has the code.
func (l *login) mayPush() bool {
	return l.Courier != nil && l.settings.Config.Push.Enabled && l.resolved && (l.peer.IsRoot() || l.proof.right)
}

// approvers reads what asking a phone of this user needs, and whose answer is
// taken; none where push cannot work.
func (l *login) approvers(tx *vault.Tx, account *factor.Account) (*store.PushSetup, []push.Approver, error) {
	c := &l.settings.Config
	setup, err := store.PushSetupOf(tx, l.user.Name, slices.Contains(c.Authority.Accept, string(organisation.KindApprovers)))
	if err != nil || setup == nil {
		return nil, nil, err
	}
	return setup, account.Approvers(setup.Signed, c.Push.AllowSynced), nil
}

func (l *login) pushLimits() push.Limits {
	c := &l.settings.Config.Push
	return push.Limits{Concurrent: c.Concurrent, PerResource: c.PerService, Gap: time.Duration(c.Gap), InFiveMinutes: c.InFiveMinutes,
		InAnHour: c.InAnHour, Misses: c.Misses, Pause: time.Duration(c.Pause)}
}

// startPush counts a request on disk and then has the phones ring.
func (l *login) startPush() engine.Input {
	c := &l.settings.Config.Push
	var live *push.Live
	var approvers []push.Approver
	var refused factor.Reason
	if failed := l.change(func(tx *vault.Tx, account *factor.Account) (events []event.Event, err error) {
		setup, keys, err := l.approvers(tx, account)
		if err != nil {
			return nil, err
		}
		approvers, refused = keys, reasonPushRefused
		if len(approvers) == 0 {
			return nil, nil // taken away since the login began
		}
		live, err = push.NewChallenge(push.Challenge{Device: setup.DeviceID, Name: setup.DeviceName, User: clean([]byte(l.user.Name)),
			Service: l.event.Service, From: l.event.Remote}, tx.Now(), time.Duration(c.Life), l.digits)
		if err != nil {
			l.event.Text = err.Error()
			return nil, nil
		}
		var pausedNow bool
		refused, pausedNow = account.BeginPush(live.Challenge.ID, l.event.Service, tx.Now(), l.pushLimits())
		if refused != "" {
			events = append(events, l.pushFailed(refused, ""))
		}
		if pausedNow {
			events = append(events, l.pushPaused())
		}
		return events, store.Put(tx, account)
	}); failed != nil {
		return failed
	}
	if refused != "" {
		return engine.PushRefused{Reason: refused}
	}

	ctx, cancel := context.WithTimeout(l.ctx, sendTime)
	defer cancel()
	sent, err := l.Courier.Send(ctx, l.user.Name, live, approvers)
	if err != nil {
		return l.withdrawPush(live, err)
	}
	left := live.Until.Left(l.Store.Now())
	l.push = &pushing{live: live, sent: sent, expired: l.after(left)}
	return engine.PushStarted{Number: live.Number, Phone: phoneNames(sent.Phone, approvers), For: left}
}

// phoneNames is what the screen says of who is asked: what the authority says
// rings, where these are names of enrolled phones, or the enrolled phones. The
// authority must not be able to put a text of its own before the person.
func phoneNames(said string, approvers []push.Approver) string {
	var enrolled []string
	for _, k := range approvers {
		if !slices.Contains(enrolled, k.Phone) {
			enrolled = append(enrolled, k.Phone)
		}
	}
	for name := range strings.SplitSeq(said, ", ") {
		if !slices.Contains(enrolled, name) {
			said = strings.Join(enrolled, ", ")
			break
		}
	}
	return string(cut(clean([]byte(said)), maxDevice))
}

// withdrawPush takes back the request that the authority did not take: it rang
// nobody, as far as can be known here. (What rings all the same the authority
// counts itself.)
func (l *login) withdrawPush(live *push.Live, why error) engine.Input {
	reason, text := factor.PushOffline, ""
	if r := (*PushRefused)(nil); errors.As(why, &r) {
		reason, text = factor.Reason(r.Reason), "the authority: "+string(cut(clean([]byte(r.Text)), maxText))
	}
	switch reason {
	case factor.PushOffline, factor.PushTooMany, factor.PushPaused, factor.PushReported:
	default: // a word from outside
		reason = reasonPushRefused
	}
	if failed := l.change(func(tx *vault.Tx, account *factor.Account) (events []event.Event, err error) {
		if reason != factor.PushOffline { // that is normal, and the login's own event says what was asked instead
			events = append(events, l.pushFailed(reason, text))
		}
		if account == nil || account.Push == nil {
			return events, nil
		}
		account.Push.Withdraw(live.Challenge.ID)
		return events, store.Put(tx, account)
	}); failed != nil {
		return failed
	}
	return engine.PushRefused{Reason: reason}
}

// verifyPush decides what the phone's answer is worth, in one transaction. The
// verdict leaves only after its commit is on disk.
func (l *login) verifyPush() engine.Input {
	if !l.sameUser() {
		return engine.Failed{Reason: reasonIdentity}
	}
	var o factor.PushOutcome
	ends := false
	if failed := l.change(func(tx *vault.Tx, account *factor.Account) (events []event.Event, err error) {
		// Anew: a phone may have been removed since it rang.
		setup, approvers, err := l.approvers(tx, account)
		if err != nil {
			return nil, err
		}
		rules := push.Rules{AllowSynced: l.settings.Config.Push.AllowSynced}
		if setup != nil {
			rules.RelyingParty = setup.RelyingParty
		}
		o = factor.CheckPush(account, l.push.live, l.push.answer, approvers, rules, tx.Now(), l.pushLimits())
		if account != nil {
			account.Name = l.user.Name
			l.earn(account, o.Outcome, tx.Now())
			if err := store.Put(tx, account); err != nil {
				return nil, err
			}
		}
		var v engine.Verdict
		if v, ends = engine.JudgePush(o.Outcome, l.resolved); ends {
			e := l.verdictEvent(v)
			e.Text = o.Phone
			events = append(events, e)
		}
		switch o.Reason {
		case factor.PushForged:
			events = append(events, l.pushFailed(o.Reason, "an answer did not verify: "+o.Detail))
		case factor.PushLate, factor.PushRepeated:
			events = append(events, l.pushFailed(o.Reason, ""))
		case factor.PushReported:
			e := l.event
			e.Name, e.Reason, e.Text = event.PushReported, string(o.Reason), "\"Not me\" on "+o.Phone+"; 'sallyport push clear' switches push on again"
			events = append(events, e)
		}
		if o.PausedNow {
			events = append(events, l.pushPaused())
		}
		return events, nil
	}); failed != nil {
		return failed
	}
	l.recorded = ends
	return engine.PushChecked{Outcome: o.Outcome}
}

// pushFailed is the event of a request that rang no phone, or of an answer that
// is none.
func (l *login) pushFailed(reason factor.Reason, text string) event.Event {
	e := l.event
	e.Name, e.Reason, e.Factor, e.Text = event.PushFailed, string(reason), string(factor.Push), text
	if reason == factor.PushTooMany {
		e.Text = strings.TrimSuffix("too many concurrent push requests; "+text, "; ")
	}
	return e
}

func (l *login) pushPaused() event.Event {
	e := l.event
	e.Name, e.Reason = event.PushPaused, string(factor.PushPaused)
	e.Text = fmt.Sprintf("%d requests in a row were denied or not answered; push is off for %s", l.settings.Config.Push.Misses, time.Duration(l.settings.Config.Push.Pause))
	return e
}

// endPush stops the phones ringing and takes no further answer.
func (l *login) endPush(outcome string) {
	if l.push != nil {
		l.push.sent.End(outcome)
		l.push = nil
	}
}

// outcomeOf is what the phone's list says of a login that came to v.
func outcomeOf(v engine.Verdict) string {
	switch {
	case v.Decision == engine.Allow && v.Factor == factor.Push:
		return "approved"
	case v.Decision == engine.Allow:
		return "code"
	case v.Reason == factor.PushDenied:
		return "denied"
	case v.Reason == factor.PushReported:
		return "reported"
	case v.Reason == factor.PushWrongNumber:
		return "wrong_number"
	}
	return "cancelled"
}

// after is time.After, unless a test says when the time has come.
func (s *Service) after(d time.Duration) <-chan time.Time {
	if s.timer != nil {
		return s.timer(d)
	}
	return time.After(d)
}
