//go:build linux

package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

const patience = time.Minute

// listen begins to listen, and waits for the first TopicResync.
func listen(t testing.TB, s store.Store) <-chan store.Notice {
	t.Helper()
	c := s.Listen(t.Context())
	next(t, c, store.Notice{Topic: store.TopicResync})
	return c
}

// next waits for one notice, which must be this one.
func next(t testing.TB, c <-chan store.Notice, wanted store.Notice) {
	t.Helper()
	select {
	case n := <-c:
		if n != wanted {
			t.Fatalf("the notice %+v, want %+v", n, wanted)
		}
	case <-time.After(patience):
		t.Fatalf("no notice came, want %+v", wanted)
	}
}

func notify(t testing.TB, s store.Store, n store.Notice) {
	t.Helper()
	update(t, s, func(tx store.Tx) error { return tx.Notify(n) })
}

func attach(t testing.TB, s store.Store, device string) (before string) {
	t.Helper()
	update(t, s, func(tx store.Tx) (err error) { before, err = tx.Attach(device, time.Now()); return err })
	return before
}

func online(t testing.TB, s store.Store, now time.Time) map[string]string {
	t.Helper()
	return get(t, s, func(tx store.Tx) (map[string]string, error) { return tx.Online(now) })
}

// TestNoticesReachTheNodeThatHasTheDevice, from any node and from a command
// beside it, in order, and nobody else; of a device that has none, at most to all.
func TestNoticesReachTheNodeThatHasTheDevice(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		command := open("a") // the same configuration, another process
		update(t, a, func(tx store.Tx) error {
			return errors.Join(tx.PutDevice(device("da")), tx.PutDevice(device("db")), tx.PutDevice(device("nowhere")))
		})
		fromA, fromB := listen(t, a), listen(t, b)
		attach(t, a, "da")
		attach(t, b, "db")

		errNo := errors.New("no")
		want(t, a, errNo, func(tx store.Tx) error {
			if err := tx.Notify(store.Notice{Topic: store.TopicAnswer, Device: "da", ID: "undone"}); err != nil {
				return err
			}
			return errNo
		})
		senders := []store.Store{a, b, command}
		for i, s := range senders {
			id := fmt.Sprint("c", i)
			nowhere := store.Notice{Topic: store.TopicAnswer, Device: "nowhere", ID: id}
			notify(t, s, nowhere)
			if s.Kind() == "postgresql" { // where it may be anywhere by then
				next(t, fromA, nowhere)
				next(t, fromB, nowhere)
			}
			notify(t, s, store.Notice{Topic: store.TopicAnswer, Device: "da", ID: id})
			next(t, fromA, store.Notice{Topic: store.TopicAnswer, Device: "da", ID: id})
			notify(t, s, store.Notice{Topic: store.TopicEnrolment, Device: "db", ID: id})
			next(t, fromB, store.Notice{Topic: store.TopicEnrolment, Device: "db", ID: id})
			every := store.Notice{Topic: store.TopicSync, ID: id}
			notify(t, s, every)
			next(t, fromA, every)
			next(t, fromB, every)
		}
		update(t, b, func(tx store.Tx) error {
			for i := range 100 {
				if err := tx.Notify(store.Notice{Topic: store.TopicAnswer, Device: "da", ID: fmt.Sprint(i)}); err != nil {
					return err
				}
			}
			return nil
		})
		for i := range 100 {
			next(t, fromA, store.Notice{Topic: store.TopicAnswer, Device: "da", ID: fmt.Sprint(i)})
		}
		// Another listener of the same node begins with a TopicResync as well.
		again := listen(t, a)
		notify(t, b, store.Notice{Topic: store.TopicRevoked, Device: "da"})
		next(t, again, store.Notice{Topic: store.TopicRevoked, Device: "da"})
		next(t, fromA, store.Notice{Topic: store.TopicRevoked, Device: "da"})
	})
}

func TestListenEndsWithItsContext(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		ctx, cancel := context.WithCancel(t.Context())
		one, other := s.Listen(ctx), listen(t, s)
		next(t, one, store.Notice{Topic: store.TopicResync})
		cancel()
		ended(t, one)
		notify(t, s, store.Notice{Topic: store.TopicSync})
		next(t, other, store.Notice{Topic: store.TopicSync})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		ended(t, other)
	})
}

