//go:build linux

package enrol_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

// computer puts a device there that has not joined, as nobody looks at its keys.
func (w *world) computer(id string, users ...string) store.Device {
	w.Helper()
	d := store.Device{ID: id, Name: "pc-" + id, Users: users, Version: "1.0", Platform: "linux/amd64", Created: w.time, Seen: w.time, Expires: w.time.Add(7 * 24 * time.Hour)}
	w.must(w.store.Update(w.Context(), func(tx store.Tx) error { return tx.PutDevice(d) }))
	return d
}

func (w *world) state(kind organisation.Kind, device string) enrol.RemoteAnswer {
	w.Helper()
	a, err := w.RemoteState(w.Context(), kind, "maya", device)
	w.must(err)
	return a
}

func TestAnActionIsForOneComputerAndForADay(t *testing.T) {
	each(t, func(w *world) {
		w.must(w.AddUser(w.Context(), "root", "maya"))
		w.must(w.AddUser(w.Context(), "root", "jo"))
		id := strings.Repeat("A", 26)
		w.computer(id, "maya")
		r, err := w.Unlock(w.Context(), "operator:anna", "maya", id)
		w.must(err)
		if r.Waits || r.Kind != organisation.KindUnlock || !r.Expires.Equal(w.time.Add(organisation.MaxAction).Truncate(time.Second)) {
			t.Errorf("%+v", r)
		}
		w.happened("unlock_issued", 1)
		var item store.Item
		w.view(func(tx store.Tx) (err error) { item, err = tx.Item(organisation.KindUnlock, id, "maya"); return err })
		if e, err := organisation.Open(w.keys.Organisation, id, item.Envelope); err != nil || e.Version != r.Version || e.User != "maya" || e.Device != id {
			t.Errorf("%+v, %v", e, err)
		}
		again, err := w.Unlock(w.Context(), "operator:anna", "maya", id)
		w.must(err)
		if again.Version <= r.Version {
			t.Errorf("version %d after %d", again.Version, r.Version)
		}
		if enrol.Lapsed(item, w.time) || !enrol.Lapsed(item, r.Expires) {
			t.Error("it is good for another time than it says")
		}
		w.time = again.Expires
		if a := w.state(organisation.KindUnlock, id); a.State != enrol.RemoteExpired {
			t.Errorf("%+v", a)
		}
		for what, c := range map[string]struct {
			user, device string
			want         error
		}{
			"nobody's":            {"nobody", id, store.ErrNotFound},
			"no such computer":    {"maya", strings.Repeat("Z", 26), store.ErrNotFound},
			"not allowed on that": {"jo", id, enrol.ErrInvalid},
		} {
			t.Log(what)
			_, err := w.Unlock(w.Context(), "root", c.user, c.device)
			w.refused(err, c.want)
			_, err = w.ClearPush(w.Context(), "root", c.user, c.device)
			w.refused(err, c.want)
		}
		w.must(w.RevokeDevice(w.Context(), "root", id, "stolen"))
		_, err = w.Unlock(w.Context(), "root", "maya", id)
		w.refused(err, enrol.ErrInvalid)
	})
}

func TestPushIsClearedThereAndHere(t *testing.T) {
	each(t, func(w *world) {
		w.must(w.AddUser(w.Context(), "root", "maya"))
		id, other := strings.Repeat("A", 26), strings.Repeat("B", 26)
		w.computer(id, "maya")
		w.computer(other, "maya")
		w.must(w.store.Update(w.Context(), func(tx store.Tx) error {
			return errors.Join(tx.PutPushState("maya", id, push.State{Reported: true}), tx.PutPushState("maya", other, push.State{Reported: true}))
		}))
		r, err := w.ClearPush(w.Context(), "operator:anna", "maya", id)
		w.must(err)
		if r.Kind != organisation.KindPushClear || w.state(organisation.KindPushClear, id).State != enrol.RemoteSent {
			t.Errorf("%+v", r)
		}
		w.happened("push_clear_issued", 1)
		w.view(func(tx store.Tx) error {
			here, err := tx.PushState("maya", id)
			there, err2 := tx.PushState("maya", other)
			if here.Reported || !there.Reported {
				t.Errorf("reported: %v, %v", here.Reported, there.Reported)
			}
			return errors.Join(err, err2)
		})
	})
}

