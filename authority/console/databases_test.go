//go:build linux

package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// TestOnEitherDatabase goes once through everything, on SQLite and on PostgreSQL.
func TestOnEitherDatabase(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		w := newWorldOn(t, open("one"), "bypass")
		w.filled()
		anna, ben := w.in("anna", Admin), w.in("ben", Helpdesk)
		for path, text := range map[string]string{"/people?q=ALI": "alice", "/person?name=alice": "locked until", "/devices?q=desk": "desk-4", "/device?id=" + desk: "clock",
			"/events?user=alice&verdict=deny": "wrong code", "/events/new?after=0": "user added", "/operators": "ben"} {
			if r := anna.get(path); r.status != http.StatusOK || !strings.Contains(r.body, text) {
				t.Errorf("%s: %d %s", path, r.status, r.body)
			}
		}
		id := w.asks(ben)
		anna.steps("approve", id)
		if r := ben.steps("carry-out", id); r.status != http.StatusOK || w.count(enrol.BypassIssued) != 1 {
			t.Errorf("%d %s", r.status, r.body)
		}
		form := url.Values{"form": {ben.get("/act/unlock?" + aliceHere.Encode()).token("/act/unlock")}, "user": {"alice"}, "device": {laptop}}
		statuses := map[int]int{}
		results := make(chan int, 8)
		for range cap(results) {
			go func() { results <- (&client{w: w, cookie: ben.cookie}).post("/act/unlock", form).status }()
		}
		for range cap(results) {
			statuses[<-results]++
		}
		if statuses[http.StatusSeeOther] != 1 || w.count(enrol.UnlockIssued) != 1 {
			t.Errorf("one form, sent eight times at once: %v", statuses)
		}
		w.ok(w.operators().Remove(t.Context(), "test", "ben"))
		if !ben.out() {
			t.Error("ben is in")
		}
	})
}
