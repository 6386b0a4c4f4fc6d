package console

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/authority/store"
)

// TestWithTheOrganisationsKeyElsewhere: what is not in force yet is said to be so.
func TestWithTheOrganisationsKeyElsewhere(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Helpdesk)
	w.ok(os.Remove(filepath.Join(w.keys, "organisation.key")))
	w.opens()
	w.restart()
	if r := c.submits("bypass", aliceHere, url.Values{"life": {"1h"}, "reason": {"x"}}); r.status != http.StatusOK || !strings.Contains(r.body, "Not good yet") || !strings.Contains(r.body, "spoken") {
		t.Errorf("%d %s", r.status, r.body)
	}
	phone := url.Values{"user": {"alice"}, "phone": {w.phone("alice", "Pixel 9")}}
	for action, given := range map[string]url.Values{"unlock": aliceHere, "phone_remove": phone} {
		r := c.submits(action, given, nil)
		if r.status != http.StatusSeeOther {
			t.Fatalf("%s: %d %s", action, r.status, r.body)
		}
		if page := c.get(r.header.Get("Location")); !strings.Contains(page.body, "not in force yet") {
			t.Errorf("%s: %s", action, page.body)
		}
	}
}

// TestWhatIsLeftIsCounted in words that are right for one and for none.
func TestWhatIsLeftIsCounted(t *testing.T) {
	w := newWorld(t)
	c := w.in("rita", Read)
	for left, want := range map[int][]string{
		0: {"no offline login left"},
		1: {">1 recovery code<", ">1 offline login left<"},
		3: {">3 recovery codes<", ">3 offline logins left<"},
	} {
		w.update(func(tx store.Tx) error {
			_, err := tx.PutReport(store.Report{Device: laptop, At: w.now(), State: "ok", People: []store.Person{{User: "alice", Key: "uid:1000", TOTP: true, RecoveryLeft: left, OfflineLeft: &left}}})
			return err
		})
		page := c.get("/person?name=alice").body
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("%d left: no %q in %s", left, text, page)
			}
		}
	}
}
