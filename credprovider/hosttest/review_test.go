package hosttest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// checking is what the screen says while the agent works.
const checking = "Checking…"

// TestAnEmptyPolicyIsNone: what Group Policy leaves behind of a list that was taken back
// does not hide the list that was installed. What is no entry does.
func TestAnEmptyPolicyIsNone(t *testing.T) {
	setValue(t, settings+`\break_glass`, "1", aliceSID)
	list := strings.Replace(policies, "HKLM", "HKEY_LOCAL_MACHINE", 1) + `\break_glass`
	if err := windows(t).Import(t.Context(), "["+list+"]\r\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := windows(t).Import(context.Background(), "[-"+list+"]\r\n"); err != nil {
			t.Error(err)
		}
	})
	s := atLogon(t)
	s.typesPassword()
	s.isIn("CORP", "alice")
	s.leaves()

	setValue(t, policies+`\break_glass`, "1", "no SID")
	agentPlays(t, says(deny("wrong_code", askedTheAgent)))
	s = atLogon(t)
	s.typesPassword()
	s.isRefused(askedTheAgent)
	s.leaves()
}

// TestAPromptForOnePackageOnly (Windows Hello, security keys) has its own providers.
func TestAPromptForOnePackageOnly(t *testing.T) {
	for _, flags := range []int{creduiAuthPackageOnly, creduiAuthPackageOnly | creduiEnumerateCurrentUser, creduiAuthPackageOnly | creduiEnumerateAdmins} {
		s := sit(t, visit{scenario: "credui", flags: flags, people: []person{alice}})
		if got := s.offered(); !slices.Equal(got, everybody()) {
			t.Errorf("flags %#x: offered are %v", flags, got)
		}
		s.leaves()
	}
}