func ended(t testing.TB, c <-chan store.Notice) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-c:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatal("the channel is still open")
		}
	}
}

// TestASlowListenerIsToldToReadEverything: notices are bounded, and none is lost
// without a word. The slow one reads nothing until another has read them all: a
// notice comes after its commit, so only who has read it knows that it came.
func TestASlowListenerIsToldToReadEverything(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		slow, keen := listen(t, s), listen(t, s)
		for k := range 11 {
			update(t, s, func(tx store.Tx) error {
				for i := range 1000 {
					if err := tx.Notify(store.Notice{Topic: store.TopicSync, ID: fmt.Sprint(k, "-", i)}); err != nil {
						return err
					}
				}
				return nil
			})
			if resync, n := readTo(t, keen, fmt.Sprint(k, "-", 999)); resync {
				t.Fatalf("who reads them as they come was told of a gap after %d", n)
			}
		}
		notify(t, s, store.Notice{Topic: store.TopicSync, ID: "last"})
		// So many wait, and as many may be on their way to it.
		if resync, n := readTo(t, slow, "last"); !resync || n > 2*4096 {
			t.Errorf("%d notices waited, told of a gap: %v", n, resync)
		}
	})
}

// readTo reads until the notice of that ID, and says whether a TopicResync came
// before it, and how many were read.
func readTo(t testing.TB, c <-chan store.Notice, id string) (resync bool, n int) {
	t.Helper()
	for deadline := time.After(patience); ; n++ {
		select {
		case m := <-c:
			resync = resync || m.Topic == store.TopicResync
			if m.ID == id {
				return resync, n
			}
		case <-deadline:
			t.Fatalf("the notice %s did not come after %d", id, n)
		}
	}
}

func TestStreamsMoveBetweenNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		update(t, a, func(tx store.Tx) error { return errors.Join(tx.PutDevice(device("d1")), tx.PutDevice(device("d2"))) })
		want(t, a, store.ErrNotFound, func(tx store.Tx) error { return second(tx.Attach("d3", noon)) })
		fromA := listen(t, a)
		if before := attach(t, a, "d1"); before != "" {
			t.Errorf("before: %q", before)
		}
		attach(t, a, "d2")
		if before := attach(t, a, "d1"); before != "a" {
			t.Errorf("a second stream on the same node: %q", before)
		}
		if before := attach(t, b, "d1"); before != "a" {
			t.Errorf("moved: %q", before)
		}
		next(t, fromA, store.Notice{Topic: store.TopicReplaced, Device: "d1"})
		// What the old node says later changes nothing.
		update(t, a, func(tx store.Tx) error { return tx.Detach("d1", noon) })
		same(t, "online", online(t, a, time.Now()), map[string]string{"d1": "b", "d2": "a"})
		if d := get(t, a, func(tx store.Tx) (store.Device, error) { return tx.Device("d1") }); d.Seen.Equal(noon) {
			t.Error("the old node changed when it was seen")
		}
		update(t, a, func(tx store.Tx) error { return tx.Detach("d2", noon) })
		same(t, "online", online(t, b, time.Now()), map[string]string{"d1": "b"})
		if d := get(t, a, func(tx store.Tx) (store.Device, error) { return tx.Device("d2") }); !d.Seen.Equal(noon) {
			t.Errorf("seen %v", d.Seen)
		}
		notify(t, a, store.Notice{Topic: store.TopicAnswer, Device: "d1"}) // b's
		notify(t, a, store.Notice{Topic: store.TopicSync, ID: "x"})
		next(t, fromA, store.Notice{Topic: store.TopicSync, ID: "x"})
		// A node that stops takes its streams along.
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		same(t, "online", online(t, a, time.Now()), map[string]string{})
	})
}

