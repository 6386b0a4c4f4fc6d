//go:build linux

package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

const (
	writerEnv = "SALLYPORT_TEST_STORE"
	counters  = 4
)

// count counts some settings up for ever, each with a challenge beside it, and
// says each step, one at a time, once Update has returned.
func count(ctx context.Context, s store.Store, say func(key string, step int)) error {
	var wg sync.WaitGroup
	var saying sync.Mutex
	errs := make(chan error, counters)
	for n := range counters {
		wg.Go(func() {
			key := fmt.Sprint("key", n)
			for {
				step := 0
				err := s.Update(ctx, func(tx store.Tx) (err error) {
					if step, err = stepOf(tx, key); err != nil {
						return err
					}
					step++
					if err := tx.PutSetting(key, fmt.Append(nil, step)); err != nil {
						return err
					}
					return tx.CreateChallenge(challenge(fmt.Sprint(key, "/", step), "d", "maya", noon))
				})
				if err != nil {
					errs <- err
					return
				}
				saying.Lock()
				say(key, step)
				saying.Unlock()
			}
		})
	}
	wg.Wait()
	return <-errs
}

func stepOf(tx store.Tx, key string) (int, error) {
	v, err := tx.Setting(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(v))
}

// mustHold wants everything acknowledged there, whole. One step more may be:
// done, and killed before it could say so.
func mustHold(t *testing.T, s store.Store, acked map[string]int) {
	t.Helper()
	view(t, s, func(tx store.Tx) error {
		for n := range counters {
			key := fmt.Sprint("key", n)
			step, err := stepOf(tx, key)
			if err != nil {
				return err
			}
			if step < acked[key] || step > acked[key]+1 {
				t.Errorf("%s is at %d, acknowledged was %d", key, step, acked[key])
			}
			acked[key] = step
			if _, err := tx.Challenge(fmt.Sprint(key, "/", step)); step > 0 && err != nil {
				t.Errorf("step %d of %s is half done: %v", step, key, err)
			}
			if _, err := tx.Challenge(fmt.Sprint(key, "/", step+1)); err != store.ErrNotFound {
				t.Errorf("step %d of %s is half done: %v", step+1, key, err)
			}
		}
		return nil
	})
}

// TestHelperWriter is not a test: it is the authority that the next one kills.
func TestHelperWriter(t *testing.T) {
	path := os.Getenv(writerEnv)
	if path == "" {
		return
	}
	s, err := store.Open(t.Context(), store.Options{SQLite: path, Node: "a"})
	if err == nil {
		err = count(context.Background(), s, func(key string, step int) { fmt.Printf("%s %d\n", key, step) })
	}
	fmt.Println("refused", err)
	os.Exit(1)
}

// TestKilledAuthorityLosesNothing kills a process at random moments, also while
// it makes the database.
func TestKilledAuthorityLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority.db")
	acked := map[string]int{}
	total := 0
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperWriter$")
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := func() { _ = cmd.Process.Kill() }
		if round < 4 { // at some moment of its start
			timer := time.AfterFunc(time.Duration(10+rand.IntN(60))*time.Millisecond, kill)
			defer timer.Stop()
		}
		after := 1 + rand.IntN(1500)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			key, step, ok := strings.Cut(lines.Text(), " ")
			if key == "refused" {
				t.Fatal(lines.Text())
			}
			if n, err := strconv.Atoi(step); ok && err == nil { // else the kill cut it off
				acked[key] = max(acked[key], n)
				total++
			}
			if after--; after == 0 {
				kill()
			}
		}
		_ = cmd.Wait()
		s, err := store.Open(t.Context(), store.Options{SQLite: path, Node: "a"})
		if err != nil {
			t.Fatalf("after a crash: %v", err)
		}
		mustHold(t, s, acked)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if total < 1000 {
		t.Errorf("only %d steps were acknowledged", total)
	}
}

// TestKilledPostgreSQLLosesNothing kills the server under a running authority,
// which goes on when it is back.
func TestKilledPostgreSQLLosesNothing(t *testing.T) {
	server := storetest.PostgreSQL(t)
	s := storetest.Open(t, store.Options{PostgreSQL: server.URL(), Node: "a"})
	acked := map[string]int{}
	for range 3 {
		enough := make(chan struct{})
		after := 1 + rand.IntN(500)
		result := make(chan error, 1)
		go func() {
			result <- count(t.Context(), s, func(key string, step int) {
				acked[key] = step
				if after--; after == 0 {
					close(enough)
				}
			})
		}()
		select {
		case <-enough:
		case err := <-result:
			t.Fatal(err)
		}
		server.Kill()
		if err := <-result; !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("when the server was killed: %v", err)
		}
		server.Start(t)
		mustHold(t, s, acked)
	}
}
