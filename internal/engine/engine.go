// Package engine is one login as a state machine: what happened goes in, what
// to do next comes out, and the time is passed in. It knows no wire, no disk
// and no clock; agent/loginsvc carries out what it says.
//
// The table transitions is the whole of what is legal when. Whatever is not in
// it denies.
package engine

import (
	"fmt"
	"strings"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/policy"
	"sallyport/internal/secret"
)

// State is where a login stands.
type State int

// The states.
const (
	Fresh             State = iota
	AskingCode              // the prompt for a code is open
	CheckingCode            // the vault compares it
	AskingEnrolCode         // the prompt for the one-time code to enrol with is open
	CheckingEnrolCode       //
	Preparing               // a new secret is made; no prompt is open
	AskingConfirm           // the new secret is shown; a code of it is asked for
	CheckingConfirm         //
	ShowingRecovery         // enrolled; the recovery codes are on the screen
	Ringing                 // a phone is being asked; no prompt is open
	AskingPush              // a phone rings, and the prompt for a code or Enter is open
	CheckingPush            // its answer is verified; the prompt is still open
	AskingAgain             // that push is over, its prompt still open: Enter is for another
	Challenging             // the helpdesk's challenge is made; no prompt is open
	Done                    // the verdict is out
)

func (s State) String() string {
	return [...]string{"fresh", "asking-code", "checking-code", "asking-enrol-code", "checking-enrol-code",
		"preparing", "asking-confirm", "checking-confirm", "showing-recovery", "ringing", "asking-push", "checking-push", "asking-again", "challenging", "done"}[s]
}

// Input is something that happened.
type Input interface{ kind() inputKind }

type inputKind int

const (
	begun inputKind = iota
	answered
	checked
	prepared
	enrolled
	pushStarted
	pushRefused
	pushAnswered
	pushChecked
	pushExpired
	challenged
	cancelled
	timedOut
	failed
)

// Begun: the login is opened, and this is what is known.
type Begun struct {
	Decision policy.Decision
	Resolved bool // the system knows the user
	Enrolled bool // and the vault has a second factor for them
	// Remembered: they gave one in this place not long ago, and a rule lets that count.
	Remembered bool
	// AccountOnly: the hook only asks whether this user could have come in
	// without a second factor. Nothing is prompted.
	AccountOnly bool
	// MayEnrol and NeedsEnrolCode: policy and an open window let this person
	// enrol here, the latter only after a one-time code.
	MayEnrol, NeedsEnrolCode bool
	// Visible: show what is typed. In sshd an echoed prompt makes the password
	// method fail cleanly instead of answering with the password.
	Visible bool
	QR      bool // the hook can show a QR code
	// Push: there is a phone to ask, beside the code. Live: the hook shows Waiting
	// and can close an open prompt.
	Push, Live bool
	Offline    Offline
}

// Answered: the person answered the open prompt.
type Answered struct {
	PromptID   uint32
	Text       secret.String
	IsPassword bool
	Left       time.Duration // of the pending push; 0 or less: none, or it is over
}

// Checked: the vault compared the answer, and the outcome is on disk.
type Checked struct{ Outcome factor.Outcome }

// Prepared: a new secret was made, not yet in force.
type Prepared struct{ SeedText, QR string }

// Enrolled: the new secret is in force and on disk.
type Enrolled struct{ RecoveryCodes []string }

// PushStarted: a phone rings.
type PushStarted struct {
	Number string        // to be typed on the phone
	Phone  string        // what the person calls it
	For    time.Duration // how long it may be answered
}

// PushRefused: no phone was asked.
type PushRefused struct{ Reason factor.Reason }

// PushAnswered: an answer came from the phone. What it is worth is not known yet.
type PushAnswered struct{}

// PushChecked: the answer was verified, and the outcome is on disk.
type PushChecked struct{ Outcome factor.Outcome }

// PushExpired: nobody answered on the phone in time.
type PushExpired struct{}

// Cancelled: the person gave up, or the hook did.
type Cancelled struct{}

// TimedOut: the person took too long.
type TimedOut struct{}

// Failed: something on our side did not work (the vault, a look-up).
type Failed struct{ Reason factor.Reason }

