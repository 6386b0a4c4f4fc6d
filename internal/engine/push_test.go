package engine

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/policy"
	"sallyport/internal/secret"
)

var withPhone = Begun{Decision: policy.Decision{Effect: policy.IfEnrolled}, Resolved: true, Enrolled: true, Visible: true, Push: true}

// rings is a login whose phone rings, with 47 on the screen.
func rings(t *testing.T) *login {
	t.Helper()
	return begin(t, withPhone).startsPush().step(PushStarted{"47", "Pixel of maya", time.Minute}).
		prompts("Type 47 on your phone (Pixel of maya) to approve, then press Enter here.\nOr type a code from your authenticator app: ")
}

func (l *login) startsPush() *login { l.Helper(); next[StartPush](l); return l }

// phoneAnswers has an answer come, which turns out to be worth o.
func (l *login) phoneAnswers(o factor.Outcome) *login {
	l.Helper()
	l.step(PushAnswered{})
	next[VerifyPush](l)
	return l.step(PushChecked{o})
}

func (l *login) endsPush(reason factor.Reason) *login {
	l.Helper()
	if e := next[EndPush](l); e.Reason != reason {
		l.Fatalf("the push ends for %q, want %q", e.Reason, reason)
	}
	return l
}

// pressesEnter answers with nothing while the push has so long to live.
func (l *login) pressesEnter(left time.Duration) *login {
	l.Helper()
	return l.step(Answered{PromptID: l.open, Left: left})
}

func TestApprovedOnThePhone(t *testing.T) {
	v := rings(t).phoneAnswers(approved).allows(factor.PushApproved)
	if v.Factor != factor.Push || v.Text != "" {
		t.Errorf("%+v", v)
	}
	// Enter before the approval came changes nothing but the prompt.
	rings(t).pressesEnter(37*time.Second + time.Millisecond).
		prompts("Not approved yet, 38 s left. Type 47 on your phone, then press Enter.\nOr type a code: ").
		phoneAnswers(approved).allows(factor.PushApproved)
}

func TestACodeBesideThePush(t *testing.T) {
	rings(t).types("123456").checks("123456").finds(right).allows(factor.Accepted)
	rings(t).types("123456").checks("123456").finds(wrong).denies(factor.WrongCode)
	rings(t).typesThePassword().denies(factor.PasswordTyped)
	rings(t).step(Cancelled{}).denies(ReasonCancelled)
	rings(t).step(TimedOut{}).denies(ReasonTimedOut)
	rings(t).step(Failed{"hook_vanished"}).denies("hook_vanished")
	// While the code is checked nothing else is listened to.
	rings(t).types("123456").checks("123456").step(PushChecked{approved}).denies(ReasonProtocol)
	rings(t).types("123456").checks("123456").step(PushAnswered{}).denies(ReasonProtocol)
}

func TestWhatThePersonReadsWhenThePhoneSaysNo(t *testing.T) {
	for reason, text := range map[factor.Reason]string{
		factor.PushDenied:      "You denied this login on your phone.",
		factor.PushReported:    "This login was reported on your phone, which is asked no more until your helpdesk allows it.",
		factor.PushWrongNumber: "The number typed on the phone was not the one shown here.",
		factor.NotEnrolled:     "That was not approved.",
		"":                     "That was not approved.",
		factor.PushApproved:    "That was not approved.", // without OK it is none
	} {
		if v := rings(t).phoneAnswers(factor.Outcome{Factor: factor.Push, Reason: reason}).denies(reason); v.Text != text {
			t.Errorf("%s: %q", reason, v.Text)
		}
	}
}

func TestAForgedAnswerLeavesTheCode(t *testing.T) {
	rings(t).phoneAnswers(forged).endsPush(factor.PushForged).
		types("123456").checks("123456").finds(right).allows(factor.Accepted)
	// No phone is asked again in this login.
	rings(t).phoneAnswers(forged).endsPush(factor.PushForged).
		pressesEnter(0).prompts("What came from your phone could not be verified. Code from your authenticator app: ").
		types("123456").checks("123456").finds(right).allows(factor.Accepted)
	// And no second answer is looked at.
	rings(t).phoneAnswers(forged).endsPush(factor.PushForged).step(PushAnswered{}).denies(ReasonProtocol)
	rings(t).phoneAnswers(forged).endsPush(factor.PushForged).step(PushChecked{approved}).denies(ReasonProtocol)
	rings(t).phoneAnswers(factor.Outcome{Reason: factor.PushLate}).endsPush(factor.PushLate).
		pressesEnter(0).prompts("What came from your phone came too late. Code")
}

