package hosttest

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

const codePrompt = "Code from your authenticator app"

// asks is the question for a code, and the answer that the person is to give.
func (s *session) asks(id uint32, code string) {
	s.says(prompt(id, codePrompt+": "))
	s.hearsCode(id, code)
}

// codeThen asks for the code 123456 and then says how the login ends.
func codeThen(d *loginv1.Directive) script {
	return func(s *session) {
		s.asks(1, "123456")
		s.says(d)
	}
}

// says plays one directive and ends.
func says(d *loginv1.Directive) script { return func(s *session) { s.says(d) } }

// typesPassword gives the first factor.
func (s *screen) typesPassword() answer {
	s.t.Helper()
	s.types("Password", password)
	return s.submits()
}

// typesCode gives the second.
func (s *screen) typesCode(code string) answer {
	s.t.Helper()
	s.types("Code", code)
	return s.submits()
}

func TestRightCodeLetsIn(t *testing.T) {
	for _, worker := range []bool{false, true} {
		t.Run(map[bool]string{false: "Connect on the screen's thread", true: "Connect on one of its own"}[worker], func(t *testing.T) {
			agentPlays(t, func(s *session) {
				b := s.begin
				if b.GetProtocolVersion() != 1 || b.GetHook() != loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER ||
					b.GetScenario() != loginv1.Scenario_SCENARIO_LOGIN || b.GetStage() != loginv1.Stage_STAGE_AUTHENTICATE ||
					string(b.GetUser()) != `CORP\alice` || string(b.GetPassword()) != password || string(b.GetService()) != "logonui" ||
					len(b.GetRemoteHost()) != 0 || len(b.GetCaller()) != 0 || len(b.GetSession()) == 0 {
					b.Password = nil
					s.fail("Begin is %v", b)
				}
				if c := b.GetCapabilities(); !c.GetLiveNotices() || !c.GetCancelPrompt() || !c.GetChoices() || c.GetQr() {
					s.fail("the hook says it can %v", c)
				}
				codeThen(allow())(s)
			})
			s := sit(t, visit{people: []person{alice}, worker: worker})
			s.selects(0)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

func TestWrongCodeKeepsOut(t *testing.T) {
	const why = "That code is not right."
	agentPlays(t, codeThen(deny("wrong_code", why)), codeThen(allow()))
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isRefused(why)
	s.findsNo(password) // it has to be typed again
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

func TestAnotherPromptInTheSameLogin(t *testing.T) {
	agentPlays(t, func(s *session) {
		s.asks(1, "111111")
		s.says(notice(loginv1.Notice_KIND_ERROR, "That is not a code."))
		s.asks(2, "123456")
		s.says(allow())
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("111111")
	s.isAsked(codePrompt)
	if got := s.find("Code", "edit", "password").Text; got != "" {
		t.Errorf("the code that was typed before is still there: %q", got)
	}
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

func TestReplayedCodeKeepsOut(t *testing.T) {
	const why = "That code was used already. Wait for the next one."
	agentPlays(t, codeThen(deny("already_used", why)))
	s := atLogon(t)
	s.typesPassword()
	s.typesCode("123456")
	s.isRefused(why)
	s.leaves()
}

func TestWrongPasswordAsksForNothing(t *testing.T) {
	const why = "The user name or password is not right."
	agentPlays(t, says(deny("wrong_password", why)))
	s := atLogon(t)
	s.typesPassword()
	s.isRefused(why)
	s.leaves()
}

func TestWhoIsNotAskedIsInAtOnce(t *testing.T) {
	agentPlays(t, says(skip()))
	s := atLogon(t)
	s.typesPassword()
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestPasswordTypedAsCode: it goes to nobody, and the agent learns that it was one.
func TestPasswordTypedAsCode(t *testing.T) {
	const why = "That was your password. Type the code from your authenticator app."
	agentPlays(t, func(s *session) {
		s.says(prompt(1, codePrompt+": "))
		if a := s.hears().GetAnswer(); !a.GetIsPassword() || len(a.GetText()) != 0 || a.GetPromptId() != 1 {
			s.fail("the answer is %v", a)
		}
		s.says(deny("password_typed", why))
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(password)
	s.isRefused(why)
	s.leaves()
}

// TestEmptyCodeIsNoAnswer (CVE-2021-31924): it is said, and nothing goes to the agent.
func TestEmptyCodeIsNoAnswer(t *testing.T) {
	agentPlays(t, codeThen(allow()))
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	if a := s.submits(); a.Response != "not finished" || a.Credential != nil || a.Text != "Type the code." {
		t.Errorf("an empty code comes to %q, %q", a.Response, a.Text)
	}
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestEmptyPassword is one, as Windows has accounts without.
func TestEmptyPassword(t *testing.T) {
	agentPlays(t, func(s *session) {
		if len(s.begin.GetPassword()) != 0 {
			s.fail("a password of %d bytes", len(s.begin.GetPassword()))
		}
		codeThen(allow())(s)
	})
	s := atLogon(t)
	s.submits()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isInWith("CORP", "alice", "")
	s.leaves()
}

// TestOnlyAVerdictLetsIn: whatever else the agent says or does not say denies.
func TestOnlyAVerdictLetsIn(t *testing.T) {
	for name, play := range map[string]script{
		"a verdict of 0":                    codeThen(verdict(loginv1.Verdict_DECISION_UNSPECIFIED, "code_accepted", "")),
		"a verdict nobody knows":            codeThen(verdict(7, "code_accepted", "")),
		"a directive that is empty":         codeThen(&loginv1.Directive{}),
		"an end without a verdict":          func(s *session) { s.asks(1, "123456") },
		"an end at once":                    func(s *session) {},
		"a prompt whose id is 0":            func(s *session) { s.says(prompt(0, codePrompt)) },
		"a verdict that is denied and said": codeThen(deny("", "")),
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, play)
			s := atLogon(t)
			if s.typesPassword(); s.sees("Code") {
				s.typesCode("123456")
			}
			s.isRefused("")
			s.leaves()
		})
	}
}

// TestEveryTransportErrorDenies (CVE-2025-53013: one class of error was taken for
// being offline, and let in).
func TestEveryTransportErrorDenies(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		t.Run(code.String(), func(t *testing.T) {
			agentPlays(t, func(s *session) {
				s.asks(1, "123456")
				s.err = status.Error(code, "100% verboten")
			})
			s := atLogon(t)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isRefused("")
			s.leaves()
		})
	}
}

// TestWhatTheAgentSaysIsHarmless: texts of any content and length are shown or not,
// and end no login but by a verdict.
func TestWhatTheAgentSaysIsHarmless(t *testing.T) {
	long := make([]byte, 512)
	for i := range long {
		long[i] = 'x'
	}
	for name, text := range map[string]string{
		"format":          "%s%n%s%x %1$s",
		"not UTF-8":       "caf\xe9 \xff\xfe",
		"control":         "a\x00b\x1b[2Jc\r\n\x7f\u202edrowssap",
		"as long as said": string(long),
		"empty":           "",
	} {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, func(s *session) {
				s.says(notice(loginv1.Notice_KIND_INFO, text), prompt(1, text))
				s.hearsCode(1, "123456")
				s.says(verdict(loginv1.Verdict_DECISION_DENY, text[:min(len(text), 64)], text))
			})
			s := atLogon(t)
			s.typesPassword()
			s.isAsked("")
			for _, f := range s.fields {
				for _, r := range f.Text {
					if r < ' ' && r != '\n' || r == 0x7f || r == 0x202e {
						t.Errorf("field %q shows %q", f.Label, f.Text)
					}
				}
			}
			s.typesCode("123456")
			s.isRefused("")
			s.leaves()
		})
	}
	t.Run("longer than allowed", func(t *testing.T) {
		agentPlays(t, func(s *session) {
			s.says(prompt(1, string(long)+"x"))
		})
		s := atLogon(t)
		s.typesPassword()
		s.isRefused("")
		s.leaves()
	})
}

// TestWhatWindowsSaysAfterwards: what LSA says after our yes is said to the person.
func TestWhatWindowsSaysAfterwards(t *testing.T) {
	for _, c := range []struct {
		status, substatus uint32
		want              string
	}{
		{0xC000006D, 0xC000006A, "user name or password is not right"}, // STATUS_LOGON_FAILURE, STATUS_WRONG_PASSWORD
		{0xC000006D, 0, "user name or password is not right"},
		{0xC0000224, 0, "must be changed"},             // STATUS_PASSWORD_MUST_CHANGE
		{0xC0000071, 0, "expired"},                     // STATUS_PASSWORD_EXPIRED
		{0xC000006E, 0xC0000072, "switched off"},       // STATUS_ACCOUNT_RESTRICTION, STATUS_ACCOUNT_DISABLED
		{0xC0000072, 0, "switched off"},                // STATUS_ACCOUNT_DISABLED
		{0xC0000234, 0, "locked"},                      // STATUS_ACCOUNT_LOCKED_OUT
		{0xC0000193, 0, "expired"},                     // STATUS_ACCOUNT_EXPIRED
		{0xC000006F, 0, "not log in at this time"},     // STATUS_INVALID_LOGON_HOURS
		{0xC0000070, 0, "not log in at this computer"}, // STATUS_INVALID_WORKSTATION
		{0xC000015B, 0, "not log in here in this way"}, // STATUS_LOGON_TYPE_NOT_GRANTED
		{0xC000005E, 0, "server of your domain"},       // STATUS_NO_LOGON_SERVERS
	} {
		t.Run(fmt.Sprintf("%#x %#x", c.status, c.substatus), func(t *testing.T) {
			agentPlays(t, says(skip()))
			s := atLogon(t)
			s.typesPassword()
			s.isIn("CORP", "alice")
			s.last = s.do("result", c.status, c.substatus)
			s.last.Response = "not finished"
			s.isRefused(c.want)
			s.findsNo(password)
			s.leaves()
		})
	}
}

// TestUserSwitch: who turns to another tile has left nothing on the first.
func TestUserSwitch(t *testing.T) {
	gone := make(chan struct{})
	agentPlays(t, func(s *session) {
		s.says(prompt(1, codePrompt))
		s.hearsNoMore()
		close(gone)
	}, func(s *session) {
		if string(s.begin.GetUser()) != `CORP\bob` {
			s.fail("the user is %q", s.begin.GetUser())
		}
		codeThen(allow())(s)
	})
	s := sit(t, visit{people: []person{alice, bob}})
	s.selects(0)
	s.types("Password", password)
	s.finds(password)
	s.submits()
	s.isAsked(codePrompt)
	s.types("Code", "000000")
	s.selects(1)
	s.findsNo(password)
	<-gone
	s.isBlank()
	s.selects(0)
	s.isBlank()
	s.selects(1)
	s.typesPassword()
	s.typesCode("123456")
	s.isIn("CORP", "bob")
	s.leaves()
}
