package cli

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestEventsGoOutOfARunningAuthority, also those that came while it did not run; a
// second start goes on where the first was.
func TestEventsGoOutOfARunningAuthority(t *testing.T) {
	s := newShell(t)
	s.init()
	var mu sync.Mutex
	var ids []string
	var said []string
	hooks := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b struct {
			Events []struct {
				ID    string
				Event struct{ Event, User string }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil || !strings.HasPrefix(r.Header.Get("webhook-signature"), "v1,") {
			t.Errorf("%v, %v", err, r.Header)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range b.Events {
			ids, said = append(ids, e.ID), append(said, e.Event.Event+"/"+e.Event.User)
		}
	}))
	hooks.Config.ErrorLog = log.New(io.Discard, "", 0)
	hooks.StartTLS()
	t.Cleanup(hooks.Close)
	ca, secret := filepath.Join(s.dir, "ca.pem"), filepath.Join(s.dir, "secret")
	ok(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hooks.Certificate().Raw}), 0o600))
	ok(t, os.WriteFile(secret, []byte("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), 0o600))
	text, err := os.ReadFile(s.config)
	ok(t, err)
	ok(t, os.WriteFile(s.config, append(text, "\n[events_out.webhook]\nurl = \""+hooks.URL+"/in\"\nsecret_file = \""+secret+"\"\nca = \""+ca+"\"\n"...), 0o600))
	wait := func(what string) {
		t.Helper()
		eventually(t, what, func() bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(said, what) })
	}
	s.ok("user", "add", "maya")
	a := s.serve()
	wait("user_added/maya")
	s.ok("user", "add", "noor")
	wait("user_added/noor")
	eventually(t, "the end of what waits", func() bool { // only then the authority knows that it came
		_, page := a.get(t, "/metrics")
		return strings.Contains(page, `sallyport_events_out_waiting{outlet="webhook"} 0`)
	})
	a.stop()
	s.ok("user", "add", "zoe")
	s.serve()
	wait("user_added/zoe")
	mu.Lock()
	defer mu.Unlock()
	if unique := slices.Compact(slices.Sorted(slices.Values(ids))); len(unique) != len(ids) {
		t.Errorf("some came twice though nothing failed: %q", ids)
	}
}
