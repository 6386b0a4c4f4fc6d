//go:build linux

package machine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyTime is far more than the agent needs to start on a busy machine.
const readyTime = time.Minute

// Daemon is a running service: "sallyport run" or "sallyport-authority run".
type Daemon struct {
	cmd    *exec.Cmd
	output *output
	exited chan struct{}
}

// Agent is a running "sallyport run".
type Agent = Daemon

// StartAgent starts the agent and waits until it says that it is ready, as
// systemd would (sd_notify(3)).
func StartAgent() (*Agent, error) { return start(exec.Command(Program, "run")) }

// StartAgentAs starts an agent of a user's own, for its own uid, with everything
// it needs below dir.
func StartAgentAs(uid, gid uint32, dir string) (*Agent, error) {
	config := filepath.Join(dir, "sallyport.toml")
	text := fmt.Sprintf("state_dir = %q\nruntime_dir = %q\n", filepath.Join(dir, "state"), filepath.Join(dir, "run"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	for _, path := range []string{dir, config} {
		if err := os.Chown(path, int(uid), int(gid)); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(Program, "run", "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	return start(cmd)
}

// start starts a service and waits until it says that it is ready.
func start(cmd *exec.Cmd) (*Daemon, error) {
	dir, err := os.MkdirTemp("", "sallyport-ready-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		return nil, err
	}
	a := &Daemon{cmd: cmd, output: &output{}, exited: make(chan struct{})}
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	cmd.Stdout, cmd.Stderr = a.output, a.output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(a.exited)
		notify.Close()
	}()
	if err := notify.SetReadDeadline(time.Now().Add(readyTime)); err != nil {
		return nil, errors.Join(err, a.Kill())
	}
	buf := make([]byte, 256)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("machine: %s did not get ready: %w; it said:\n%s", cmd.Path, err, a.Output()), a.Kill())
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return a, nil
		}
	}
}

// Output is all it has written so far.
func (a *Daemon) Output() string { return a.output.String() }

// Stop ends it as systemd does; Kill does not ask.
func (a *Daemon) Stop() error { return a.end(syscall.SIGTERM) }

// Kill ends it without asking.
func (a *Daemon) Kill() error { return a.end(syscall.SIGKILL) }

func (a *Daemon) end(signal syscall.Signal) error {
	if err := a.Signal(signal); err != nil {
		return err
	}
	select {
	case <-a.exited:
		return nil
	case <-time.After(readyTime):
		return fmt.Errorf("machine: %s still runs %v after %v", a.cmd.Path, readyTime, signal)
	}
}

// Signal sends it a signal: SIGSTOP, say. One that has ended takes any.
func (a *Daemon) Signal(signal syscall.Signal) error {
	err := a.cmd.Process.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err == nil && signal == syscall.SIGSTOP { // on a busy machine its other threads run on for a while
		err = unix.Waitid(unix.P_PID, a.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
	}
	return err
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