func TestWhenNobodyAnsweredEnterAsksAgain(t *testing.T) {
	l := rings(t).step(PushExpired{}).endsPush(factor.PushTimedOut)
	l.pressesEnter(0).startsPush().step(PushStarted{"83", "", time.Minute}).
		prompts("Type 83 on your phone to approve, then press Enter here.").
		phoneAnswers(approved).allows(factor.PushApproved)
	// The same where Enter is quicker than the notice that the time is up.
	rings(t).pressesEnter(0).endsPush(factor.PushTimedOut).startsPush().step(PushStarted{"83", "", time.Minute}).prompts("Type 83")
	// A code is as good as ever, and there may be no other push.
	rings(t).step(PushExpired{}).endsPush(factor.PushTimedOut).types("123456").checks("123456").finds(right).allows(factor.Accepted)
	rings(t).step(PushExpired{}).endsPush(factor.PushTimedOut).pressesEnter(0).startsPush().step(PushRefused{factor.PushPaused}).
		prompts("Push is off for some minutes: too many requests came to nothing. Code from your authenticator app: ").
		types("").denies(ReasonCancelled)
	rings(t).step(PushExpired{}).endsPush(factor.PushTimedOut).step(PushExpired{}).denies(ReasonProtocol)
}

func TestWithoutAPhoneThereIsTheCode(t *testing.T) {
	for reason, text := range map[factor.Reason]string{
		factor.PushOffline:  "Your phone cannot be reached. ",
		factor.PushTooMany:  "Too many push requests. ",
		factor.PushPaused:   "Push is off for some minutes: too many requests came to nothing. ",
		factor.PushReported: "Push is off since a login was reported; your helpdesk can allow it again. ",
		"":                  "Your phone cannot be asked now. ",
		"new":               "Your phone cannot be asked now. ",
	} {
		l := begin(t, withPhone).startsPush().step(PushRefused{reason}).prompts(text + "Code from your authenticator app: ")
		if l.m.State() != AskingCode {
			t.Errorf("%s: %s", reason, l.m.State())
		}
		l.types("123456").checks("123456").finds(right).allows(factor.Accepted)
	}
}

func TestWhoIsNeverAskedByPush(t *testing.T) {
	facts := withPhone
	facts.AccountOnly = true
	begin(t, facts).denies(ReasonRequired)
	facts = withPhone
	facts.Enrolled = false // nobody is push-only
	begin(t, facts).skips(ReasonSkip)
	facts.Decision.Effect = policy.Ask
	begin(t, facts).prompts("Code from your authenticator app: ")
	facts = withPhone
	facts.Resolved, facts.Decision.Effect = false, policy.Ask
	begin(t, facts).prompts("Code from your authenticator app: ")
	facts = withPhone
	facts.Push = false
	begin(t, facts).prompts("Code from your authenticator app: ")
	facts = withPhone
	facts.Decision.Effect = policy.Skip
	begin(t, facts).skips(ReasonExempt)
}

func TestALiveHookShowsTheNumberAndClosesThePrompt(t *testing.T) {
	facts := withPhone
	facts.Live = true
	l := begin(t, facts).startsPush().step(PushStarted{"47", "Pixel", time.Minute})
	if w := next[Waiting](l); w != (Waiting{"47", "Pixel", time.Minute}) {
		t.Errorf("%+v", w)
	}
	l.prompts("Type 47").pressesEnter(10 * time.Second)
	if w := next[Waiting](l); w.For != 10*time.Second {
		t.Errorf("%+v", w)
	}
	l.prompts("Not approved yet, 10 s left").phoneAnswers(approved)
	if c := next[ClosePrompt](l); c.ID != l.open {
		t.Errorf("closes %d, open is %d", c.ID, l.open)
	}
	l.allows(factor.PushApproved)
}

func TestPressingEnterDoesNotLastForEver(t *testing.T) {
	l := rings(t)
	for range maxPrompts - 1 {
		l.pressesEnter(time.Second).prompts("Not approved yet")
	}
	l.pressesEnter(time.Second).denies(ReasonPrompts)

	l = rings(t)
	for range maxPrompts - 1 {
		l.step(PushExpired{}).endsPush(factor.PushTimedOut).pressesEnter(0).startsPush().step(PushStarted{"47", "", time.Minute}).prompts("Type 47")
	}
	l.step(PushExpired{}).endsPush(factor.PushTimedOut).pressesEnter(0).startsPush().step(PushStarted{"47", "", time.Minute}).denies(ReasonPrompts)
}

func TestAnAnswerOfAPhoneThatWasNotAskedDenies(t *testing.T) {
	for _, in := range []Input{PushAnswered{}, PushChecked{approved}, PushStarted{Number: "47"}, PushExpired{}} {
		l := &login{T: t}
		l.step(in).denies(ReasonProtocol)
		begin(t, asked).prompts("Code").step(in).denies(ReasonProtocol)
	}
	begin(t, withPhone).startsPush().step(PushChecked{approved}).denies(ReasonProtocol)
	begin(t, withPhone).startsPush().step(PushAnswered{}).denies(ReasonProtocol)
	begin(t, withPhone).startsPush().step(Answered{PromptID: 1, Text: secret.New("123456")}).denies(ReasonProtocol)
	rings(t).step(PushChecked{approved}).denies(ReasonProtocol)
}

// TestPromptsFitTheWire: 512 bytes, with the longest name and number.
func TestPromptsFitTheWire(t *testing.T) {
	facts := withPhone
	l := begin(t, facts).startsPush().step(PushStarted{"123456", strings.Repeat("x", 64), 10 * time.Minute}).prompts("Type").
		pressesEnter(10 * time.Minute).prompts("Not approved")
	for _, text := range l.shown {
		if len(text) > 512 {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
}
