//go:build linux

// Package agenttest attacks and mistreats the shipped agent and PAM module from
// outside: as many logins at once, as other users, with its disk full, its files
// damaged, its clock set, the power cut and the process killed. The programs are
// built as build.sh builds them and run as they run on a computer; nothing of the
// agent is imported but the wire.
//
// Everything runs in a sandbox (internal/testkit/sandbox), a private copy of this
// machine with users of its own.
package agenttest

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
)

const (
	// binVar says where the programs are; set for the run inside the sandbox.
	binVar = "SALLYPORT_AGENTTEST_BIN"
	// clockVar is what a build with the tag testclock looks at; see internal/clock.
	clockVar = "SALLYPORT_TESTCLOCK"
)

// raceDetector says whether these tests run with it.
var raceDetector bool

// whyNot is why there is no sandbox, for need to say.
var whyNot string

func TestMain(m *testing.M) {
	if job := os.Getenv(childVar); job != "" {
		os.Exit(child(job))
	}
	if os.Getenv(binVar) != "" {
		if err := listenToSyslog(); err != nil {
			fmt.Fprintln(os.Stderr, "agenttest:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	flag.Parse()
	if err := sandbox.Possible(); err != nil {
		whyNot = err.Error()
		os.Exit(m.Run())
	}
	os.Exit(buildAndEnter())
}

// buildAndEnter builds outside, where the go command's cache is kept, and runs
// the tests inside.
func buildAndEnter() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "agenttest:", err)
		return 1
	}
	bin, err := os.MkdirTemp("", "agenttest-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(bin)
	if err := build(bin); err != nil {
		return fail(err)
	}
	if err := os.Setenv(binVar, bin); err != nil {
		return fail(err)
	}
	status, err := sandbox.Reexec(profileDirs()...)
	if err != nil {
		return fail(err)
	}
	return status
}

// build puts the programs into dir, which other users can reach too.
func build(dir string) error {
	goBuild := func(name string, args ...string) *exec.Cmd {
		return exec.Command("go", append(append([]string{"build", "-o", filepath.Join(dir, name)}, args...), "sallyport/agent")...)
	}
	shipped := goBuild("sallyport", "-trimpath", "-buildmode=pie", "-ldflags", "-s -w -X main.version=agenttest")
	shipped.Env = append(os.Environ(), "CGO_ENABLED=1")
	// The other build is never shipped, so it can have the race detector, too.
	tested := goBuild("sallyport-testclock", "-tags", "testclock", fmt.Sprintf("-race=%v", raceDetector))
	for _, cmd := range []*exec.Cmd{
		shipped,
		tested,
		exec.Command("go", "build", "-o", filepath.Join(dir, "sallyport-authority"), "sallyport/authority"),
		exec.Command("make", "-s", "-C", "../../pam", "OUT="+dir),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	// This program itself, for what has to run as somebody else: the go
	// command's own copy lies where nobody else may look.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "agenttest"), content, 0o755), os.Chmod(dir, 0o755))
}

// profileDirs is where the go command waits for a coverage or execution profile.
func profileDirs() (dirs []string) {
	flag.Visit(func(f *flag.Flag) {
		if name := strings.TrimPrefix(f.Name, "test."); strings.HasSuffix(name, "profile") || name == "trace" {
			dirs = append(dirs, filepath.Dir(f.Value.String()))
		}
	})
	return dirs
}

// syslog is what the PAM module, and libpam, told the system's log.
var syslog output

// listenToSyslog is the sandbox's syslogd(8); syslog(3) writes to /dev/log.
func listenToSyslog() error {
	const path = "/dev/log"
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			_, _ = syslog.Write(append(b[:n:n], '\n'))
		}
	}()
	return os.Chmod(path, 0o666)
}

// need skips the test where there is no sandbox. Tests run side by side: each
// has an agent and users of its own.
func need(t *testing.T) {
	t.Helper()
	if whyNot != "" {
		t.Skip("needs the sandbox: " + whyNot)
	}
	t.Parallel()
}

func program(name string) string { return filepath.Join(os.Getenv(binVar), name) }