// What waits for the organisation's key is shown, signed and imported as the rest.
func TestAnActionWaitsForTheOrganisationsKey(t *testing.T) {
	dir, _ := makeKeys(t)
	key := filepath.Join(t.TempDir(), "organisation.key")
	if err := os.Rename(filepath.Join(dir, "organisation.key"), key); err != nil {
		t.Fatal(err)
	}
	k, err := enrol.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "a.db"), Node: "a"}), k)
	w.must(w.AddUser(w.Context(), "root", "maya"))
	id := strings.Repeat("A", 26)
	w.computer(id, "maya")
	r, err := w.Unlock(w.Context(), "root", "maya", id)
	w.must(err)
	if !r.Waits || w.state(organisation.KindUnlock, id).State != enrol.RemoteWaits {
		t.Fatalf("%+v", r)
	}
	file, _, err := w.Pending(w.Context())
	w.must(err)
	lines, err := enrol.DescribePending(file)
	w.must(err)
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "unlock version") || !strings.Contains(text, "good until "+r.Expires.UTC().Format(time.RFC3339)) {
		t.Error(text)
	}
	private, err := enrol.LoadOrganisationKey(key)
	w.must(err)
	signed, err := enrol.SignPending(private, file)
	w.must(err)
	if _, err := w.ImportSigned(w.Context(), "root", signed); err != nil {
		t.Fatal(err)
	}
	if a := w.state(organisation.KindUnlock, id); a.State != enrol.RemoteSent || a.Version != r.Version {
		t.Errorf("%+v", a)
	}
}

