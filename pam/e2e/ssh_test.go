//go:build linux

package e2e

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// startSSHD starts another sshd, with options of its own.
func startSSHD(t *testing.T, options ...string) *sandbox.SSHD {
	t.Helper()
	sandbox.Need(t)
	s, err := sandbox.StartSSHD(append(options, machine.SSHDOptions()...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func TestSSHAsksForPasswordAndCode(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "kim")
	code := p.phone.Next()
	wantIn(t, "kim", sshd.SSH("kim"), sandbox.Password(password), sandbox.Code(code))
	wantOut(t, sshd.SSH("kim"), p.wrong()...)
	wantOut(t, sshd.SSH("kim"), sandbox.Password(password), sandbox.Code(code))
	wantFailures(t, "kim", 1) // a code used twice is not a guess
	wantIn(t, "kim", sshd.SSH("kim"), p.right()...)
	wantIn(t, "kim", sshd.SSH("kim"), sandbox.Password(password), sandbox.Code(p.recovery[0]))
	wantOut(t, sshd.SSH("kim"), sandbox.Password(password), sandbox.Code(p.recovery[0]))
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code", "deny code_already_used",
		"allow code_accepted", "allow code_accepted", "deny wrong_code")
	for _, e := range attempts(t, p.UID) {
		if e.Service != "sshd" || e.Scenario != "remote" || e.Remote != "127.0.0.1" || e.By != "uid:0" || e.Hook != "pam" {
			t.Errorf("want an event of sshd, from 127.0.0.1, by root's hook, got %+v", e)
		}
	}
}

// Strangers without the password are asked for nothing more, and lock nobody out.
func TestSSHWrongPasswordAsksForNoCode(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "wanda")
	wantOut(t, sshd.SSH("wanda"), sandbox.Password("wrong horse"))
	wantFailures(t, "wanda", 0)
	wantReasons(t, p.UID)
}

func TestSSHUnenrolledUserLogsInAsBefore(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	u := addUser(t, "una")
	wantIn(t, "una", sshd.SSH("una"), sandbox.Password(password))
	wantReasons(t, u.UID, "skip not_asked")
}

func TestSSHPublicKeyAndCode(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "lee")
	both := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey,keyboard-interactive")
	key, err := both.Key(p.User)
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, "lee", both.SSH("lee", "IdentityFile="+key), p.right()...)
	wantOut(t, both.SSH("lee", "IdentityFile="+key), p.wrong()...)
	wantOut(t, both.SSH("lee")) // without the key nothing is asked
}

// A public key alone never runs the auth stack; the account line stops it.
func TestSSHPublicKeyAlone(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p, u := addPerson(t, "mei"), addUser(t, "max")
	keys := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey")
	for _, user := range []sandbox.User{p.User, u} {
		key, err := keys.Key(user)
		if err != nil {
			t.Fatal(err)
		}
		session := keys.SSH(user.Name, "IdentityFile="+key)
		if user == u {
			wantIn(t, "max", session)
		} else {
			wantOut(t, session)
		}
	}
	wantReasons(t, p.UID, "deny second_factor_required")
	wantReasons(t, u.UID, "skip not_asked")
	wantFailures(t, "mei", 0)
	if err := keys.Logged("Access denied for user mei by PAM account configuration"); err != nil {
		t.Errorf("sshd does not say that the account line refused mei: %v:\n%s", err, keys.Log())
	}
}

// An expired password ends common-account early; the account line comes before it.
func TestSSHPublicKeyAloneWithAnExpiredPassword(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "exa")
	keys := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey")
	key, err := keys.Key(p.User)
	if err != nil {
		t.Fatal(err)
	}
	output(t, exec.Command("chage", "--lastday", "0", "exa"))
	wantOut(t, keys.SSH("exa", "IdentityFile="+key))
	wantReasons(t, p.UID, "deny second_factor_required")
}

// sshd answers each question of its password method with the password. That is
// no guess at a code.
func TestSSHPasswordMethod(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "mo")
	addUser(t, "may")
	old := startSSHD(t, "PasswordAuthentication yes", "KbdInteractiveAuthentication no")
	wantIn(t, "may", old.SSH("may"), sandbox.Password(password))
	wantOut(t, old.SSH("mo"), sandbox.Password(password))
	wantFailures(t, "mo", 0)
	wantReasons(t, p.UID, "deny cancelled")
	wantIn(t, "mo", sshd.SSH("mo"), p.right()...)
}

// One uid is one person, however the name is spelled.
func TestSSHOtherNamesOfOneUser(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "nils")
	output(t, exec.Command("useradd", "--non-unique", "--uid", strconv.Itoa(int(p.UID)), "--gid", strconv.Itoa(int(p.GID)),
		"--no-create-home", "--home-dir", p.Home, "--shell", "/bin/sh", "nils-alias"))
	cmd := exec.Command("chpasswd")
	cmd.Stdin = strings.NewReader("nils-alias:" + password + "\n")
	output(t, cmd)

	code := p.phone.Next()
	wantIn(t, "nils", sshd.SSH("nils-alias"), sandbox.Password(password), sandbox.Code(code))
	wantOut(t, sshd.SSH("nils"), sandbox.Password(password), sandbox.Code(code)) // used under the other name
	wantOut(t, sshd.SSH("nils-alias"), p.wrong()...)
	wantOut(t, sshd.SSH("nils"), p.wrong()...)
	wantFailures(t, "nils", 2)
	wantIn(t, "nils", sshd.SSH("nils"), p.right()...)

	// Linux names are case-sensitive: NILS is nobody, and in no event.
	wantOut(t, sshd.SSH("NILS"), sandbox.Password(password))
	events, err := machine.Events(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.User == "NILS" || strings.Contains(e.Text, "NILS") {
			t.Errorf("an event names a user that does not exist: %+v", e)
		}
	}
}

