package console

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/testkit/chromium"
)

// The browser is shared: each test has a port, and so an origin and a cookie jar's
// key, of its own.
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

// person is an operator with a browser.
type person struct {
	*chromium.Tab
	t    *testing.T
	w    *world
	keys *chromium.Authenticator
}

// sits opens a browser with a passkey's authenticator.
func (w *world) sits(t *testing.T, s chromium.Screen) *person {
	t.Helper()
	if err := chromium.Installed(); err != nil {
		t.Skip(err)
	}
	shared.Do(func() { shared.Browser, shared.err = chromium.Start(context.Background(), chromium.TrustAll) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	w.mu.Lock()
	w.clock = time.Now().Truncate(time.Second) // near to the browser's
	w.mu.Unlock()
	p := &person{t: t, w: w}
	tab, err := shared.Open(s)
	p.ok(err)
	t.Cleanup(tab.Close)
	p.Tab = tab
	p.keys, err = tab.Authenticator(true, false)
	p.ok(err)
	t.Cleanup(func() {
		if t.Failed() {
			at, _ := tab.Address()
			t.Log(at, strings.Join(tab.Console(), "\n"))
			png, _ := tab.Screenshot(true)
			_ = os.WriteFile(filepath.Join(os.TempDir(), "console-failed.png"), png, 0o600)
			return
		}
		// Nothing that a page does is against its own policy, or fails in silence.
		for _, line := range tab.Console() {
			if strings.Contains(line, "Content Security Policy") || strings.Contains(line, "TypeError") || strings.Contains(line, "SyntaxError") {
				t.Errorf("console: %s", line)
			}
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

func (p *person) opens(path string) { p.t.Helper(); p.ok(p.Go(p.w.origin + path)) }

func (p *person) types(selector, text string) { p.t.Helper(); p.ok(p.Type(selector, text)) }

// text is what the person reads.
func (p *person) text(selector string) string {
	p.t.Helper()
	text, err := p.Text(selector)
	p.ok(err)
	return text
}

// is invites an operator and has them make a passkey and log in, as the page has it.
func (p *person) is(name string, role Role) {
	p.t.Helper()
	i, err := p.w.operators().Add(context.Background(), "test", name, role)
	p.ok(err)
	p.follows(i)
	p.logsIn()
}

func (p *person) follows(i *Invitation) {
	p.t.Helper()
	p.ok(p.Go("about:blank"))
	p.ok(p.Go(i.URL.Reveal()))
	p.sees("lets ")
	p.clicks("#invite button")
	p.ok(p.WaitText("h1", "Log in"))
}

func (p *person) logsIn() {
	p.t.Helper()
	p.opens("/login")
	p.clicks("#login")
	p.ok(p.WaitText("h1", "People"))
}

// goes follows a link and waits until the page of that heading is there.
func (p *person) goes(selector, heading string) {
	p.t.Helper()
	p.clicks(selector)
	p.ok(p.WaitText("h1", heading))
	p.ok(p.Wait("document.readyState === 'complete'"))
}

// form opens an action's form.
func (p *person) form(action string, given url.Values) {
	p.t.Helper()
	p.opens("/act/" + action + "?" + given.Encode())
}

var aliceHere = url.Values{"user": {"alice"}, "device": {laptop}}

func TestFromTheInvitationToAnAction(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Helpdesk)
	p.types("#q", "ali")
	p.ok(p.Wait("document.querySelectorAll('.rows li').length === 1"))
	p.goes(".rows a", "alice")
	p.goes("a[href^='/act/bypass']", "Bypass code")
	p.types("#f-reason", "lost phone, ticket 123")
	p.clicks("form[action^='/act/'] button")
	p.ok(p.WaitFor(".spoken"))
	if code := p.text(".spoken"); len(code) != 14 {
		t.Errorf("the code is %q", code)
	}
	w.happened("bypass_issued", "operator:anna", "lost phone, ticket 123")
}
