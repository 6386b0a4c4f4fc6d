package approver

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/chromium"
)

// The browser is shared: each test has a port, and so an origin and a storage, of
// its own.
var shared struct {
	sync.Once
	*chromium.Browser
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.Browser != nil {
		_ = shared.Close()
	}
	os.Exit(code)
}

// person is somebody with a phone.
type person struct {
	*chromium.Tab
	t      *testing.T
	w      *world
	phone  *chromium.Authenticator
	server *httptest.Server
	origin string
}

// holds opens a browser on a phone. verifies: it recognises its owner.
func (w *world) holds(t *testing.T, s chromium.Screen, verifies bool) *person {
	t.Helper()
	if err := chromium.Installed(); err != nil {
		t.Skip(err)
	}
	shared.Do(func() { shared.Browser, shared.err = chromium.Start(context.Background()) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	w.clock = time.Time{} // the browser's
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	p := &person{t: t, w: w, server: server, origin: strings.Replace(server.URL, "127.0.0.1", "localhost", 1)}
	w.settings.Origin, w.settings.API = p.origin, p.origin
	w.computers()
	tab, err := shared.Open(s)
	p.ok(err)
	t.Cleanup(tab.Close)
	p.Tab = tab
	p.phone, err = tab.Authenticator(verifies, false)
	p.ok(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(strings.Join(tab.Console(), "\n"))
			png, _ := tab.Screenshot(true)
			_ = os.WriteFile(filepath.Join(os.TempDir(), "approver-failed.png"), png, 0o600)
		}
	})
	return p
}

func (p *person) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) sees(text string) { p.t.Helper(); p.ok(p.WaitText("body", text)) }

func (p *person) clicks(selector string) { p.t.Helper(); p.ok(p.Click(selector)) }

// opens loads the page and waits until it runs.
func (p *person) opens(path string) {
	p.t.Helper()
	// A URL that differs in its fragment only would load nothing.
	p.ok(p.Go("about:blank"))
	p.ok(p.Go(p.origin + "/" + path))
	p.ok(p.Wait("document.documentElement.dataset.ready"))
}

// enrols goes through the page to its end.
func (p *person) enrols(device, user string) {
	p.t.Helper()
	_, _, fragment := p.w.code(device, user)
	p.opens(fragment)
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	p.clicks("#enrolled-done")
	p.sees("Nothing to approve")
}

// credential is the passkey of the phone.
func (p *person) credential() []byte {
	p.t.Helper()
	keys, err := p.phone.Passkeys()
	p.ok(err)
	if len(keys) == 0 {
		p.t.Fatal("the phone has no passkey")
	}
	return keys[len(keys)-1].CredentialID
}

// asked has a login of alice wait, and the page show it.
func (p *person) asked(c push.Challenge, device string) *push.Live {
	p.t.Helper()
	live := p.w.loginOf("alice", c, device, p.credential())
	p.ok(p.Eval("dispatchEvent(new Event('online'))", nil)) // asks at once
	p.ok(p.WaitText(".card h2", "Are you logging in?"))
	return live
}

var sshLogin = push.Challenge{Name: "laptop-17", User: "alice", Service: "sshd", From: "203.0.113.7"}

func TestEnrolAndApprove(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.enrols("LAPTOP", "alice")
	live := p.asked(sshLogin, "LAPTOP")
	p.ok(p.Type(".number", live.Number))
	p.clicks(".approve")
	p.sees("Approved")
	if v := w.came(live.Challenge.ID); !v.OK || v.Phone == "" {
		t.Errorf("the computer: %+v", v)
	}
}
