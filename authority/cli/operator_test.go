package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/chromium"
	"sallyport/internal/testkit/passkey"
)

// TestOperatorsOfARunningConsole: the first admin is made on the command line, logs in
// with a passkey, and is out the moment the command line says so.
func TestOperatorsOfARunningConsole(t *testing.T) {
	s := newShell(t)
	s.init()
	s.fails(ExitFailed, "console.origin is not set", "operator", "add", "maya", "--role", "admin")
	f, err := os.OpenFile(s.config, os.O_APPEND|os.O_WRONLY, 0)
	ok(t, err)
	port := freePort(t)
	// As behind a reverse proxy, which has the certificate.
	_, err = f.WriteString("\n[console]\norigin = \"https://helpdesk.example.com\"\nlisten = \"127.0.0.1:" + port + "\"\nsecond_person = [\"bypass\"]\n")
	ok(t, err)
	ok(t, f.Close())
	s.ok("config", "check")
	r := s.serve()
	if r.Console == nil {
		t.Fatal("the console does not listen")
	}

	s.fails(ExitUsage, "--role", "operator", "add", "maya")
	s.fails(ExitUsage, "not \"root\"", "operator", "add", "maya", "--role", "root")
	s.fails(ExitUsage, "1 to 64 of", "operator", "add", "Maya!", "--role", "read")
	if out := s.ok("operator", "list"); !strings.Contains(out, "operator add NAME --role admin") {
		t.Error(out)
	}
	if out := s.ok("operator", "add", "maya", "--role", "admin"); !strings.Contains(out, "https://helpdesk.example.com/invite#") || !strings.Contains(out, "Good once, until") {
		t.Error(out)
	}
	s.fails(ExitConflict, "is an operator already", "operator", "add", "maya", "--role", "read")
	var invited struct{ URL string }
	s.json(&invited, "operator", "invite", "maya")
	s.fails(ExitNotFound, "no operator", "operator", "invite", "nobody")

	key := passkey.New(push.RelyingParty{ID: "helpdesk.example.com", Origin: "https://helpdesk.example.com"})
	var cookie *http.Cookie
	ask := func(method, path string, body any) (*http.Response, map[string]string) {
		t.Helper()
		b, err := json.Marshal(body)
		ok(t, err)
		q, err := http.NewRequest(method, "http://"+r.Console.String()+path, bytes.NewReader(b))
		ok(t, err)
		q.Header.Set("Origin", key.RP.Origin)
		q.Header.Set("Content-Type", "application/json")
		if cookie != nil {
			q.AddCookie(cookie)
		}
		a, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(q)
		ok(t, err)
		defer a.Body.Close()
		out := map[string]string{}
		_ = json.NewDecoder(a.Body).Decode(&out) // a page is none
		return a, out
	}
	text := base64.RawURLEncoding.EncodeToString
	_, secret, _ := strings.Cut(invited.URL, "#")
	reg := key.Registration("x")
	if a, out := ask("POST", "/invite", map[string]string{"secret": secret, "credential_id": text(reg.CredentialID), "public_key": text(reg.PublicKey),
		"authenticator_data": text(reg.AuthenticatorData), "label": "laptop"}); a.StatusCode != http.StatusOK {
		t.Fatal(a.Status, out)
	}
	login := func() {
		t.Helper()
		_, begun := ask("POST", "/login/begin", struct{}{})
		challenge, err := base64.RawURLEncoding.DecodeString(begun["challenge"])
		ok(t, err)
		signed := key.Assert([32]byte(challenge))
		a, out := ask("POST", "/login", map[string]string{"nonce": begun["nonce"], "credential_id": text(signed.CredentialID), "authenticator_data": text(signed.AuthenticatorData),
			"client_data": text(signed.ClientData), "signature": text(signed.Signature)})
		if a.StatusCode != http.StatusOK || len(a.Cookies()) != 1 {
			t.Fatal(a.Status, out)
		}
		cookie = a.Cookies()[0]
	}
	in := func(want bool) {
		t.Helper()
		if a, _ := ask("GET", "/people", nil); (a.StatusCode == http.StatusOK) != want {
			t.Error(a.Status)
		}
	}
	in(false)
	login()
	in(true)
	var list struct {
		Operators []struct {
			Name, Role string
			Passkeys   int
			Used       string
		}
	}
	s.json(&list, "operator", "list")
	if o := list.Operators; len(o) != 1 || o[0].Name != "maya" || o[0].Role != "admin" || o[0].Passkeys != 1 || o[0].Used == "" {
		t.Errorf("%+v", o)
	}
	s.ok("operator", "role", "maya", "helpdesk")
	in(false)
	login()
	in(true)
	if a, _ := ask("GET", "/operators", nil); a.StatusCode != http.StatusForbidden {
		t.Error(a.Status)
	}
	s.ok("operator", "remove", "maya")
	in(false)
	s.fails(ExitNotFound, "no operator", "operator", "role", "maya", "read")
	out := s.ok("events", "--json")
	for _, name := range []string{"operator_added", "operator_invited", "operator_passkey_added", "operator_login", "operator_role_changed", "operator_removed"} {
		if !strings.Contains(out, `"`+name+`"`) {
			t.Errorf("no event %s", name)
		}
	}
	if strings.Contains(out, secret) || strings.Contains(r.log.String(), secret) || strings.Contains(r.log.String(), cookie.Value) {
		t.Error("an invitation or a cookie is in an event or the log")
	}
}

// TestTheConsoleAsItIsShipped: the program, its own certificate, and a real browser, from
// the link that the command line prints to a person's page.
func TestTheConsoleAsItIsShipped(t *testing.T) {
	if err := chromium.Installed(); err != nil {
		t.Skip(err)
	}
	s := newShell(t)
	s.ok("init", "--name", "Example Works", "--origin", "https://localhost:"+freePort(t), "--tls", "self-signed", "--state-dir", filepath.Join(s.dir, "state"), "--device-host", "127.0.0.1",
		"--listen-devices", "127.0.0.1:"+freePort(t), "--listen-metrics", "", "--node", "one")
	port := freePort(t)
	text, err := os.ReadFile(s.config)
	ok(t, err)
	origin := "https://localhost:" + port
	ok(t, os.WriteFile(s.config, append(text, "\n[console]\norigin = \""+origin+"\"\nlisten = \"127.0.0.1:"+port+"\"\n"...), 0o600))
	s.serve()
	s.ok("user", "add", "maya")
	var invited struct{ URL string }
	s.json(&invited, "operator", "add", "anna", "--role", "helpdesk")

	b, err := chromium.Start(context.Background(), chromium.TrustAll)
	ok(t, err)
	defer b.Close()
	tab, err := b.Open(chromium.Desktop)
	ok(t, err)
	defer tab.Close()
	_, err = tab.Authenticator(true, false)
	ok(t, err)
	ok(t, tab.Go(invited.URL))
	ok(t, tab.WaitText("body", "lets anna"))
	ok(t, tab.Click("#invite button"))
	ok(t, tab.WaitText("h1", "Log in"))
	ok(t, tab.Wait("document.readyState === 'complete'")) // and its script listens
	ok(t, tab.Click("#login"))
	ok(t, tab.WaitText("h1", "People"))
	ok(t, tab.WaitText(".rows", "maya"))
	s.ok("operator", "role", "anna", "read")
	ok(t, tab.Go(origin+"/person?name=maya"))
	ok(t, tab.WaitText("h1", "Log in"))
}
