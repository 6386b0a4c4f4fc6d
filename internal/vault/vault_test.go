package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/keychain"
)

// fakeClock is a clock that tests set.
type fakeClock struct {
	mu  sync.Mutex
	now clock.Instant
}

func (c *fakeClock) Now() clock.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Wall = c.now.Wall.Add(d)
}

func newClock() *fakeClock {
	return &fakeClock{now: clock.Instant{Wall: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Boot: time.Hour, BootID: "a"}}
}

// options gives a vault of its own to a test: key file, fixed clock, no log.
func options(t testing.TB) Options {
	return Options{
		Dir:      filepath.Join(t.TempDir(), "state"),
		Keychain: keychain.Config{Kind: keychain.File},
		Clock:    newClock(),
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func mustOpen(t testing.TB, o Options) *Vault {
	t.Helper()
	v, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func mustClose(t testing.TB, v *Vault) {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

type user struct {
	Name string `json:"name"`
	Step int64  `json:"step"`
}

func put(t testing.TB, v *Vault, key string, u user) {
	t.Helper()
	if err := v.Update(context.Background(), func(tx *Tx) error { return tx.Put(Users, key, u) }); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, v *Vault, key string) (u user, found bool) {
	t.Helper()
	if err := v.View(func(tx *Tx) (err error) {
		found, err = tx.Get(Users, key, &u)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return u, found
}

func events(t testing.TB, v *Vault) (list []event.Event) {
	t.Helper()
	if err := v.View(func(tx *Tx) error {
		return tx.Events(0, func(e event.Event) bool { list = append(list, e); return true })
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestWhatWasStoredIsThereAfterARestart(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 7})
	put(t, v, "uid:1001", user{"bob", 8})
	if err := v.Update(context.Background(), func(tx *Tx) error {
		tx.Append(event.Event{Name: event.UserRemoved, User: "bob"})
		return tx.Delete(Users, "uid:1001")
	}); err != nil {
		t.Fatal(err)
	}
	before := v.Info()
	mustClose(t, v)

	v = mustOpen(t, o)
	if u, ok := get(t, v, "uid:1000"); !ok || u != (user{"alice", 7}) {
		t.Errorf("alice: %v %v", u, ok)
	}
	if u, ok := get(t, v, "uid:1001"); ok {
		t.Errorf("bob is back: %v", u)
	}
	if ev := events(t, v); len(ev) != 2 || ev[0].Name != event.VaultInitialised || ev[1].User != "bob" || ev[1].Seq != 2 || ev[1].Time.IsZero() {
		t.Errorf("events: %+v", ev)
	}
	if i := v.Info(); i.Generation != before.Generation || i.VaultID != before.VaultID || i.Counts[Users] != 1 || i.LastSeq != 2 || i.Keychain != keychain.File {
		t.Errorf("%+v then %+v", before, i)
	}
	mustClose(t, v)
	if raw, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(raw) != 2 {
		t.Errorf("in the directory: %v %v", raw, err)
	}
}

func TestAnErrorUndoesOnlyItsOwnTransaction(t *testing.T) {
	v := mustOpen(t, options(t))
	boom := errors.New("boom")
	hold, held := make(chan struct{}), make(chan struct{})
	go func() {
		_ = v.Update(context.Background(), func(*Tx) error { close(held); <-hold; return nil })
	}()
	<-held // the next ones queue up, and become one batch
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 30 {
		wg.Go(func() {
			err := v.Update(context.Background(), func(tx *Tx) error {
				if err := tx.Put(Users, fmt.Sprint("uid:", i), user{Step: int64(i)}); err != nil {
					return err
				}
				tx.Append(event.Event{Name: event.UserEnrolled, Key: fmt.Sprint("uid:", i)})
				switch i % 3 {
				case 1:
					return boom
				case 2:
					panic("at the login")
				}
				return nil
			})
			if (err != nil) != (i%3 != 0) || i%3 == 1 && !errors.Is(err, boom) {
				t.Errorf("%d: %v", i, err)
			}
			if err != nil {
				failed.Add(1)
			}
		})
	}
	close(hold)
	wg.Wait()
	if failed.Load() != 20 {
		t.Errorf("%d failed", failed.Load())
	}
	for i := range 30 {
		if _, found := get(t, v, fmt.Sprint("uid:", i)); found != (i%3 == 0) {
			t.Errorf("%d: found %v", i, found)
		}
	}
	ev := events(t, v)
	if len(ev) != 11 {
		t.Errorf("%d events", len(ev))
	}
	for i, e := range ev {
		if e.Seq != uint64(i)+1 {
			t.Errorf("event %d has number %d", i, e.Seq)
		}
	}
}

func TestNothingStoredIsReadable(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{Name: "CANARYCANARY"})
	mustClose(t, v)
	for _, f := range []string{"vault.db", "keychain/record.json", "keychain/anchor"} {
		b := readFile(t, filepath.Join(o.Dir, f))
		if bytes.Contains(b, []byte("CANARY")) {
			t.Errorf("%s has it in the clear", f)
		}
	}
}
