//go:build linux

package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

const minute = time.Minute

func lease(t *testing.T, s store.Store, now time.Time) (store.Delivery, bool) {
	t.Helper()
	var d store.Delivery
	var ours bool
	update(t, s, func(tx store.Tx) (err error) {
		d, ours, err = tx.LeaseDelivery("syslog", now, now.Add(minute))
		return err
	})
	return d, ours
}

// TestOneNodeDelivers: whoever asks first, until its time is over or it stops.
func TestOneNodeDelivers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		if d, ours := lease(t, a, noon); !ours || d.Pos != 0 || d.Node != "a" {
			t.Fatalf("%+v %v", d, ours)
		}
		if d, ours := lease(t, b, noon.Add(minute-1)); ours || d.Node != "a" {
			t.Errorf("two deliver: %+v", d)
		}
		if _, ours := lease(t, a, noon.Add(minute/2)); !ours {
			t.Error("it is not renewed")
		}
		// Killed and started again it need not wait for itself.
		killed := a
		a = open("a")
		if _, ours := lease(t, a, noon.Add(minute/2)); !ours {
			t.Error("a node that was started again waits")
		}
		want(t, killed, store.ErrNotFound, func(tx store.Tx) error { return second(tx.Delivered("syslog", 1, 1, noon)) })
		add := func(n uint64) {
			update(t, a, func(tx store.Tx) error { return second(tx.AddEvents([]store.Event{logged("d1", "v", "maya", n)})) })
		}
		add(1)
		add(2)
		add(3)
		update(t, a, func(tx store.Tx) error {
			list, _, err := tx.Events(0, "", "", 2)
			if err != nil {
				return err
			}
			return second(tx.Delivered("syslog", list[1].Pos, 2, noon))
		})
		want(t, b, store.ErrNotFound, func(tx store.Tx) error { return second(tx.Delivered("syslog", 1, 1, noon)) })
		d, ours := lease(t, b, noon.Add(2*minute))
		if !ours || d.Sent != 2 || !d.Delivered.Equal(noon) {
			t.Fatalf("the next node: %+v %v", d, ours)
		}
		// The first comes back from a long pause.
		want(t, a, store.ErrNotFound, func(tx store.Tx) error { return second(tx.Delivered("syslog", 99, 1, noon)) })
		update(t, a, func(tx store.Tx) error { return tx.DeliveryFailed("syslog", "not its to say", noon) })
		update(t, b, func(tx store.Tx) error { return tx.DeliveryFailed("syslog", "refused", noon.Add(time.Second)) })
		update(t, b, func(tx store.Tx) error { return tx.DeliveryFailed("syslog", "refused again", noon.Add(minute)) })
		list := get(t, a, func(tx store.Tx) ([]store.Delivery, error) { return tx.Deliveries() })
		if len(list) != 1 || list[0].Waiting != 1 || !list[0].Oldest.Equal(noon) || list[0].Error != "refused again" || !list[0].FailedSince.Equal(noon.Add(time.Second)) {
			t.Errorf("%+v", list)
		}
		update(t, b, func(tx store.Tx) error { return second(tx.Delivered("syslog", d.Pos+1, 1, noon)) })
		if list := get(t, a, func(tx store.Tx) ([]store.Delivery, error) { return tx.Deliveries() }); list[0].Error != "" || !list[0].FailedSince.IsZero() || list[0].Sent != 3 {
			t.Errorf("after a success: %+v", list)
		}
	})
}

// HAZARD: a node whose clock is a year ahead dies; the others would wait for a year.
func TestALeaseOfAWrongClockHoldsNobodyUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		lease(t, a, noon.AddDate(1, 0, 0))
		if _, ours := lease(t, b, noon); !ours {
			t.Error("the other node waits for it")
		}
		lease(t, a, noon.Add(10*minute)) // by its clock the time is over
		if _, ours := lease(t, b, noon); ours {
			t.Error("two clocks that differ by minutes take it from each other")
		}
	})
}

// TestWhatWasNotDeliveredInTimeIsCounted, when the sweep takes it, and told once.
func TestWhatWasNotDeliveredInTimeIsCounted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		lease(t, s, noon)
		day := 24 * time.Hour
		for i := range 10 {
			e := logged("d1", "v", "maya", uint64(i+1))
			e.Kept = noon.Add(time.Duration(i) * day)
			update(t, s, func(tx store.Tx) error { return second(tx.AddEvents([]store.Event{e})) })
		}
		deliver := func(n int) (missed uint64) {
			t.Helper()
			update(t, s, func(tx store.Tx) error {
				list, err := tx.Deliveries()
				if err != nil {
					return err
				}
				events, _, err := tx.Events(list[0].Pos, "", "", n)
				if err != nil {
					return err
				}
				missed, err = tx.Delivered("syslog", events[len(events)-1].Pos, len(events), noon)
				return err
			})
			return missed
		}
		if m := deliver(2); m != 0 {
			t.Errorf("%d were missed of none", m)
		}
		sweep := func(days time.Duration) {
			t.Helper()
			update(t, s, func(tx store.Tx) error { return tx.SweepEvents(noon.Add(days * day)) })
		}
		sweep(2) // what it has
		sweep(5) // and three more
		sweep(5)
		list := get(t, s, func(tx store.Tx) ([]store.Delivery, error) { return tx.Deliveries() })
		if list[0].Missed != 3 || list[0].Waiting != 5 || list[0].MissedAt.IsZero() {
			t.Errorf("%+v", list[0])
		}
		if m := deliver(1); m != 3 {
			t.Errorf("%d were missed, want 3", m)
		}
		if m := deliver(1); m != 0 {
			t.Errorf("%d are told again", m)
		}
	})
}

