package approver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"sallyport/authority/store"
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

	mu      sync.Mutex
	seen    []string          // every request, with its body
	swapped map[string]string // scripts that somebody replaced
	dropped string            // a request that is done, and whose answer is lost
}

// ServeHTTP is the network between the phone and the authority.
func (p *person) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	what := r.Method + " " + r.URL.Path
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.URL.String()+" "+r.Referer()+" "+string(body))
	script, swapped := p.swapped[r.URL.Path]
	drop := p.dropped == what
	if drop {
		p.dropped = ""
	}
	p.mu.Unlock()
	switch {
	case swapped:
		rw.Header().Set("Content-Type", "text/javascript")
		_, _ = rw.Write([]byte(script))
	case drop:
		p.w.handler.ServeHTTP(httptest.NewRecorder(), r)
		rw.WriteHeader(http.StatusBadGateway)
	default:
		p.w.handler.ServeHTTP(rw, r)
	}
}

func (p *person) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func (p *person) swap(path, script string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swapped = map[string]string{path: script}
}

func (p *person) drop(request string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped = request
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
	p := &person{t: t, w: w}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	p.origin = strings.Replace(p.server.URL, "127.0.0.1", "localhost", 1)
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
	p.leaves()
	p.sees("Nothing to approve")
}

// leaves the page that says so, once all of it is drawn: what comes later moves the
// button.
func (p *person) leaves() {
	p.t.Helper()
	p.ok(p.Wait("document.querySelector('#enrolled .state').textContent !== ''"))
	p.clicks("#enrolled-done")
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

func TestTheSecretOfTheCodeStaysOnThePhone(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	id, secret, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	if at, err := p.Address(); err != nil || at != p.origin+"/" {
		t.Errorf("the address bar shows %q, %v", at, err)
	}
	if text, _ := p.Text("#enrol"); !strings.Contains(text, "alice") || !strings.Contains(text, "laptop-17") {
		t.Errorf("%q", text)
	}
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	encoded := fragment[strings.Index(fragment, "&s=")+3:][:43]
	for _, r := range p.requests() {
		if strings.Contains(r, encoded) || strings.Contains(r, "#") || strings.Contains(r, base64.StdEncoding.EncodeToString(secret)) {
			t.Errorf("the secret was sent: %s", r)
		}
	}
	var kept string
	p.ok(p.Eval("JSON.stringify([history.length, localStorage, sessionStorage, document.documentElement.outerHTML])", &kept))
	if strings.Contains(kept, encoded) || strings.Contains(kept, base64.StdEncoding.EncodeToString(secret)) {
		t.Error("the page kept the secret")
	}
	// The computer's check, once more and by hand.
	w.view(func(tx store.Tx) error {
		e, err := tx.Enrolment(id)
		if err != nil {
			return err
		}
		if !e.Accepted || !hmac.Equal(e.MAC, push.EnrolmentMAC(secret, id, "LAPTOP", "alice", *e.Registration)) {
			t.Errorf("%+v", e)
		}
		return nil
	})
	keys, err := p.phone.Passkeys()
	p.ok(err)
	if len(keys) != 1 || !keys[0].IsResidentCredential || keys[0].RpID != "localhost" || len(keys[0].UserHandle) != 32 || strings.Contains(string(keys[0].UserHandle), "alice") {
		t.Errorf("%+v", keys)
	}
}

func TestEnrolmentThatFailsSaysWhy(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.opens("#e=abc&s=&d=LAPTOP&u=alice")
	p.sees("not complete")
	_, _, fragment := w.code("LAPTOP", "alice")
	p.opens(strings.Replace(fragment, "#e=", "#e=x", 1))
	p.sees("used up")
	w.mu.Lock()
	w.refuse = "this user has three phones already"
	w.mu.Unlock()
	p.opens(fragment)
	p.clicks("#enrol-button")
	p.sees("this user has three phones already")
	var accounts any
	if p.ok(p.Eval("localStorage.accounts", &accounts)); accounts != nil {
		t.Errorf("the page keeps %v", accounts)
	}
	// A code that somebody altered on the way: the MAC is another.
	w.mu.Lock()
	w.refuse = ""
	w.mu.Unlock()
	_, _, fragment = w.code("LAPTOP", "alice")
	p.opens(strings.Replace(fragment, "&u=alice", "&u=alicia", 1))
	p.clicks("#enrol-button")
	p.sees("did not come from whoever scanned")
}

func TestTheAuthoritysCode(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	_, _, fragment := w.code("", "alice")
	p.opens(fragment)
	p.sees("all your computers")
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	p.leaves()
	live := p.asked(sshLogin, "SERVER")
	p.ok(p.Type(".number", live.Number))
	p.clicks(".approve")
	p.sees("Approved")
}

func TestWrongNumberDenyReport(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.enrols("LAPTOP", "alice")

	live := p.asked(sshLogin, "LAPTOP")
	p.ok(p.Type(".number", other(live.Number)))
	p.clicks(".approve")
	p.sees("That was not the number")
	if v := w.came(live.Challenge.ID); v.OK || v.Reason != push.WrongNumber {
		t.Errorf("%+v", v)
	}
	p.clicks(".close")

	live = p.asked(sshLogin, "LAPTOP")
	p.clicks(".deny")
	p.ok(p.WaitText(".result", "Denied"))
	if v := w.came(live.Challenge.ID); v.Reason != push.Denied {
		t.Errorf("%+v", v)
	}
	p.clicks(".close")

	live = p.asked(sshLogin, "LAPTOP")
	p.clicks(".report") // asks once
	p.sees("Report this login?")
	p.clicks(".report-no")
	p.clicks(".report")
	if v := w.came(live.Challenge.ID); v.Reason != "" {
		t.Errorf("reported without being sure: %+v", v)
	}
	p.clicks(".report-yes")
	p.ok(p.WaitText(".result", "locked"))
	if v := w.came(live.Challenge.ID); v.Reason != push.Reported {
		t.Errorf("%+v", v)
	}
}

func TestAPhoneThatDoesNotRecogniseItsOwner(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, false)
	id, _, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	p.clicks("#enrol-button")
	p.sees("the phone did not recognise you")
	w.view(func(tx store.Tx) error {
		if e, err := tx.Enrolment(id); err != nil || e.Registration != nil {
			t.Errorf("%+v, %v", e, err)
		}
		return nil
	})
	p.ok(p.phone.Recognise(true)) // another finger
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	p.leaves()

	p.ok(p.phone.Recognise(false))
	live := p.asked(sshLogin, "LAPTOP")
	for _, button := range []string{".approve", ".deny"} {
		p.ok(p.Type(".number", "1"))
		p.clicks(button)
		if button == ".approve" { // one digit is not asked for
			p.ok(p.Type(".number", "1"))
			p.clicks(button)
		}
		p.ok(p.WaitText(".answer .status", "the phone did not recognise you"))
	}
	w.view(func(tx store.Tx) error {
		if c, err := tx.Challenge(live.Challenge.ID); err != nil || c.Answer != nil {
			t.Errorf("%+v, %v", c.Answer, err)
		}
		return nil
	})
}

