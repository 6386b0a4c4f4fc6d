package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor/offline"
	"sallyport/internal/organisation"
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
	p.ok(p.Wait("document.readyState === 'complete'")) // and its scripts listen
}

// searches types a name, and waits for what is found by the whole of it: what a part
// of it found is replaced, maybe between a look and a click.
func (p *person) searches(name string, types func()) {
	p.t.Helper()
	p.ok(p.Eval("void document.addEventListener('htmx:afterSettle', (e) => { window.found = new URL(e.detail.xhr.responseURL).searchParams.get('q'); })", nil))
	types()
	q, err := json.Marshal(name)
	p.ok(err)
	p.ok(p.Wait("window.found === " + string(q)))
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
	i, err := w.operators().Add(t.Context(), "test", "anna", Helpdesk)
	p.ok(err)
	p.ok(p.Go(i.URL.Reveal()))
	p.sees("lets anna")
	if at, _ := p.Address(); at != w.origin+"/invite" {
		t.Errorf("the secret stays in the address: %s", at)
	}
	p.follows(i)
	p.logsIn()
	if keys, err := p.keys.Passkeys(); err != nil || len(keys) != 1 || !keys[0].IsResidentCredential || keys[0].RpID != "localhost" {
		t.Errorf("%+v %v", keys, err)
	}
	p.searches("ali", func() { p.types("#q", "ali") })
	p.ok(p.Wait("document.querySelectorAll('.rows li').length === 1"))
	p.goes(".rows a", "alice")
	p.clicks("details.help summary")
	p.goes("a[href^='/act/bypass']", "Bypass code")
	p.types("#f-reason", "lost phone, ticket 123")
	p.clicks("form[action^='/act/'] button")
	p.ok(p.WaitFor(".spoken"))
	if code := p.text(".spoken"); len(code) != 14 {
		t.Errorf("the code is %q", code)
	}
	w.happened("bypass_issued", "operator:anna", "lost phone, ticket 123")
}

