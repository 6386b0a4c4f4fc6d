package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asProgram makes the test binary behave as sallyport-try itself, so that a
// terminal and a process of its own can be tested.
const asProgram = "SALLYPORT_TRY_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// stack writes a PAM stack, as the service "svc" of a directory of its own.
func stack(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "svc"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// try runs one login; typed is what comes on standard input.
func try(t *testing.T, dir, typed string, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if _, err := out.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	var o, e bytes.Buffer
	exit = run(append([]string{"nobody", "--service", "svc", "--confdir", dir}, args...), in, &o, &e)
	return o.String(), e.String(), exit
}

// pam_debug(8) returns what it is told to.
func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		auth, account string
		exit          int
		want          string
	}{
		"in":                 {"success", "success", 0, "=> this login would be let in"},
		"refused":            {"auth_err", "success", 1, "=> refused in the step authenticate"},
		"refused by account": {"success", "acct_expired", 1, "=> refused in the step account: the account has expired"},
		"agent down":         {"authinfo_unavail", "success", 2, "is the agent running? sallyport status"},
		"agent down later":   {"success", "authinfo_unavail", 2, "is the agent running?"},
		"unknown user":       {"user_unknown", "success", 1, "no such user (PAM_USER_UNKNOWN)"},
		"password expired":   {"success", "new_authtok_reqd", 1, "PAM_NEW_AUTHTOK_REQD"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stack(t, "auth required pam_debug.so auth="+c.auth, "account required pam_debug.so acct="+c.account)
			out, _, exit := try(t, dir, "")
			if exit != c.exit || !strings.Contains(out, c.want) {
				t.Errorf("exit %d, want %d and %q:\n%s", exit, c.exit, c.want, out)
			}
			if strings.Contains(out, "account  ") != (c.auth == "success") {
				t.Errorf("account runs after a success, and only then:\n%s", out)
			}
		})
	}
}

func TestNothingDecides(t *testing.T) {
	if out, _, exit := try(t, stack(t, "auth optional pam_debug.so auth=ignore"), ""); exit != 1 {
		t.Errorf("exit %d:\n%s", exit, out)
	}
	if out, _, exit := try(t, stack(t, "auth required pam_not_there.so"), ""); exit != 1 {
		t.Errorf("exit %d:\n%s", exit, out)
	}
}

func TestNoticesAndPromptsInOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notice")
	if err := os.WriteFile(file, []byte("two lines\nof notice \x1b[2J\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := stack(t, "auth optional pam_echo.so file="+file, "auth required pam_unix.so nodelay", "account required pam_permit.so")
	const canary = "CANARY-password-1"
	out, _, exit := try(t, dir, canary+"\n")
	if exit != 1 {
		t.Errorf("exit %d", exit)
	}
	notice, prompt, verdict := strings.Index(out, "two lines\n"), strings.Index(out, "asks     Password:"), strings.Index(out, "=> refused")
	if notice < 0 || prompt < notice || verdict < prompt {
		t.Errorf("not in order:\n%s", out)
	}
	if strings.Contains(out, canary) || strings.Contains(out, "\x1b") {
		t.Errorf("an answer or a control character is shown:\n%q", out)
	}

	out, stderr, exit := try(t, dir, canary+"\n", "--json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if exit != 1 || r.User != "nobody" || r.Service != "svc" || r.Verdict != "refused" || len(r.Steps) != 1 ||
		r.Steps[0].Result != "PAM_AUTH_ERR" || len(r.Messages) != 2 || r.Messages[0].Kind != "info" || r.Messages[1].Kind != "secret" {
		t.Errorf("exit %d, %+v", exit, r)
	}
	if strings.Contains(out+stderr, canary) {
		t.Errorf("an answer is shown")
	}
}

func TestNoAnswerRefuses(t *testing.T) {
	dir := stack(t, "auth required pam_unix.so nodelay", "account required pam_permit.so")
	if out, _, exit := try(t, dir, ""); exit != 1 || !strings.Contains(out, "=> refused") {
		t.Errorf("exit %d:\n%s", exit, out)
	}
}

func TestRhost(t *testing.T) {
	// pam_succeed_if(8) sees PAM_RHOST.
	dir := stack(t, "auth required pam_succeed_if.so quiet rhost = 192.0.2.7", "account required pam_permit.so")
	if out, _, exit := try(t, dir, "", "--rhost", "192.0.2.7"); exit != 0 {
		t.Errorf("exit %d:\n%s", exit, out)
	}
	if out, _, exit := try(t, dir, ""); exit != 1 {
		t.Errorf("exit %d:\n%s", exit, out)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {""}, {"a", "b"}, {"a", "--bogus"}, {"a", "--service", "../x"}, {"a", "--service", ""}, {"a", "--service", ".x"}} {
		var out, stderr bytes.Buffer
		if exit := run(args, os.Stdin, &out, &stderr); exit != exitUsage || stderr.Len() == 0 {
			t.Errorf("%q: exit %d, %s", args, exit, stderr.String())
		}
	}
	var out, stderr bytes.Buffer
	if exit := run([]string{"--help"}, os.Stdin, &out, &stderr); exit != 0 || !strings.Contains(stderr.String(), "--service") {
		t.Errorf("exit %d, %s", exit, stderr.String())
	}
}

// On a terminal a secret is asked for without echo.
func TestTerminalWithoutEcho(t *testing.T) {
	master, slave := pty(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "nobody", "--service", "svc", "--confdir",
		stack(t, "auth required pam_unix.so nodelay", "account required pam_permit.so"))
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	const canary = "CANARY-password-2"
	var seen []byte
	typed := false
	buf := make([]byte, 1024)
	for {
		n, err := master.Read(buf)
		seen = append(seen, buf[:n]...)
		// The prompt is written before the echo goes off: type when it is off.
		if !typed && bytes.Contains(seen, []byte("Password:")) {
			awaitNoEcho(t, master)
			if _, err := master.WriteString(canary + "\n"); err != nil {
				t.Fatal(err)
			}
			typed = true
		}
		if err != nil { // EIO: the other side has closed
			break
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	if !typed || bytes.Contains(seen, []byte(canary)) || !bytes.Contains(seen, []byte("=> refused")) {
		t.Errorf("typed: %v, seen: %q", typed, seen)
	}
}

func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// awaitNoEcho waits until the program has turned the echo off; there is no event
// for that, so it looks again and again.
func awaitNoEcho(t *testing.T, master *os.File) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		tio, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if tio.Lflag&unix.ECHO == 0 {
			return
		}
		syscall.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	t.Fatal("the echo stays on")
}