// evil is a service worker that somebody put in the place of ours. It steals the
// session's token from the page's requests, makes itself a key, and tries whatever a
// worker has, with no gesture.
const evil = `
let token = '', tried = [];
addEventListener('install', () => skipWaiting());
addEventListener('activate', (e) => e.waitUntil(clients.claim()));
addEventListener('fetch', (e) => { token = e.request.headers.get('Authorization') || token; });
const attempt = async (what, f) => { try { tried.push(what + ': ' + await f()); } catch (e) { tried.push(what + ': ' + e.name); } };
const b64 = (b) => btoa(String.fromCharCode(...new Uint8Array(b)));
async function attack() {
  const api = (path, init) => fetch('/api/v1/' + path, {...init, headers: {Authorization: token, 'Content-Type': 'application/json'}});
  const list = await (await api('challenges')).json(), me = await (await api('session')).json(), c = list.challenges[0];
  await attempt('credentials', () => navigator.credentials.get({publicKey: {challenge: new Uint8Array(32), rpId: 'localhost'}}));
  await attempt('PublicKeyCredential', () => PublicKeyCredential.name);
  await attempt('CredentialsContainer', () => CredentialsContainer.prototype.get.call(navigator, {publicKey: {}}));
  const key = await crypto.subtle.generateKey({name: 'ECDSA', namedCurve: 'P-256'}, false, ['sign']);
  for (const decision of ['approve', 'deny', 'report']) await attempt(decision, async () => {
    const utf8 = (s) => new TextEncoder().encode(s);
    const client = utf8(JSON.stringify({type: 'webauthn.get', challenge: btoa('x'.repeat(32)).replaceAll('=', ''), origin: location.origin, crossOrigin: false}));
    const data = new Uint8Array(37);
    data.set(new Uint8Array(await crypto.subtle.digest('SHA-256', utf8('localhost'))));
    data[32] = 5; data[36] = 200;
    const signature = await crypto.subtle.sign({name: 'ECDSA', hash: 'SHA-256'}, key.privateKey, data);
    const r = await api('challenges/' + c.id + '/answer', {method: 'POST', body: JSON.stringify({decision, credential_id: me.credential_id,
      authenticator_data: b64(data), client_data: b64(client), signature: b64(signature)})});
    return r.status;
  });
  return tried;
}
`