// TestASlowDomain: the agent takes longer over the password than a screen without
// Connect can wait. The login goes on, and the password is not checked again.
func TestASlowDomain(t *testing.T) {
	besideOthers(t)
	answers := make(chan struct{})
	agentPlays(t, func(s *session) { // one login only
		<-answers
		codeThen(allow())(s)
	})
	s := atLogon(t)
	s.types("Password", password)
	if a := s.submits("unconnected"); a.SerializeMS < 33_000 || a.Text != "" || a.Response != "not finished" {
		t.Errorf("after %d ms: %q, %q", a.SerializeMS, a.Response, a.Text)
	}
	s.reads(checking)
	s.presses() // as one does who sees nothing happen
	s.says(checking)
	close(answers)
	s.waits()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestAQuestionThatComesLate is shown by a screen that looks again; without any, it is
// at the next Enter.
func TestAQuestionThatComesLate(t *testing.T) {
	for name, how := range refreshes {
		t.Run(name, func(t *testing.T) {
			closed, asks := make(chan struct{}), make(chan struct{})
			agentPlays(t, func(s *session) {
				s.says(prompt(1, "The first question: "))
				<-closed
				s.says(closePrompt(1))
				<-asks
				s.says(prompt(2, codePrompt+": "))
				s.hearsCode(2, "123456")
				s.says(allow())
			})
			s := sit(t, visit{people: []person{bob, alice}})
			s.selects(1)
			s.typesPassword()
			s.isAsked("The first question")
			close(closed)
			close(asks)
			if a := s.comesBack(how...); a.Default == nil || *a.Default != 1 || a.Automatic {
				t.Fatalf("the default is %v, by itself: %v", a.Default, a.Automatic)
			}
			s.selects(1)
			s.reads(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

// TestAgentStarts while somebody waits at the screen.
func TestAgentStarts(t *testing.T) {
	s := atLogon(t)
	s.types("Password", password)
	s.presses()
	s.says(starting)
	agentPlays(t, codeThen(allow()))
	s.waits()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestCancelWhileTheAgentStarts, and a program's prompt does not wait for it.
func TestCancelWhileTheAgentStarts(t *testing.T) {
	s := atLogon(t)
	s.types("Password", password)
	if a := s.submits("cancel-on", starting); !a.Cancelled || a.ConnectMS > soonMS || a.Credential != nil {
		t.Errorf("%+v", a)
	}
	s.isBlank()
	s.findsNo(password)
	s.leaves()

	s = sit(t, visit{scenario: "credui", flags: creduiEnumerateAdmins, people: []person{alice}})
	s.selects(0)
	if a := s.typesPassword(); a.ConnectMS > soonMS {
		t.Errorf("after %d ms the prompt says that nobody is there", a.ConnectMS)
	}
	s.isRefused(notRunning)
	s.leaves()
}

// TestCancelBehindTheCode: the tile is back at its beginning, and begins anew.
func TestCancelBehindTheCode(t *testing.T) {
	heard := make(chan struct{})
	agentPlays(t, func(s *session) {
		s.asks(1, "123456")
		close(heard)
		s.hearsNoMore()
	}, codeThen(allow()))
	s := atLogon(t)
	s.typesPassword()
	s.types("Code", "123456")
	s.cancels(heard)
	s.isBlank()
	s.findsNo(password)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestACodeThatIsNotSent is wiped when the phone was quicker.
func TestACodeThatIsNotSent(t *testing.T) {
	const recovery = "KANA-RIEN-VOGL-7351"
	p := make(tap)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		<-p
		s.says(closePrompt(1), deny("push_denied", "You denied it."))
	})
	s := atLogon(t)
	s.typesPassword()
	s.types("Code", recovery)
	s.finds(recovery)
	p.isAnswered()
	s.do("await", awaitMS)
	s.do("deselect")
	s.findsNo(recovery)
	s.leaves()
}

// TestEachUseOfBreakGlassIsLogged, however quickly they follow.
func TestEachUseOfBreakGlassIsLogged(t *testing.T) {
	setValue(t, settings, "break_glass", []string{aliceSID, bobSID})
	s := sit(t, visit{people: []person{alice, bob}})
	for i, name := range []string{"alice", "bob"} {
		s.selects(i)
		s.typesPassword()
		s.isIn("CORP", name)
		s.logged("The break-glass account " + []string{aliceSID, bobSID}[i])
	}
	s.leaves()
}

// TestALongNoticeHidesNoQuestion.
func TestALongNoticeHidesNoQuestion(t *testing.T) {
	agentPlays(t, func(s *session) {
		s.says(notice(loginv1.Notice_KIND_INFO, strings.Repeat("n", 512)))
		codeThen(allow())(s)
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(strings.Repeat("n", 512))
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestALongMessageIsShownWhole: the helpdesk's, in a language of more bytes. A phone
// number would be at its end.
func TestALongMessageIsShownWhole(t *testing.T) {
	message := strings.Repeat("電", 200)
	setValue(t, settings, "message", message)
	agentPlays(t, func(*session) {}) // gives no verdict
	s := atLogon(t)
	s.typesPassword()
	s.isRefused(cannotCheck + " right now. Call your helpdesk.\n" + message)
	s.leaves()
}

// TestAPasswordThatMustBeChanged can be, at the tile: Wine cannot change one, so how it
// succeeds is not shown here.
func TestAPasswordThatMustBeChanged(t *testing.T) {
	const next, choose = "Kanarienhahn-1537", "Type your password, and a new one twice."
	agentPlays(t, says(skip()), codeThen(allow()))
	s := sit(t, visit{people: []person{bob, alice}})
	s.selects(1)
	s.typesPassword()
	s.isIn("CORP", "alice")
	s.last = s.do("result", 0xC0000224, 0) // STATUS_PASSWORD_MUST_CHANGE
	s.last.Response = "not finished"
	s.isRefused("must be changed")
	s.findsNo(password)
	s.selects(0) // LogonUI takes the tile away for the message, and brings it back
	s.selects(1)
	s.reads(choose)

	for _, c := range []struct{ old, fresh, again, want string }{
		{"", next, next, "Type your present password too."},
		{password, "", "", "Type a new password."},
		{password, next, next + "!", "The two new passwords are not the same."},
		{password, next, "", "The two new passwords are not the same."},
		{password, next, strings.Repeat("x", 257), "longer than Windows takes"},
		{password, next, next, "Your password was not changed."},
	} {
		s.types("Password", c.old)
		s.types("New password", c.fresh)
		s.types("New password again", c.again)
		s.submits()
		s.isRefused(c.want)
		s.reads(choose)
		s.findsNo(next)
		s.findsNo(password)
	}

	s.types("New password", next)
	s.selects(0) // and back: another login begins
	s.findsNo(next)
	s.selects(1)
	if s.sees("New password") {
		t.Errorf("a new password is still asked for: %s", s.look())
	}
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}
