package firefox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// marionette is Firefox's older remote control. WebDriver BiDi has no passkeys
// yet: this has.
type marionette struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	next int
}

// dialMarionette finds the port that a browser with this profile listens on.
func dialMarionette(profile string, gone <-chan struct{}) (*marionette, error) {
	// The file is there once the browser listens.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		if b, err := os.ReadFile(filepath.Join(profile, "MarionetteActivePort")); err == nil && len(b) > 0 {
			conn, err := net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(b)))
			if err != nil {
				return nil, err
			}
			m := &marionette{conn: conn, in: bufio.NewReader(conn)}
			_, err = m.read() // its greeting
			return m, err
		}
		select {
		case <-tick.C:
		case <-gone:
			return nil, errors.New("firefox ended at once")
		case <-deadline.C:
			return nil, errors.New("firefox does not say where it listens")
		}
	}
}

// read reads one message: its length, a colon, JSON.
func (m *marionette) read() (json.RawMessage, error) {
	_ = m.conn.SetReadDeadline(time.Now().Add(patience))
	length, err := m.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil || n < 0 || n > 16<<20 {
		return nil, fmt.Errorf("firefox sent %q for a length", length)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(m.in, b)
	return b, err
}

func (m *marionette) call(command string, params, result any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	b, err := json.Marshal([]any{0, m.next, command, params})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		return err
	}
	text, err := m.read()
	if err != nil {
		return err
	}
	var answer [4]json.RawMessage
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	var problem *struct{ Error, Message string }
	if err := json.Unmarshal(answer[2], &problem); err != nil {
		return err
	}
	if problem != nil {
		return fmt.Errorf("%s: %s: %s", command, problem.Error, problem.Message)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer[3], result)
}

// Authenticator gives the browser the phone's own authenticator, for passkeys.
// verifies says whether it recognises the person (fingerprint, face, PIN).
func (b *Browser) Authenticator(verifies bool) error {
	return b.marionette.call("WebAuthn:AddVirtualAuthenticator", map[string]any{"protocol": "ctap2_1", "transport": "internal",
		"hasResidentKey": true, "hasUserVerification": true, "isUserConsenting": true, "isUserVerified": verifies}, nil)
}
