//go:build linux

package server

import (
	"testing"
	"time"

	"sallyport/authority/config"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// TestANodeWhoseClockIsAheadRemovesNoEventEarly, where another clock can be asked.
func TestANodeWhoseClockIsAheadRemovesNoEventEarly(t *testing.T) {
	ahead := func() time.Time { return time.Now().AddDate(1, 0, 0) }
	db := storetest.Open(t, store.Options{PostgreSQL: storetest.Database(t), Node: "ahead", Now: ahead})
	s := &server{Authority: &Authority{Config: config.Default(), Store: db}, options: Options{Now: ahead}}
	keeps := time.Duration(s.Config.EventsKept)
	ok(t, db.Update(t.Context(), func(tx store.Tx) error {
		for i, age := range []time.Duration{keeps + time.Hour, keeps - time.Hour, 0} {
			at := time.Now().Add(-age)
			if _, err := tx.AddEvents([]store.Event{{Device: "D", VaultID: "v", Seq: uint64(i + 1), Time: at, Kept: at, Name: "login_attempt", JSON: []byte("{}")}}); err != nil {
				return err
			}
		}
		return nil
	}))
	ok(t, db.Update(t.Context(), s.removeOver))
	ok(t, db.View(t.Context(), func(tx store.Tx) error {
		list, _, err := tx.Events(0, "", "", 10)
		if len(list) != 2 {
			t.Errorf("%d events are left, want the two that are not old", len(list))
		}
		return err
	}))
}
