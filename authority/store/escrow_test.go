//go:build linux

package store_test

import (
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

func TestAnEscrowComesBackAsItWas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Escrow("d1"); return err })
		e := store.Escrow{Device: "d1", Sealed: []byte{0, 1, 0xff}, Created: noon}
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutEscrow(e) }); err == nil {
			t.Error("an escrow of no device")
		}
		update(t, s, func(tx store.Tx) error { return tx.PutDevice(device("d1", "maya")) })
		for _, e := range []store.Escrow{e, {Device: "d1", Sealed: []byte{2}, Created: noon, Began: noon.Add(time.Hour), Answers: 7}} {
			update(t, s, func(tx store.Tx) error { return tx.PutEscrow(e) })
			same(t, "escrow", get(t, s, func(tx store.Tx) (store.Escrow, error) { return tx.Escrow("d1") }), e)
		}
		// What changes the device leaves the key alone.
		update(t, s, func(tx store.Tx) error { return tx.PutDevice(device("d1", "zoe")) })
		if e := get(t, s, func(tx store.Tx) (store.Escrow, error) { return tx.Escrow("d1") }); e.Answers != 7 {
			t.Errorf("%+v", e)
		}
	})
}
