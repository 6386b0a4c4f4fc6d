//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
)

// addSudoer makes somebody with a second factor who may use sudo.
func addSudoer(t *testing.T, name string) *person {
	t.Helper()
	p := addPerson(t, name)
	if err := sandbox.AllowSudo(name); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSudo(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addSudoer(t, "ada")
	wantIn(t, "root", sandbox.Sudo(p.User), p.right()...)
	wantOut(t, sandbox.Sudo(p.User), p.wrong()...)
	wantOut(t, sandbox.Sudo(p.User), sandbox.Password("wrong horse"))
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")
	if e := attempts(t, p.UID)[0]; e.Service != "sudo" || e.Scenario != "elevate" || !strings.HasPrefix(e.Session, "/dev/pts/") {
		t.Errorf("want an event of sudo on a terminal, got %+v", e)
	}
}

func TestSudoUnenrolled(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	u := addUser(t, "ulf")
	if err := sandbox.AllowSudo(u.Name); err != nil {
		t.Fatal(err)
	}
	wantIn(t, "root", sandbox.Sudo(u), sandbox.Password(password))
}

// sudo -S, as scripts use it: password and code are read from standard input.
func TestSudoFromStandardInput(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addSudoer(t, "pia")
	try := func(code string) (string, error) {
		cmd := as(t, p.User, "sudo", "-k", "-S", "-p", "", "id", "-un")
		cmd.Stdin = strings.NewReader(password + "\n" + code + "\n")
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	if who, err := try(p.phone.Next()); err != nil || who != "root" {
		t.Errorf("the right code: ran as %q, %v", who, err)
	}
	if who, err := try(p.phone.Wrong(1)); err == nil || who != "" {
		t.Errorf("a wrong code: ran as %q, %v", who, err)
	}
}

// sudo's timestamp spares the code as it spares the password; sudo -n asks PAM
// nothing.
func TestSudoTimestamp(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addSudoer(t, "tia")
	cmd := as(t, p.User, "sudo", "-n", "id", "-un")
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "root") {
		t.Errorf("sudo -n without a timestamp: %s, %v", out, err)
	}
	d := talk(t, as(t, p.User, "sh", "-c", "sudo id -un >/dev/null && sudo -n sh -c '"+proof+"' && sudo sh -c 'echo and; "+proof+"'"))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(sandbox.CodePrompt, p.phone.Next())
	if got := d.see(regexp.MustCompile(`(?s)inside: (\S+)\r\nand\r\ninside: (\S+)`)); got[1] != "root" || got[2] != "root" {
		t.Errorf("want both as root, got %q", got)
	}
	if status := d.end(); status != 0 {
		t.Errorf("exit status %d:\n%s", status, d.Screen())
	}
	wantReasons(t, p.UID, "allow code_accepted")
}

func TestSudoNoPassword(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "nopa")
	if err := os.WriteFile("/etc/sudoers.d/e2e-nopa", []byte("nopa ALL=(ALL) NOPASSWD: ALL\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	if got := output(t, as(t, p.User, "sudo", "-n", "id", "-un")); got != "root\n" {
		t.Errorf("ran as %q", got)
	}
	wantReasons(t, p.UID) // NOPASSWD is outside of PAM's auth stack
}

// sudo and su hold Ctrl-C back while PAM runs: it must still end the login, and
// let nobody in.
func TestCtrlCAtTheCodePrompt(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	for _, program := range []string{"sudo", "su"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			p := addSudoer(t, "ctl-"+program)
			cmd := as(t, p.User, "sudo", "sh", "-c", proof)
			if program == "su" {
				cmd = as(t, p.User, "su", "-c", proof, p.Name)
			}
			d := talk(t, cmd)
			d.answer(sandbox.PasswordPrompt, password)
			d.see(sandbox.CodePrompt)
			// sudo's own read loses a signal that comes between the prompt and it.
			waitAsleep(t, d.Pid())
			d.press(ctrlC)
			if status := d.end(); status == 0 || insideAs.MatchString(d.Screen()) {
				t.Errorf("exit status %d, the screen:\n%s", status, d.Screen())
			}
			waitEvent(t, p.Name, func(e event.Event) bool { return e.Name == event.LoginAttempt && e.Verdict == "deny" })
			wantReasons(t, p.UID, "deny cancelled")
			wantFailures(t, p.Name, 0)
		})
	}
}

// waitAsleep waits until a process sleeps: proc_pid_stat(5).
func waitAsleep(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, after, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(after, "S") {
			return
		}
	}
	t.Fatalf("process %d never sleeps", pid)
}

