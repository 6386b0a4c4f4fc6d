//go:build linux

package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// operators is a database with two of them, anna with all that an operator can have.
func operators(t *testing.T, s store.Store) {
	t.Helper()
	update(t, s, func(tx store.Tx) error {
		return errors.Join(
			tx.CreateOperator(store.Operator{Name: "anna", Role: "admin", Created: noon}),
			tx.CreateOperator(store.Operator{Name: "ben", Role: "helpdesk", Created: noon}),
			tx.AddOperatorKey(store.OperatorKey{CredentialID: []byte{1}, Operator: "anna", PublicKey: []byte{2, 3}, Label: "laptop", Synced: true, Counter: 1<<32 - 1, Created: noon}),
			tx.InviteOperator(store.OperatorInvitation{Hash: []byte{4}, Operator: "anna", Created: noon, Expires: noon.Add(time.Hour)}),
			tx.PutOperatorSession(store.OperatorSession{Hash: []byte{5}, Operator: "anna", Created: noon, Seen: noon}),
			tx.CreateOperatorRequest(store.OperatorRequest{ID: "r1", Operator: "anna", Action: "bypass", Input: []byte(`{}`), Created: noon, Expires: noon.Add(time.Hour)}),
			tx.CreateOperatorRequest(store.OperatorRequest{ID: "r2", Operator: "ben", Action: "bypass", Input: []byte(`{}`), Created: noon.Add(time.Second), Expires: noon.Add(time.Hour), Approver: "anna"}),
		)
	})
}

func TestOperatorsComeBackAsTheyWere(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		operators(t, s)
		same(t, "operators", get(t, s, store.Tx.Operators), []store.Operator{{Name: "anna", Role: "admin", Created: noon}, {Name: "ben", Role: "helpdesk", Created: noon}})
		key := store.OperatorKey{CredentialID: []byte{1}, Operator: "anna", PublicKey: []byte{2, 3}, Label: "laptop", Synced: true, Counter: 1<<32 - 1, Created: noon}
		same(t, "key", get(t, s, func(tx store.Tx) (store.OperatorKey, error) { return tx.OperatorKey([]byte{1}) }), key)
		want(t, s, store.ErrExists, func(tx store.Tx) error {
			return tx.AddOperatorKey(store.OperatorKey{CredentialID: []byte{1}, Operator: "ben"})
		})
		want(t, s, store.ErrExists, func(tx store.Tx) error { return tx.CreateOperator(store.Operator{Name: "anna", Role: "read"}) })
		update(t, s, func(tx store.Tx) error { return tx.OperatorKeyUsed([]byte{1}, 7, noon.Add(time.Minute)) })
		key.Counter, key.Used = 7, noon.Add(time.Minute)
		same(t, "keys", get(t, s, func(tx store.Tx) ([]store.OperatorKey, error) { return tx.OperatorKeys("") }), []store.OperatorKey{key})
		same(t, "session", get(t, s, func(tx store.Tx) (store.OperatorSession, error) { return tx.OperatorSession([]byte{5}) }),
			store.OperatorSession{Hash: []byte{5}, Operator: "anna", Created: noon, Seen: noon})
		for name, get := range map[string]func(tx store.Tx) error{
			"operator": func(tx store.Tx) error { _, err := tx.Operator("nobody"); return err },
			"key":      func(tx store.Tx) error { _, err := tx.OperatorKey([]byte("x")); return err },
			"session":  func(tx store.Tx) error { _, err := tx.OperatorSession([]byte("x")); return err },
			"request":  func(tx store.Tx) error { _, err := tx.OperatorRequest("x"); return err },
			"invited":  func(tx store.Tx) error { _, err := tx.OperatorInvitation([]byte("x"), noon); return err },
			"role":     func(tx store.Tx) error { return tx.SetOperatorRole("nobody", "read") },
			"removed":  func(tx store.Tx) error { return tx.RemoveOperator("nobody") },
		} {
			if err := s.Update(t.Context(), get); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestNothingIsUsedTwice: of many at once, one gets it.
func TestNothingIsUsedTwice(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		operators(t, s)
		if n := atOnce(t, 8, store.ErrUsed, func(int) error {
			return s.Update(t.Context(), func(tx store.Tx) error { return tx.UseOnce([]byte{9}, noon) })
		}); n != 1 {
			t.Errorf("a challenge was used %d times", n)
		}
		if n := atOnce(t, 8, store.ErrNotFound, func(int) error {
			return s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.UseOperatorInvitation([]byte{4}, noon); return err })
		}); n != 1 {
			t.Errorf("an invitation was used %d times", n)
		}
		if n := atOnce(t, 8, store.ErrNotFound, func(int) error {
			return s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.TakeOperatorRequest("r2", noon); return err })
		}); n != 1 {
			t.Errorf("a request was carried out %d times", n)
		}
	})
}

