//go:build linux

// Package wine gives tests on Linux a Windows of their own: Wine, in a root and
// with a prefix that nobody else sees and that is gone afterwards.
//
//	w := wine.New(t)
//	out, err := w.Command(ctx, dist+"/sallyport.exe", "version").Output()
//
// The root is made by root.sh, once, and entered by enter.sh. Wine is not
// Windows: it enforces no access control, all its processes run as the same
// user, and LogonUserW accepts any password.
package wine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTime is how long a Windows may take to start on a busy machine.
const startTime = 5 * time.Minute

// scripts is where root.sh and enter.sh lie: beside this source file.
var scripts = sync.OnceValues(func() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("wine: built without source positions, cannot find enter.sh")
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("wine: %w (built with -trimpath? run it from the source tree)", err)
	}
	return filepath.Dir(file), nil
})

// Possible returns nil when there can be a Wine here, else why not. It makes the
// Wine root where there is none yet, which takes minutes.
func Possible() error { return possible() }

var possible = sync.OnceValue(func() error {
	dir, err := scripts()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the Wine root can be entered by root only")
	}
	var complaint bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, "enter.sh"), "true")
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("enter.sh: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return nil
})

// Wine is a running Windows. Its programs see the machine's files that were
// bound, below Z:, and each other; they use the machine's network.
type Wine struct {
	// Env is what Commands get besides Wine's own variables, as NAME=value.
	Env []string

	script string
	holder *exec.Cmd
	hold   io.Closer
	pid    string
	kill   func() error
}

// New starts a Windows that lives as long as the test, which is skipped where
// none can be had. The repository, the test's own temporary directories
// (t.TempDir, not its subtests') and the bound directories are there below Z:.
func New(t testing.TB, bind ...string) *Wine {
	t.Helper()
	if err := Possible(); err != nil {
		t.Skip("needs Wine: " + err.Error())
	}
	// All temporary directories of a test lie in one.
	w, err := Start(append(bind, filepath.Dir(t.TempDir()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Kill(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Start starts a Windows with these directories bound. Kill must be called.
func Start(bind ...string) (*Wine, error) {
	dir, err := scripts()
	if err != nil {
		return nil, err
	}
	w := &Wine{script: filepath.Join(dir, "enter.sh")}
	args := []string{"--hold"}
	for _, dir := range bind {
		args = append(args, "--bind", dir)
	}
	w.holder = exec.Command(w.script, args...)
	var complaint bytes.Buffer
	w.holder.Stderr = &complaint
	// Should this process die, stdin ends and so does the place.
	if w.hold, err = w.holder.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.holder.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.holder.Start(); err != nil {
		return nil, fmt.Errorf("wine: %w", err)
	}
	w.kill = sync.OnceValue(w.end)
	late := time.AfterFunc(startTime, func() { w.holder.Process.Signal(syscall.SIGTERM) })
	line, err := bufio.NewReader(out).ReadString('\n')
	late.Stop()
	w.pid = strings.TrimSpace(line)
	if _, bad := strconv.Atoi(w.pid); err != nil || bad != nil {
		w.kill()
		return nil, fmt.Errorf("wine: Windows did not start: %s", strings.TrimSpace(complaint.String()))
	}
	return w, nil
}

// Kill ends Windows and all that runs in it, at once; what was written to its
// registry and its drive C: is gone.
func (w *Wine) Kill() error { return w.kill() }

func (w *Wine) end() error {
	w.hold.Close()
	late := time.AfterFunc(time.Minute, func() { w.holder.Process.Signal(syscall.SIGTERM) })
	defer late.Stop()
	if err := w.holder.Wait(); err != nil {
		return fmt.Errorf("wine: the end of Windows: %w", err)
	}
	return nil
}

// Restart is a reboot: everything that runs is killed, and Windows starts anew
// with the registry and the files it had, and with its services.
func (w *Wine) Restart(ctx context.Context) error {
	// What is started here lives on, and must not hold our pipes.
	if err := w.Unix(ctx, "sh", "-euc", `
		wineserver --kill
		wineserver --wait
		wineserver --persistent
		wine cmd /c exit`).Run(); err != nil {
		return fmt.Errorf("wine: restart: %w", err)
	}
	return nil
}

// Command is a Windows program: a path of this machine, a Windows path, or a
// name that Windows knows ("reg"). When ctx ends the program is killed; what it
// started lives on, until Kill. Its exit status arrives modulo 256.
func (w *Wine) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return w.Unix(ctx, "wine", append([]string{program}, args...)...)
}

// Unix is a Linux program of the Wine root (wineserver, msibuild, osslsigncode)
// and runs beside Windows.
func (w *Wine) Unix(ctx context.Context, program string, args ...string) *exec.Cmd {
	enter := []string{"--join", w.pid}
	for _, variable := range w.Env {
		name, _, _ := strings.Cut(variable, "=")
		enter = append(enter, "--env", name)
	}
	enter = append(append(enter, "--", program), args...)
	cmd := exec.CommandContext(ctx, w.script, enter...)
	cmd.Env = append(os.Environ(), w.Env...)
	// What the program started may still hold its output open.
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Path is the name Windows programs know a file of this machine by.
func Path(path string) string {
	return `Z:` + strings.ReplaceAll(path, "/", `\`)
}