// TestEveryActionInABrowser does each by its form, as somebody who may; and looks that
// whoever may not, or is not logged in, gets no form.
func TestEveryActionInABrowser(t *testing.T) {
	w := newWorld(t)
	reader := w.sits(t, chromium.Desktop)
	samples := w.samples(t)
	for _, a := range actions {
		reader.form(a.name, samples[a.name][0])
		reader.ok(reader.WaitText("h1", "Log in")) // before the login
	}
	reader.is("rita", Read)
	for _, a := range actions {
		reader.form(a.name, samples[a.name][0])
		reader.sees(errRole.Text)
	}
	reader.opens("/person?name=alice")
	reader.sees("laptop-17")
	if n := reader.number("document.querySelectorAll('main a[href^=\"/act/\"], main form').length"); n != 0 {
		t.Errorf("who may do nothing is shown %v ways to do it", n)
	}

	p := w.sits(t, chromium.Desktop)
	i, err := w.operators().Add(t.Context(), "test", "anna", Admin)
	p.ok(err)
	p.follows(i)
	p.logsIn() // and so rita is out: it is the same browser
	for _, a := range actions {
		before := len(w.events())
		p.form(a.name, samples[a.name][0])
		p.ok(p.WaitText("h1", a.title))
		for field, values := range samples[a.name][1] {
			if field == fieldLife || field == fieldRole {
				p.clicks("input[name='" + field + "'][value='" + values[0] + "']")
			} else {
				p.types("#f-"+field, values[0])
			}
		}
		p.clicks("form[action='/act/" + a.name + "'] button")
		switch p.ok(p.WaitFor("[data-once], .notice.good")); a.name {
		case "bypass", "offline_bypass":
			if code := p.text(".spoken"); len(strings.ReplaceAll(code, "-", "")) != 12 {
				t.Errorf("%s: %q", a.name, code)
			}
		case "recovery":
			if n := p.number("document.querySelectorAll('.codes li').length"); n != 10 {
				t.Errorf("%v codes", n)
			}
		case "totp", "phone", "operator_add", "operator_invite":
			begin := map[string]string{"totp": "otpauth://totp/", "phone": "https://approve.example.com/#e=", "operator_add": w.origin + "/invite#", "operator_invite": w.origin + "/invite#"}[a.name]
			p.clicks("details summary")
			if link := p.text("#link"); !strings.HasPrefix(link, begin) {
				t.Errorf("%s: %q", a.name, link)
			}
			if n := p.number("document.querySelector('.qr path').getBBox().width"); n < 20 {
				t.Errorf("%s: a QR code %v wide", a.name, n)
			}
		default:
			p.sees(a.done)
		}
		if at, _ := p.Address(); strings.Contains(at, "form=") || strings.Contains(at, "#") {
			t.Errorf("%s: the address is %s", a.name, at)
		}
		all := w.events()
		if len(all) == before {
			t.Errorf("%s: no event", a.name)
		} else if last := all[len(all)-1]; last.By != "operator:anna" {
			t.Errorf("%s: %+v", a.name, last)
		}
	}
	w.view(func(tx store.Tx) error {
		for _, kind := range []organisation.Kind{organisation.KindUnlock, organisation.KindPushClear, organisation.KindRecovery, organisation.KindTOTP, organisation.KindBypass} {
			if _, err := tx.Item(kind, laptop, "alice"); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if d, err := tx.Device(desk); err != nil || d.Revoked.IsZero() || d.Why != "called back, ticket 7" {
			t.Errorf("%+v %v", d, err)
		}
		return nil
	})
}

func (p *person) number(expression string) (n float64) {
	p.t.Helper()
	p.ok(p.Eval(expression, &n))
	return n
}

// TestTheAnswerOpensTheOfflineComputer: what is read out is what that computer takes.
func TestTheAnswerOpensTheOfflineComputer(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Helpdesk)
	now := clock.Instant{Wall: w.now()}
	open := offline.NewOpen(laptop, "alice", now)
	p.form("offline_bypass", aliceHere)
	p.types("#f-challenge", strings.ToLower(open.Challenge.String()))
	p.types("#f-reason", "on a train")
	p.clicks("form[action^='/act/'] button")
	p.ok(p.WaitFor(".spoken"))
	answer := strings.ReplaceAll(p.text(".spoken"), "-", "")
	if right, late := open.Verify(w.bypassKey, strings.ReplaceAll(answer, " ", ""), now); !right || late {
		t.Errorf("%q: %v %v", answer, right, late)
	}
	// A mistyped challenge is said, and what was typed is still there.
	p.form("offline_bypass", aliceHere)
	p.types("#f-challenge", "AAAA-AAAA")
	p.types("#f-reason", "on a train")
	p.clicks("form[action^='/act/'] button")
	p.ok(p.WaitFor("[role=alert]"))
	if n := p.number("document.querySelector('#f-challenge').value.length"); n != 9 {
		t.Errorf("%v characters are left", n)
	}
}

