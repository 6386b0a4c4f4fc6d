package cli

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// What status says where nothing is set up.
const noHook = "no login asks for a code yet"

// runtimeDir is a temporary directory whose path leaves room for a socket's name:
// t.TempDir holds the test's name, and sun_path has 108 bytes.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// listened has nothing to do: the socket answers.
func listened(*testing.T, string) {}

// A socket that nobody listens on is another reason than none at all.
func TestDeadSocket(t *testing.T) {
	s := newSession(t, nil)
	l, err := net.Listen("unix", filepath.Join(s.dir, localsock.AdminName))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	s.run("unlock", "alice").wantExit(2).wantErr("nobody listens on")
}

func TestTryRunsTheProgramBesideOurs(t *testing.T) {
	s := newSession(t, newFake())
	dir := t.TempDir()
	program := filepath.Join(dir, "sallyport-try")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.deps.Executable = func() (string, error) { return filepath.Join(dir, "sallyport"), nil }
	s.run("try", "alice").wantExit(0)
	if got := quoted(s.execed); got != quoted([]string{program, program, "--service=login", "--", "alice"}) {
		t.Errorf("%s", got)
	}
	if s.err != "" {
		t.Errorf("stderr: %s", s.err)
	}
	s.run("--json", "try", "alice", "--service", "sshd", "--config-dir", "/x", "--rhost", "192.0.2.7").wantExit(0)
	if got := quoted(s.execed); got != quoted([]string{program, program, "--service=sshd", "--confdir=/x", "--rhost=192.0.2.7", "--json", "--", "alice"}) {
		t.Errorf("%s", got)
	}
	s.deps.Exec = func(string, []string) (int, error) { return 2, nil }
	s.run("try", "alice").wantExit(2)

	down := newSession(t, nil)
	down.deps.Executable = s.deps.Executable
	down.run("try", "alice").wantExit(0).wantErr("note: the agent is not running", "systemctl start sallyport")
	if len(down.execed) == 0 {
		t.Error("not tried")
	}
}

func TestTryWithoutItsProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	newSession(t, newFake()).run("try", "alice").wantExit(1).wantErr("sallyport-try is neither beside this program")
}

func TestDoctor(t *testing.T) {
	f := newFake()
	s := newSession(t, f)
	for name, mode := range map[string]os.FileMode{localsock.LoginName: 0o666, localsock.AdminName: 0o600} {
		path := filepath.Join(s.dir, name)
		if name == localsock.LoginName {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	f.status.LoginSocket, f.status.AdminSocket = filepath.Join(s.dir, localsock.LoginName), filepath.Join(s.dir, localsock.AdminName)
	s.run("doctor").wantExit(0).wantOut("ok    agent", "ok    sockets", "warn  stacks", "0 failed").wantNot("\x1b")
	v := s.run("doctor", "--json").wantExit(0).object()
	if v["ok"] != true || len(v["results"].([]any)) == 0 {
		t.Errorf("%v", v)
	}
	f.status.Problems = []*adminv1.Problem{{Code: "x", Text: "a problem", Remedy: "a remedy"}}
	s.run("doctor").wantExit(1).wantOut("fail  agent", "a problem", "-> a remedy")
}

func TestDoctorWithoutAnAgent(t *testing.T) {
	s := runCLI(t, nil, "doctor").wantExit(1)
	s.wantOut("fail  agent", "the agent is not running", "systemctl start sallyport", "warn  module", "break-glass")
	if v := runCLI(t, nil, "doctor", "--json").wantExit(1).object(); v["ok"] != false {
		t.Errorf("%v", v)
	}
}

// TestCtrlCWithdrawsTheLink: the agent sees that nobody waits any more.
func TestCtrlCWithdrawsTheLink(t *testing.T) {
	f := newFake()
	s := newSession(t, f)
	out := newLockedBuffer()
	var errOut bytes.Buffer
	s.deps.Stdout, s.deps.Stderr = out, &errOut
	exit := make(chan int)
	go func() { exit <- Main([]string{"enroll", "alice", "--push", "--runtime-dir", s.dir}, s.deps) }()
	out.await(t, "Waiting for the phone")
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := <-exit; code != 1 || !strings.Contains(errOut.String(), "withdrawn") {
		t.Errorf("exit %d, stderr %s", code, errOut.String())
	}
	<-f.gone
}

// An agent that is neither root's nor our own is refused before it is told
// anything.
func TestDialRefusesAStrangersSocket(t *testing.T) {
	needRoot(t)
	s := newSession(t, nil)
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// SO_PEERCRED tells who called listen: a thread with another euid will do.
	l, err := listenAs(4321, filepath.Join(s.dir, localsock.AdminName))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s.run("enroll", "alice", "--no-confirm").wantExit(3).wantErr("served by uid:4321, neither the system nor you", "--runtime-dir")
	s.run("status").wantExit(3)
}

func listenAs(uid int, path string) (l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The goroutine keeps its thread, which ends with it: no other code runs
		// under that uid.
		lockThread()
		l, err = listenWithUID(uid, path)
	}()
	<-done
	return l, err
}

// A stopped agent accepts and never answers: the deadline speaks.
func TestStoppedAgent(t *testing.T) {
	s := newSession(t, nil)
	listenAdmin(t, s.dir)
	s.deps.CallTimeout = 200 * time.Millisecond
	s.run("user", "list").wantExit(2).wantErr("does not answer", remedyHung)
	s.run("status").wantExit(2).wantOut("does not answer")
	s.run("events", "--follow").wantExit(2).wantErr("does not answer")
}
