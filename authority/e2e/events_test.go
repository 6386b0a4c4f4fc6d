//go:build linux

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/event"
	"sallyport/internal/keychain"
	"sallyport/internal/testkit/sandbox"
	"sallyport/internal/vault"
)

// happened puts events into a stopped agent's vault, as that many logins would.
func (c *computer) happened(n, limit int) {
	c.t.Helper()
	v, err := vault.Open(vault.Options{Dir: filepath.Join(c.Dir(), "state"), Marker: filepath.Join(c.Dir(), ".sallyport.toml.vault"),
		Keychain: keychain.Config{Kind: keychain.File}, EventLimit: limit, Log: slog.New(slog.DiscardHandler), MustExist: true})
	ok(c.t, err)
	for done := 0; done < n; {
		ok(c.t, v.Update(c.t.Context(), func(tx *vault.Tx) error {
			for range min(10_000, n-done) {
				tx.Append(event.Event{Name: event.LoginAttempt, User: maya, Key: "uid:1000", Hook: "pam", Service: "sshd", Verdict: "deny", Reason: "wrong_code"})
				done++
			}
			return nil
		}))
	}
	ok(c.t, v.Close())
}

// kept are the numbers of a computer's events that the authority has, in the order in
// which it got them.
func kept(t *testing.T, s store.Store, device string) (seqs []uint64) {
	t.Helper()
	for at, vaultID := uint64(0), ""; ; {
		var list []store.Event
		ok(t, s.View(t.Context(), func(tx store.Tx) (err error) {
			list, at, err = tx.Events(at, device, "", store.MaxEvents)
			return err
		}))
		if len(list) == 0 {
			return seqs
		}
		for _, e := range list {
			if vaultID == "" {
				vaultID = e.VaultID
			}
			if e.VaultID != vaultID {
				t.Fatalf("events of the vaults %s and %s", vaultID, e.VaultID)
			}
			seqs = append(seqs, e.Seq)
		}
	}
}

// newest is the number of a computer's newest event that the authority has.
func newest(t *testing.T, s store.Store, device string) (seq uint64) {
	t.Helper()
	ok(t, s.View(t.Context(), func(tx store.Tx) error {
		page, err := tx.SearchEvents(store.EventQuery{Device: device, Limit: 1})
		for _, e := range page.Events {
			seq = e.Seq
		}
		return err
	}))
	return seq
}

// has waits until the authority has so many events.
func has(t *testing.T, s store.Store, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("the authority has %d events", n), func() (is bool) {
		ok(t, s.View(t.Context(), func(tx store.Tx) error {
			pos, err := tx.LastEvent()
			is = pos >= n
			return err
		}))
		return is
	})
}

// TestNoEventIsLostInAnOutage: 100,000 events wait while the authority is away. While
// they are sent, it is killed twice and the agent twice. Each is kept once.
func TestNoEventIsLostInAnOutage(t *testing.T) {
	sandbox.Need(t)
	for _, kind := range []string{"sqlite", "postgresql"} {
		t.Run(kind, func(t *testing.T) {
			const total, limit = 100_000, 120_000
			s, db := newSiteOn(t, kind)
			laptop := s.computer("laptop", fmt.Sprintf("events = %d", limit))
			ok(t, s.authority.Stop())
			ok(t, laptop.Stop())
			began := time.Now()
			laptop.happened(total, limit)
			t.Logf("%d events were written in %v", total, time.Since(began))
			laptop.restart()
			s.restart()
			began = time.Now()
			for i, at := range []uint64{10_000, 25_000, 40_000, 55_000} {
				has(t, db, at)
				if i%2 == 0 {
					ok(t, s.authority.Kill())
					s.restart()
				} else {
					ok(t, laptop.Kill())
					laptop.restart()
				}
			}
			has(t, db, total)
			laptop.event(total, event.AgentStarted, "") // it is well
			want := laptop.lastAfter(total)
			eventually(t, "the newest event", func() bool { return newest(t, db, laptop.id) >= want })
			t.Logf("they were sent in %v", time.Since(began))
			seqs := kept(t, db, laptop.id)
			for i, n := range seqs {
				if n != seqs[0]+uint64(i) {
					t.Fatalf("event %d comes after event %d", n, seqs[i-1])
				}
			}
			if len(seqs) < total {
				t.Errorf("%d events of %d", len(seqs), total)
			}
			if n := dropped(t, db, laptop.id); n != 0 {
				t.Errorf("%d are said to be dropped", n)
			}
			s.none(enrol.EventsDropped)
		})
	}
}

// TestWhatIsDroppedPastTheBoundIsCounted: the file is full twice before the authority
// is back, and the agent is killed between; what is said to be dropped is what is
// missing.
func TestWhatIsDroppedPastTheBoundIsCounted(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	const limit = 1000
	s, db := newSiteOn(t, "sqlite")
	laptop := s.computer("laptop", fmt.Sprintf("events = %d", limit))
	before := laptop.last()
	eventually(t, "what there is", func() bool { return newest(t, db, laptop.id) >= before })
	for range 2 {
		ok(t, s.authority.Kill())
		ok(t, laptop.Kill()) // it has not kept how far the events are
		laptop.happened(1500, limit)
		laptop.restart()
		ok(t, laptop.Kill())
		laptop.happened(1500, limit)
		laptop.restart()
		s.restart()
		last := laptop.last()
		eventually(t, "the newest event", func() bool { return newest(t, db, laptop.id) >= last })
	}
	seqs := kept(t, db, laptop.id)
	missing := seqs[len(seqs)-1] - seqs[0] + 1 - uint64(len(seqs))
	if n := dropped(t, db, laptop.id); n != missing || missing < 3000 {
		t.Errorf("%d are missing, and %d said to be dropped", missing, n)
	}
	said := uint64(0)
	list, err := s.authority.Events()
	ok(t, err)
	for _, e := range list {
		var n uint64
		if e.Event.Name == enrol.EventsDropped {
			if _, err := fmt.Sscanf(e.Event.Text, "%d events of this computer never came", &n); err != nil || e.Event.By != "device:"+laptop.id {
				t.Errorf("%+v", e)
			}
			said += n
		}
	}
	if said != missing {
		t.Errorf("%d are missing, and the events say %d", missing, said)
	}
}

// newSiteOn makes an authority on a database, and opens that beside it.
func newSiteOn(t *testing.T, kind string) (*site, store.Store) {
	t.Helper()
	o := store.Options{Node: "test", Log: slog.New(slog.DiscardHandler)}
	var s *site
	if kind == "postgresql" {
		o.PostgreSQL = storetest.PostgreSQL(t).URL()
		url := filepath.Join(t.TempDir(), "database.url")
		ok(t, os.WriteFile(url, []byte(o.PostgreSQL+"\n"), 0o600))
		s = newSite(t, nil, "--database-url-file", url, "--node", "a")
	} else {
		s = newSite(t, nil)
		o.SQLite = filepath.Join(s.authority.StateDir, "authority.db")
	}
	db, err := store.Open(context.Background(), o)
	ok(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return s, db
}

// dropped is how many events of a computer never came.
func dropped(t *testing.T, s store.Store, device string) (n uint64) {
	t.Helper()
	ok(t, s.View(t.Context(), func(tx store.Tx) (err error) { n, err = tx.EventsDropped(device); return err }))
	return n
}

// none wants no event of a name.
func (s *site) none(name event.Name) {
	s.t.Helper()
	out, err := s.authority.Run("", "events", "--json", "--event", string(name))
	ok(s.t, err)
	if out != "" {
		s.t.Errorf("there are events %s:\n%s", name, out)
	}
}
