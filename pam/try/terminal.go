package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is where a person types.
type terminal struct {
	fd   int
	name string // "/dev/pts/3", for PAM_TTY
}

// newTerminal is nil when standard input is not a terminal.
func newTerminal(f *os.File) *terminal {
	if !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	t := &terminal{fd: int(f.Fd())}
	if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", t.fd)); err == nil {
		t.name = name
	}
	return t
}

// readSecret asks and reads a line without echo, which is off before the question
// shows: whoever types at once must not see it. Ctrl-C ends the program, with the
// echo on again.
func (t *terminal) readSecret(ask func()) (string, error) {
	state, err := term.GetState(t.fd)
	if err != nil {
		return "", err
	}
	silent, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETS, silent); err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(t.fd, state) }()
	interrupted := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-interrupted:
			_ = term.Restore(t.fd, state)
			os.Exit(128 + int(syscall.SIGINT))
		case <-done:
		}
	}()
	defer close(done)
	defer signal.Stop(interrupted)
	ask()
	answer, err := term.ReadPassword(t.fd)
	if err != nil {
		return "", fmt.Errorf("no answer on the terminal: %w", err)
	}
	defer clear(answer)
	return string(answer), nil
}
