//go:build linux

package e2e

import (
	"fmt"
	"regexp"
	"testing"

	"sallyport/internal/testkit/sandbox"
)

var challengePrompt = regexp.MustCompile(`computer laptop-17, challenge ([0-9A-Z]{4}-[0-9A-Z]{4})\.`)

// helpPrompt is the prompt with a challenge.
var helpPrompt = regexp.MustCompile(`(?s)To get a code, call your helpdesk.*Code: $`)

// TestHelpdeskAnswersAChallengeOverSSH, through the real sshd, PAM and module: ? where
// the code is asked for, read out, typed in; the cable is frozen.
func TestHelpdeskAnswersAChallengeOverSSH(t *testing.T) {
	sandbox.Need(t)
	p := addPerson(t, "olga")
	net, err := joined()
	if err != nil {
		t.Fatal(err)
	}
	if err := net.Do(nil, "user", "add", "olga", "--json"); err != nil {
		t.Fatal(err)
	}
	connected(t)
	net.cable.Freeze()
	defer func() {
		net.cable.Thaw()
		connected(t)
	}()
	var code string
	wantIn(t, "olga", sshd.SSH("olga"), sandbox.Password(password), sandbox.Code("?"),
		sandbox.Answer{Prompt: helpPrompt, Act: func(shown []string) (string, error) {
			said := challengePrompt.FindStringSubmatch(shown[0])
			if said == nil {
				return "", fmt.Errorf("no challenge is shown in %q", shown)
			}
			var answer struct{ Code string }
			err := net.Do(&answer, "bypass", "answer", "olga", "--challenge", said[1], "--on", "laptop-17", "--reason", "phone at home", "--json")
			code = answer.Code
			return code, err
		}})
	wantOut(t, sshd.SSH("olga"), sandbox.Password(password), sandbox.Code(code))
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")
	if list := attempts(t, p.UID); list[0].Factor != "offline_bypass" {
		t.Errorf("%+v", list[0])
	}
}