func TestASwappedServiceWorkerCannotSign(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.enrols("LAPTOP", "alice")
	p.swap("/sw.js", evil)
	p.ok(p.Eval(`navigator.serviceWorker.ready.then(r => r.update()).then(() => 1)`, nil))
	p.ok(p.Wait(`await navigator.serviceWorker.getRegistration().then(r => !r.installing && !r.waiting && r.active?.state == 'activated')`))
	p.opens("")
	live := p.asked(sshLogin, "LAPTOP")
	var tried []string
	p.ok(p.EvalInWorker(p.origin+"/sw.js", "attack()", &tried))
	want := "credentials: TypeError, PublicKeyCredential: ReferenceError, CredentialsContainer: ReferenceError, approve: 403, deny: 403, report: 403"
	if got := strings.Join(tried, ", "); got != want {
		t.Errorf("the worker: %s", got)
	}
	w.view(func(tx store.Tx) error {
		if c, err := tx.Challenge(live.Challenge.ID); err != nil || c.Answer != nil || c.Outcome != "" {
			t.Errorf("%+v, %v", c, err)
		}
		return nil
	})
}

func TestThePageShowsWhatTheBytesSay(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.enrols("LAPTOP", "alice")
	shown := func(what string) (text string) {
		p.ok(p.Eval(`document.querySelector('[data-of="`+what+`"]').textContent`, &text))
		return text
	}
	for _, c := range []struct {
		in   push.Challenge
		want [4]string
	}{
		{sshLogin, [4]string{"alice", "laptop-17", "Remote login (SSH)", "203.0.113.7"}},
		{push.Challenge{User: "alice", Name: "build-server", Service: "sudo"}, [4]string{"alice", "build-server", "Administrator command (sudo)", "At the computer itself"}},
		{push.Challenge{User: `<img src=x onerror="document.body.dataset.pwned=1">`, Name: "Zoë’s 笔记本", Service: "constructor", From: "2001:db8::1"},
			[4]string{`<img src=x onerror="document.body.dataset.pwned=1">`, "Zoë’s 笔记本", "constructor", "2001:db8::1"}},
		// What cannot be seen, or turns text around, is shown as odd.
		{push.Challenge{User: "alice\u202e\u0000\u200b", Name: "a\nb", Service: "__proto__", From: "x"}, [4]string{"alice���", "a�b", "__proto__", "x"}},
	} {
		live := p.asked(c.in, "LAPTOP")
		if got := [4]string{shown("user"), shown("name"), shown("service"), shown("from")}; got != c.want {
			t.Errorf("%q\nwant\n%q", got, c.want)
		}
		if text, _ := p.Text(".card .warn"); text != "Only type the number if you are logging in yourself right now. Nobody from your helpdesk will ever ask for it or read a number to you." {
			t.Errorf("%q", text)
		}
		p.ok(p.Type(".number", live.Number))
		p.clicks(".approve")
		p.sees("Approved") // these very bytes were signed
		p.clicks(".close")
	}
	var pwned bool
	if p.ok(p.Eval("'pwned' in document.body.dataset", &pwned)); pwned {
		t.Error("a name ran as a script")
	}
	// Bytes that are not of this challenge, or are none that can be shown, cannot be
	// answered.
	for _, b := range []string{string(w.login(sshLogin, "LAPTOP").Bytes), `{"type":"sallyport.login.v2"}`, "\xff"} {
		id := push.NewID()
		w.update(func(tx store.Tx) error {
			return tx.CreateChallenge(store.Challenge{ID: id, Device: "LAPTOP", User: "alice", Bytes: []byte(b), CredentialIDs: [][]byte{p.credential()}, Created: w.now(), Expires: w.now().Add(time.Minute)})
		})
		p.ok(p.Eval("dispatchEvent(new Event('online'))", nil))
		p.ok(p.WaitText(".result", "cannot be shown"))
		p.clicks(".close")
		// It still waits for an answer, and does not come back.
		live := p.asked(sshLogin, "LAPTOP")
		p.ok(p.Wait("document.querySelectorAll('.card').length == 1"))
		p.ok(p.Type(".number", live.Number))
		p.clicks(".approve")
		p.sees("Approved")
		p.clicks(".close")
		p.sees("Nothing to approve")
		w.update(func(tx store.Tx) error { return tx.EndChallenge(id, "cancelled", w.now()) })
	}
}