// From outside nobody can tell who exists, who is enrolled, and who is not.
func TestSSHStrangersSeeNoDifference(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	addPerson(t, "ena")
	addUser(t, "uli")
	screens := map[string]string{}
	for _, name := range []string{"ena", "uli", "nobody-of-that-name"} {
		got := wantOut(t, sshd.SSH(name), sandbox.Password("a wrong guess"))
		screens[strings.ReplaceAll(got.Screen, name, "USER")] += name + " "
	}
	if len(screens) != 1 {
		t.Errorf("the screens differ: %q", screens)
	}
	events, err := machine.Events(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if strings.Contains(e.User+e.Text, "nobody-of-that-name") {
			t.Errorf("an event names a user that does not exist: %+v", e)
		}
	}
}

// A client that dies at the code prompt leaves no session and no lock behind.
func TestSSHClientKilledAtTheCodePrompt(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "gone")
	mark := here.Log.Mark()
	d := talk(t, exec.Command("ssh", "-F", "none", "-tt", "-p", strconv.Itoa(sshd.Port), "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=keyboard-interactive", "gone@127.0.0.1", proof))
	d.answer(sandbox.PasswordPrompt, password)
	d.see(sandbox.CodePrompt)
	d.Close()
	e := waitEvent(t, "gone", func(e event.Event) bool { return e.Name == event.LoginAttempt })
	if e.Verdict != "deny" {
		t.Errorf("want the login denied, got %+v", e)
	}
	wantFailures(t, "gone", 0)
	wantIn(t, "gone", sshd.SSH("gone"), p.right()...)
	if _, err := here.Log.Wait(mark, `session opened for user gone\(`); err != nil { // the log comes when it comes
		t.Error(err)
	}
	if n := strings.Count(here.Log.Since(mark), "session opened for user gone("); n != 1 {
		t.Errorf("%d sessions were opened, want the second login's alone:\n%s", n, here.Log.Since(mark))
	}
}

// Ten wrong codes in a row lock the codes of the phone, whoever types them at
// once; the helpdesk ends that, and a recovery code works all along.
func TestSSHLockout(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "loki")
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			got, err := sshd.SSH("loki").Run(sandbox.Password(password), sandbox.Code(p.phone.Wrong(i)))
			if err != nil || got.In || got.Unused != 0 {
				t.Errorf("wrong code %d: %+v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	if s := stateOf(t, "loki"); !s.Locked {
		t.Errorf("not locked after ten wrong codes: %+v", s)
	}
	code := p.phone.Peek()
	wantOut(t, sshd.SSH("loki"), sandbox.Password(password), sandbox.Code(code))
	wantIn(t, "loki", sshd.SSH("loki"), sandbox.Password(password), sandbox.Code(p.recovery[0]))
	if _, stderr, exit, err := machine.Do("unlock", "loki"); err != nil || exit != 0 {
		t.Fatalf("sallyport unlock: %v, exit status %d: %s", err, exit, stderr)
	}
	wantIn(t, "loki", sshd.SSH("loki"), p.right()...)
	var reasons []string
	for _, e := range attempts(t, p.UID) {
		reasons = append(reasons, e.Reason)
	}
	want := strings.Repeat("wrong_code ", 10) + "locked code_accepted code_accepted"
	if got := strings.Join(reasons, " "); got != want {
		t.Errorf("the events say %s, want %s", got, want)
	}
}

// The password and every code typed here are in no log and no event.
func TestSSHNothingTypedIsLogged(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "cana")
	mark := here.Log.Mark()
	code, wrong := p.phone.Next(), p.phone.Wrong(3)
	wantIn(t, "cana", sshd.SSH("cana"), sandbox.Password(password), sandbox.Code(code))
	wantOut(t, sshd.SSH("cana"), sandbox.Password(password), sandbox.Code(wrong))
	wantOut(t, sshd.SSH("cana"), sandbox.Password(password), sandbox.Code("canary-typed-as-code"))
	events, _, _, err := machine.Do("events", "--json", "--user", "cana")
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"the system's log": here.Log.Since(mark), "the agent's log": agent.Output(),
		"sshd's log": sshd.Log(), "the events": events} {
		for _, secret := range []string{password, code, wrong, p.recovery[0], "canary-typed-as-code"} {
			found := strings.Contains(text, secret)
			if secret == code || secret == wrong { // six digits may be part of a longer number, such as a time
				found = regexp.MustCompile(`\b` + secret + `\b`).MatchString(text)
			}
			if found {
				t.Errorf("%s: something that was typed is in %s", secret, where)
			}
		}
	}
}
