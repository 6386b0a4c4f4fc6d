package console

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
