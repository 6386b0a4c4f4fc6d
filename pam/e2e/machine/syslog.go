//go:build linux

package machine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Syslog is what the programs of this machine write to /dev/log (syslog(3)):
// sshd, sudo and the PAM modules among them.
type Syslog struct {
	conn *net.UnixConn

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced with each line
}

func listenSyslog() (*Syslog, error) {
	if err := os.Remove("/dev/log"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod("/dev/log", 0o666); err != nil {
		return nil, err
	}
	s := &Syslog{conn: conn, changed: make(chan struct{})}
	go s.read()
	return s, nil
}

func (s *Syslog) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.lines = append(s.lines, strings.TrimRight(string(buf[:n]), "\x00\n"))
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

// Mark is the log's end now, for Since and Wait.
func (s *Syslog) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

// Since is what came after a mark.
func (s *Syslog) Since(mark int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines[mark:], "\n")
}

// Wait waits until a line after the mark matches, and returns it.
func (s *Syslog) Wait(mark int, pattern string) (string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", err
	}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		lines, changed := s.lines[mark:], s.changed
		s.mu.Unlock()
		for _, line := range lines {
			if re.MatchString(line) {
				return line, nil
			}
		}
		select {
		case <-changed:
		case <-deadline.C:
			return "", fmt.Errorf("machine: no line of the system's log matches %q; it has:\n%s", pattern, s.Since(mark))
		}
	}
}
