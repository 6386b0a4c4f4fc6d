package engine

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/policy"
	"sallyport/internal/secret"
)

// login is one conversation as a script. Every output has to be named before
// the next input, so that a line nobody expected fails the test:
//
//	begin(t, asked).prompts("Code").types("123456").checks("123456").finds(right).allows("code_accepted")
type login struct {
	*testing.T
	m     Machine
	out   []Output
	open  uint32   // the open prompt
	shown []string // everything the person saw
}

var (
	asked           = Begun{Decision: policy.Decision{Effect: policy.Ask}, Resolved: true, Enrolled: true, Visible: true}
	askedIfEnrolled = Begun{Decision: policy.Decision{Effect: policy.IfEnrolled}, Resolved: true, Enrolled: true, Visible: true}

	right = factor.Outcome{OK: true, Factor: factor.TOTP, Reason: factor.Accepted}
	wrong = factor.Outcome{Factor: factor.TOTP, Reason: factor.WrongCode}

	approved = factor.Outcome{OK: true, Factor: factor.Push, Reason: factor.PushApproved}
	denied   = factor.Outcome{Factor: factor.Push, Reason: factor.PushDenied}
	forged   = factor.Outcome{Factor: factor.Push, Reason: factor.PushForged}
)

func begin(t *testing.T, facts Begun) *login {
	l := &login{T: t}
	return l.step(facts)
}

func (l *login) step(in Input) *login {
	l.Helper()
	if len(l.out) > 0 {
		l.Fatalf("%T comes while %T %+v was not expected", in, l.out[0], l.out[0])
	}
	l.out = l.m.Step(in)
	return l
}

func next[T Output](l *login) T {
	l.Helper()
	var zero T
	if len(l.out) == 0 {
		l.Fatalf("want a %T, there is nothing; state %s", zero, l.m.State())
	}
	o, ok := l.out[0].(T)
	if !ok {
		l.Fatalf("want a %T, got %T %+v", zero, l.out[0], l.out[0])
	}
	l.out = l.out[1:]
	return o
}

func (l *login) prompts(text string) *login {
	l.Helper()
	p := next[Prompt](l)
	if !strings.Contains(p.Text, text) {
		l.Fatalf("the prompt is %q, want %q", p.Text, text)
	}
	if p.ID <= l.open {
		l.Fatalf("prompt %d after prompt %d", p.ID, l.open)
	}
	l.open = p.ID
	l.shown = append(l.shown, p.Text)
	return l
}

func (l *login) notes(text string) *login {
	l.Helper()
	n := next[Notice](l)
	if !strings.Contains(n.Text, text) {
		l.Fatalf("the notice is %q, want %q", n.Text, text)
	}
	l.shown = append(l.shown, n.Text)
	return l
}

// types answers the open prompt.
func (l *login) types(text string) *login {
	l.Helper()
	return l.step(Answered{PromptID: l.open, Text: secret.New(text)})
}

// typesThePassword answers with what the hook knows to be the password.
func (l *login) typesThePassword() *login {
	l.Helper()
	return l.step(Answered{PromptID: l.open, Text: secret.New("hunter2"), IsPassword: true})
}

func (l *login) checks(text string) *login {
	l.Helper()
	if c := next[Check](l); !c.Answer.Equal(text) {
		l.Fatal("another answer is checked")
	}
	return l
}

func (l *login) checksToEnrol(text string) *login {
	l.Helper()
	if c := next[CheckEnrolCode](l); !c.Answer.Equal(text) {
		l.Fatal("another answer is checked")
	}
	return l
}

func (l *login) confirms(text string) *login {
	l.Helper()
	if c := next[Confirm](l); !c.Code.Equal(text) {
		l.Fatal("another code is checked")
	}
	return l
}

func (l *login) prepares() *login { l.Helper(); next[Prepare](l); return l }

// finds is what the vault says.
func (l *login) finds(o factor.Outcome) *login { l.Helper(); return l.step(Checked{o}) }

func (l *login) ends(d Decision, reason factor.Reason) Verdict {
	l.Helper()
	v := next[Verdict](l)
	if v.Decision != d || v.Reason != reason {
		l.Fatalf("%s %s (%s), want %s %s", v.Decision, v.Reason, v.Text, d, reason)
	}
	if len(l.out) > 0 || l.m.State() != Done {
		l.Fatalf("after the verdict: %+v, state %s", l.out, l.m.State())
	}
	for _, in := range []Input{asked, Answered{PromptID: l.open}, Checked{right}, Enrolled{}, PushAnswered{}, PushChecked{approved}, PushExpired{}, Cancelled{}, nil} {
		if out := l.m.Step(in); out != nil {
			l.Fatalf("%T after the verdict gives %+v", in, out)
		}
	}
	return v
}

