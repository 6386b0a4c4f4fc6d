package adminsvc

import (
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/factor"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
)

// What the authority is told is what status and user list say here.
func TestTheStandingIsWhatStatusSays(t *testing.T) {
	w := newWorld(t).joins()
	w.update(func(tx *vault.Tx) error {
		a := &factor.Account{Key: "uid:1", Name: "daemon", Last: &factor.Use{Factor: factor.Push}, LastSuccess: noon}
		a.Lockout.Failures, a.Lockout.Until = 10, tx.Now().In(time.Hour)
		if err := store.Put(tx, a); err != nil {
			return err
		}
		return store.PutSigned(tx, organisation.KindPolicy, "", store.Item{Version: 7, Policy: []byte(`{"Ask":"enrolled"}`)})
	})
	st, err := w.svc.Standing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Policy != 7 || len(st.People) != 1 || st.People[0].LastFactor != factor.Push || !st.People[0].GetLocked() || st.People[0].GetName() != "daemon" {
		t.Errorf("%+v", st)
	}
	here := w.status()
	if got, want := len(st.Status.GetProblems()), len(here.GetProblems()); got != want || got == 0 || st.Status.GetProblems()[0].GetText() != here.GetProblems()[0].GetText() {
		t.Errorf("%v, and status says %v", st.Status.GetProblems(), here.GetProblems())
	}
}
