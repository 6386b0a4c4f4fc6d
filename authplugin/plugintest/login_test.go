//go:build linux

package plugintest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/hook"
	"sallyport/pam/e2e/machine"
)

const (
	codePrompt = "Code from your authenticator app"
	wrongCode  = "That code is not right"
)

// Ways that the mechanisms go.
const (
	asked    = "begin allow, prompt allow, verify allow"
	refused  = "begin allow, prompt allow, verify deny"
	askAgain = "begin allow, prompt allow, interrupt begin, deactivated verify"
)

func TestRightCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		s := l.isAsked(codePrompt)
		if s.ringing || s.mayBeEmpty || s.user != p.name || s.notice != "" || s.qr != "" {
			t.Errorf("the window shows %+v", s)
		}
		l.types(p.phone.Next())
		l.isIn()
		l.went(asked)
		l.closes()
		wantReasons(t, office, p.account, "allow code_accepted")
		if e := attempts(t, office, p.account)[0]; e.Hook != "authorization_plugin" || e.Scenario != "login" || e.Service != "loginwindow" || e.Remote != "" {
			t.Errorf("the agent recorded %+v", e)
		}
	})
}

func TestRecoveryCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(p.recovery[3])
		l.isIn()
	})
}

// A wrong code is asked for again, and nobody types the password again: the list goes
// on from begin, which starts another login.
func TestWrongTwiceThenRight(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		for i := range 2 {
			l.types(p.phone.Wrong(i))
			if s := l.isAsked(codePrompt); s.notice == "" {
				t.Errorf("the window does not say what was wrong: %+v", s)
			}
		}
		l.types(p.phone.Next())
		l.isIn()
		l.went(askAgain + ", " + askAgain + ", " + asked)
		wantReasons(t, office, p.account, "deny wrong_code", "deny wrong_code", "allow code_accepted")
	})
}

// CVE-2023-20123: the same code twice.
func TestReplayedCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		code := p.phone.Next()
		l := s.login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(code)
		l.isIn()
		l.closes()
		l = s.login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(code)
		if s := l.isAsked(codePrompt); s.notice == "" {
			t.Errorf("the window does not say what was wrong: %+v", s)
		}
		l.cancels()
		l.isOutOrCancelled()
		wantReasons(t, office, p.account, "allow code_accepted", "deny code_already_used", "deny cancelled")
	})
}

// Whoever leaves the window is not let in, and the agent hears of it.
func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.cancels()
		l.isOutOrCancelled()
		wantReasons(t, office, p.account, "deny cancelled")
	})
}

// isOutOrCancelled waits for an end without entry.
func (l *login) isOutOrCancelled() {
	l.t.Helper()
	if f := l.until("ended"); f[1] != "deny" && f[1] != "cancel" {
		l.t.Fatalf("the list ended with %s; %s", f[1], l.story())
	}
}

// A view that breaks, or that cannot be shown, is no answer: out.
func TestBrokenView(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		l := s.login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.do("break")
		l.isOut()
		l.went(refused)
		l.closes()
		l = s.login(t, p.account, atLogin)
		l.do("blind 1")
		l.runs().isOut()
		l.went(refused)
	})
}

// The password in the field of the code is not sent, and not counted.
func TestPasswordTypedAsCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(password)
		l.isAsked(codePrompt)
		l.types(p.phone.Next())
		l.isIn()
		wantReasons(t, office, p.account, "deny password_typed_as_code", "allow code_accepted")
		var state struct{ Failures int }
		must(t, office.JSON(&state, "user", "show", p.name))
		if state.Failures != 0 {
			t.Errorf("%d wrong codes are counted", state.Failures)
		}
	})
}

// Who has no second factor and needs none sees no window at all.
func TestNotEnrolled(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		a := newAccount(t, "none")
		l := b.start(t, sockets(office), options{}).login(t, a, atLogin).runs()
		l.isIn()
		l.went(asked)
		if l.shown != nil {
			t.Errorf("a window was shown: %+v", l.shown)
		}
	})
}