func TestANotificationOpensItsLogin(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.ok(shared.Notifications(p.origin, true))
	p.enrols("LAPTOP", "alice")
	first := w.login(push.Challenge{Name: "build-server", User: "alice", Service: "sudo"}, "LAPTOP", p.credential())
	live := w.login(sshLogin, "LAPTOP", p.credential())
	c := live.Challenge
	payload, _ := json.Marshal(map[string]any{"type": "login", "id": c.ID, "user": c.User, "device": c.Name, "service": c.Service, "from": c.From, "expires": c.Expires})
	p.ok(p.Push(p.origin, string(payload)))
	p.ok(p.Wait(`(await (await navigator.serviceWorker.ready).getNotifications()).length == 1`))
	var got struct{ Title, Body, Tag string }
	p.ok(p.Eval(`(await (await navigator.serviceWorker.ready).getNotifications()).map(n => ({Title: n.title, Body: n.body, Tag: n.tag}))[0]`, &got))
	if got.Title != "Log in to laptop-17?" || got.Body != "alice, Remote login (SSH), from 203.0.113.7" || got.Tag != c.ID {
		t.Errorf("%+v", got)
	}
	p.ok(p.Wait(`document.querySelectorAll('.card').length == 2`)) // without being asked
	p.ok(p.EvalInWorker(p.origin+"/sw.js", `registration.getNotifications().then(l => dispatchEvent(new NotificationEvent('notificationclick', {notification: l[0]})))`, nil))
	p.ok(p.Wait(`document.activeElement?.id == 'h-` + c.ID + `'`))
	p.ok(p.Type("#n-"+c.ID, live.Number))
	p.ok(p.Press("\r"))
	p.sees("Approved")
	if !w.came(c.ID).OK || w.came(first.Challenge.ID).OK {
		t.Error("another login was approved")
	}
	p.ok(p.Wait(`(await (await navigator.serviceWorker.ready).getNotifications()).length == 0`)) // it is over

	// The page was closed: the click opens it there.
	p.opens("#c=" + first.Challenge.ID)
	p.ok(p.Wait(`document.activeElement?.id == 'h-` + first.Challenge.ID + `'`))
	if at, _ := p.Address(); at != p.origin+"/" {
		t.Errorf("%q", at)
	}
	// A message that says nothing is shown all the same.
	for _, odd := range []string{"", "{", `{"type":"login"}`, "null"} {
		p.ok(p.Push(p.origin, odd))
	}
	p.ok(p.Wait(`(await (await navigator.serviceWorker.ready).getNotifications()).some(n => n.title == 'Sallyport')`))
}