func (Begun) kind() inputKind        { return begun }
func (Answered) kind() inputKind     { return answered }
func (Checked) kind() inputKind      { return checked }
func (Prepared) kind() inputKind     { return prepared }
func (Enrolled) kind() inputKind     { return enrolled }
func (PushStarted) kind() inputKind  { return pushStarted }
func (PushRefused) kind() inputKind  { return pushRefused }
func (PushAnswered) kind() inputKind { return pushAnswered }
func (PushChecked) kind() inputKind  { return pushChecked }
func (PushExpired) kind() inputKind  { return pushExpired }
func (Cancelled) kind() inputKind    { return cancelled }
func (TimedOut) kind() inputKind     { return timedOut }
func (Failed) kind() inputKind       { return failed }

// Output is something to do.
type Output interface{ output() }

// Prompt asks the person for a line; the answer comes back as Answered.
type Prompt struct {
	ID           uint32
	Text         string
	Visible      bool
	EmptyAllowed bool
}

// Notice shows something that the person can do without.
type Notice struct {
	Text string
	QR   bool // lines of block characters
}

// Check compares a code in the vault; the outcome comes back as Checked.
type Check struct{ Answer secret.String }

// CheckEnrolCode compares a one-time code to enrol with; Checked comes back.
type CheckEnrolCode struct{ Answer secret.String }

// Prepare makes a new secret; Prepared comes back.
type Prepare struct{}

// Confirm compares a code of the new secret and, when right, puts it in force;
// Enrolled or Checked comes back.
type Confirm struct{ Code secret.String }

// StartPush asks the person's phones; PushStarted or PushRefused comes back.
type StartPush struct{}

// VerifyPush verifies the answer that came from the phone; PushChecked comes back.
type VerifyPush struct{}

// EndPush stops the phones ringing, where the login goes on without them. (Where a
// verdict ends it, that does.) No answer counts from here on.
type EndPush struct{ Reason factor.Reason }

// Waiting shows that a phone is asked, to a hook that shows it live.
type Waiting struct {
	Number, Phone string
	For           time.Duration
}

// ClosePrompt closes the open prompt, where the hook can.
type ClosePrompt struct{ ID uint32 }

// Verdict ends the login.
type Verdict struct {
	Decision Decision
	Reason   factor.Reason
	Factor   factor.Name
	Text     string // for the person
}

func (Prompt) output()         {}
func (Notice) output()         {}
func (Check) output()          {}
func (CheckEnrolCode) output() {}
func (Prepare) output()        {}
func (Confirm) output()        {}
func (StartPush) output()      {}
func (VerifyPush) output()     {}
func (EndPush) output()        {}
func (Waiting) output()        {}
func (ClosePrompt) output()    {}
func (Verdict) output()        {}

// Decision is what a verdict says. The zero value denies.
type Decision int

// The decisions.
const (
	Deny Decision = iota
	Allow
	Skip
)

func (d Decision) String() string { return [...]string{"deny", "allow", "skip"}[d] }

// The engine's own reasons, beside those of the factors.
const (
	ReasonSkip        factor.Reason = "not_asked"
	ReasonExempt      factor.Reason = "exempt"
	ReasonRemembered  factor.Reason = "remembered"
	ReasonPolicy      factor.Reason = "denied_by_policy"
	ReasonUnknownUser factor.Reason = "unknown_user"
	ReasonRequired    factor.Reason = "second_factor_required"
	ReasonCancelled   factor.Reason = "cancelled"
	ReasonTimedOut    factor.Reason = "timed_out"
	ReasonProtocol    factor.Reason = "protocol_error"
	ReasonEnrolled    factor.Reason = "enrolled_at_login"
	ReasonPrompts     factor.Reason = "too_many_prompts"
)

// maxConfirmTries is how often the code of a new secret may be mistyped.
const maxConfirmTries = 3

// maxPrompts bounds how often one login asks: pressing Enter must not last for ever.
const maxPrompts = 20

// Machine is one login. Not safe for concurrent use.
type Machine struct {
	state    State
	facts    Begun
	promptID uint32
	tries    int
	push     PushStarted   // the last one
	noPush   factor.Reason // why no phone is asked again in this login; "": it may be
}