// TestANodeThatIsGoneHasNoStreams: killed, or started again under its name.
func TestANodeThatIsGoneHasNoStreams(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b, again := open("a"), open("b"), open("b")
		update(t, a, func(tx store.Tx) error { return errors.Join(tx.PutDevice(device("d1")), tx.PutDevice(device("d2"))) })
		attach(t, b, "d1")
		attach(t, a, "d2")
		same(t, "online", online(t, a, time.Now()), map[string]string{"d1": "b", "d2": "a"})
		// To a, whose own heart beats.
		same(t, "online", online(t, a, time.Now().Add(2*time.Minute)), map[string]string{"d2": "a"})
		update(t, again, func(tx store.Tx) error { return tx.PutDevice(device("d3")) })
		if before := attach(t, again, "d3"); before != "" {
			t.Errorf("before: %q", before)
		}
		same(t, "online", online(t, a, time.Now()), map[string]string{"d2": "a", "d3": "b"})
		if before := attach(t, again, "d1"); before != "" {
			t.Errorf("before its own restart: %q", before)
		}
		update(t, a, func(tx store.Tx) error { return tx.Sweep(time.Now().Add(-time.Hour)) })
		same(t, "online", online(t, a, time.Now()), map[string]string{"d1": "b", "d2": "a", "d3": "b"})
	})
}

// TestResyncAfterTheDatabaseWasGone: notices that PostgreSQL could not deliver
// are lost, so everything is to be read again.
func TestResyncAfterTheDatabaseWasGone(t *testing.T) {
	server := storetest.PostgreSQL(t)
	s := storetest.Open(t, store.Options{PostgreSQL: server.URL(), Node: "a"})
	c := listen(t, s)
	server.Kill()
	for name, call := range map[string]func() error{
		"Update": func() error {
			return s.Update(t.Context(), func(tx store.Tx) error { return tx.CreateUser(store.User{Name: "x"}) })
		},
		"View": func() error {
			return s.View(t.Context(), func(tx store.Tx) error { return second(tx.Users()) })
		},
		"Ping": func() error { return s.Ping(t.Context()) },
		"Open": func() error {
			return second(store.Open(t.Context(), store.Options{PostgreSQL: server.URL(), Node: "b"}))
		},
	} {
		if err := call(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s without a server: %v", name, err)
		} else {
			t.Log(name, err)
		}
	}
	server.Start(t)
	next(t, c, store.Notice{Topic: store.TopicResync})
	// Connections that lay in the pool when the server died are replaced.
	for i := range 20 {
		update(t, s, func(tx store.Tx) error { return tx.CreateUser(store.User{Name: fmt.Sprint("user", i)}) })
	}
	notify(t, s, store.Notice{Topic: store.TopicSync, ID: "x"})
	next(t, c, store.Notice{Topic: store.TopicSync, ID: "x"})
}

// TestARestartOfTheDatabaseBetweenTwoLogins is not noticed: connections that lay
// in the pool meanwhile are replaced, as nothing was done on them yet.
func TestARestartOfTheDatabaseBetweenTwoLogins(t *testing.T) {
	server := storetest.PostgreSQL(t)
	s := storetest.Open(t, store.Options{PostgreSQL: server.URL(), Node: "a"})
	all := func(round int) {
		t.Helper()
		n := atOnce(t, 32, nil, func(i int) error {
			return s.Update(t.Context(), func(tx store.Tx) error { return tx.CreateUser(store.User{Name: fmt.Sprint(round, "/", i)}) })
		})
		if n != 32 {
			t.Errorf("%d of 32 got through", n)
		}
	}
	all(1)
	server.Kill()
	server.Start(t)
	all(2)
}

// TestACommandGetsThroughToABusyServer: a revocation waits neither for a quiet
// moment of the server that has the file, nor is it seen late.
func TestACommandGetsThroughToABusyServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority.db")
	server := storetest.Open(t, store.Options{SQLite: path, Node: "a"})
	update(t, server, func(tx store.Tx) error { return tx.PutDevice(device("d")) })
	c := listen(t, server)
	attach(t, server, "d")
	ctx, cancel := context.WithCancel(t.Context())
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		atOnce(t, 32, context.Canceled, func(i int) error {
			for n := 0; ctx.Err() == nil; n++ {
				err := server.Update(ctx, func(tx store.Tx) error { return tx.PutSetting(fmt.Sprint(i), fmt.Append(nil, n)) })
				if err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}()
	defer func() { cancel(); <-busy }()
	for i := range 5 {
		command, err := store.Open(t.Context(), store.Options{SQLite: path, Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		n := store.Notice{Topic: store.TopicRevoked, Device: "d", ID: fmt.Sprint(i)}
		start := time.Now()
		notify(t, command, n)
		written := time.Since(start)
		next(t, c, n)
		t.Logf("written after %v, seen after %v", written, time.Since(start))
		if err := command.Close(); err != nil {
			t.Error(err)
		}
	}
}