// A name that is no account's is let in nowhere.
func TestUnknownUser(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		l := b.start(t, sockets(office), options{}).login(t, account{"nobody-of-that-name", 4711}, atLogin).runs()
		l.isTold("")
		l.cancels()
		l.isOutOrCancelled()
	})
}

var shownKey = regexp.MustCompile(`type in this key: ([A-Z2-7]+)`)

// Somebody who must have a second factor and has none gets one at the login window.
func TestEnrolmentAtTheLogin(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		passwdMu.Lock()
		nextUID++
		a := addAccount(t, "newcomer-"+b.name)
		passwdMu.Unlock()
		s := b.start(t, sockets(office), options{})
		var window struct{ Code string }
		must(t, office.JSON(&window, "enrolment", "open", a.name, "--for", "1h", "--code"))

		l := s.login(t, a, atLogin).runs()
		l.isAsked("Code to enrol with")
		l.types(window.Code)
		shown := l.isAsked("Scan the code above")
		if strings.Count(shown.qr, "█") < 100 || strings.Count(shown.qr, "\n") < 15 {
			t.Errorf("no QR code is shown: %q", shown.qr)
		}
		key := shownKey.FindStringSubmatch(shown.text)
		if key == nil {
			t.Fatalf("no key is shown: %q", shown.text)
		}
		phone, err := machine.NewPhone("otpauth://totp/x?secret=" + key[1])
		must(t, err)
		l.types(phone.Wrong(1)) // mistyped: asked again
		l.isAsked("Code the app shows now")
		l.types(phone.Next())
		shown = l.isAsked("Keep these recovery codes")
		if n := len(regexp.MustCompile(`\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`).FindAllString(shown.text, -1)); n != 10 {
			t.Errorf("%d recovery codes are shown: %q", n, shown.text)
		}
		if !shown.mayBeEmpty {
			t.Errorf("Enter is no answer: %+v", shown)
		}
		l.types("")
		l.isIn()
		l.closes()
		wantReasons(t, office, a, "allow enrolled_at_login")

		l = s.login(t, a, atLogin).runs() // from now on a login like any other
		l.isAsked(codePrompt)
		l.types(phone.Next())
		l.isIn()
	})
}

// After ten wrong codes, wherever they were typed, the account is locked: the right
// one lets nobody in.
func TestLockedOut(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		for i := range 10 {
			h, err := hook.Begin(t.Context(), office.Socket(), hook.Request{User: p.name})
			must(t, err)
			_, err = h.Prompt(patience)
			must(t, err)
			must(t, h.Type(p.phone.Wrong(i)))
			_, err = h.Verdict(patience)
			must(t, err)
			h.Close()
		}
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(p.phone.Next())
		l.until("shown", "ended")
		if l.shown.kind == "tell" || l.shown.prompt > 1 {
			l.cancels()
			l.isOutOrCancelled()
		}
		list := attempts(t, office, p.account)
		if e := list[len(list)-1]; e.Verdict != "deny" {
			t.Errorf("the agent recorded %+v", e)
		}
	})
}