func TestARequestIsApprovedByAnother(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		operators(t, s)
		late := noon.Add(time.Hour)
		want(t, s, store.ErrUsed, func(tx store.Tx) error { return tx.ApproveOperatorRequest("r1", "anna", noon) })
		want(t, s, store.ErrUsed, func(tx store.Tx) error { _, err := tx.TakeOperatorRequest("r1", noon); return err })
		want(t, s, store.ErrUsed, func(tx store.Tx) error { return tx.ApproveOperatorRequest("r1", "ben", late) })
		want(t, s, nil, func(tx store.Tx) error { return tx.ApproveOperatorRequest("r1", "ben", noon) })
		want(t, s, store.ErrUsed, func(tx store.Tx) error { return tx.ApproveOperatorRequest("r1", "carla", noon) })
		want(t, s, store.ErrUsed, func(tx store.Tx) error { _, err := tx.TakeOperatorRequest("r1", late); return err })
		want(t, s, nil, func(tx store.Tx) error {
			r, err := tx.TakeOperatorRequest("r1", noon)
			if r.Approver != "ben" || r.Operator != "anna" {
				t.Errorf("%+v", r)
			}
			return err
		})
		if list := get(t, s, func(tx store.Tx) ([]store.OperatorRequest, error) { return tx.OperatorRequests(late) }); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
}

// TestWhoLosesARoleLosesWhatCameWithIt: sessions, requests and approvals end at once.
func TestWhoLosesARoleLosesWhatCameWithIt(t *testing.T) {
	for name, end := range map[string]func(tx store.Tx) error{
		"demoted": func(tx store.Tx) error { return tx.SetOperatorRole("anna", "read") },
		"removed": func(tx store.Tx) error { return tx.RemoveOperator("anna") },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
				s := open("a")
				operators(t, s)
				update(t, s, end)
				want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.OperatorSession([]byte{5}); return err })
				if list := get(t, s, func(tx store.Tx) ([]store.OperatorRequest, error) { return tx.OperatorRequests(noon) }); len(list) != 0 {
					t.Errorf("%+v", list)
				}
				if keys := get(t, s, func(tx store.Tx) ([]store.OperatorKey, error) { return tx.OperatorKeys("") }); (len(keys) == 0) != (name == "removed") {
					t.Errorf("%+v", keys)
				}
			})
		})
	}
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		operators(t, s)
		update(t, s, func(tx store.Tx) error { return tx.RemoveOperatorKey([]byte{1}) })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.OperatorSession([]byte{5}); return err })
	})
}

func TestWhatIsOverIsSweptFromTheConsole(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		operators(t, s)
		want(t, s, nil, func(tx store.Tx) error { return tx.UseOnce([]byte{9}, noon) })
		want(t, s, nil, func(tx store.Tx) error { return tx.SweepOperators(noon) })
		want(t, s, store.ErrUsed, func(tx store.Tx) error { return tx.UseOnce([]byte{9}, noon) })
		want(t, s, nil, func(tx store.Tx) error { return tx.SweepOperators(noon.Add(2 * time.Hour)) })
		want(t, s, nil, func(tx store.Tx) error { return tx.UseOnce([]byte{9}, noon) })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.OperatorSession([]byte{5}); return err })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.OperatorRequest("r1"); return err })
		want(t, s, store.ErrNotFound, func(tx store.Tx) error { _, err := tx.OperatorInvitation([]byte{4}, noon); return err })
		want(t, s, nil, func(tx store.Tx) error { _, err := tx.Operator("anna"); return err })
	})
}

func TestPeopleAndComputersAreFound(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		update(t, s, func(tx store.Tx) error {
			var errs []error
			for _, u := range []string{"Maya", `corp\maya`, "100%", "under_score", "zoë"} {
				errs = append(errs, tx.CreateUser(store.User{Name: u, Created: noon}))
			}
			a, b := device("D1", "*"), device("D2")
			a.Name, b.Name, b.Serial = "laptop", "laptop", "5CD1"
			return errors.Join(append(errs, tx.PutDevice(a), tx.PutDevice(b))...)
		})
		users := func(text, after string, n int) (names []string) {
			for _, u := range get(t, s, func(tx store.Tx) ([]store.User, error) { return tx.FindUsers(text, after, n) }) {
				names = append(names, u.Name)
			}
			return names
		}
		same(t, "maya", users("maya", "", 9), []string{"Maya", `corp\maya`})
		same(t, "MAYA", users("MAYA", "Maya", 9), []string{`corp\maya`})
		same(t, "%", users("%", "", 9), []string{"100%"})
		same(t, "_", users("_", "", 9), []string{"under_score"})
		same(t, `\`, users(`\`, "", 9), []string{`corp\maya`})
		if n := len(users("", "", 3)); n != 3 {
			t.Errorf("%d", n)
		}
		devices := func(text, name, id string) (ids []string) {
			for _, d := range get(t, s, func(tx store.Tx) ([]store.Device, error) { return tx.FindDevices(text, name, id, 9) }) {
				ids = append(ids, d.ID)
			}
			return ids
		}
		same(t, "all", devices("", "", ""), []string{"D1", "D2"})
		same(t, "behind", devices("", "laptop", "D1"), []string{"D2"})
		same(t, "serial", devices("5cd", "", ""), []string{"D2"})
		if !slices.Equal(devices("d1", "", ""), []string{"D1", "D2"}) { // D2's serial number has it too
			t.Error(devices("d1", "", ""))
		}
	})
}