// State returns where the login stands.
func (m *Machine) State() State { return m.state }

type transition struct {
	from State
	on   inputKind
}

// transitions: every input that is legal, in the state where it is. Cancelled,
// TimedOut and Failed deny in every state and are not listed.
var transitions = map[transition]func(*Machine, Input) []Output{
	{Fresh, begun}:               (*Machine).begin,
	{AskingCode, answered}:       (*Machine).check,
	{CheckingCode, checked}:      (*Machine).judge,
	{AskingEnrolCode, answered}:  (*Machine).checkEnrolCode,
	{CheckingEnrolCode, checked}: (*Machine).judgeEnrolCode,
	{Preparing, prepared}:        (*Machine).showSecret,
	{AskingConfirm, answered}:    (*Machine).confirm,
	{CheckingConfirm, checked}:   (*Machine).confirmAgain,
	{CheckingConfirm, enrolled}:  (*Machine).showRecovery,
	{ShowingRecovery, answered}:  (*Machine).finishEnrolment,
	{Ringing, pushStarted}:       (*Machine).showNumber,
	{Ringing, pushRefused}:       (*Machine).askWithoutPush,
	{AskingPush, answered}:       (*Machine).answerBesidePush,
	{AskingPush, pushAnswered}:   (*Machine).verifyPush,
	{AskingPush, pushExpired}:    (*Machine).expirePush,
	{CheckingPush, pushChecked}:  (*Machine).judgePush,
	{AskingAgain, answered}:      (*Machine).answerAfterPush,
	{Challenging, challenged}:    (*Machine).showChallenge,
}

// Step takes one input. After the verdict there is nothing more to do.
func (m *Machine) Step(in Input) []Output {
	if m.state == Done {
		return nil
	}
	switch in := in.(type) {
	case nil:
		return m.deny(ReasonProtocol, "", "")
	case Cancelled:
		return m.deny(ReasonCancelled, "", "")
	case TimedOut:
		return m.deny(ReasonTimedOut, "", "That took too long. Please try again.")
	case Failed:
		return m.deny(in.Reason, "", "Sallyport cannot check logins right now. Please call your helpdesk.")
	}
	next := transitions[transition{m.state, in.kind()}]
	if next == nil {
		return m.deny(ReasonProtocol, "", "")
	}
	if a, ok := in.(Answered); ok && (a.PromptID != m.promptID || m.promptID == 0) {
		return m.deny(ReasonProtocol, "", "")
	}
	return next(m, in)
}

func (m *Machine) begin(in Input) []Output {
	m.facts = in.(Begun)
	f := m.facts
	switch {
	case f.Decision.Effect == policy.Skip && f.Resolved:
		return m.verdict(Skip, ReasonExempt, "", "")
	case f.Decision.Effect == policy.Deny:
		return m.deny(ReasonPolicy, "", "This computer's policy does not allow this login. Your helpdesk can tell you why.")
	case f.Decision.Effect == policy.IfEnrolled && !f.Resolved:
		// Looks from outside like a user who is not enrolled: no prompt. But a
		// name that does not resolve never yields Skip.
		return m.deny(ReasonUnknownUser, "", "")
	case f.Decision.Effect == policy.IfEnrolled && !f.Enrolled:
		return m.verdict(Skip, ReasonSkip, "", "")
	case f.Remembered && f.Resolved && f.Enrolled:
		return m.verdict(Skip, ReasonRemembered, "", "")
	case f.AccountOnly:
		return m.deny(ReasonRequired, "", "This computer also wants a second factor for your account.")
	case f.Offline.Reached:
		return m.challenge()
	case !m.takes(factor.TOTP): // which is all that could be enrolled here
	case f.Resolved && !f.Enrolled && f.MayEnrol && f.NeedsEnrolCode:
		return m.ask(AskingEnrolCode, "Code to enrol with (from your helpdesk): ", false)
	case f.Resolved && !f.Enrolled && f.MayEnrol:
		m.state = Preparing
		return []Output{Prepare{}}
	}
	switch {
	case !m.takes(factor.Push):
	case f.Push && f.Resolved && f.Enrolled:
		return m.startPush()
	case !m.takes(factor.TOTP) && !m.takes(factor.Recovery):
		return m.askCode(whyNoPush(""))
	}
	return m.askCode("")
}

