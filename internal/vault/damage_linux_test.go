package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestTruncatedUnderTheAgentDenies cuts vault.db short while it is mapped: reading
// it raises SIGBUS, which must end as an error.
func TestTruncatedUnderTheAgentDenies(t *testing.T) {
	for _, size := range []int64{0, 2 * 4096, 5 * 4096} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			o := options(t)
			v := mustOpen(t, o)
			fill(t, v, 300)
			must(t, os.Truncate(filepath.Join(o.Dir, "vault.db"), size))
			errs := 0
			for i := range 300 {
				var r benchRecord
				err := v.View(func(tx *Tx) error {
					found, err := tx.Get(Users, fmt.Sprint("uid:", i), &r)
					if err == nil && !found {
						t.Errorf("user %d is unknown", i)
					}
					return err
				})
				if err != nil && !known(err) {
					t.Errorf("%v", err)
				}
				if err != nil {
					errs++
				}
				err = v.View(func(tx *Tx) error {
					return tx.Each(Users, func(_ string, decode func(any) error) error { return decode(&r) })
				})
				if err == nil {
					t.Error("walked a truncated file")
				}
			}
			if errs == 0 {
				t.Error("no error")
			}
			err := login(v, "uid:1")
			for range 2 {
				if !known(err) {
					t.Fatalf("%v", err)
				}
				err = login(v, "uid:1")
			}
			t.Log(err)
			mustClose(t, v)
			if _, err := Open(o); !known(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestEmptiedUnderTheAgentDenies removes the files of a running agent. What it
// has open still works; after a failure it must not take the emptiness for real.
func TestEmptiedUnderTheAgentDenies(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	away := snapshot(t, o.Dir)
	must(t, os.Truncate(filepath.Join(o.Dir, "vault.db"), 0))
	empty(t, o.Dir)
	for range 3 {
		err := v.Update(context.Background(), func(tx *Tx) error { return tx.Put(Users, "uid:1000", user{"alice", 2}) })
		if !known(err) {
			t.Fatalf("%v", err)
		}
	}
	if err := v.View(func(*Tx) error { return nil }); !errors.Is(err, ErrMissing) {
		t.Errorf("%v", err)
	}
	restore(t, away, o.Dir)
	if u, ok := get(t, v, "uid:1000"); !ok || u.Step != 1 {
		t.Errorf("%v %v", u, ok)
	}
	put(t, v, "uid:1000", user{"alice", 3})
	mustClose(t, v)
	mustClose(t, mustOpen(t, o))
}