func TestKeyboardOnly(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Desktop, true)
	on := func(selector string) {
		t.Helper()
		p.ok(p.Wait(`document.activeElement?.matches('` + selector + `')`))
	}
	tabs := func(selector string) {
		t.Helper()
		p.ok(p.Press(kb.Tab))
		on(selector)
	}
	_, _, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	on("#enrol-title") // where a screen reader begins
	tabs("#enrol-phone")
	tabs("#enrol-button")
	p.ok(p.Press("\r"))
	on("#enrolled-title")
	p.ok(p.Wait(`document.querySelector('#enrolled .toggle').checkVisibility()`))
	tabs("#enrolled .toggle")
	p.ok(p.Wait(`(document.querySelector('#enrolled .install').hidden || document.querySelector('#enrolled .install').focus(), true)`))
	tabs("#enrolled-done")
	p.ok(p.Press("\r"))
	p.sees("Nothing to approve")
	live := p.asked(sshLogin, "LAPTOP")
	on(".card h2")
	tabs(".number")
	p.ok(p.Press(live.Number))
	tabs(".approve")
	tabs(".deny")
	tabs(".report")
	p.ok(p.Press(" "))
	on(".sure h3")
	tabs(".report-yes")
	tabs(".report-no")
	p.ok(p.Press(" "))
	on(".report")
	p.ok(p.Eval("document.querySelector('.number').focus()", nil))
	p.ok(p.Press("\r"))
	on(".result h2")
	p.sees("Approved")
	tabs(".close")
	p.ok(p.Press("\r"))
	p.sees("Nothing to approve")
	if !w.came(live.Challenge.ID).OK {
		t.Error("not approved")
	}
}

func TestEverythingHasANameForAScreenReader(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	hears := func(want ...string) {
		t.Helper()
		list, err := p.Controls()
		p.ok(err)
		all := ""
		for _, c := range list {
			if c.Name == "" {
				t.Errorf("a %s without a name in %v", c.Role, list)
			}
			all += c.Role + " " + c.Name + "\n"
		}
		for _, c := range want {
			if !strings.Contains(all, c+"\n") {
				t.Errorf("no %q in\n%s", c, all)
			}
		}
	}
	p.opens("")
	hears("heading Open with your passkey", "button Open with your passkey")
	_, _, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	hears("heading Enrol this phone", "textbox Name of this phone", "button Create passkey")
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	hears("heading This phone is enrolled", "button Done")
	p.leaves()
	p.sees("Nothing to approve")
	hears("heading Nothing to approve", "button Sign out alice, laptop-17")
	live := p.asked(sshLogin, "LAPTOP")
	hears("heading Are you logging in?", "textbox Number on the login screen", "button Approve", "button Deny", "button This wasn’t me")
	p.ok(p.WaitText("#live", "alice on laptop-17"))
	p.clicks(".report")
	hears("heading Report this login?", "button Report it", "button Go back")
	p.clicks(".report-no")
	p.ok(p.Type(".number", live.Number))
	p.clicks(".approve")
	p.ok(p.WaitText(".result", "Approved"))
	hears("heading Approved", "button Close")
	p.ok(p.WaitText("#live", "Approved"))
	var lang string
	if p.ok(p.Eval("document.documentElement.lang", &lang)); lang != "en" {
		t.Error(lang)
	}
}