// Allowed are the factors that count by a decision.
func Allowed(d policy.Decision) factor.Allowed {
	if d.Factors == nil {
		return nil
	}
	allowed := factor.Allowed{}
	for _, name := range d.Factors {
		allowed = append(allowed, factor.Name(name))
	}
	return allowed
}

// takes says whether a factor counts in this login.
func (m *Machine) takes(name factor.Name) bool { return Allowed(m.facts.Decision).Has(name) }

func (m *Machine) askCode(why string) []Output {
	switch {
	case m.takes(factor.TOTP):
		why += "Code from your authenticator app: "
	case m.takes(factor.Recovery):
		why += "One of your recovery codes: "
	default:
		why += "Only a bypass code from your helpdesk counts now: "
	}
	return m.ask(AskingCode, m.facts.Offline.warning()+why, false)
}

// orCode is what may be typed while a phone rings. of says where a code comes
// from, to whom it was not said yet.
func (m *Machine) orCode(of string) string {
	switch {
	case m.takes(factor.TOTP):
		return "Or type a code" + of + ": "
	case m.takes(factor.Recovery):
		return "Or type one of your recovery codes: "
	}
	return "Or type a bypass code from your helpdesk: "
}

func (m *Machine) check(in Input) []Output {
	a := in.(Answered)
	switch {
	case a.IsPassword:
		return m.judge(Checked{factor.Outcome{Reason: factor.PasswordTyped}})
	case a.Text.Empty():
		return m.deny(m.reasonEmpty(), "", "")
	case asksForHelp(a):
		return m.challenge()
	}
	m.state = CheckingCode
	return []Output{Check{a.Text}}
}

func (m *Machine) judge(in Input) []Output {
	m.state = Done
	return []Output{Judge(in.(Checked).Outcome, m.facts.Resolved)}
}

// Judge is the verdict on a code. The transaction that checks the code records
// it, and the login ends with the same one.
func Judge(o factor.Outcome, resolved bool) Verdict {
	switch {
	case !resolved && (o.Reason == factor.NotAllowed || o.Reason == factor.OfflineLimit): // as for anybody
		return Verdict{Deny, ReasonUnknownUser, "", textFor(o)}
	case !resolved:
		return Verdict{Deny, ReasonUnknownUser, "", textFor(factor.Outcome{Reason: factor.WrongCode})}
	case o.OK:
		return Verdict{Allow, o.Reason, o.Factor, ""}
	case o.Reason == factor.NotEnrolled:
		// In the same words as for a wrong code: who is enrolled is not for a
		// guesser to learn.
		return Verdict{Deny, o.Reason, o.Factor, textFor(factor.Outcome{Reason: factor.WrongCode})}
	default:
		return Verdict{Deny, o.Reason, o.Factor, textFor(o)}
	}
}

func (m *Machine) checkEnrolCode(in Input) []Output {
	a := in.(Answered)
	if a.IsPassword || a.Text.Empty() {
		return m.deny(ReasonCancelled, "", "")
	}
	m.state = CheckingEnrolCode
	return []Output{CheckEnrolCode{a.Text}}
}

func (m *Machine) judgeEnrolCode(in Input) []Output {
	if o := in.(Checked).Outcome; !o.OK {
		return m.deny(o.Reason, "", "That code is not right, or it has expired. Please ask your helpdesk.")
	}
	m.state = Preparing
	return []Output{Prepare{}}
}

// showSecret shows the new secret. What the person needs goes into the prompt:
// sudo has notices left out (PAM_SILENT), and old sshd holds them back.
func (m *Machine) showSecret(in Input) []Output {
	p := in.(Prepared)
	const code = "\nCode the app shows now: "
	if m.facts.QR && p.QR != "" {
		return append([]Output{Notice{Text: p.QR, QR: true}}, m.ask(AskingConfirm,
			"Your account needs a second factor. Scan the code above with your authenticator app, or type in this key: "+p.SeedText+code, false)...)
	}
	return m.ask(AskingConfirm, "Your account needs a second factor. Type this key into your authenticator app: "+p.SeedText+code, false)
}

