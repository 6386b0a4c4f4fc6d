//go:build linux

package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// numbers counts.
const numbers = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70) `

// TestMoreStreamsThanAListCanHave, which is a thousand here: of a cluster with more devices than any list
// holds, a node finds its own, any one device, and how many there are.
func TestMoreStreamsThanAListCanHave(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("n1")
		store.Bound(s, 1000)
		now := time.Now()
		update(t, s, func(tx store.Tx) error { return tx.PutDevice(device("mine")) })
		attach(t, s, "mine")
		const nodes, each = 16, 70
		for i := range nodes {
			node := fmt.Sprint("other", i)
			seen := now
			if i == 0 {
				seen = now.Add(-2 * time.Minute) // it died
			}
			update(t, s, func(tx store.Tx) error {
				return errors.Join(
					store.Exec(tx, numbers+`INSERT INTO devices SELECT CAST($1 AS TEXT) || '/' || i, 'x', '', '', '', NULL, '[]', NULL, 0, 0, 0, 0, '', '', 0 FROM n`, node),
					store.Exec(tx, `INSERT INTO nodes VALUES ($1, $2, $3)`, node, "run of "+node, seen.UnixNano()),
					store.Exec(tx, numbers+`INSERT INTO streams SELECT CAST($1 AS TEXT) || '/' || i, CAST($1 AS TEXT), CAST($2 AS TEXT), 0 FROM n`, node, "run of "+node))
			})
		}
		// The lists say that they are too long, and are not cut short.
		for _, list := range []func(tx store.Tx) error{
			func(tx store.Tx) error { return second(tx.Online(now)) }, func(tx store.Tx) error { return second(tx.Devices("")) },
		} {
			if err := s.View(t.Context(), list); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("a list of %d: %v", nodes*each, err)
			}
		}
		view(t, s, func(tx store.Tx) error {
			here, err := tx.StreamsHere()
			if err != nil || !slices.Equal(here, []string{"mine"}) {
				t.Errorf("here are %q, %v", here, err)
			}
			for device, want := range map[string]string{"mine": "n1", "other1/70": "other1", "other14/1": "other14", "other0/1": "", "nobody": ""} {
				if node, err := tx.StreamNode(device, now); err != nil || node != want {
					t.Errorf("%s is at %q, %v", device, node, err)
				}
			}
			c, err := tx.Counts(now)
			if want := (store.Counts{Devices: nodes*each + 1, Online: (nodes-1)*each + 1}); err != nil || c != want {
				t.Errorf("%+v, %v, want %+v", c, err, want)
			}
			return nil
		})
		// A node that starts anew has none, though its name has.
		again := open("n1")
		update(t, again, func(tx store.Tx) error { return tx.PutDevice(device("second")) })
		attach(t, again, "second")
		if here := get(t, again, store.Tx.StreamsHere); !slices.Equal(here, []string{"second"}) {
			t.Errorf("here are %q", here)
		}
	})
}

func TestDevicesByNameAndByEntry(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		update(t, s, func(tx store.Tx) error {
			return errors.Join(tx.PutDevice(device("d1", "maya")), tx.PutDevice(device("d2", "*")), tx.PutDevice(device("d3", "jo", "maya")))
		})
		ids := func(list []store.Device) (ids []string) {
			for _, d := range list {
				ids = append(ids, d.ID)
			}
			return ids
		}
		view(t, s, func(tx store.Tx) error {
			if l, err := tx.DevicesNamed("name of d2"); err != nil || !slices.Equal(ids(l), []string{"d2"}) {
				t.Errorf("%v %v", l, err)
			}
			if l, err := tx.DevicesNamed("nobody's"); err != nil || len(l) != 0 {
				t.Errorf("%v %v", l, err)
			}
			if l, err := tx.DevicesNaming("maya"); err != nil || !slices.Equal(ids(l), []string{"d1", "d3"}) {
				t.Errorf("%v %v", l, err)
			}
			return nil
		})
	})
}
