//go:build linux

// Package sandbox is a private copy of this machine in which tests may do what
// would be rude on the machine itself: add users, change /etc/pam.d, start sshd,
// and log in through the real ssh, sudo, su and login on a real terminal.
//
// The copy is made by enter.sh (a mount, process, network, host name and IPC
// namespace of its own over an overlay of /). A test package asks for it with
//
//	func TestMain(m *testing.M) { sandbox.Main(m) }
//
// which runs the whole test binary inside, and each of its tests begins with
//
//	sandbox.Need(t)
//
// which skips, and says why, where no sandbox can be had (as when not root).
package sandbox

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// mark is there only in a sandbox: enter.sh makes it, in a /run of its own.
const mark = "/run/sallyport-sandbox"

// exitNotMade is enter.sh's status when the sandbox could not be made.
const exitNotMade = 125

// Inside reports whether this process runs in a sandbox.
func Inside() bool {
	_, err := os.Stat(mark)
	return err == nil
}

// whyNot is why Main runs the tests outside, for Need to say.
var whyNot = "TestMain does not call sandbox.Main"

// Need skips the test when it does not run in a sandbox.
func Need(t testing.TB) {
	t.Helper()
	if !Inside() {
		t.Skip("needs the sandbox: " + whyNot)
	}
}

// Main runs the tests of m in a sandbox and exits with their status. Where none
// can be made it runs them here, and those that Need one skip.
func Main(m *testing.M) {
	if Inside() {
		os.Exit(m.Run())
	}
	flag.Parse()
	if err := Possible(); err != nil {
		whyNot = err.Error()
		os.Exit(m.Run())
	}
	status, err := Reexec(outputDirs()...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// outputDirs is where the go command waits for files from this test binary: a
// coverage or execution profile, say.
func outputDirs() []string {
	var dirs []string
	flag.Visit(func(f *flag.Flag) {
		switch name := strings.TrimPrefix(f.Name, "test."); name {
		case "coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace":
			dirs = append(dirs, filepath.Dir(f.Value.String()))
		case "outputdir", "gocoverdir":
			dirs = append(dirs, f.Value.String())
		}
	})
	return dirs
}

// Possible returns nil when a sandbox can be made here, else why not.
func Possible() error {
	if os.Geteuid() != 0 {
		return errors.New("it can be made by root only")
	}
	script, err := scriptPath()
	if err != nil {
		return err
	}
	var complaint bytes.Buffer
	cmd := exec.Command(script, "true")
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// Reexec runs this program again, with the same arguments, in a sandbox, and
// returns its exit status. What is written below the keep directories outlives it.
func Reexec(keep ...string) (int, error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	script, err := scriptPath()
	if err != nil {
		return 0, err
	}
	var args []string
	for _, dir := range keep {
		args = append(args, "--bind", dir)
	}
	args = append(append(args, "--", program), os.Args[1:]...)
	cmd := exec.Command(script, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Should this process be killed, the sandbox goes too. The kernel watches
	// the thread that started the child, so this goroutine stays on it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		if exit.ExitCode() == exitNotMade {
			return exitNotMade, errors.New("sandbox: could not be made, see above")
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// scriptPath finds enter.sh, which lies beside this source file.
func scriptPath() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("sandbox: built without source positions, cannot find enter.sh")
	}
	script := filepath.Join(filepath.Dir(file), "enter.sh")
	if _, err := os.Stat(script); err != nil {
		return "", fmt.Errorf("sandbox: %w (built with -trimpath? run it from the source tree)", err)
	}
	return script, nil
}

// run runs a command for its effect and makes its complaint part of the error.
func run(stdin io.Reader, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, bytes.TrimSpace(out))
	}
	return nil
}
