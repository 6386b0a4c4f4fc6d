//go:build linux

package store_test

import (
	"fmt"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/organisation"
)

// reportOf is one of a device with a person who is locked out, and one who is not.
func reportOf(device string) store.Report {
	left := 3
	return store.Report{Device: device, At: noon, OS: "Debian GNU/Linux 12 (bookworm)", State: "users_locked",
		Problems: []store.Problem{{Code: "users_locked", Text: "1 locked out", Remedy: "sallyport unlock"}},
		People: []store.Person{
			{User: "ben", Key: "uid:1001", RecoveryLeft: 8, OfflineReady: true, PushState: "no_phone", LockedUntil: noon.Add(time.Minute), Failures: 5, OfflineLeft: &left},
			{User: "maya", Key: "uid:1000", TOTP: true, Phones: 2, PushState: "ready", OfflineReady: true, LastSuccess: noon.Add(-time.Hour), LastFactor: "push"},
			{User: "nora", Key: "uid:1002", PushState: "no_phone"},
		},
		LeftOut: 4, EventsWaiting: 7, EventsDropped: 1<<63 - 1, PolicyVersion: 9}
}

func TestAReportComesBackAsItWas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		r := reportOf("d1")
		update(t, s, func(tx store.Tx) error { return tx.PutDevice(device("d1", "maya")) })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Report("d1"); return err })
		put := func(r store.Report) (changed bool) {
			t.Helper()
			update(t, s, func(tx store.Tx) (err error) { changed, err = tx.PutReport(r); return err })
			return changed
		}
		whole := func() store.Report {
			t.Helper()
			return get(t, s, func(tx store.Tx) (store.Report, error) { return tx.Report("d1") })
		}
		if !put(r) {
			t.Error("the first one is no change")
		}
		r.Counted, r.OfflineReady = 3, 2
		same(t, "report", whole(), r)
		short := r
		short.People, short.Locked = nil, 1
		same(t, "reports", get(t, s, func(tx store.Tx) ([]store.Report, error) { return tx.Reports(noon) }), []store.Report{short})
		short.Locked = 0
		same(t, "reports, a minute later", get(t, s, func(tx store.Tx) ([]store.Report, error) { return tx.Reports(noon.Add(time.Minute)) }), []store.Report{short})

		// The same again writes nothing, not even its time.
		again := reportOf("d1")
		again.At = noon.Add(time.Hour)
		if put(again) {
			t.Error("a report that says nothing new is a change")
		}
		same(t, "report", whole(), r)

		// One person changed, one is gone.
		again.People = again.People[:2]
		again.People[0].LockedUntil, again.People[0].Failures = time.Time{}, 0
		if !put(again) {
			t.Error("an unlocked person is no change")
		}
		again.Counted, again.OfflineReady = 2, 2
		same(t, "report", whole(), again)
		same(t, "of ben", get(t, s, func(tx store.Tx) ([]store.Reported, error) { return tx.ReportedOf("ben") }),
			[]store.Reported{{Device: "d1", At: again.At, Person: again.People[0]}})
		if list := get(t, s, func(tx store.Tx) ([]store.Reported, error) { return tx.ReportedOf("nora") }); len(list) != 0 {
			t.Errorf("somebody who is gone from the device: %+v", list)
		}
	})
}

func TestWhatADeviceDoesNotTakeIsOfTheNewest(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		policy := store.Item{Kind: organisation.KindPolicy, Version: 1, Envelope: []byte("1")}
		unlock := store.Item{Kind: organisation.KindUnlock, Device: "d2", User: "maya", Version: 5, Envelope: []byte("5")}
		no := store.ItemAnswer{Device: "d1", Kind: organisation.KindPolicy, Version: 1, Refused: "its content is malformed", At: noon}
		yes := store.ItemAnswer{Device: "d2", Kind: organisation.KindUnlock, User: "maya", Version: 5, At: noon}
		update(t, s, func(tx store.Tx) error {
			for _, d := range []string{"d1", "d2"} {
				if err := tx.PutDevice(device(d, "maya")); err != nil {
					return err
				}
			}
			for _, i := range []store.Item{policy, unlock} {
				if err := tx.PutItem(i); err != nil {
					return err
				}
			}
			for _, a := range []store.ItemAnswer{no, yes} {
				if err := tx.PutItemAnswer(a); err != nil {
					return err
				}
			}
			return nil
		})
		refused := func(device string) []store.ItemAnswer {
			t.Helper()
			return get(t, s, func(tx store.Tx) ([]store.ItemAnswer, error) { return tx.ItemsRefused(device) })
		}
		same(t, "answer", get(t, s, func(tx store.Tx) (store.ItemAnswer, error) {
			return tx.ItemAnswer("d2", organisation.KindUnlock, "maya")
		}), yes)
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.ItemAnswer("d1", organisation.KindUnlock, "maya"); return err })
		same(t, "refused", refused(""), []store.ItemAnswer{no})
		same(t, "refused by d1", refused("d1"), []store.ItemAnswer{no})
		if list := refused("d2"); len(list) != 0 {
			t.Errorf("d2 took all: %+v", list)
		}
		update(t, s, func(tx store.Tx) error { policy.Version = 2; return tx.PutItem(policy) })
		if list := refused(""); len(list) != 0 {
			t.Errorf("the newest was refused by nobody yet: %+v", list)
		}
	})
}

// TestAFleetIsReadInOneQuery: none for each device.
func TestAFleetIsReadInOneQuery(t *testing.T) {
	const n = 100
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	update(t, s, func(tx store.Tx) error {
		for i := range n {
			id := fmt.Sprintf("d%05d", i)
			if err := tx.PutDevice(device(id, "maya")); err != nil {
				return err
			}
			if _, err := tx.PutReport(reportOf(id)); err != nil {
				return err
			}
		}
		return nil
	})
	var list []store.Report
	queries := get(t, s, func(tx store.Tx) (int, error) {
		return store.Statements(tx, func(tx store.Tx) (err error) { list, err = tx.Reports(noon); return err })
	})
	if queries != 1 {
		t.Errorf("%d queries", queries)
	}
	if len(list) != n || list[n-1].Locked != 1 || list[n-1].Counted != 3 {
		t.Errorf("%d reports; the last: %+v", len(list), list[len(list)-1])
	}
}
