package chromium

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAPhonesBrowser(t *testing.T) {
	if err := Installed(); err != nil {
		t.Skip(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sw.js" {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = w.Write([]byte(`let got = ''; addEventListener('push', e => { got = e.data.text(); e.waitUntil(registration.showNotification(got)) })`))
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><meta name=viewport content="width=device-width"><title>x</title><button id=b aria-label="Press me">b</button><input id=i aria-label="A field"><p id=p></p>
<script>b.onclick = () => p.textContent = 'pressed'; console.log('hello', 1); navigator.serviceWorker.register('/sw.js')</script>`))
	}))
	defer server.Close()
	origin := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)

	b, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	tab, err := b.Open(Phone.InTheDark())
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(err)
	ok(b.Notifications(origin, true))
	phone, err := tab.Authenticator(true, false)
	ok(err)
	ok(tab.Go(origin + "/"))
	ok(tab.Click("#b"))
	ok(tab.WaitText("#p", "pressed"))
	ok(tab.Type("#i", "12"))
	ok(tab.Press("3"))
	var got struct {
		Value  string
		Width  int
		Dark   bool
		Secure bool
	}
	ok(tab.Eval(`{Value: i.value, Width: innerWidth, Dark: matchMedia('(prefers-color-scheme: dark)').matches, Secure: isSecureContext}`, &got))
	if got.Value != "123" || got.Width != 390 || !got.Dark || !got.Secure {
		t.Errorf("%+v", got)
	}
	controls, err := tab.Controls()
	ok(err)
	if len(controls) != 2 || controls[0] != (Control{"button", "Press me"}) {
		t.Errorf("controls: %v", controls)
	}
	for deadline := time.Now().Add(patience); len(tab.Console()) == 0; ok(tab.Wait("true")) { // it comes when it likes
		if time.Now().After(deadline) {
			t.Fatal("nothing was written to the console")
		}
	}
	if c := tab.Console(); !strings.Contains(c[0], "hello") {
		t.Errorf("console: %q", c)
	}

	const create = `navigator.credentials.create({publicKey: {rp: {id: 'localhost', name: 'x'}, user: {id: new Uint8Array(8), name: 'n', displayName: 'n'},
	  challenge: new Uint8Array(32), pubKeyCredParams: [{type: 'public-key', alg: -7}], authenticatorSelection: {userVerification: 'required', residentKey: 'required'}}}).then(c => c.type, e => e.name)`
	var made string
	ok(tab.Eval(create, &made))
	if made != "public-key" {
		t.Errorf("a passkey: %s", made)
	}
	if keys, err := phone.Passkeys(); err != nil || len(keys) != 1 {
		t.Errorf("%d passkeys, %v", len(keys), err)
	}
	ok(phone.Recognise(false))
	if ok(tab.Eval(create, &made)); made != "NotAllowedError" {
		t.Errorf("a passkey of somebody who is not recognised: %s", made)
	}

	ok(tab.Eval("navigator.serviceWorker.ready.then(() => 1)", nil))
	ok(tab.Push(origin, "ding"))
	ok(tab.Wait(`(await (await navigator.serviceWorker.ready).getNotifications()).length == 1`))
	var inWorker string
	ok(tab.EvalInWorker(origin+"/sw.js", "got", &inWorker))
	if inWorker != "ding" {
		t.Errorf("the worker got %q", inWorker)
	}
	png, err := tab.Screenshot(false)
	if ok(err); !strings.HasPrefix(string(png), "\x89PNG") {
		t.Error("no PNG")
	}
}
