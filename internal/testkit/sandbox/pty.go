//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a command running on a pseudo-terminal (pty(7)) that this program
// reads and types on, as a person would.
type Terminal struct {
	cmd    *exec.Cmd
	master *os.File

	mu      sync.Mutex
	screen  []byte        // everything shown so far
	changed chan struct{} // closed and replaced whenever screen grows or ended is set
	ended   bool          // nothing holds the terminal open any more

	seen   int // how much of screen Expect has passed
	exited chan struct{}
	err    error // of cmd.Wait; valid once exited is closed
}

// ErrEnded is returned by Expect when the command ended without showing what was
// expected, ErrSilent when it neither showed it nor ended in time.
var (
	ErrEnded  = errors.New("ended")
	ErrSilent = errors.New("silent")
)

// Start starts cmd as the leader of a new session whose controlling terminal is
// a new pseudo-terminal. Close ends it.
func Start(cmd *exec.Cmd) (*Terminal, error) {
	master, slave, err := openPTY()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	cmd.SysProcAttr.Setctty = true // Ctty 0: its stdin
	if c := cmd.SysProcAttr.Credential; c != nil {
		if err := slave.Chown(int(c.Uid), -1); err != nil {
			master.Close()
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		master.Close()
		return nil, err
	}
	t := &Terminal{cmd: cmd, master: master, changed: make(chan struct{}), exited: make(chan struct{})}
	go t.read()
	go func() {
		t.err = cmd.Wait()
		close(t.exited)
	}()
	return t, nil
}

func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	conn, err := master.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var number int
	var ioctl error
	if err = conn.Control(func(fd uintptr) {
		if ioctl = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctl == nil {
			number, ioctl = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err == nil {
		err = ioctl
	}
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	return master, slave, err
}

func (t *Terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.screen = append(t.screen, buf[:n]...)
		t.ended = err != nil // EIO: the last process closed its side
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Expect waits until one of the patterns matches what the command has shown
// since the last match, and returns which one and the match with its groups.
// Where several match, the first of them in order wins.
func (t *Terminal) Expect(timeout time.Duration, patterns ...*regexp.Regexp) (int, []string, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		t.mu.Lock()
		rest, ended, changed := t.screen[t.seen:], t.ended, t.changed
		t.mu.Unlock()
		for i, pattern := range patterns {
			if at := pattern.FindSubmatchIndex(rest); at != nil {
				t.seen += at[1]
				var groups []string
				for _, group := range pattern.FindSubmatch(rest) {
					groups = append(groups, string(group))
				}
				return i, groups, nil
			}
		}
		if ended {
			return -1, nil, ErrEnded
		}
		select {
		case <-changed:
		case <-deadline.C:
			return -1, nil, fmt.Errorf("%w for %v", ErrSilent, timeout)
		}
	}
}

// Send types a line.
func (t *Terminal) Send(line string) error { return t.Type(line + "\r") }

// Type types keys as they are: "\x03" is Ctrl-C, "\x04" end of file.
func (t *Terminal) Type(keys string) error {
	_, err := io.WriteString(t.master, keys)
	return err
}

// Screen is everything the command has shown so far, and what the terminal
// echoed of what was typed.
func (t *Terminal) Screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(string(t.screen), "\r\n", "\n")
}

// Wait waits for the command to end, and for its last words to be on the screen,
// and returns its exit status: -1 when a signal ended it, ErrSilent when it did
// not end in time.
func (t *Terminal) Wait(timeout time.Duration) (int, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	select {
	case <-t.exited:
	case <-deadline.C:
		return -1, fmt.Errorf("%w: still running after %v", ErrSilent, timeout)
	}
	t.drain()
	if exit := (*exec.ExitError)(nil); t.err != nil && !errors.As(t.err, &exit) {
		return -1, t.err
	}
	return t.cmd.ProcessState.ExitCode(), nil
}

// drainTime bounds the wait for what a command wrote last, for one that leaves
// another behind on its terminal.
const drainTime = 2 * time.Second

// drain waits until all that the command wrote is on the screen.
func (t *Terminal) drain() {
	deadline := time.NewTimer(drainTime)
	defer deadline.Stop()
	for {
		t.mu.Lock()
		ended, changed := t.ended, t.changed
		t.mu.Unlock()
		if ended {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			return
		}
	}
}

// Pid is the command's process.
func (t *Terminal) Pid() int { return t.cmd.Process.Pid }

// Close kills the command if it still runs and hangs the terminal up, so that
// what it left behind on it gets SIGHUP.
func (t *Terminal) Close() {
	_ = t.cmd.Process.Kill() // fails when it has ended, which is what we want
	<-t.exited
	t.master.Close()
}