// TestWhatAComputerSendsAgainIsCountedOnce: events and gaps alike, whatever it
// remembers of what it has sent.
func TestWhatAComputerSendsAgainIsCountedOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		take := func(dropped, first, last, wantLast, wantMissing uint64) {
			t.Helper()
			var list []store.Event
			for n := first; n <= last; n++ {
				list = append(list, logged("d1", "v", "maya", n))
			}
			must(t, s.Change(t.Context(), func(tx store.Tx) error {
				l, m, err := tx.TakeEvents(list, dropped)
				if l != wantLast || m != wantMissing {
					t.Errorf("%d to %d after %d dropped: the last is %d, %d are missing; want %d, %d", first, last, dropped, l, m, wantLast, wantMissing)
				}
				return err
			}))
		}
		take(0, 8, 10, 10, 0)  // it joined with event 8
		take(0, 8, 10, 10, 0)  // again: the answer was lost
		take(0, 9, 12, 12, 0)  // and some more
		take(2, 15, 16, 16, 2) // 13 and 14 rolled over
		take(2, 15, 16, 16, 0) // the answer was lost
		take(4, 17, 18, 18, 0) // the agent was killed: it remembers 12, and 13 to 16 rolled over meanwhile
		take(9, 22, 22, 22, 3) // it remembers 12, has dropped 13 to 21; 19 to 21 never came
		view(t, s, func(tx store.Tx) error {
			n, err := tx.EventsDropped("d1")
			list, _, err2 := tx.Events(0, "d1", "", 100)
			if n != 5 || len(list) != 10 {
				t.Errorf("%d dropped, %d kept", n, len(list))
			}
			return errors.Join(err, err2)
		})
		// What was swept does not come back.
		update(t, s, func(tx store.Tx) error { return tx.SweepEvents(noon.Add(time.Hour)) })
		take(0, 8, 10, 22, 0)
		if list := search(t, s, store.EventQuery{}, 100); len(list) != 1 {
			t.Errorf("%d events", len(list))
		}
		want(t, s, store.ErrInvalid, func(tx store.Tx) error { _, _, err := tx.TakeEvents(nil, 1); return err })
	})
}

// TestTheSameUploadTwiceAtOnce: a computer that gave up waiting sends it again while
// it is still being kept.
func TestTheSameUploadTwiceAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		nodes := []store.Store{open("a"), open("b")}
		var wg sync.WaitGroup
		var mu sync.Mutex
		missing := uint64(0)
		for round := range uint64(20) {
			for w := range 4 {
				wg.Go(func() {
					var m uint64
					err := nodes[w%2].Change(t.Context(), func(tx store.Tx) (err error) {
						_, m, err = tx.TakeEvents([]store.Event{logged("d1", "v", "maya", round*10+10)}, 9)
						return err
					})
					mu.Lock()
					defer mu.Unlock()
					if missing += m; err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		if list := search(t, nodes[0], store.EventQuery{}, 100); len(list) != 20 || missing != 20*9 {
			t.Errorf("%d events, %d missing; want 20, and 180", len(list), missing)
		}
	})
}

// TestAnOlderDatabaseIsSearched: the migration fills in what is searched for, and how
// far each computer is.
func TestAnOlderDatabaseIsSearched(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		for i, json := range []string{`{"verdict":"deny","reason":"wrong_code","text":"a \"reason\":\"x\""}`, `{"text":"\"verdict\":\"allow\""}`, ``, `no JSON`} {
			e := logged("d1", "v", "maya", uint64(i+1))
			e.JSON = []byte(json)
			update(t, s, func(tx store.Tx) error { return second(tx.AddEvents([]store.Event{e})) })
		}
		update(t, s, func(tx store.Tx) error { return store.Remigrate(tx, s.Kind(), "0006", "0008", "0009") })
		same(t, "found", fmt.Sprint(len(search(t, s, store.EventQuery{Verdict: "deny", Reason: "wrong_code"}, 10)), len(search(t, s, store.EventQuery{Verdict: "allow"}, 10))), "1 0")
		must(t, s.Change(t.Context(), func(tx store.Tx) error {
			last, missing, err := tx.TakeEvents([]store.Event{logged("d1", "v", "maya", 2)}, 1)
			if last != 4 || missing != 0 {
				t.Errorf("%d %d", last, missing)
			}
			return err
		}))
		if err := s.Update(t.Context(), func(tx store.Tx) error { return store.Exec(tx, `UPDATE events SET seq = 9`) }); err == nil || !strings.Contains(err.Error(), "only ever added") {
			t.Errorf("%v", err)
		}
	})
}