func TestSu(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	invoker, p := addUser(t, "ivo"), addPerson(t, "tam")
	wantIn(t, "tam", sandbox.Su(invoker, "tam"), p.right()...)
	wantOut(t, sandbox.Su(invoker, "tam"), p.wrong()...)
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")
	// It is tam's factor that counts, not the invoker's; and root needs none.
	wantReasons(t, invoker.UID)
	wantIn(t, "tam", sandbox.Su(sandbox.User{Name: "root", Home: "/root"}, "tam"))
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")
}

// "su -" has a stack of its own, which includes that of su.
func TestSuLogin(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	invoker, p := addUser(t, "ivy"), addPerson(t, "tom")
	d := talk(t, as(t, invoker, "su", "-", "tom", "-c", proof))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(sandbox.CodePrompt, p.phone.Wrong(1))
	if status := d.end(); status == 0 || insideAs.MatchString(d.Screen()) {
		t.Errorf("a wrong code: exit status %d, the screen:\n%s", status, d.Screen())
	}
	d = talk(t, as(t, invoker, "su", "-", "tom", "-c", proof))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(sandbox.CodePrompt, p.phone.Next())
	if got := d.see(insideAs); got[1] != "tom" {
		t.Errorf("in as %s", got[1])
	}
	if e := attempts(t, p.UID)[0]; e.Service != "su-l" || e.Scenario != "elevate" {
		t.Errorf("want an event of su-l, got %+v", e)
	}
}

func TestLogin(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addPerson(t, "lou")
	wantIn(t, "lou", sandbox.Login("lou", ""), p.right()...)
	wantIn(t, "lou", sandbox.Login("lou", "192.0.2.7"), p.right()...)
	wantOut(t, sandbox.Login("lou", ""), p.wrong()...)
	wantOut(t, sandbox.Login("lou", "192.0.2.7"), p.wrong()...)
	wantOut(t, sandbox.Login("lou", ""), sandbox.Password("wrong horse"))
	var got []string
	for _, e := range attempts(t, p.UID) {
		got = append(got, e.Service+" "+e.Scenario+" "+e.Remote+" "+e.Reason)
	}
	want := []string{"login login  code_accepted", "login remote 192.0.2.7 code_accepted",
		"login login  wrong_code", "login remote 192.0.2.7 wrong_code"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
}

func TestLoginUnenrolled(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	addUser(t, "lea")
	wantIn(t, "lea", sandbox.Login("lea", ""), sandbox.Password(password))
}

// A screen locker runs as its user: it may unlock for that user, and for nobody
// else, whatever it claims.
func TestUnprivilegedLocker(t *testing.T) {
	sandbox.Need(t)
	if _, err := exec.LookPath("pamtester"); err != nil {
		t.Skip("needs pamtester: ./build.sh deps installs it")
	}
	useStack(t, "vlock", "auth requisite pam_unix.so\nauth required pam_sallyport.so\naccount required pam_permit.so")
	// What the other user's locker would be without a password to stop it.
	useStack(t, "xlock", "auth required pam_permit.so\nauth required pam_sallyport.so\naccount required pam_permit.so")
	p, other := addPerson(t, "vic"), addPerson(t, "oda")

	locker := func(u sandbox.User, service, claimed, code string) (in bool, screen string) {
		d := talk(t, as(t, u, "pamtester", service, claimed, "authenticate"))
		if service == "vlock" {
			d.answer(sandbox.PasswordPrompt, password)
		}
		if code != "" {
			d.answer(sandbox.CodePrompt, code)
		}
		return d.end() == 0, d.Screen()
	}
	if in, screen := locker(p.User, "vlock", "vic", p.phone.Next()); !in {
		t.Errorf("the right code does not unlock:\n%s", screen)
	}
	if in, screen := locker(p.User, "vlock", "vic", p.phone.Wrong(1)); in {
		t.Errorf("a wrong code unlocks:\n%s", screen)
	}
	if in, screen := locker(other.User, "xlock", "vic", ""); in || strings.Contains(screen, "authenticator") {
		t.Errorf("somebody else was asked, or let in:\n%s", screen)
	}
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")
	if e := attempts(t, p.UID)[0]; e.By != fmt.Sprintf("uid:%d", p.UID) || e.Scenario != "unlock" {
		t.Errorf("want an event by vic's own process, got %+v", e)
	}
	wantFailures(t, "vic", 1)
}
