//go:build linux

package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// apology is what the person reads when there is no verdict.
const apology = "Sallyport cannot check logins right now. Please call your helpdesk."

// Not parallel: these stop the agent that all others log in with.

// Without an agent nobody gets in, enrolled or not, and the log says what to do.
func TestAgentStopped(t *testing.T) {
	p := addPerson(t, "sid")
	addUser(t, "sue")
	if err := sandbox.AllowSudo("sid"); err != nil {
		t.Fatal(err)
	}
	stopAgent(t)
	for service, session := range map[string]*sandbox.Session{
		"sshd": sshd.SSH("sid"), "sudo": sandbox.Sudo(p.User), "su": sandbox.Su(p.User, "sue"), "login": sandbox.Login("sue", ""),
	} {
		t.Run(service, func(t *testing.T) {
			t.Parallel() // within this test, that is
			mark := here.Log.Mark()
			got := wantOut(t, session, sandbox.Password(password))
			// sshd keeps a message back until the next prompt, sudo wants none.
			if (service == "su" || service == "login") && !strings.Contains(got.Screen, apology) {
				t.Errorf("the person is not told what is wrong:\n%s", got.Screen)
			}
			if _, err := here.Log.Wait(mark, `pam_sallyport\(`+service+`:auth\): the agent is not running: .* systemctl start sallyport`); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAgentStartedAgain(t *testing.T) {
	p := addPerson(t, "ray")
	code := p.phone.Next()
	wantIn(t, "ray", sshd.SSH("ray"), sandbox.Password(password), sandbox.Code(code))
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	startAgent(t)
	wantOut(t, sshd.SSH("ray"), sandbox.Password(password), sandbox.Code(code)) // still used
	wantIn(t, "ray", sshd.SSH("ray"), p.right()...)
}

// An agent that takes the connection and says nothing is given up on.
func TestAgentSuspended(t *testing.T) {
	p := addPerson(t, "sus")
	if err := agent.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := agent.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
		wantIn(t, "sus", sshd.SSH("sus"), p.right()...)
	}()
	mark, begin := here.Log.Mark(), time.Now()
	got := wantOut(t, sandbox.Login("sus", ""), sandbox.Password(password))
	if !strings.Contains(got.Screen, apology) {
		t.Errorf("the person is not told what is wrong:\n%s", got.Screen)
	}
	// The hook's deadline of 10 s, what login and pam_unix take to refuse, and a busy
	// machine.
	if took := time.Since(begin); took > patience {
		t.Errorf("it took %v", took)
	}
	if _, err := here.Log.Wait(mark, `pam_sallyport\(login:auth\): denied: the agent at \S+ did not answer within 10 s`); err != nil {
		t.Error(err)
	}
}

// An agent that dies at the code prompt takes the login with it.
func TestAgentKilledMidLogin(t *testing.T) {
	p := addPerson(t, "mid")
	code := p.phone.Peek()
	mark := here.Log.Mark()
	d := talk(t, exec.Command("su", "-s", "/bin/sh", "-c", "exec su -c '"+proof+"' mid", "nobody"))
	d.answer(sandbox.PasswordPrompt, password)
	d.see(sandbox.CodePrompt)
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		startAgent(t)
		wantIn(t, "mid", sshd.SSH("mid"), sandbox.Password(password), sandbox.Code(p.phone.Next())) // the code was not used
	}()
	if err := d.Send(code); err != nil {
		t.Fatal(err)
	}
	if status := d.end(); status == 0 || insideAs.MatchString(d.Screen()) {
		t.Errorf("exit status %d, the screen:\n%s", status, d.Screen())
	}
	if _, err := here.Log.Wait(mark, `pam_sallyport\(su:auth\): denied: the agent at `); err != nil {
		t.Error(err)
	}
}

// An agent may run unprivileged, for its own user's programs. Root's do not
// believe it.
func TestAgentOfAUsersOwn(t *testing.T) {
	u := addUser(t, "own")
	dir := filepath.Join(u.Home, "sallyport")
	output(t, as(t, u, "mkdir", dir))
	own, err := machine.StartAgentAs(u.UID, u.GID, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	}()
	config := filepath.Join(dir, "sallyport.toml")
	var enrolled machine.Enrolled
	if err := machine.Decode(output(t, as(t, u, machine.Program, "enroll", "own", "--no-confirm", "--json", "--config", config)), &enrolled); err != nil {
		t.Fatal(err)
	}
	phone, err := machine.NewPhone(enrolled.OTPAuthURI)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "run", "login.sock")
	useStack(t, "own-locker", "auth required pam_permit.so\nauth required pam_sallyport.so socket="+socket)
	try := func(cmd *exec.Cmd, code string) bool {
		d := talk(t, cmd)
		if code != "" {
			d.answer(sandbox.CodePrompt, code)
		}
		return d.end() == 0
	}
	if !try(as(t, u, "pamtester", "own-locker", "own", "authenticate"), phone.Next()) {
		t.Error("the right code was refused")
	}
	if try(as(t, u, "pamtester", "own-locker", "own", "authenticate"), phone.Wrong(1)) {
		t.Error("a wrong code was taken")
	}
	mark := here.Log.Mark()
	if try(exec.Command("pamtester", "own-locker", "own", "authenticate"), "") {
		t.Error("root's login obeyed the agent of a user")
	}
	if _, err := here.Log.Wait(mark, `pam_sallyport\(own-locker:auth\): denied: the agent at `+socket); err != nil {
		t.Error(err)
	}
	// And the machine's own agent has no part in it.
	var list struct {
		Users []struct {
			Name string `json:"name"`
		} `json:"users"`
	}
	if err := machine.JSON(&list, "user", "list"); err != nil {
		t.Fatal(err)
	}
	for _, user := range list.Users {
		if user.Name == "own" {
			t.Errorf("the machine's agent knows of it: %+v", list)
		}
	}
}

// try shows every step, and finds the same as a login.
func TestTry(t *testing.T) {
	p := addPerson(t, "tri")
	d := talk(t, exec.Command(machine.Program, "try", "tri", "--service", "sshd"))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(sandbox.CodePrompt, p.phone.Next())
	if status := d.end(); status != 0 {
		t.Errorf("the right code: exit status %d:\n%s", status, d.Screen())
	}
	d = talk(t, exec.Command(machine.Program, "try", "tri", "--service", "sshd"))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(sandbox.CodePrompt, p.phone.Wrong(1))
	if status := d.end(); status != 1 {
		t.Errorf("a wrong code: exit status %d, want 1:\n%s", status, d.Screen())
	}
	if strings.Contains(d.Screen(), password) {
		t.Errorf("the password is on the screen:\n%s", d.Screen())
	}
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")

	stopAgent(t)
	cmd := exec.Command(machine.Program, "try", "tri", "--service", "sshd")
	cmd.Stdin = strings.NewReader(password + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("without an agent: %v, want exit status 2:\n%s", err, out.String())
	}
}
