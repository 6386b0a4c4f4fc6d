//go:build linux

package sandbox

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These tests run outside, on the machine itself, and look at what a sandbox
// leaves behind on it: nothing.

func enter(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if err := Possible(); err != nil {
		t.Skip("needs the sandbox: " + err.Error())
	}
	script, err := scriptPath()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(script, args...)
}

// fingerprint is what a login test would change on the machine.
func fingerprint(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{}
	for _, path := range []string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/hosts", "/proc/self/mountinfo", "/proc/sys/kernel/hostname"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		seen[path] = string(content)
	}
	for _, dir := range []string{"/etc", "/etc/pam.d", "/etc/ssh", "/etc/sudoers.d", "/home", "/mnt", "/media", "/srv", "/opt"} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		seen[dir] = strings.Join(names, "\n")
	}
	return seen
}

func TestTheMachineIsUnchangedAfterwards(t *testing.T) {
	before := fingerprint(t)
	out, err := enter(t, "bash", "-euc", `
		useradd -m ghost
		echo ghost:secret | chpasswd
		echo "auth required pam_permit.so" >/etc/pam.d/ghost
		rm -rf /etc/ssh /home/*
		touch /ghost /run/ghost /dev/shm/ghost /dev/ghost /var/lib/ghost
		hostname ghost
		getent passwd ghost`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "ghost:x:") {
		t.Errorf("the user was not added inside: %s", out)
	}
	for what, after := range fingerprint(t) {
		if after != before[what] {
			t.Errorf("%s changed from\n%s\nto\n%s", what, before[what], after)
		}
	}
	for _, path := range []string{"/ghost", "/run/ghost", "/dev/shm/ghost", "/dev/ghost", "/var/lib/ghost"} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left on the machine (%v)", path, err)
		}
	}
}

func TestExitStatusAndArgumentsPass(t *testing.T) {
	out, err := enter(t, "--", "bash", "-c", `printf '[%s]' "$@"; exit 42`, "name", "two words", "", "--bind").Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("want exit status 42, got %v", err)
	}
	if got, want := string(out), "[two words][][--bind]"; got != want {
		t.Errorf("arguments arrived as %s, want %s", got, want)
	}
}

func TestStdinAndWorkingDirectoryPass(t *testing.T) {
	cmd := enter(t, "bash", "-c", `cat; pwd`)
	cmd.Stdin = strings.NewReader("typed\n")
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), "typed\n"+cmd.Dir+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBoundDirectoryIsKeptAndNothingElse(t *testing.T) {
	kept, lost := t.TempDir(), t.TempDir()
	if out, err := enter(t, "--bind", kept, "touch", kept+"/file", lost+"/file").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(kept + "/file"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(lost + "/file"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("written to an unbound directory, and outside: %v", err)
	}
}

func TestWrongUsageSaysSo(t *testing.T) {
	for _, args := range [][]string{{}, {"--bind"}, {"--bind", "/nonexistent", "true"}, {"--nonsense", "true"}, {"--inside", "true"}} {
		out, err := enter(t, args...).CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != exitNotMade {
			t.Errorf("enter.sh %q: want exit status %d, got %v", args, exitNotMade, err)
		}
		if !strings.HasPrefix(string(out), "sandbox: ") {
			t.Errorf("enter.sh %q complains: %q", args, out)
		}
	}
}

// However its caller ends it, nothing in the sandbox goes on running.
func TestEverythingInsideDiesWithIt(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{
		"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL,
	} {
		t.Run(name, func(t *testing.T) {
			before := fingerprint(t)
			// Whoever runs the tests may ignore a signal (nohup(1)), which no shell
			// below can undo (sh(1), trap).
			sandboxed := enter(t, "bash", "-c", `
				trap "" HUP INT TERM
				setsid sleep 1000 &
				readlink /proc/self/ns/pid
				sleep 1000 & wait`)
			cmd := exec.Command("env", append([]string{"--default-signal=HUP,INT,TERM"}, sandboxed.Args...)...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			namespace, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			namespace = strings.TrimSpace(namespace)
			if len(processesIn(t, namespace)) == 0 {
				t.Fatalf("nothing runs in %s: this test would show nothing", namespace)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("exit status 0, though it was ended by a signal")
			}
			// The kernel kills them; it is not finished when our child is gone.
			deadline := time.Now().Add(time.Minute)
			for len(processesIn(t, namespace)) > 0 {
				if time.Now().After(deadline) {
					t.Fatalf("still running in the sandbox: %v", processesIn(t, namespace))
				}
				time.Sleep(time.Millisecond)
			}
			for what, after := range fingerprint(t) {
				if after != before[what] {
					t.Errorf("%s changed", what)
				}
			}
		})
	}
}

// processesIn lists the processes whose PID namespace is the one named, dead
// ones that the machine's init has yet to reap apart.
func processesIn(t *testing.T, namespace string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != namespace {
			continue
		}
		pid := strings.Split(link, "/")[2]
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err == nil && !strings.Contains(string(status), "State:\tZ") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestNothingIsDoneToTheMachineItself(t *testing.T) {
	if Inside() {
		t.Skip("runs outside a sandbox only")
	}
	if _, err := AddUser("ghost", "secret"); !errors.Is(err, errOutside) {
		t.Errorf("AddUser: %v", err)
	}
	if _, err := SetPAM("ghost", "auth required pam_permit.so"); !errors.Is(err, errOutside) {
		t.Errorf("SetPAM: %v", err)
	}
	if _, err := StartSSHD(); !errors.Is(err, errOutside) {
		t.Errorf("StartSSHD: %v", err)
	}
	if _, err := NewDisk(t.TempDir(), 1); !errors.Is(err, errOutside) {
		t.Errorf("NewDisk: %v", err)
	}
}