func (l *login) allows(reason factor.Reason) Verdict { l.Helper(); return l.ends(Allow, reason) }
func (l *login) skips(reason factor.Reason) Verdict  { l.Helper(); return l.ends(Skip, reason) }
func (l *login) denies(reason factor.Reason) Verdict { l.Helper(); return l.ends(Deny, reason) }

func TestLoginWithACode(t *testing.T) {
	for _, facts := range []Begun{asked, askedIfEnrolled} {
		v := begin(t, facts).prompts("Code from your authenticator app: ").types("123456").checks("123456").finds(right).allows(factor.Accepted)
		if v.Factor != factor.TOTP || v.Text != "" {
			t.Errorf("%+v", v)
		}
	}
}

func TestWhatThePersonReadsWhenACodeIsRefused(t *testing.T) {
	for _, c := range []struct {
		o    factor.Outcome
		text string
	}{
		{wrong, "That code is not right."},
		{factor.Outcome{Factor: factor.Recovery, Reason: factor.WrongCode}, "That code is not right."},
		{factor.Outcome{Reason: factor.NotEnrolled}, "That code is not right."},
		{factor.Outcome{}, "That code is not right."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.AlreadyUsed}, "That code was used already. Wait for the next one."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.ClockWasAhead}, "This computer's clock was wrong when you last logged in. Use a recovery code, or call your helpdesk."},
		{factor.Outcome{Reason: factor.Malformed}, "That is not a code. Type the digits your authenticator app shows."},
		{factor.Outcome{Factor: factor.Bypass, Reason: factor.Expired}, "That code has expired. Please ask your helpdesk for another."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.WrongCode, LockedNow: true, LockedFor: 15 * time.Minute}, "Too many wrong codes. Wait 15 minutes, use a recovery code, or call your helpdesk."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.Locked, LockedFor: 14*time.Minute + time.Second}, "Too many wrong codes. Wait 15 minutes, use a recovery code, or call your helpdesk."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.Locked, LockedFor: time.Second}, "Too many wrong codes. Wait a minute, use a recovery code, or call your helpdesk."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.Locked, LockedFor: 2*time.Hour + time.Second}, "Too many wrong codes. Wait 3 hours, use a recovery code, or call your helpdesk."},
		{factor.Outcome{Factor: factor.TOTP, Reason: factor.Locked, LockedFor: 24 * time.Hour}, "Too many wrong codes. Wait 24 hours, use a recovery code, or call your helpdesk."},
	} {
		v := begin(t, asked).prompts("Code").types("123456").checks("123456").finds(c.o).denies(c.o.Reason)
		if v.Text != c.text || v.Factor != c.o.Factor {
			t.Errorf("%+v: %q for %q", c.o, v.Text, v.Factor)
		}
	}
}

func TestAPasswordTypedAsCodeIsNotChecked(t *testing.T) {
	v := begin(t, asked).prompts("Code").typesThePassword().denies(factor.PasswordTyped)
	if v.Text != "That was your password. Type the code from your authenticator app." {
		t.Error(v.Text)
	}
}

func TestAnEmptyAnswerGivesUp(t *testing.T) {
	begin(t, asked).prompts("Code").types("").denies(ReasonCancelled)
	begin(t, asked).prompts("Code").step(Cancelled{}).denies(ReasonCancelled)
	begin(t, asked).prompts("Code").step(TimedOut{}).denies(ReasonTimedOut)
}

func TestFailuresOfOursDenyWithTheirReason(t *testing.T) {
	v := begin(t, asked).prompts("Code").types("123456").checks("123456").step(Failed{"vault_unavailable"}).denies("vault_unavailable")
	if v.Text != "Sallyport cannot check logins right now. Please call your helpdesk." {
		t.Error(v.Text)
	}
	l := &login{T: t}
	l.step(Failed{"vault_unavailable"}).denies("vault_unavailable")
}

func TestWhoIsNotAsked(t *testing.T) {
	begin(t, Begun{Decision: policy.Decision{Effect: policy.IfEnrolled}, Resolved: true}).skips(ReasonSkip)
	begin(t, Begun{Decision: policy.Decision{Effect: policy.Skip}, Resolved: true}).skips(ReasonExempt)
	begin(t, Begun{Decision: policy.Decision{Effect: policy.Skip}, Resolved: true, Enrolled: true}).skips(ReasonExempt)
}

