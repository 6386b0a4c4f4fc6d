//go:build linux

package store_test

import (
	"fmt"
	"math"
	"testing"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// TestAComputerThatClaimsAbsurdNumbersOfEventsHidesNoOther: what each dropped is
// added up for the whole fleet, and one that was broken into names any number.
func TestAComputerThatClaimsAbsurdNumbersOfEventsHidesNoOther(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		for _, vault := range []string{"v1", "v2", "v3"} {
			take(t, s, math.MaxInt64-1, "d1", vault, math.MaxInt64)
		}
		take(t, s, 3, "d2", "v", 4)
		dropped := get(t, s, func(tx store.Tx) (map[string]uint64, error) { return tx.DroppedEvents() })
		if dropped["d2"] != 3 || dropped["d1"] == 0 {
			t.Errorf("%v", dropped)
		}
		if n := get(t, s, func(tx store.Tx) (uint64, error) { return tx.EventsDropped("d1") }); n != dropped["d1"] {
			t.Errorf("%d and %d", n, dropped["d1"])
		}
	})
}

// TestAComputerThatClaimsAnyNumberOfVaultsFillsNothing: what is known of a vault of
// which no event is kept any more is forgotten where a computer has had many.
func TestAComputerThatClaimsAnyNumberOfVaultsFillsNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		take(t, s, 0, "other", "v", 1)
		for i := range store.MaxVaults + 20 {
			take(t, s, 1, "d1", fmt.Sprintf("v%d", i), 2)
			for range 3 {
				update(t, s, func(tx store.Tx) error { return tx.SweepEvents(noon.Add(minute)) })
			}
		}
		if n := get(t, s, func(tx store.Tx) (uint64, error) { return tx.EventsDropped("d1") }); n > store.MaxVaults {
			t.Errorf("%d vaults are remembered", n)
		}
		// The newest goes on where it was.
		if last, missing := take(t, s, 0, "d1", fmt.Sprintf("v%d", store.MaxVaults+19), 2, 3); last != 3 || missing != 0 {
			t.Errorf("%d, %d missing", last, missing)
		}
	})
}

func take(t *testing.T, s store.Store, dropped uint64, device, vault string, seqs ...uint64) (last, missing uint64) {
	t.Helper()
	var list []store.Event
	for _, seq := range seqs {
		list = append(list, logged(device, vault, "maya", seq))
	}
	update(t, s, func(tx store.Tx) (err error) {
		last, missing, err = tx.TakeEvents(list, dropped)
		return err
	})
	return last, missing
}