// HAZARD: a code is shown once. A reload makes no other and shows none; the way back
// shows none; no address, log, event or table of the database has it.
func TestWhatIsShownOnceIsShownOnce(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Helpdesk)
	var codes []string
	for _, action := range []string{"bypass", "recovery", "totp", "phone"} {
		given := url.Values{"user": {"alice"}}
		if action != "phone" {
			given = aliceHere
		}
		p.form(action, given)
		if action == "bypass" {
			p.types("#f-reason", "x")
		}
		p.clicks("form[action^='/act/'] button")
		p.ok(p.WaitFor("[data-once]"))
		var code string
		p.ok(p.Eval("(document.querySelector('.spoken, .codes code') ?? document.querySelector('#link')).textContent", &code))
		codes = append(codes, code)
		n := len(w.events())
		p.ok(p.Reload())
		p.sees("shown once is not shown again")
		if len(w.events()) != n {
			t.Errorf("%s: the reload did it again", action)
		}
		p.ok(p.Eval("(window.here = true, history.back())", nil))
		p.ok(p.Wait("!window.here && document.readyState === 'complete' && document.querySelector('main')"))
		var page string
		p.ok(p.Eval("document.documentElement.outerHTML + JSON.stringify([localStorage, sessionStorage])", &page))
		if strings.Contains(page, code) {
			t.Errorf("%s: it is there again", action)
		}
	}
	var kept strings.Builder
	w.view(func(tx store.Tx) error {
		list, _, err := tx.Events(0, "", "", 1000)
		for _, e := range list {
			kept.Write(e.JSON)
		}
		items, err2 := tx.Items(laptop)
		for _, i := range items {
			kept.Write(i.Envelope)
		}
		requests, err3 := tx.OperatorRequests(w.now())
		fmt.Fprint(&kept, requests, err, err2, err3)
		return nil
	})
	files, err := filepath.Glob(w.file + "*") // with what is not in its place yet
	p.ok(err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		p.ok(err)
		kept.Write(b)
	}
	if len(files) == 0 || !strings.Contains(kept.String(), "laptop-17") {
		t.Error("the database was not read")
	}
	for _, code := range codes {
		short := code[len(code)-8:]
		if strings.Contains(kept.String(), short) || strings.Contains(w.log.String(), short) || len(code) < 8 {
			t.Errorf("%q was kept", code)
		}
	}
}

// stranger is a page of somebody else, open in the operator's own browser.
func (p *person) stranger(t *testing.T, secure bool, body string) *chromium.Tab {
	t.Helper()
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = rw.Write([]byte("<!DOCTYPE html><title>stranger</title>" + body))
	})
	var s *httptest.Server
	if secure {
		s = httptest.NewTLSServer(h)
	} else {
		s = httptest.NewServer(h)
	}
	t.Cleanup(s.Close)
	tab, err := shared.Open(chromium.Desktop)
	p.ok(err)
	t.Cleanup(tab.Close)
	// On localhost it is even the same site, so that the browser sends the cookie along.
	p.ok(tab.Go(strings.Replace(s.URL, "127.0.0.1", "localhost", 1)))
	return tab
}

// HAZARD: CSRF, by a real browser that is logged in: another page's form and another
// page's script, from another site and from the same one, reach nothing.
func TestAnotherPageCannotAct(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Admin)
	p.opens("/act/phone?user=alice")
	p.ok(p.WaitText("h1", "Enrol a phone"))
	var token string // even if somebody got hold of one
	p.ok(p.Eval("document.querySelector('form[action^=\"/act/\"] [name=form]').value", &token))
	for _, secure := range []bool{true, false} {
		form := fmt.Sprintf(`<form method=post action="%s/act/phone"><input name=form value="%s"><input name=user value=alice><button id=go>win</button></form>`, w.origin, token)
		tab := p.stranger(t, secure, form)
		p.ok(tab.Click("#go"))
		// The cookie came along on the same site, and the origin was another; from another site there
		// was none.
		p.ok(tab.Wait(`document.body.innerText.includes('did not come from a page of the console')`))

		tab = p.stranger(t, secure, "")
		var results []string
		p.ok(tab.Eval(fmt.Sprintf(`Promise.all(['/act/phone', '/logout', '/login', '/invite'].flatMap((path) => [
			['cors', {'Content-Type': 'application/x-www-form-urlencoded'}, 'form=%s&user=alice'], ['no-cors', {'Content-Type': 'text/plain'}, '{}'], ['cors', {'Content-Type': 'application/json'}, '{}']
		].map(([mode, headers, body]) => fetch('%s' + path, {method: 'POST', mode, credentials: 'include', headers, body}).then((r) => mode + r.type + r.status, (e) => 'refused'))))`, token, w.origin), &results))
		for _, r := range results {
			if r != "refused" && r != "no-corsopaque0" {
				t.Errorf("secure %v: %v", secure, results)
			}
		}
		// It cannot read, either.
		var read string
		p.ok(tab.Eval(fmt.Sprintf(`fetch('%s/people', {credentials: 'include'}).then((r) => r.text(), () => 'refused')`, w.origin), &read))
		if read != "refused" {
			t.Errorf("secure %v: a stranger reads %.60q", secure, read)
		}
	}
	if n := w.count(enrol.EnrolmentOpened); n != 0 {
		t.Errorf("%d phones could enrol", n)
	}
	// The token was good all the while.
	p.clicks("form[action^='/act/'] button")
	p.ok(p.WaitFor("[data-once]"))
}

