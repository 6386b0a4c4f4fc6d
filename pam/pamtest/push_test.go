package pamtest

import (
	"fmt"
	"testing"

	"github.com/msteinert/pam/v2"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// The prompt that offers push and code together, as the agent words it.
const (
	pushPrompt = "Type 42 on your phone (Pixel 8) to approve, then press Enter here.\nOr type a code from your authenticator app: "
	pushNotYet = "Not approved yet, 51 s left. Type 42 on your phone, then press Enter.\nOr type a code: "
)

// offersPush asks for a code, or Enter while a phone rings.
func (s *session) offersPush(id uint32, text string) {
	s.says(&loginv1.Directive{Directive: &loginv1.Directive_Prompt{Prompt: &loginv1.Prompt{Id: id, Echo: loginv1.Prompt_ECHO_VISIBLE, Text: []byte(text), EmptyAllowed: true}}})
}

// TestPushAndCodeInOnePrompt: the number is in the prompt, which sudo (PAM_SILENT)
// and old sshd show as well; Enter asks how it stands, and a code is a code.
func TestPushAndCodeInOnePrompt(t *testing.T) {
	for name, flags := range map[string][]pam.Flags{"a login": nil, "sudo": {pam.Silent}} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, func(s *session) {
					s.offersPush(1, pushPrompt)
					s.hearsCode(1, "")
					s.offersPush(2, pushNotYet)
					s.hearsCode(2, "")
					s.says(allow())
				}, func(s *session) {
					s.offersPush(1, pushPrompt)
					s.hearsCode(1, "123456")
					s.says(allow())
				})
				p := b.sit(t, a.socket, login{})
				p.authenticate(flags...)
				p.sees(pam.PromptEchoOn, pushPrompt)
				p.types("")
				p.sees(pam.PromptEchoOn, pushNotYet)
				p.types("")
				p.ret(success)
				p.account(flags...)
				p.ret(success)
				p.authenticate(flags...)
				p.sees(pam.PromptEchoOn, pushPrompt)
				p.types("123456")
				p.ret(success)
			})
		})
	}
}

// TestApprovedAtThePromptWhateverIsTyped: the verdict came while the prompt was
// open. What is typed then is nothing the agent hears of: Enter, a code, the
// password.
func TestApprovedAtThePromptWhateverIsTyped(t *testing.T) {
	// pam_exec asks for the password and leaves it in PAM_AUTHTOK.
	const stack, password = "auth optional pam_exec.so expose_authtok quiet /bin/true\nauth required MODULE\naccount required MODULE\n", "correct horse"
	eachBuild(t, func(t *testing.T, b build) {
		for _, typed := range []string{"", "246802", password, "what was that number again"} {
			for decision, want := range map[loginv1.Verdict_Decision]int{loginv1.Verdict_DECISION_ALLOW: success, loginv1.Verdict_DECISION_DENY: authErr} {
				a := startAgent(t, func(s *session) {
					s.offersPush(1, pushPrompt)
					s.says(verdict(decision, "push_denied", ""))
				})
				p := b.sit(t, a.socket, login{stack: stack})
				p.authenticate()
				p.sees(pam.PromptEchoOff, "Password: ")
				p.types(password)
				p.sees(pam.PromptEchoOn, pushPrompt)
				p.types(typed)
				p.ret(want)
				p.leave()
			}
		}
	})
}

// TestApprovedAndTheAgentHasGoneSince: it closes a connection on which nothing
// happens after a minute, and people are slower than that. What it had said
// stands; what it had not is no verdict.
func TestApprovedAndTheAgentHasGoneSince(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, func(s *session) {
			s.offersPush(1, pushPrompt)
			s.says(allow())
		})
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		p.sees(pam.PromptEchoOn, pushPrompt)
		a.server.GracefulStop() // ends what it had to say, and then the connection
		p.types("")
		p.ret(success)

		a = startAgent(t, func(s *session) {
			s.offersPush(1, pushPrompt)
			<-s.stream.Context().Done() // no verdict yet
		})
		p = b.sit(t, a.socket, login{})
		p.authenticate()
		p.sees(pam.PromptEchoOn, pushPrompt)
		a.server.Stop()
		p.types("")
		p.ret(authErr)
	})
}

// TestGivenUpAfterTheApproval: whoever pressed Ctrl-C at the prompt does not get
// in, though the phone said yes.
func TestGivenUpAfterTheApproval(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		approved := make(chan struct{})
		a := startAgent(t, func(s *session) {
			defer close(approved)
			s.offersPush(1, pushPrompt)
			s.says(allow())
		})
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		p.sees(pam.PromptEchoOn, pushPrompt)
		<-approved // else the hook could be gone before that is said
		p.say("fail %d", convErr)
		p.ret(authErr)
		p.account()
		p.ret(permDenied)
	})
}

// TestEnterAgainAndAgain: somebody impatient, with prompts whose number is the
// agent's to bound, under a short timeout=.
func TestEnterAgainAndAgain(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		const prompts = 20
		a := startAgent(t, func(s *session) {
			for id := range uint32(prompts) {
				s.offersPush(id+1, fmt.Sprintf("%d s left\nOr type a code: ", 60-id))
				s.hearsCode(id+1, "")
			}
			s.offersPush(prompts+1, pushPrompt)
			s.says(allow())
		})
		p := b.sit(t, a.socket, login{options: agentsTime})
		p.authenticate()
		for id := range prompts {
			p.sees(pam.PromptEchoOn, fmt.Sprintf("%d s left\nOr type a code: ", 60-id))
			p.types("")
		}
		p.sees(pam.PromptEchoOn, pushPrompt)
		p.types("")
		p.ret(success)
	})
}