func (m *Machine) confirm(in Input) []Output {
	a := in.(Answered)
	if m.tries++; m.tries > maxConfirmTries || a.IsPassword || a.Text.Empty() {
		return m.deny(ReasonCancelled, "", "You are not enrolled yet. Please try again.")
	}
	m.state = CheckingConfirm
	return []Output{Confirm{a.Text}}
}

func (m *Machine) confirmAgain(Input) []Output {
	if m.tries >= maxConfirmTries {
		return m.deny(factor.WrongCode, "", "You are not enrolled yet. Please try again.")
	}
	return m.ask(AskingConfirm, "That code is not right. Code the app shows now: ", false)
}

func (m *Machine) showRecovery(in Input) []Output {
	return m.ask(ShowingRecovery, "You are enrolled. Keep these recovery codes; each is good once when your phone is not at hand:\n  "+
		strings.Join(in.(Enrolled).RecoveryCodes, "\n  ")+"\nPress Enter when you have written them down: ", true)
}

func (m *Machine) finishEnrolment(Input) []Output {
	return m.verdict(Allow, ReasonEnrolled, factor.TOTP, "")
}

func (m *Machine) startPush() []Output {
	m.state = Ringing
	return []Output{StartPush{}}
}

// showNumber offers both ways in one prompt, as notices may not be shown: who has
// no signal types a code, and nobody has to choose first.
func (m *Machine) showNumber(in Input) []Output {
	m.push = in.(PushStarted)
	phone := ""
	if m.push.Phone != "" {
		phone = " (" + m.push.Phone + ")"
	}
	return m.askPush("Type "+m.push.Number+" on your phone"+phone+" to approve, then press Enter here.\n"+m.orCode(" from your authenticator app"), m.push.For)
}

func (m *Machine) askPush(text string, left time.Duration) []Output {
	out := m.ask(AskingPush, text, true)
	if m.facts.Live && m.state == AskingPush {
		out = append([]Output{Waiting{m.push.Number, m.push.Phone, left}}, out...)
	}
	return out
}

func (m *Machine) askWithoutPush(in Input) []Output {
	return m.askCode(whyNoPush(in.(PushRefused).Reason))
}

// answerBesidePush: a code is a code as ever; Enter says that the phone was
// answered, which is not known here yet.
func (m *Machine) answerBesidePush(in Input) []Output {
	a := in.(Answered)
	switch {
	case a.IsPassword, !a.Text.Empty():
		return m.check(a)
	case a.Left <= 0: // over, if nobody said so yet
		return append(m.expirePush(nil), m.startPush()...)
	}
	return m.askPush(fmt.Sprintf("Not approved yet, %d s left. Type %s on your phone, then press Enter.\n%s",
		(a.Left+time.Second-1)/time.Second, m.push.Number, m.orCode("")), a.Left)
}

// expirePush: the prompt stays open. To close it could cross an answer that is on
// its way.
func (m *Machine) expirePush(Input) []Output {
	m.state = AskingAgain
	return []Output{EndPush{factor.PushTimedOut}}
}

func (m *Machine) answerAfterPush(in Input) []Output {
	a := in.(Answered)
	switch {
	case a.IsPassword, !a.Text.Empty():
		return m.check(a)
	case m.noPush != "":
		return m.askCode(whyNoPush(m.noPush))
	}
	return m.startPush()
}

func (m *Machine) verifyPush(Input) []Output {
	m.state = CheckingPush
	return []Output{VerifyPush{}}
}

func (m *Machine) judgePush(in Input) []Output {
	o := in.(PushChecked).Outcome
	v, ends := JudgePush(o, m.facts.Resolved)
	if !ends {
		m.state, m.noPush = AskingAgain, o.Reason
		return []Output{EndPush{o.Reason}}
	}
	m.state = Done
	if m.facts.Live {
		return []Output{ClosePrompt{m.promptID}, v}
	}
	return []Output{v}
}

