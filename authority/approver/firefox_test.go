package approver

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/authority/webpush"
	"sallyport/internal/testkit/firefox"
)

// TestInFirefox goes the whole way in another browser, with a push service and the
// page on an origin of its own: enrol, subscribe, ring, approve.
func TestInFirefox(t *testing.T) {
	if err := firefox.Installed(); err != nil {
		t.Skip(err)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	service, err := firefox.NewPushService()
	ok(err)
	defer func() { _ = service.Close() }()
	browser, err := firefox.Start(t.Context(), service)
	ok(err)
	defer func() { ok(browser.Close()) }()
	ok(browser.Authenticator(true))
	pem, err := webpush.NewKey()
	ok(err)
	key, err := webpush.ParseKey(pem)
	ok(err)
	sender, err := webpush.New(webpush.Options{Key: key, Subject: "mailto:it@example.com", UnsafeLocal: []string{service.Host()}, Log: slog.New(slog.DiscardHandler)})
	ok(err)

	w := newWorld(t)
	w.clock = time.Time{}
	o := w.options()
	o.VAPIDPublicKey, o.CheckSubscription = sender.PublicKey(), sender.Check
	server := httptest.NewServer(Handler(o))
	defer server.Close()
	dir := t.TempDir()
	host := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer host.Close()
	w.settings.Origin = strings.Replace(host.URL, "127.0.0.1", "localhost", 1)
	w.settings.API = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	ok(Export(dir, w.settings, sender.PublicKey()))
	w.computers()

	_, _, fragment := w.code("LAPTOP", "alice")
	tab, err := browser.Open(w.settings.Origin + "/" + fragment)
	ok(err)
	defer func() {
		if t.Failed() {
			text, _ := tab.Text("body")
			t.Log(text, tab.Console())
		}
	}()
	ok(tab.Click("#enrol-button"))
	ok(tab.WaitText("#enrolled", "This phone is enrolled"))
	ok(tab.WaitText("#enrolled .toggle", "Turn on"))
	ok(tab.Click("#enrolled .toggle"))
	ok(tab.WaitText("#enrolled", "On. This phone rings"))
	ok(tab.Click("#enrolled-done"))
	ok(tab.WaitText("#home", "Nothing to approve"))

	var credential, subscription []byte
	w.view(func(tx store.Tx) error {
		list, err := tx.Approvers("alice")
		if err != nil {
			return err
		}
		credential = list[0].CredentialID
		sessions, err := tx.Sessions(list[0].ID)
		if err == nil {
			subscription = sessions[0].Subscription
		}
		return err
	})
	live := w.login(sshLogin, "LAPTOP", credential)
	c := live.Challenge
	payload, err := json.Marshal(map[string]any{"type": "login", "id": c.ID, "user": c.User, "device": c.Name, "service": c.Service, "from": c.From, "expires": c.Expires})
	ok(err)
	ok(sender.Ring(t.Context(), subscription, payload, time.Minute))
	ok(tab.Wait(`(await (await navigator.serviceWorker.ready).getNotifications()).some(n => n.title === 'Log in to laptop-17?')`))
	ok(tab.WaitText(".card", "203.0.113.7"))
	ok(tab.Type(".number", live.Number))
	ok(tab.Click(".approve"))
	ok(tab.WaitText(".result", "Approved"))
	if !w.came(c.ID).OK {
		t.Errorf("%+v", w.came(c.ID))
	}
	for _, line := range tab.Console() {
		if strings.Contains(line, "Content-Security-Policy") || strings.Contains(line, "blocked") {
			t.Error(line)
		}
	}
}
