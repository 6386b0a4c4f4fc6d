//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// rules are about people who are in these tests alone.
var rules = []string{
	`from here: skip when user == "ruby" && remote.within("127.0.0.0/8")`,
	`barred: deny when user == "rex"`,
	`sudo again: any, remember 15m when user == "rita" && service == "sudo"`,
	`codes alone: totp when user == "rob"`,
	`silent directory: skip when user == "rolf" && "a group that is not there" in groups`,
}

// wantExplained has 'policy explain' foretell a login, and compares it with the
// event of the one that was just made.
func wantExplained(t *testing.T, p *person, outcome, rule string, args ...string) {
	t.Helper()
	var got struct{ Outcome, Rule, Key string }
	if err := machine.JSON(&got, append([]string{"policy", "explain", p.Name}, args...)...); err != nil {
		t.Fatal(err)
	}
	if got.Outcome != outcome || got.Rule != rule || got.Key != fmt.Sprintf("uid:%d", p.UID) {
		t.Errorf("policy explain %s says %+v, want %s by %s", strings.Join(args, " "), got, outcome, rule)
	}
	list := attempts(t, p.UID)
	if last := list[len(list)-1]; last.Rule != rule {
		t.Errorf("the login went by %q, want %q", last.Rule, rule)
	}
}

func TestRuleSkipsFromANetwork(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "ruby")
	wantIn(t, "ruby", sshd.SSH("ruby"), sandbox.Password(password))
	wantExplained(t, p, "not_asked", "rule=from here", "--service", "sshd", "--from", "127.0.0.1")
	// With a key alone no auth stack runs; the account stage obeys the same rule.
	keys := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey")
	key, err := keys.Key(p.User)
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, "ruby", keys.SSH("ruby", "IdentityFile="+key))
	wantOut(t, sandbox.Login("ruby", ""), p.wrong()...)
	wantExplained(t, p, "asked", "default=enrolled", "--service", "login")
	wantIn(t, "ruby", sandbox.Login("ruby", "192.0.2.7"), p.right()...)
	wantExplained(t, p, "asked", "default=enrolled", "--service", "login", "--from", "192.0.2.7")
	wantReasons(t, p.UID, "skip exempt", "skip exempt", "deny wrong_code", "allow code_accepted")
}

func TestRuleDenies(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addSudoer(t, "rex")
	wantOut(t, sshd.SSH("rex"), sandbox.Password(password)) // no code is asked for that could not help
	wantExplained(t, p, "denied", "rule=barred", "--service", "sshd", "--from", "127.0.0.1")
	keys := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey")
	key, err := keys.Key(p.User)
	if err != nil {
		t.Fatal(err)
	}
	wantOut(t, keys.SSH("rex", "IdentityFile="+key))
	got := wantOut(t, sandbox.Login("rex", ""), sandbox.Password(password))
	if !strings.Contains(got.Screen, "policy does not allow this login") {
		t.Errorf("the person is not told why:\n%s", got.Screen)
	}
	wantExplained(t, p, "denied", "rule=barred")
	wantReasons(t, p.UID, "deny denied_by_policy", "deny denied_by_policy", "deny denied_by_policy")
	wantFailures(t, "rex", 0)
}

// The person gave a factor to sudo: it asks no other on the same terminal, and one
// on another, though that has the number of one that is gone.
func TestRuleRemembersForSudo(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addSudoer(t, "rita")
	once := "sudo --reset-timestamp -- sh -c '" + proof + "'"
	d := talk(t, as(t, p.User, "sh", "-c", once+"; "+once+"; tty"))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(sandbox.CodePrompt, p.phone.Next())
	if got := d.see(insideAs); got[1] != "root" {
		t.Errorf("in as %s", got[1])
	}
	d.answer(sandbox.PasswordPrompt, password)
	d.see(insideAs)
	wantReasons(t, p.UID, "allow code_accepted", "skip remembered")
	terminal := attempts(t, p.UID)[1].Session
	wantExplained(t, p, "not_asked", "rule=sudo again", "--service", "sudo", "--session", terminal)
	wantExplained(t, p, "asked", "rule=sudo again", "--service", "sudo")
	if status := d.end(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, d.Screen())
	}
	wantIn(t, "root", sandbox.Sudo(p.User), p.right()...)
	wantReasons(t, p.UID, "allow code_accepted", "skip remembered", "allow code_accepted")
	output(t, exec.Command(machine.Program, "unlock", "rita"))
	wantExplained(t, p, "asked", "rule=sudo again", "--service", "sudo", "--session", terminal)
}

func TestRuleTakesCodesAlone(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "rob")
	wantOut(t, sshd.SSH("rob"), sandbox.Password(password), sandbox.Code(p.recovery[0]))
	wantExplained(t, p, "asked", "rule=codes alone", "--service", "sshd", "--from", "127.0.0.1")
	wantIn(t, "rob", sshd.SSH("rob"), p.right()...)
	var bypass struct{ Code string }
	if err := machine.JSON(&bypass, "bypass", "rob", "--reason", "test"); err != nil {
		t.Fatal(err)
	}
	wantIn(t, "rob", sshd.SSH("rob"), sandbox.Password(password), sandbox.Code(bypass.Code))
	wantReasons(t, p.UID, "deny wrong_factor", "allow code_accepted", "allow code_accepted")
	wantFailures(t, "rob", 0)
}

// duo_unix c06ab97: a group that cannot be looked up skipped MFA.
func TestRuleThatCannotTellRequires(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "rolf")
	wantIn(t, "rolf", sshd.SSH("rolf"), p.right()...)
	wantOut(t, sshd.SSH("rolf"), p.wrong()...)
	wantExplained(t, p, "asked", `rule=silent directory (cannot tell: whether rolf is in the group "a group that is not there" cannot be looked up)`,
		"--service", "sshd", "--from", "127.0.0.1")
}