func TestThePolicyStopsInjectedScripts(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.enrols("LAPTOP", "alice")
	p.asked(sshLogin, "LAPTOP")
	p.clicks(".deny")
	p.ok(p.WaitText(".result", "Denied"))
	p.clicks(".close")
	p.ok(p.Reload())
	p.sees("Nothing to approve")
	for _, line := range p.Console() {
		if strings.HasPrefix(line, "error") || strings.Contains(line, "Content Security Policy") || strings.Contains(line, "violates") {
			t.Errorf("in normal use: %s", line)
		}
	}
	var stopped map[string]string
	p.ok(p.Eval(`(async () => {
		const out = {};
		const last = new Promise((done) => addEventListener('securitypolicyviolation', (e) => {
			out[e.effectiveDirective] = e.disposition;
			if (e.effectiveDirective === 'frame-src') done();
		}));
		const s = document.createElement('script');
		try { s.textContent = 'document.body.dataset.pwned = 1'; } catch (e) { out.text = e.name; }
		s.append('document.body.dataset.pwned = 1');
		document.body.append(s);
		try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="document.body.dataset.pwned=1">'); } catch (e) { out.html = e.name; }
		try { setTimeout('document.body.dataset.pwned = 1', 0); } catch (e) { out.timeout = e.name; }
		try { trustedTypes.createPolicy('other', {}); } catch (e) { out.policy = e.name; }
		const style = document.createElement('style');
		style.append('body { background: red }');
		document.head.append(style);
		await fetch('https://evil.example.com/').catch((e) => { out.fetch = e.name; });
		const frame = document.createElement('iframe');
		frame.src = location.href;
		document.body.append(frame);
		await last;
		out.pwned = document.body.dataset.pwned ?? 'no';
		out.background = getComputedStyle(document.body).backgroundColor;
		return out;
	})()`, &stopped))
	for k, want := range map[string]string{"pwned": "no", "html": "TypeError", "policy": "TypeError", "fetch": "TypeError", "connect-src": "enforce", "style-src-elem": "enforce", "frame-src": "enforce"} {
		if stopped[k] != want {
			t.Errorf("%s: %q, want %q in %v", k, stopped[k], want, stopped)
		}
	}
	if stopped["background"] == "rgb(255, 0, 0)" {
		t.Error("an injected style applies")
	}
}

func TestThePageOnAnotherOrigin(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	dir := t.TempDir()
	host := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer host.Close()
	p.origin = strings.Replace(host.URL, "127.0.0.1", "localhost", 1)
	w.settings.Origin = p.origin // and the API's is what it was
	p.ok(Export(dir, w.settings, vapid))
	p.enrols("LAPTOP", "alice")
	live := p.asked(sshLogin, "LAPTOP")
	p.ok(p.Type(".number", live.Number))
	p.clicks(".approve")
	p.sees("Approved")
	if !w.came(live.Challenge.ID).OK {
		t.Error("not approved")
	}
	for _, line := range p.Console() {
		if strings.HasPrefix(line, "error") {
			t.Error(line)
		}
	}
}

func TestAHomeScreenThatKnowsNothing(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.ok(p.UserAgent("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"))
	p.ok(p.Before("delete window.PushManager")) // Safari has none outside the Home Screen
	_, _, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	var name string
	if p.ok(p.Eval("document.getElementById('enrol-phone').value", &name)); name != "iPhone" {
		t.Errorf("%q", name)
	}
	p.clicks("#enrol-button")
	p.ok(p.WaitText("#enrolled .steps", "Add to Home Screen"))

	// Its storage is another one.
	p.ok(p.Eval("localStorage.clear()", nil))
	p.opens("")
	p.clicks("#signin-button")
	p.sees("Nothing to approve")
	live := p.asked(sshLogin, "LAPTOP")
	p.ok(p.Type(".number", live.Number))
	p.clicks(".approve")
	p.sees("Approved")
	p.clicks(".close")
	p.ok(p.WaitFor("#history li")) // it comes above the button, and moves that
	p.clicks("#accounts button")
	p.sees("You are signed out")
	p.opens("")
	p.ok(p.WaitFor("#signin-button"))

	// A passkey that is enrolled nowhere any longer.
	w.update(func(tx store.Tx) error {
		a, err := tx.ApproverByCredential(p.credential())
		if err != nil {
			return err
		}
		return tx.RemoveApprover(a.ID)
	})
	p.clicks("#signin-button")
	p.sees("not enrolled here")
}

func TestAPhoneForTwoComputers(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.enrols("LAPTOP", "alice")
	first := p.credential()
	p.enrols("SERVER", "alice")
	keys, err := p.phone.Passkeys()
	p.ok(err)
	if len(keys) != 2 {
		t.Fatalf("%d passkeys", len(keys))
	}
	var second []byte
	for _, k := range keys {
		if !bytes.Equal(k.CredentialID, first) {
			second = k.CredentialID
		}
	}
	a := w.login(sshLogin, "LAPTOP", first)
	b := w.login(push.Challenge{Name: "build-server", User: "alice", Service: "sshd"}, "SERVER", second)
	p.ok(p.Eval("dispatchEvent(new Event('online'))", nil))
	for _, l := range []*push.Live{a, b} {
		id := l.Challenge.ID
		p.ok(p.Type("#n-"+id, l.Number))
		p.ok(p.Press("\r"))
		p.ok(p.Wait(`document.getElementById('r-` + id + `')?.innerText == 'Approved'`))
		if !w.came(id).OK {
			t.Errorf("%+v", w.came(id))
		}
	}
}