// HAZARD: clickjacking. No page of the console is shown in a frame.
func TestNoPageIsShownInAFrame(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Admin)
	paths := []string{"/people", "/act/bypass?user=alice&device=" + laptop, "/login", "/nothing"}
	body := `<script>const loaded = {};</script><iframe id=own srcdoc="<p>own</p>" onload="loaded.own = this.contentDocument !== null"></iframe>`
	for i, path := range paths {
		body += fmt.Sprintf(`<iframe id=f%d src="%s%s" onload="loaded.f%d = true"></iframe>`, i, w.origin, strings.ReplaceAll(path, "&", "&amp;"), i)
	}
	for _, secure := range []bool{true, false} {
		tab := p.stranger(t, secure, body)
		p.ok(tab.Wait("loaded.own"))
		for i := range paths {
			p.ok(tab.Wait(fmt.Sprintf("loaded.f%d", i)))
		}
		refused := func() (n int) { // which the browser says when it likes
			for _, line := range tab.Console() {
				if strings.Contains(line, w.origin) && (strings.Contains(line, "frame-ancestors") || strings.Contains(line, "X-Frame-Options")) {
					n++
				}
			}
			return n
		}
		for deadline := time.Now().Add(time.Minute); refused() < len(paths); p.ok(tab.Wait("true")) {
			if time.Now().After(deadline) {
				t.Fatalf("secure %v: %d of %d were refused: %q", secure, refused(), len(paths), tab.Console())
			}
		}
	}
}

// HAZARD: a name that is a script. Every text that comes from elsewhere is hostile here.
func TestHostileNamesAreText(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	const evil = `"'><img src=x onerror=hit()><script>hit()</script>{{.}}`
	user := `"'><img src=x onerror=hit()> ${1}&amp;`
	p.ok(p.Before("window.hits = 0; window.hit = () => window.hits++"))
	w.ok(w.enrol.AddUser(t.Context(), evil[:40], user))
	w.joined("EVILAAAAAAAAAAAAAAAAAAAAAA", evil, "*")
	w.phone(user, evil)
	w.update(func(tx store.Tx) error {
		b, err := json.Marshal(event.Event{Name: evil, User: user, Service: evil, Remote: evil, Verdict: evil, Reason: evil, Factor: evil, By: evil, Text: evil})
		if err != nil {
			return err
		}
		if _, err := tx.AddEvents([]store.Event{{Device: "EVILAAAAAAAAAAAAAAAAAAAAAA", VaultID: "v", Seq: 1, Time: w.now(), Kept: w.now(), Name: evil, User: user, JSON: b}}); err != nil {
			return err
		}
		_, err = tx.PutReport(store.Report{Device: "EVILAAAAAAAAAAAAAAAAAAAAAA", At: w.now(), OS: evil, State: evil, Problems: []store.Problem{{Code: evil, Text: evil, Remedy: evil}},
			People: []store.Person{{User: user, PushState: evil, LastFactor: evil, LastSuccess: w.now()}}})
		return err
	})
	p.is("anna", Admin)
	seen := 0
	for _, path := range []string{"/people", "/people?q=" + url.QueryEscape(user), "/person?name=" + url.QueryEscape(user), "/devices", "/devices?q=" + url.QueryEscape(evil), "/device?id=EVILAAAAAAAAAAAAAAAAAAAAAA", "/events",
		"/events?text=" + url.QueryEscape(evil[:30]) + "&user=" + url.QueryEscape(user), "/act/bypass?user=" + url.QueryEscape(user) + "&device=EVILAAAAAAAAAAAAAAAAAAAAAA",
		"/act/bypass?user=" + url.QueryEscape(evil), "/people?done=" + url.QueryEscape(evil), "/operators"} {
		p.opens(path)
		p.ok(p.Wait("document.readyState === 'complete'"))
		if n := p.number("window.hits"); n != 0 {
			t.Errorf("%s ran it", path)
		}
		if n := p.number("document.querySelectorAll('main img, main script').length"); n != 0 {
			t.Errorf("%s has elements of theirs", path)
		}
		if strings.Contains(p.text("main"), "onerror=hit()") {
			seen++
		}
	}
	if seen < 8 {
		t.Errorf("the names were seen on %d pages only", seen)
	}
	// By htmx, too.
	p.opens("/events")
	p.ok(p.WaitFor(".events"))
	w.ok(w.enrol.AddUser(t.Context(), evil[:40], user+"2"))
	p.sees(user + "2")
	p.opens("/people")
	p.types("#q", user)
	p.ok(p.Wait("document.querySelectorAll('.rows li').length === 2"))
	if n := p.number("window.hits + document.querySelectorAll('main img, main script').length"); n != 0 {
		t.Error("what came by itself ran")
	}
	for _, line := range p.Console() {
		if strings.Contains(line, "Refused") {
			t.Error(line) // the policy had to step in: something was not escaped
		}
	}
}