// Unlock and elevation: what the person is about to get comes from the right's name,
// which authd has among the ordinary hints.
func TestScenarios(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, c := range []struct {
			name, immutable, hint, scenario, service string
			version                                  int
		}{
			{"unlock", "", "system.login.screensaver", "unlock", "screensaver", 4},
			{"elevate", "", "system.preferences", "elevate", "authorization", 1},
			{"no word", "", "", "elevate", "authorization", 4},
			{"an immutable hint, which authd has none of", "system.login.screensaver", "", "elevate", "authorization", 4},
			{"both", "system.preferences", "system.login.screensaver", "unlock", "screensaver", 2},
			{"an old system", "", "system.login.screensaver", "unlock", "screensaver", -1},
			{"an empty one", "", "-", "elevate", "authorization", 3},
			{"a longer one", "", "system.login.screensaver.not", "elevate", "authorization", 4},
		} {
			p := enrolled(t, office)
			l := b.start(t, sockets(office), options{version: c.version}).login(t, p.account, session)
			if c.immutable != "" {
				l.do("immutable authorize-right %s", toHex([]byte(c.immutable)))
			}
			if c.hint != "" {
				l.hint("authorize-right", []byte(strings.TrimPrefix(c.hint, "-")))
			}
			l.runs().isAsked(codePrompt)
			l.types(p.phone.Next())
			l.isIn()
			list := attempts(t, office, p.account)
			if len(list) != 1 || list[0].Scenario != c.scenario || list[0].Service != c.service || list[0].Name != event.LoginAttempt {
				t.Errorf("%s: the agent recorded %+v, want %s of %s", c.name, list, c.scenario, c.service)
			}
		}
	})
}

// Every version of the callbacks that Apple has published.
func TestVersionsOfTheCallbacks(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, version := range []int{-1, 1, 2, 3, 4} {
			p := enrolled(t, office)
			l := b.start(t, sockets(office), options{version: version}).login(t, p.account, atLogin).runs()
			l.isAsked(codePrompt)
			l.types(p.phone.Wrong(1))
			l.isAsked(codePrompt)
			l.types(p.phone.Next())
			l.isIn()
		}
	})
}

// A denied list is run again, with the mechanisms that there are: another user, or
// the same with the password typed again.
func TestDeniedAndAgain(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, other := enrolled(t, office), enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin)
		l.do("tries 3")
		l.runs().isAsked(codePrompt)
		l.do("break")
		l.until("again")
		l.context("username", []byte(other.name+"\x00"))
		l.context("uid", uidBytes(other.uid))
		l.do("go")
		l.isAsked(codePrompt)
		l.types(other.phone.Next())
		l.isIn()
		l.went(refused + ", " + asked)
		wantReasons(t, office, other.account, "allow code_accepted")
	})
}

// Two people's lists in one process, as with fast user switching.
func TestTwoAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, instances := range []int{1, 2} {
			s := b.start(t, sockets(office), options{instances: instances})
			one, two := enrolled(t, office), enrolled(t, office)
			first, second := s.login(t, one.account, atLogin).runs(), s.login(t, two.account, atLogin).runs()
			first.isAsked(codePrompt)
			second.isAsked(codePrompt)
			first.types(one.phone.Wrong(1))
			first.isAsked(codePrompt)
			second.types(two.phone.Next())
			second.isIn()
			first.types(one.phone.Next())
			first.isIn()
			wantReasons(t, office, one.account, "deny wrong_code", "allow code_accepted")
			wantReasons(t, office, two.account, "allow code_accepted")
		}
	})
}

// The other's code does not fit, whoever's window it is typed in.
func TestSomebodyElsesCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, other := enrolled(t, office), enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(other.phone.Next())
		l.isAsked(codePrompt)
		l.cancels()
		l.isOutOrCancelled()
		wantReasons(t, office, p.account, "deny wrong_code", "deny cancelled")
	})
}

// An answer of any length and any bytes is an answer or none, and never in.
func TestStrangeAnswers(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		for i, typed := range []string{"", strings.Repeat("7", 128), strings.Repeat("7", 129), "\xff\xfe\x00\x01", "123456\x00", "１２３４５６", fmt.Sprint(-1)} {
			l := s.login(t, p.account, atLogin).runs()
			l.isAsked(codePrompt)
			l.types(typed)
			for f := l.until("shown", "ended"); f[0] != "ended"; f = l.until("shown", "ended") {
				l.cancels()
			}
			if l.trail[len(l.trail)-1] == "verify allow" {
				t.Errorf("answer %d lets in: %v", i, l.trail)
			}
			l.closes()
		}
	})
}
