//go:build linux

package store_test

import (
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

func TestOldEventsAreForgottenAndNumbersGoOn(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		sweep := func(before time.Time) {
			t.Helper()
			update(t, s, func(tx store.Tx) error { return tx.SweepEvents(before) })
		}
		add := func(kept time.Time, e store.Event) (last uint64) {
			t.Helper()
			e.Kept = kept
			update(t, s, func(tx store.Tx) (err error) {
				last, err = tx.AddEvents([]store.Event{e})
				return err
			})
			return last
		}
		left := func() (n int, next uint64) {
			t.Helper()
			view(t, s, func(tx store.Tx) error {
				list, nx, err := tx.Events(0, "", "", 100)
				n, next = len(list), nx
				return err
			})
			return n, next
		}
		sweep(noon) // of nothing
		day := 24 * time.Hour
		for i := range uint64(3) {
			add(noon.Add(time.Duration(i)*day), logged("d1", "v", "maya", i+1))
		}
		own := add(noon.Add(3*day), logged("", "", "maya", 0))
		_, cursor := left()
		sweep(noon)
		if n, _ := left(); n != 4 {
			t.Errorf("%d events are left of 4 that are not old", n)
		}
		sweep(noon.Add(day + 1))
		if n, _ := left(); n != 2 {
			t.Errorf("%d events are left of 2 that are not old", n)
		}
		// The newest stays, so that whoever follows the events misses none.
		sweep(noon.Add(1000 * day))
		if n, _ := left(); n != 1 {
			t.Errorf("%d events are left, and not the newest alone", n)
		}
		if again := add(noon.Add(4*day), logged("", "", "maya", 0)); again <= own {
			t.Errorf("event %d after event %d", again, own)
		}
		if n, next := left(); n != 2 || next <= cursor {
			t.Errorf("%d events, the cursor went from %d to %d", n, cursor, next)
		}
		// A computer that goes on where it was is taken.
		if last := add(noon.Add(4*day), logged("d1", "v", "maya", 4)); last != 4 {
			t.Errorf("the last is %d", last)
		}
	})
}