func TestWhatNeedsAttentionInAFleet(t *testing.T) {
	each(t, func(w *world) {
		w.must(w.AddUser(w.Context(), "root", "maya"))
		_, err := w.SetPolicy(w.Context(), "root", []byte("ask = 'required'"))
		w.must(err)
		lock := w.time.Add(time.Hour)
		well, locked, away, silent := w.computer(strings.Repeat("A", 26), "maya"), w.computer(strings.Repeat("B", 26), "maya"), w.computer(strings.Repeat("C", 26)), w.computer(strings.Repeat("D", 26))
		gone := w.computer(strings.Repeat("E", 26))
		w.must(w.RevokeDevice(w.Context(), "root", gone.ID, "stolen"))
		w.must(w.store.Update(w.Context(), func(tx store.Tx) error {
			silent.Seen = w.time.Add(-time.Hour)
			away.Seen, away.Expires = w.time.Add(-40*24*time.Hour), w.time.Add(time.Hour)
			away.Created = away.Seen
			for _, d := range []store.Device{silent, away} {
				if err := tx.PutDevice(d); err != nil {
					return err
				}
			}
			for _, d := range []store.Device{well, locked, silent} {
				if _, err := tx.Attach(d.ID, d.Seen); err != nil {
					return err
				}
			}
			for _, r := range []store.Report{
				{Device: well.ID, At: w.time, State: "ok", People: []store.Person{{User: "maya", Key: "uid:1", TOTP: true, OfflineReady: true}}},
				{Device: locked.ID, At: w.time, State: "users_locked", Problems: []store.Problem{{Code: "users_locked", Text: "1 locked out"}}, People: []store.Person{{User: "maya", Key: "uid:1", LockedUntil: lock}}},
			} {
				if _, err := tx.PutReport(r); err != nil {
					return err
				}
			}
			return nil
		}))
		codes := func() map[string]string {
			t.Helper()
			list, err := w.Fleet(w.Context(), "")
			w.must(err)
			is := map[string]string{}
			for _, d := range list {
				is[d.ID[:1]] = d.State()
				for _, p := range d.Problems {
					is[d.ID[:1]] += " " + p.Code
					if p.Text == "" || p.Code != "users_locked" && p.Remedy == "" {
						t.Errorf("%+v says not what to do", p)
					}
				}
				if one, err := w.DeviceStatus(w.Context(), d.ID); err != nil || fmt.Sprint(one.Problems) != fmt.Sprint(d.Problems) || one.State() != d.State() || one.Report.Locked != d.Report.Locked || d.PolicyNewest == 0 || one.PolicyNewest != d.PolicyNewest {
					t.Errorf("%v: one by itself is another: %+v, %+v", err, one, d)
				}
			}
			return is
		}
		same := func(got, want map[string]string) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		same(codes(), map[string]string{"A": "online", "B": "online users_locked", "C": "offline not_seen", "D": "online agent_old"})

		// A lockout ends by itself; a refusal is over with the next version.
		w.time = lock
		var version uint64
		w.view(func(tx store.Tx) error {
			i, err := tx.Item(organisation.KindPolicy, "", "")
			version = i.Version
			return err
		})
		w.must(w.store.Update(w.Context(), func(tx store.Tx) error {
			return tx.PutItemAnswer(store.ItemAnswer{Device: well.ID, Kind: organisation.KindPolicy, Version: version, Refused: `its content is malformed: json: unknown field "rules"`, At: w.time})
		}))
		same(codes(), map[string]string{"A": "online sync_refused", "B": "online", "C": "offline certificate_expired", "D": "online agent_old"})
		st, err := w.DeviceStatus(w.Context(), well.ID)
		w.must(err)
		if p := st.Problems[0]; !strings.Contains(p.Remedy, "Its agent, 1.0, is too old for that") {
			t.Errorf("%+v", p)
		}
		_, err = w.SetPolicy(w.Context(), "root", []byte("ask = 'enrolled'"))
		w.must(err)
		if is := codes(); is["A"] != "online" {
			t.Errorf("%q", is["A"])
		}
		if of, err := w.Fleet(w.Context(), "maya"); err != nil || len(of) != 2 {
			t.Errorf("%d computers of maya's, %v", len(of), err)
		}
		if of, err := w.ReportedOf(w.Context(), "maya"); err != nil || len(of) != 2 || of[0].Device != well.ID || !of[0].TOTP {
			t.Errorf("%+v, %v", of, err)
		}
		if st, err := w.DeviceStatus(w.Context(), gone.ID); err != nil || st.State() != "revoked" || st.NeedsAttention() {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// counting counts the transactions.
type counting struct {
	store.Store
	views int
}

func (c *counting) View(ctx context.Context, fn func(store.Tx) error) error {
	c.views++
	return c.Store.View(ctx, fn)
}

func TestTenThousandComputersAreReadAtOnce(t *testing.T) {
	const n = 10_000
	_, k := makeKeys(t)
	s := &counting{Store: storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "a.db"), Node: "a"})}
	w := newWorld(t, s, k)
	for from := 0; from < n; from += 1000 {
		w.must(s.Update(t.Context(), func(tx store.Tx) error {
			for i := from; i < from+1000; i++ {
				d := store.Device{ID: fmt.Sprintf("D%025d", i), Name: fmt.Sprint("pc", i), Users: []string{enrol.Everyone}, Created: w.time, Seen: w.time, Expires: w.time.Add(time.Hour)}
				if err := tx.PutDevice(d); err != nil {
					return err
				}
				r := store.Report{Device: d.ID, At: w.time, State: "ok", People: []store.Person{{User: "maya", Key: "uid:1", OfflineReady: true}, {User: "jo", Key: "uid:2"}}}
				if i%100 == 0 {
					r.Problems = []store.Problem{{Code: "clock_behind", Text: "x"}}
				}
				if _, err := tx.PutReport(r); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	s.views = 0
	began := time.Now()
	list, err := w.Fleet(t.Context(), "")
	w.must(err)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	attention := 0
	for i := range list {
		if list[i].NeedsAttention() {
			attention++
		}
	}
	if len(list) != n || attention != n/100 || s.views != 1 {
		t.Errorf("%d computers, %d need attention, %d transactions", len(list), attention, s.views)
	}
}