func TestARequiredUserWithoutAFactorIsPromptedAndRefused(t *testing.T) {
	facts := asked
	facts.Enrolled = false
	begin(t, facts).prompts("Code").types("123456").checks("123456").finds(factor.Outcome{Reason: factor.NotEnrolled}).denies(factor.NotEnrolled)
	// A bypass from the helpdesk lets them in.
	begin(t, facts).prompts("Code").types("123456789012").checks("123456789012").
		finds(factor.Outcome{OK: true, Factor: factor.Bypass, Reason: factor.Accepted}).allows(factor.Accepted)
}

func TestAnUnknownUserIsLikeAnUnenrolledOneButNeverSkipped(t *testing.T) {
	begin(t, Begun{Decision: policy.Decision{Effect: policy.IfEnrolled}}).denies(ReasonUnknownUser)
	// Where everyone is required: the same prompt, the same words, and a no,
	// even should the vault say yes.
	for _, o := range []factor.Outcome{{Reason: factor.NotEnrolled}, right} {
		for _, effect := range []policy.Effect{policy.Ask, policy.Skip} {
			v := begin(t, Begun{Decision: policy.Decision{Effect: effect}}).
				prompts("Code from your authenticator app: ").types("123456").checks("123456").finds(o).denies(ReasonUnknownUser)
			if v.Text != "That code is not right." || v.Factor != "" {
				t.Errorf("%+v", v)
			}
		}
	}
}

func TestTheAccountStageOnlyAnswers(t *testing.T) {
	facts := asked
	facts.AccountOnly = true
	if v := begin(t, facts).denies(ReasonRequired); v.Text == "" {
		t.Error("the person is not told why")
	}
	facts.Decision.Effect = policy.IfEnrolled
	begin(t, facts).denies(ReasonRequired)
	facts.Enrolled = false
	begin(t, facts).skips(ReasonSkip)
	facts.Decision.Effect = policy.Ask
	begin(t, facts).denies(ReasonRequired)
	facts.MayEnrol = true
	begin(t, facts).denies(ReasonRequired)
	facts.Decision.Effect = policy.Skip
	begin(t, facts).skips(ReasonExempt)
}

func TestOnlyTheOpenPromptCanBeAnswered(t *testing.T) {
	answer := secret.New("123456")
	for _, id := range []uint32{0, 2, 1 << 31, ^uint32(0)} {
		begin(t, asked).prompts("Code").step(Answered{PromptID: id, Text: answer}).denies(ReasonProtocol)
	}
	// Twice.
	begin(t, asked).prompts("Code").types("123456").checks("123456").step(Answered{PromptID: 1, Text: answer}).denies(ReasonProtocol)
	// Before any prompt.
	l := &login{T: t}
	l.step(Answered{Text: answer}).denies(ReasonProtocol)
	// The prompt before, while another is open.
	enrol(t).types("111111").confirms("111111").finds(wrong).prompts("not right").
		step(Answered{PromptID: 2, Text: answer}).denies(ReasonProtocol)
	// And while none is open.
	begin(t, mayEnrol).prompts("Code to enrol with").types("1234-5678-9012").checksToEnrol("1234-5678-9012").finds(right).prepares().
		step(Answered{PromptID: 1, Text: answer}).denies(ReasonProtocol)
}

func TestBeginIsTakenOnce(t *testing.T) {
	exempt := Begun{Decision: policy.Decision{Effect: policy.Skip}, Resolved: true}
	begin(t, asked).prompts("Code").step(exempt).denies(ReasonProtocol)
	begin(t, asked).prompts("Code").types("123456").checks("123456").step(exempt).denies(ReasonProtocol)
}

var mayEnrol = Begun{Decision: policy.Decision{Effect: policy.Ask}, Resolved: true, MayEnrol: true, NeedsEnrolCode: true, Visible: true, QR: true}

// enrol is a login that has come to the new secret.
func enrol(t *testing.T) *login {
	t.Helper()
	return begin(t, mayEnrol).
		prompts("Code to enrol with (from your helpdesk): ").types("1234-5678-9012").checksToEnrol("1234-5678-9012").finds(right).
		prepares().step(Prepared{SeedText: "SEEDTEXT", QR: "##QR##"}).
		notes("##QR##").prompts("or type in this key: SEEDTEXT\nCode the app shows now: ")
}

