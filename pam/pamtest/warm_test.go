package pamtest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/msteinert/pam/v2"
)

// logIn is one whole login through libpam in this process.
func logIn(conf, code string) error {
	tx, err := pam.StartConfDir("login", "alice", pam.ConversationFunc(func(s pam.Style, msg string) (string, error) {
		if s != pam.PromptEchoOn || msg != "Code: " {
			return "", fmt.Errorf("shown: %d %q", s, msg)
		}
		return code, nil
	}), conf)
	if err != nil {
		return err
	}
	defer tx.End()
	if err := tx.Authenticate(0); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if err := tx.AcctMgmt(0); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	if err := tx.SetCred(pam.EstablishCred); err != nil {
		return fmt.Errorf("setcred: %w", err)
	}
	return nil
}

// warmConf writes a service directory for logins in this process.
func warmConf(t *testing.T, socket string) string {
	t.Helper()
	conf := t.TempDir()
	stack := fmt.Sprintf("auth required %s socket=%s\naccount required %[1]s socket=%[2]s\n", shipped.module, socket)
	write(t, filepath.Join(conf, "login"), stack)
	write(t, filepath.Join(conf, "other"), stack)
	return conf
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestWarmProcess: a display manager keeps libpam loaded and logs in again and
// again; nothing may be left behind. Not parallel: it counts descriptors.
func TestWarmProcess(t *testing.T) {
	logins := func(n int) int {
		var scripts []script
		for range n {
			scripts = append(scripts, codeThen(allow()))
		}
		a := startAgent(t, scripts...)
		conf := warmConf(t, a.socket)
		for range n {
			if err := logIn(conf, "123456"); err != nil {
				t.Fatal(err)
			}
		}
		a.stop() // it has its ends of the connections in this process
		return descriptors(t)
	}
	before := logins(1) // whatever is opened once
	if after := logins(100); after > before {
		t.Errorf("%d descriptors after 100 logins, %d before", after, before)
	}
}

// TestAtOnce: the module keeps nothing outside the transaction, so that logins in
// one process do not meet.
func TestAtOnce(t *testing.T) {
	const threads, each = 16, 8
	var scripts []script
	for range threads * each {
		scripts = append(scripts, codeThen(allow()))
	}
	conf := warmConf(t, startAgent(t, scripts...).socket)
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			for range each {
				if err := logIn(conf, "123456"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