func TestNotificationsAreTurnedOn(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	p.ok(shared.Notifications(p.origin, true))
	// No push service answers here: the browser's part is played.
	p.ok(p.Before(`{
		const timeout = setTimeout;
		window.setTimeout = (f, ms) => timeout(f, ms === 15000 ? 50 : ms);
		let kept = null;
		PushManager.prototype.getSubscription = async () => kept;
		PushManager.prototype.subscribe = (o) => window.hang ? new Promise(() => {}) : Promise.resolve(kept = {
			toJSON: () => ({endpoint: window.endpoint ?? 'https://push.example.com/1', keys: {p256dh: 'p', auth: 'a', more: 1}, more: 1}),
			unsubscribe: async () => { kept = null; return true; }, key: new Uint8Array(o.applicationServerKey).length });
	}`))
	p.enrols("LAPTOP", "alice")
	rings := func() (n int) {
		w.view(func(tx store.Tx) error {
			a, err := tx.ApproverByCredential(p.credential())
			if err != nil {
				return err
			}
			list, err := tx.Sessions(a.ID)
			for _, s := range list {
				if s.Subscription != nil {
					n++
				}
			}
			return err
		})
		return n
	}
	p.ok(p.Eval("navigator.serviceWorker.ready.then(() => 1)", nil)) // which has 50 ms from here on, too
	p.ok(p.Eval("void (window.hang = true)", nil))
	p.clicks("#home .toggle")
	p.sees("push service does not answer")
	p.ok(p.Eval("void (window.hang = false, window.endpoint = 'https://169.254.169.254/')", nil))
	p.clicks("#home .toggle")
	p.sees("not one that your organisation uses")
	if rings() != 0 {
		t.Error("a subscription that was refused is kept")
	}
	p.ok(p.Eval("void (window.endpoint = 'https://push.example.com/1')", nil))
	p.clicks("#home .toggle")
	p.sees("On. This phone rings")
	if rings() != 1 {
		t.Error("the server does not know")
	}
	// The browser's push address changed, or the server forgot it.
	w.update(func(tx store.Tx) error {
		a, err := tx.ApproverByCredential(p.credential())
		if err != nil {
			return err
		}
		list, err := tx.Sessions(a.ID)
		if err != nil {
			return err
		}
		list[0].Subscription = nil
		return tx.PutSession(list[0])
	})
	p.ok(p.EvalInWorker(p.origin+"/sw.js", `void dispatchEvent(new ExtendableEvent('pushsubscriptionchange'))`, nil))
	for deadline := time.Now().Add(time.Minute); rings() != 1; {
		if time.Now().After(deadline) {
			t.Fatal("the server was not told again")
		}
		p.ok(p.Eval("fetch('config.json').then(() => 1)", nil))
	}
	p.clicks("#home .toggle")
	p.sees("Off. Open this page")
	if rings() != 0 {
		t.Error("the server rings still")
	}
	p.ok(shared.Notifications(p.origin, false))
	p.ok(p.Reload())
	p.sees("Blocked in this browser")
}

func TestALostAnswerIsSentAgain(t *testing.T) {
	w := newWorld(t)
	p := w.holds(t, chromium.Phone, true)
	id, _, fragment := w.code("LAPTOP", "alice")
	p.opens(fragment)
	p.drop("POST /api/v1/enrolment/" + id) // taken, and the phone does not hear of it
	p.clicks("#enrol-button")
	p.sees("The server answered something odd")
	p.clicks("#enrol-button")
	p.sees("This phone is enrolled")
	if keys, err := p.phone.Passkeys(); err != nil || len(keys) != 1 {
		t.Errorf("%d passkeys, %v", len(keys), err)
	}
}