func TestEnrolmentAtTheLogin(t *testing.T) {
	v := enrol(t).types("123456").confirms("123456").
		step(Enrolled{RecoveryCodes: []string{"AAAAA-AAAAA", "BBBBB-BBBBB"}}).
		prompts("\n  AAAAA-AAAAA\n  BBBBB-BBBBB\nPress Enter when you have written them down: ").
		types("").allows(ReasonEnrolled)
	if v.Factor != factor.TOTP {
		t.Errorf("%+v", v)
	}
}

func TestEnrolmentThroughAnOpenWindowNeedsNoCode(t *testing.T) {
	facts := mayEnrol
	facts.NeedsEnrolCode, facts.QR = false, false
	l := begin(t, facts).prepares().step(Prepared{SeedText: "SEEDTEXT", QR: "##QR##"}).
		prompts("Type this key into your authenticator app: SEEDTEXT\nCode the app shows now: ")
	if strings.Contains(strings.Join(l.shown, ""), "##QR##") {
		t.Error("a QR code for a hook that cannot show one")
	}
	l.types("123456").confirms("123456").step(Enrolled{}).prompts("You are enrolled").types("done").allows(ReasonEnrolled)
}

func TestAQRCodeThatCouldNotBeMadeIsNotMentioned(t *testing.T) {
	facts := mayEnrol
	facts.NeedsEnrolCode = false
	begin(t, facts).prepares().step(Prepared{SeedText: "SEEDTEXT"}).prompts("Type this key")
}

func TestTheCodeOfANewSecretMayBeMistypedTwice(t *testing.T) {
	enrol(t).types("111111").confirms("111111").finds(wrong).
		prompts("That code is not right. Code the app shows now: ").types("222222").confirms("222222").finds(wrong).
		prompts("That code is not right. Code the app shows now: ").types("123456").confirms("123456").step(Enrolled{}).
		prompts("You are enrolled").types("").allows(ReasonEnrolled)

	v := enrol(t).types("111111").confirms("111111").finds(wrong).
		prompts("not right").types("222222").confirms("222222").finds(wrong).
		prompts("not right").types("333333").confirms("333333").finds(wrong).denies(factor.WrongCode)
	if v.Text != "You are not enrolled yet. Please try again." {
		t.Error(v.Text)
	}
}

func TestAnEnrolmentThatDoesNotComeToItsEndDenies(t *testing.T) {
	start := func() *login { return begin(t, mayEnrol).prompts("Code to enrol with") }
	start().types("").denies(ReasonCancelled)
	start().typesThePassword().denies(ReasonCancelled)
	start().types("000000000000").checksToEnrol("000000000000").finds(wrong).denies(factor.WrongCode)
	start().types("000000000000").checksToEnrol("000000000000").finds(factor.Outcome{Reason: factor.Expired}).denies(factor.Expired)
	start().types("000000000000").checksToEnrol("000000000000").step(Enrolled{}).denies(ReasonProtocol)
	enrol(t).types("").denies(ReasonCancelled)
	enrol(t).typesThePassword().denies(ReasonCancelled)
	enrol(t).step(Cancelled{}).denies(ReasonCancelled)
	enrol(t).step(Prepared{SeedText: "ANOTHER"}).denies(ReasonProtocol)
	enrol(t).types("123456").confirms("123456").step(Failed{"vault_unavailable"}).denies("vault_unavailable")
	// A right code where the vault has to say "enrolled" is not enough.
	enrol(t).types("123456").confirms("123456").finds(right).prompts("not right")
	// Whoever leaves while the recovery codes are on the screen is enrolled, but
	// not in.
	enrol(t).types("123456").confirms("123456").step(Enrolled{}).prompts("enrolled").step(TimedOut{}).denies(ReasonTimedOut)
}

func TestOnlyWhoIsNotEnrolledMayEnrol(t *testing.T) {
	facts := mayEnrol
	facts.Enrolled = true
	begin(t, facts).prompts("Code from your authenticator app: ")
	facts = mayEnrol
	facts.Resolved = false
	begin(t, facts).prompts("Code from your authenticator app: ")
}

func TestPromptsAreShownAsTheHookWants(t *testing.T) {
	for _, visible := range []bool{true, false} {
		facts := asked
		facts.Visible = visible
		l := &login{T: t}
		p := l.m.Step(facts)[0].(Prompt)
		if p.Visible != visible || p.EmptyAllowed {
			t.Errorf("%+v", p)
		}
	}
	l := enrol(t).types("123456").confirms("123456").step(Enrolled{})
	if !l.out[0].(Prompt).EmptyAllowed {
		t.Error("Enter is no answer to 'Press Enter'")
	}
}