// JudgePush is the verdict on an answer of a phone. ends is false where the answer
// is none: whoever relayed it must not be able to refuse the person, who still has
// a code.
func JudgePush(o factor.Outcome, resolved bool) (v Verdict, ends bool) {
	switch {
	case !resolved:
		return Verdict{Deny, ReasonUnknownUser, "", textFor(factor.Outcome{Reason: factor.WrongCode})}, true
	case o.OK:
		return Verdict{Allow, o.Reason, o.Factor, ""}, true
	case o.Reason == factor.PushForged, o.Reason == factor.PushLate, o.Reason == factor.PushRepeated:
		return Verdict{}, false
	case o.Reason == factor.PushDenied:
		return Verdict{Deny, o.Reason, o.Factor, "You denied this login on your phone."}, true
	case o.Reason == factor.PushReported:
		return Verdict{Deny, o.Reason, o.Factor, "This login was reported on your phone, which is asked no more until your helpdesk allows it."}, true
	case o.Reason == factor.PushWrongNumber:
		return Verdict{Deny, o.Reason, o.Factor, "The number typed on the phone was not the one shown here."}, true
	default:
		return Verdict{Deny, o.Reason, o.Factor, "That was not approved."}, true
	}
}

// whyNoPush is what the person reads before the prompt for a code.
func whyNoPush(r factor.Reason) string {
	switch r {
	case factor.PushOffline:
		return "Your phone cannot be reached. "
	case factor.PushTooMany:
		return "Too many push requests. "
	case factor.PushPaused:
		return "Push is off for some minutes: too many requests came to nothing. "
	case factor.PushReported:
		return "Push is off since a login was reported; your helpdesk can allow it again. "
	case factor.PushForged:
		return "What came from your phone could not be verified. "
	case factor.PushLate, factor.PushRepeated:
		return "What came from your phone came too late. "
	default:
		return "Your phone cannot be asked now. "
	}
}

func (m *Machine) ask(state State, text string, emptyAllowed bool) []Output {
	if m.promptID >= maxPrompts {
		return m.deny(ReasonPrompts, "", "That took too long. Please try again.")
	}
	m.state = state
	m.promptID++
	return []Output{Prompt{ID: m.promptID, Text: text, Visible: m.facts.Visible, EmptyAllowed: emptyAllowed}}
}

func (m *Machine) deny(reason factor.Reason, name factor.Name, text string) []Output {
	return m.verdict(Deny, reason, name, text)
}

func (m *Machine) verdict(d Decision, reason factor.Reason, name factor.Name, text string) []Output {
	m.state = Done
	return []Output{Verdict{d, reason, name, text}}
}

// textFor is what the person reads after a refused code.
func textFor(o factor.Outcome) string {
	switch {
	case o.Reason == factor.OfflineLimit:
		return offlineText
	case o.Reason == factor.Locked && o.Factor == factor.OfflineBypass:
		return fmt.Sprintf("Too many wrong codes. Wait %s, then call your helpdesk again.", roundUp(o.LockedFor))
	case o.LockedNow, o.Reason == factor.Locked:
		return fmt.Sprintf("Too many wrong codes. Wait %s, use a recovery code, or call your helpdesk.", roundUp(o.LockedFor))
	case o.Reason == factor.AlreadyUsed:
		return "That code was used already. Wait for the next one."
	case o.Reason == factor.ClockWasAhead:
		return "This computer's clock was wrong when you last logged in. Use a recovery code, or call your helpdesk."
	case o.Reason == factor.PasswordTyped:
		return "That was your password. Type the code from your authenticator app."
	case o.Reason == factor.Malformed:
		return "That is not a code. Type the digits your authenticator app shows."
	case o.Reason == factor.NotAllowed:
		return "That kind of code does not count for this login, and was not used up. Do what the prompt says, or call your helpdesk."
	case o.Reason == factor.Expired:
		return "That code has expired. Please ask your helpdesk for another."
	default:
		return "That code is not right."
	}
}

func roundUp(d time.Duration) string {
	minutes := int((d + time.Minute - 1) / time.Minute)
	switch {
	case minutes <= 1:
		return "a minute"
	case minutes < 120:
		return fmt.Sprintf("%d minutes", minutes)
	default:
		return fmt.Sprintf("%d hours", (minutes+59)/60)
	}
}
