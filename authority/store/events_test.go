//go:build linux

package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

func logged(device, vault, user string, seq uint64) store.Event {
	return store.Event{Device: device, VaultID: vault, Seq: seq, Time: noon, Kept: noon, Name: "login_attempt", User: user, JSON: fmt.Appendf(nil, `{"seq":%d}`, seq)}
}

func TestEventsAreKeptOnceAndReadInOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		add := func(last uint64, list ...store.Event) {
			t.Helper()
			update(t, s, func(tx store.Tx) error {
				got, err := tx.AddEvents(list)
				if got != last {
					t.Errorf("the last is %d, want %d", got, last)
				}
				return err
			})
		}
		add(2, logged("d1", "v", "maya", 1), logged("d1", "v", "noor", 2))
		add(3, logged("d1", "v", "mallory", 2), logged("d1", "v", "maya", 3)) // sent again
		add(1, logged("d1", "v", "maya", 1))
		add(1, logged("d1", "w", "maya", 1)) // a new vault counts anew
		add(7, logged("d2", "v", "maya", 7))
		update(t, s, func(tx store.Tx) error { // the authority's own
			var before uint64
			for range 3 {
				last, err := tx.AddEvents([]store.Event{logged("", "", "maya", 0)})
				if err != nil || last <= before {
					t.Errorf("own event %d after %d: %v", last, before, err)
				}
				before = last
			}
			return nil
		})
		read := func(after uint64, device, user string, n int) (text string, next uint64) {
			view(t, s, func(tx store.Tx) error {
				list, nx, err := tx.Events(after, device, user, n)
				for _, e := range list {
					if !e.Time.Equal(noon) || !e.Kept.Equal(noon) || e.Name != "login_attempt" || len(e.JSON) == 0 {
						t.Errorf("%+v", e)
					}
					if e.Device != "" {
						text += fmt.Sprintf("%s/%s/%d/%s ", e.Device, e.VaultID, e.Seq, e.User)
					} else {
						text += "own "
					}
				}
				next = nx
				return err
			})
			return text, next
		}
		all, end := read(0, "", "", 100)
		same(t, "all", all, "d1/v/1/maya d1/v/2/noor d1/v/3/maya d1/w/1/maya d2/v/7/maya own own own ")
		first, next := read(0, "", "", 3)
		rest, last := read(next, "", "", 100)
		same(t, "in two parts", first+rest, all)
		if none, n := read(end, "", "", 100); none != "" || n != end || last != end {
			t.Errorf("at the end: %q, %d, %d, %d", none, n, last, end)
		}
		text, _ := read(0, "d1", "", 100)
		same(t, "of a device", text, "d1/v/1/maya d1/v/2/noor d1/v/3/maya d1/w/1/maya ")
		text, _ = read(0, "", "noor", 100)
		same(t, "of a user", text, "d1/v/2/noor ")
		text, _ = read(0, "d1", "maya", 2)
		same(t, "of both", text, "d1/v/1/maya d1/v/3/maya ")
		if text, _ = read(0, "", "", 0); text != "" {
			t.Errorf("none were asked for: %q", text)
		}
		want(t, s, store.ErrInvalid, func(tx store.Tx) error {
			return second(tx.AddEvents([]store.Event{logged("d1", "v", "", 8), logged("d2", "v", "", 8)}))
		})
		want(t, s, store.ErrInvalid, func(tx store.Tx) error { return second(tx.AddEvents(make([]store.Event, store.MaxEvents+1))) })
		add(0)
	})
}

// TestNoEventIsPassedBy: who reads on from where it was gets every event, though
// many transactions add some at once, on two nodes.
func TestNoEventIsPassedBy(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		nodes := []store.Store{open("a"), open("b")}
		const writers, each = 16, 25
		var wg sync.WaitGroup
		var done atomic.Bool
		for w := range writers {
			wg.Go(func() {
				for n := range each {
					err := nodes[w%2].Update(t.Context(), func(tx store.Tx) error {
						_, err := tx.AddEvents([]store.Event{logged(fmt.Sprint("d", w), "v", "", uint64(n+1))})
						_, err2 := tx.AddEvents([]store.Event{logged("", "", fmt.Sprint("d", w), 0)})
						return errors.Join(err, err2)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		go func() { wg.Wait(); done.Store(true) }()
		seen, cursor := map[string]int{}, uint64(0)
		for last := false; ; {
			n := 0
			view(t, nodes[0], func(tx store.Tx) error {
				list, next, err := tx.Events(cursor, "", "", 7)
				for _, e := range list {
					seen[fmt.Sprint(e.Device, "/", e.Seq)]++
				}
				n, cursor = len(list), next
				return err
			})
			if n == 0 && last {
				break
			}
			last = done.Load()
		}
		if len(seen) != 2*writers*each {
			t.Errorf("%d events were seen of %d", len(seen), 2*writers*each)
		}
		for e, n := range seen {
			if n != 1 {
				t.Errorf("%s was seen %d times", e, n)
			}
		}
	})
}

// TestEventsGetTheirPlaceWhenTheyAreSeen: on PostgreSQL, whoever has the next
// place waits until whoever has the one before it has committed.
func TestEventsGetTheirPlaceWhenTheyAreSeen(t *testing.T) {
	url := storetest.Database(t)
	s := storetest.Open(t, store.Options{PostgreSQL: url, Node: "a"})
	placed, hold := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	results := make(chan error, 2)
	add := func(user string, then func(store.Tx) error) {
		results <- s.Update(t.Context(), func(tx store.Tx) error {
			if _, err := tx.AddEvents([]store.Event{logged("", "", user, 0)}); err != nil {
				return err
			}
			return then(tx)
		})
	}
	go add("first", func(tx store.Tx) error {
		if err := store.Finish(tx); err != nil {
			return err
		}
		_, err := tx.Setting("x") // what waits is sent
		close(placed)
		<-hold
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	})
	<-placed
	go add("second", func(store.Tx) error { return nil })
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	for deadline := time.Now().Add(patience); ; {
		var waiting int
		must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`).Scan(&waiting))
		if waiting == 1 {
			break
		}
		select {
		case err := <-results:
			t.Fatalf("the second did not wait: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the second neither waits nor ends")
		}
	}
	release()
	for range 2 {
		must(t, <-results)
	}
	view(t, s, func(tx store.Tx) error {
		list, _, err := tx.Events(0, "", "", 10)
		if len(list) != 2 || list[0].User != "first" || list[1].User != "second" {
			t.Errorf("%+v", list)
		}
		return err
	})
}