func TestEventsAppearByThemselves(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Read)
	p.opens("/events")
	p.ok(p.WaitFor(".events"))
	p.ok(p.Eval("document.querySelector('.events a').focus()", nil))
	for _, name := range []string{"dora", "emil"} {
		w.ok(w.enrol.AddUser(t.Context(), "operator:anna", name))
		p.ok(p.WaitText(".events", name))
	}
	p.ok(p.Wait("document.querySelector('#news').textContent.includes('2 new events')"))
	var order []string
	p.ok(p.Eval("[...document.querySelectorAll('.events tbody a[href^=\"/person\"]')].map((a) => a.textContent).slice(0, 2)", &order))
	if fmt.Sprint(order) != "[emil dora]" {
		t.Errorf("%v", order)
	}
	if n := p.number("Number(document.activeElement.matches('.events a'))"); n != 1 {
		t.Error("the focus was lost")
	}
	p.ok(p.Eval("(window.held = 0, document.addEventListener('htmx:beforeRequest', (e) => { window.held += e.defaultPrevented }))", nil))
	p.ok(p.Click("#pause"))
	p.ok(p.Wait("window.held >= 1")) // what was under way has come
	w.ok(w.enrol.AddUser(t.Context(), "operator:anna", "fay"))
	p.ok(p.Wait("window.held >= 3"))
	if n := p.number("Number(document.querySelector('.events').textContent.includes('fay'))"); n != 0 {
		t.Error("it goes on while it is paused")
	}
	p.ok(p.Click("#pause"))
	p.ok(p.WaitText(".events", "fay"))
	p.ok(p.Click(".filter summary"))
	p.types("#f-user", "dora")
	p.clicks(".filter button")
	p.ok(p.Wait("document.querySelectorAll('.events tbody tr').length === 1"))
}

// TestASessionThatEndsShowsTheLogin: by itself, and when somebody takes the role away.
func TestASessionThatEndsShowsTheLogin(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Helpdesk)
	p.opens("/events")
	p.ok(p.WaitFor(".events"))
	w.pass(15 * time.Minute)
	p.ok(p.WaitText("h1", "Log in")) // the live view asked, and was told
	p.logsIn()
	p.form("phone", url.Values{"user": {"alice"}})
	p.ok(p.WaitText("h1", "Enrol a phone"))
	w.ok(w.operators().SetRole(t.Context(), "test", "anna", Read))
	p.clicks("form[action^='/act/'] button")
	p.sees(errSignedOut.Text)
	p.logsIn()
	p.form("phone", url.Values{"user": {"alice"}})
	p.sees(errRole.Text)
	if n := w.count(enrol.EnrolmentOpened); n != 0 {
		t.Errorf("%d phones could enrol", n)
	}
	p.opens("/people")
	p.clicks(".who button")
	p.ok(p.WaitText("h1", "Log in"))
	p.opens("/people")
	p.ok(p.WaitText("h1", "Log in"))
}

// TestTwoOperators: one asks, another approves, and only then there is a code.
func TestTwoOperators(t *testing.T) {
	w := newWorld(t, "bypass")
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Helpdesk)
	ben, rita := w.in("ben", Helpdesk), w.in("rita", Read)
	p.form("bypass", aliceHere)
	p.sees("second person")
	p.types("#f-reason", "lost phone, ticket 9")
	p.clicks("form[action^='/act/'] button")
	p.sees("waits for a second person")
	w.happened(enrol.ApprovalRequested, "operator:anna", "lost phone, ticket 9")
	if w.count(enrol.BypassIssued) != 0 {
		t.Fatal("there is a code already")
	}
	if n := p.number("document.querySelectorAll('form[action=\"/request/approve\"], form[action=\"/request/carry-out\"]').length"); n != 0 {
		t.Error("who asked may approve")
	}
	id := w.request()
	step := func(c *client, step string) reply {
		return c.post("/request/"+step, url.Values{"form": {w.formToken(c, "request/"+step)}, "id": {id}})
	}
	// By none of the ways around it.
	anna := &client{w: w, cookie: w.browser}
	if anna.out() {
		t.Fatal("anna's session is not known here")
	}
	for _, step := range []reply{step(anna, "approve"), step(anna, "carry-out"), step(rita, "approve"), step(ben, "carry-out")} {
		if step.status < 400 {
			t.Errorf("%d", step.status)
		}
	}
	if w.count(enrol.BypassIssued) != 0 || w.count(enrol.ApprovalGiven) != 0 {
		t.Fatal("there is a code already")
	}
	if !strings.Contains(ben.get("/people").body, "waiting for you") {
		t.Error("ben is not told")
	}
	if r := step(ben, "approve"); r.status != http.StatusSeeOther {
		t.Fatalf("%d %s", r.status, r.body)
	}
	w.happened(enrol.ApprovalGiven, "operator:ben", "asked by anna")
	if w.count(enrol.BypassIssued) != 0 {
		t.Fatal("there is a code before it is fetched")
	}
	p.opens("/requests")
	p.sees("approved by ben")
	p.clicks("form[action='/request/carry-out'] button")
	p.ok(p.WaitFor(".spoken"))
	w.happened(enrol.BypassIssued, "operator:anna", "lost phone, ticket 9")
	p.ok(p.Reload())
	p.sees("shown once is not shown again")
	if w.count(enrol.BypassIssued) != 1 {
		t.Error("it was made twice")
	}
	p.opens("/requests")
	p.sees("Nothing waits")
}

// TestByKeyboardAlone: from the login to a code without a mouse, and one always sees
// where one is.
func TestByKeyboardAlone(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	i, err := w.operators().Add(t.Context(), "test", "anna", Helpdesk)
	p.ok(err)
	p.follows(i)
	// tab goes on until something of that selector has the focus.
	tab := func(selector string) {
		t.Helper()
		for range 60 {
			p.ok(p.Press(kb.Tab))
			var at struct {
				Is   bool
				Ring float64
				What string
			}
			p.ok(p.Eval(fmt.Sprintf(`(() => { const e = document.activeElement; return {Is: e.matches(%q), Ring: e === document.body ? 3 : parseFloat(getComputedStyle(e).outlineWidth) * (getComputedStyle(e).outlineStyle === 'none' ? 0 : 1), What: e.outerHTML.slice(0, 100)}; })()`, selector), &at))
			if at.Ring < 2 {
				t.Errorf("one does not see the focus on %s", at.What)
			}
			if at.Is {
				return
			}
		}
		t.Fatalf("%s is not reached", selector)
	}
	p.opens("/login")
	tab("#login")
	p.ok(p.Press(kb.Enter))
	p.ok(p.WaitText("h1", "People"))
	p.ok(p.Wait("document.readyState === 'complete'"))
	tab(".skip")
	p.ok(p.Press(kb.Enter))
	p.ok(p.Wait("document.activeElement.id === 'main'"))
	tab("#q")
	p.searches("alice", func() { p.ok(p.Press("alice")) })
	p.ok(p.Wait("document.querySelectorAll('.rows li').length === 1"))
	tab(".rows a")
	p.ok(p.Press(kb.Enter))
	p.ok(p.WaitText("h1", "alice"))
	p.ok(p.Wait("document.readyState === 'complete'"))
	tab("details.help summary")
	p.ok(p.Press(kb.Enter))
	tab("a[href^='/act/bypass']")
	p.ok(p.Press(kb.Enter))
	p.ok(p.WaitText("h1", "Bypass code"))
	p.ok(p.Wait("document.readyState === 'complete'"))
	tab("input[name=life]")
	tab("#f-reason")
	p.ok(p.Press("lost phone" + kb.Enter))
	p.ok(p.WaitFor(".spoken"))
	p.ok(p.Wait("document.activeElement.matches('.spoken')"))
}

// TestWithoutScripts: behind the login everything is links and forms.
func TestWithoutScripts(t *testing.T) {
	w := newWorld(t)
	w.filled()
	p := w.sits(t, chromium.Desktop)
	p.is("anna", Admin)
	p.ok(p.Scripts(false))
	p.opens("/people")
	p.types("#q", "alice"+kb.Enter)
	p.ok(p.Wait("document.querySelectorAll('.rows li').length === 1"))
	p.goes(".rows a", "alice")
	p.goes("a[href^='/act/recovery']", "New recovery codes")
	p.clicks("form[action^='/act/'] button")
	p.ok(p.Wait("document.querySelectorAll('.codes li').length === 10"))
	p.goes("main .button", "alice")
	p.goes("a[href^='/events?user=']", "Events")
	p.ok(p.Wait("document.querySelectorAll('.events tbody tr').length > 3"))
	p.goes("nav a[href='/devices']", "Computers")
	p.goes("tbody a[href$='"+laptop+"']", "laptop-17")
	p.goes("a[href^='/act/revoke']", "Revoke")
	p.types("#f-reason", "stolen")
	p.clicks("form[action^='/act/'] button")
	p.sees("The computer is revoked.")
	p.clicks(".who button")
	p.ok(p.WaitText("h1", "Log in"))
	p.sees("Passkeys need JavaScript")
	p.ok(p.Scripts(true))
}

// TestTheChecksOfScreensBite: on a page with each fault, each is found.
func TestTheChecksOfScreensBite(t *testing.T) {
	w := newWorld(t)
	p := w.sits(t, chromium.Desktop)
	tab := p.stranger(t, true, `<main><h1>a</h1><h1></h1><h3>b</h3><a href=x></a><input><button style="height: 10px">x</button><img src=data:,><p id=x></p><p id=x></p><table><tr><td>1</table>
		<p style="color: #aaa; background: #fff">pale</p><p tabindex=3>t</p><p aria-describedby=nowhere>d</p><div style="width: 3000px">wide</div></main>`)
	var found []string
	p.ok(tab.Eval(faults, &found))
	all := strings.Join(found, "\n")
	for _, want := range []string{"html-has-lang", "one h1", "heading-order", "empty-heading", "name: <a", "label: <input", "aria-valid", "duplicate-id: x", "image-alt", "table:", "tabindex", "target-size", "color-contrast", "wide:"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s was not found among\n%s", want, all)
		}
	}
}
