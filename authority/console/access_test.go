package console

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/authority/config"
	"sallyport/authority/enrol"
	"sallyport/authority/store"
)

// What each role is for, written down a second time: whoever changes the tables
// changes it here too, and means it. public: before the login.
var mayReach = map[string]Role{
	"GET /{$}": Read, "GET /login": public, "POST /login/begin": public, "POST /login": public, "GET /invite": public, "POST /invite/begin": public, "POST /invite": public,
	"POST /logout": Read, "GET /people": Read, "GET /person": Read, "GET /devices": Read, "GET /device": Read, "GET /events": Read, "GET /events/new": Read,
	"GET /requests": Helpdesk, "GET /operators": Admin, "GET /act/{action}": Helpdesk, "POST /act/{action}": Helpdesk, "POST /request/{step}": Helpdesk,
}

var mayDo = map[string]Role{
	"unlock": Helpdesk, "push_clear": Helpdesk, "recovery": Helpdesk, "bypass": Helpdesk, "offline_bypass": Helpdesk, "totp": Helpdesk, "phone": Helpdesk, "phone_remove": Helpdesk,
	"revoke": Helpdesk, "operator_add": Admin, "operator_role": Admin, "operator_invite": Admin, "operator_remove": Admin, "passkey_remove": Admin,
}

func TestTheTablesSayWhatIsMeant(t *testing.T) {
	for _, r := range routes {
		if mayReach[r.pattern] != r.role || r.role == "" {
			t.Errorf("%s is for %q, and meant for %q", r.pattern, r.role, mayReach[r.pattern])
		}
	}
	if len(routes) != len(mayReach) {
		t.Errorf("%d routes, and %d are meant", len(routes), len(mayReach))
	}
	var names []string
	for _, a := range actions {
		names = append(names, a.name)
		if mayDo[a.name] != a.role || a.role == "" {
			t.Errorf("%s is for %q, and meant for %q", a.name, a.role, mayDo[a.name])
		}
	}
	if len(actions) != len(mayDo) {
		t.Errorf("%d actions, and %d are meant", len(actions), len(mayDo))
	}
	slices.Sort(names)
	known := slices.Clone(config.ConsoleActions)
	slices.Sort(known)
	if !slices.Equal(names, known) {
		t.Errorf("the actions are %v, the configuration knows %v", names, known)
	}
	for _, c := range []struct {
		is, least Role
		ok        bool
	}{{Read, Read, true}, {Read, Helpdesk, false}, {Helpdesk, Admin, false}, {Admin, Read, true}, {"", Read, false}, {"root", Read, false}, {Admin, "", false}, {public, public, false}, {Admin, public, false}} {
		if c.is.may(c.least) != c.ok {
			t.Errorf("%q for %q: %v", c.is, c.least, !c.ok)
		}
	}
}

// TestEveryRouteWithEveryRole walks the table of routes: whoever is not meant to be there
// is told so, and nothing happens.
func TestEveryRouteWithEveryRole(t *testing.T) {
	w := newWorld(t)
	who := map[Role]*client{public: {w: w}, Read: w.in("rita", Read), Helpdesk: w.in("hugo", Helpdesk), Admin: w.in("anna", Admin)}
	paths := map[string]string{"GET /{$}": "/", "GET /person": "/person?name=alice", "GET /device": "/device?id=" + laptop, "GET /events/new": "/events/new?after=0",
		"GET /act/{action}": "/act/phone?user=alice", "POST /act/{action}": "/act/phone", "POST /request/{step}": "/request/approve"}
	for _, r := range routes {
		method, path, _ := strings.Cut(r.pattern, " ")
		if p, ok := paths[r.pattern]; ok {
			path = p
		}
		for is, c := range who {
			if r.pattern == "POST /logout" && is != public { // TestLogout
				continue
			}
			before := c.cookie
			var got reply
			switch {
			case method == "GET":
				got = c.get(path)
			case mayReach[r.pattern] == public:
				got = c.json(path, map[string]string{})
			default:
				got = c.post(path, url.Values{"form": {"AAAA"}})
			}
			c.cookie = before
			out := got.status == http.StatusSeeOther && got.header.Get("Location") == "/login" || got.status == http.StatusUnauthorized
			switch least := mayReach[r.pattern]; {
			case least == public:
				if out || strings.Contains(got.body, errRole.Text) {
					t.Errorf("%s as %s: %d", r.pattern, is, got.status)
				}
			case is == public:
				if !out {
					t.Errorf("%s without a login: %d", r.pattern, got.status)
				}
			case is.may(least):
				if out || strings.Contains(got.body, errRole.Text) {
					t.Errorf("%s as %s: %d %s", r.pattern, is, got.status, got.body)
				}
			default:
				if got.status != http.StatusForbidden || !strings.Contains(got.body, errRole.Text) {
					t.Errorf("%s as %s: %d", r.pattern, is, got.status)
				}
			}
		}
	}
	// What is in no table is not there, for nobody.
	for is, c := range who {
		for _, path := range []string{"/nothing", "/act/nothing", "/act/", "/request/nothing", "/static/", "/static/layout.html", "/static/../console.go", "/debug/pprof/"} {
			if got := c.get(path); got.status < 300 {
				t.Errorf("%s as %s: %d", path, is, got.status)
			}
		}
		for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			r := httptest.NewRequest(method, "/people", nil)
			if got := c.send(r); got.status < 400 {
				t.Errorf("%s as %s: %d", method, is, got.status)
			}
		}
	}
}

// given is what each action's form is opened with, and rest what is filled in.
func (w *world) samples(t *testing.T) map[string][2]url.Values {
	t.Helper()
	w.operator("target", Read)
	w.operator("other", Read)
	var key string
	w.view(func(tx store.Tx) error {
		keys, err := tx.OperatorKeys("other")
		key = b64.EncodeToString(keys[0].CredentialID)
		return err
	})
	reason := url.Values{"reason": {"called back, ticket 7"}}
	return map[string][2]url.Values{
		"unlock": {aliceHere, nil}, "push_clear": {aliceHere, nil}, "recovery": {aliceHere, nil}, "totp": {aliceHere, nil},
		"bypass":         {aliceHere, {"life": {"15m"}, "reason": {"lost phone"}}},
		"offline_bypass": {aliceHere, {"challenge": {w.challenge("alice")}, "life": {"4h"}, "reason": {"on a train"}}},
		"phone":          {{"user": {"alice"}}, nil},
		"phone_remove":   {{"user": {"alice"}, "phone": {w.phone("alice", "Pixel 9")}}, nil},
		"revoke":         {{"device": {desk}}, reason},
		"operator_add":   {{}, {"operator": {"newcomer"}, "role": {"helpdesk"}}},
		"operator_role":  {{"operator": {"target"}}, {"role": {"helpdesk"}}}, "operator_invite": {{"operator": {"target"}}, nil},
		"passkey_remove": {{"operator": {"other"}, "key": {key}}, nil}, "operator_remove": {{"operator": {"target"}}, nil},
	}
}

// TestEveryActionWithEveryRole: the form and what it does, for those who may, those who
// may not, and whoever is not logged in.
func TestEveryActionWithEveryRole(t *testing.T) {
	for _, a := range actions {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			sample, ok := w.samples(t)[a.name]
			if !ok {
				t.Fatal("no sample")
			}
			events := func() (n int) {
				for _, e := range w.events() {
					if !strings.HasPrefix(string(e.Name), "operator_refused") && !strings.HasPrefix(string(e.Name), "operator_login") {
						n++
					}
				}
				return n
			}
			path := "/act/" + a.name
			form := url.Values{}
			for _, v := range sample {
				for k := range v {
					form[k] = v[k]
				}
			}
			stranger := &client{w: w}
			before := events()
			if r := stranger.get(path + "?" + sample[0].Encode()); r.status != http.StatusSeeOther {
				t.Errorf("the form without a login: %d", r.status)
			}
			if r := stranger.post(path, form); r.status != http.StatusUnauthorized {
				t.Errorf("without a login: %d", r.status)
			}
			if events() != before {
				t.Errorf("something happened: %+v", w.events())
			}
			for i, is := range Roles {
				c := w.in("op"+string(is), is)
				before := events()
				r := c.submits(a.name, sample[0], sample[1])
				switch {
				case !is.may(mayDo[a.name]):
					// Also with a token that would be good, had they the role.
					v := &visit{r: httptest.NewRequest("GET", "/", nil)}
					v.cookie, _ = b64.DecodeString(c.cookie)
					s := &server{Options: Options{Life: time.Hour, Now: w.now}}
					form.Set("form", s.token(v, "act/"+a.name))
					again := c.post(path, form)
					if r.status != http.StatusForbidden || again.status != http.StatusForbidden || !strings.Contains(again.body, errRole.Text) || events() != before {
						t.Errorf("as %s: %d, %d, %d events", is, r.status, again.status, events()-before)
					}
					w.happened(enrol.OperatorRefused, "operator:op"+string(is), a.name)
				case r.status != http.StatusOK && r.status != http.StatusSeeOther:
					t.Errorf("as %s: %d %s", is, r.status, r.body)
				case events() == before:
					t.Errorf("as %s: no event", is)
				default:
					all := w.events()
					if last := all[len(all)-1]; last.By != "operator:op"+string(is) {
						t.Errorf("%+v", last)
					}
					if i < len(Roles)-1 { // what can be done once is done
						return
					}
				}
			}
		})
	}
}

// TestWhatIsMalformedDoesNothing: fields that are missing, too long, too many, unknown,
// and people and computers that are not there.
func TestWhatIsMalformedDoesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Admin)
	before := len(w.events())
	for _, path := range []string{"/act/bypass", "/act/bypass?user=nobody&device=" + laptop, "/act/bypass?user=alice&device=nowhere", "/act/bypass?user=alice&user=bob&device=" + laptop,
		"/act/bypass?user=alice&device=" + laptop + "&reason=x", "/act/phone_remove?user=bob&phone=x", "/person?name=nobody", "/person", "/device?id=%00", "/person?name=%ff",
		"/events?from=yesterday", "/events?verdict=" + strings.Repeat("x", 5000), "/events?cursor=x", "/events/new?after=-1", "/people?q=" + strings.Repeat("x", 101), "/act/revoke?device="} {
		if r := c.get(path); r.status < 400 || r.status > 499 {
			t.Errorf("%.60s: %d", path, r.status)
		}
	}
	good := url.Values{"user": {"alice"}, "device": {laptop}, "life": {"1h"}, "reason": {"x"}}
	for name, change := range map[string]func(f url.Values){
		"no reason":     func(f url.Values) { f.Set("reason", " ") },
		"no life":       func(f url.Values) { f.Del("life") },
		"another life":  func(f url.Values) { f.Set("life", "100h") },
		"no computer":   func(f url.Values) { f.Del("device") },
		"no person":     func(f url.Values) { f.Del("user") },
		"a stranger":    func(f url.Values) { f.Set("user", "mallory") },
		"two people":    func(f url.Values) { f["user"] = []string{"alice", "bob"} },
		"a field more":  func(f url.Values) { f.Set("role", "admin") },
		"a long reason": func(f url.Values) { f.Set("reason", strings.Repeat("x", 201)) },
		"a line break":  func(f url.Values) { f.Set("reason", "a\nb") },
		"not allowed":   func(f url.Values) { f.Set("user", "alice"); f.Set("device", desk) },
		"no UTF-8":      func(f url.Values) { f.Set("reason", "\xff\x00") },
		"a NUL":         func(f url.Values) { f.Set("user", "alice\x00") },
	} {
		form := url.Values{"form": {c.get("/act/bypass?" + aliceHere.Encode()).token("/act/bypass")}}
		for k, v := range good {
			form[k] = v
		}
		change(form)
		if r := c.post("/act/bypass", form); r.status < 400 || r.status > 499 || strings.Contains(r.body, "spoken") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if r := c.post("/act/bypass", url.Values{"form": {strings.Repeat("A", 20<<10)}}); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("20 KiB: %d", r.status)
	}
	if r := c.send(c.request("/act/bypass", "text/plain", "form=x")); r.status != http.StatusBadRequest {
		t.Errorf("text/plain: %d", r.status)
	}
	for _, in := range [][2]string{{"Anna", "read"}, {"x y", "read"}, {"", "read"}, {"zed", "root"}, {"anna", "read"}, {"../x", "read"}} {
		if r := c.submits("operator_add", nil, url.Values{"operator": {in[0]}, "role": {in[1]}}); r.status < 400 || r.status > 499 {
			t.Errorf("%q: %d", in, r.status)
		}
	}
	if n := len(w.events()); n != before {
		t.Errorf("%+v", w.events()[before:])
	}
}

// TestNobodyChangesTheirOwnRole, and nobody is locked out by a slip of their own.
func TestNobodyChangesTheirOwnRole(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Admin)
	for _, r := range []reply{
		c.submits("operator_role", url.Values{"operator": {"anna"}}, url.Values{"role": {"read"}}),
		c.submits("operator_remove", url.Values{"operator": {"anna"}}, nil),
	} {
		if r.status != http.StatusUnprocessableEntity || !strings.Contains(r.body, "ask another admin") {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
}

// TestHeaders: every answer says how little the browser should do with it.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Admin)
	bypass := c.submits("bypass", aliceHere, url.Values{"life": {"1h"}, "reason": {"x"}})
	for what, r := range map[string]reply{"a page": c.get("/people"), "a form": c.get("/act/bypass?" + aliceHere.Encode()), "a code": bypass, "not there": c.get("/nothing"),
		"signed out": (&client{w: w}).get("/people"), "login": (&client{w: w}).get("/login"), "JSON": (&client{w: w}).json("/login", 1), "refused": c.send(httptest.NewRequest("POST", "/logout", nil)),
		"live": c.get("/events/new?after=0")} {
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=31536000", "Access-Control-Allow-Origin": "",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", what, name, got)
			}
		}
	}
	for name, kind := range types {
		r := c.get("/static/" + name)
		if r.status != 200 || r.header.Get("Content-Type") != kind || r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", name, r.status, r.header)
		}
	}
}

// TestStrangersAreSlowedDown: whoever has no session gets so much and no more, and
// whoever has one is not held up by them.
func TestStrangersAreSlowedDown(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Read)
	stranger, limited := &client{w: w}, 0
	for range 200 {
		stranger.cookie = b64.EncodeToString(random(cookieSize)) // a session made up
		if stranger.get("/people").status == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 100 {
		t.Errorf("%d of 200", limited)
	}
	if r := c.get("/people"); r.status != 200 {
		t.Errorf("%d", r.status)
	}
	w.pass(time.Minute)
	if r := stranger.get("/login"); r.status != 200 {
		t.Errorf("%d after a minute", r.status)
	}
}

// TestWithoutADatabaseNobodyIsIn: an error is never a way in, and says nothing.
func TestWithoutADatabaseNobodyIsIn(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Admin)
	form := c.get("/act/bypass?" + aliceHere.Encode()).token("/act/bypass")
	w.restart()
	broken := Handler(Options{Store: failing{w.store}, Enrol: w.enrol, Organisation: "Example Works", RelyingParty: w.rp(), Idle: time.Minute, Life: time.Hour, Now: w.now, Log: quiet})
	w.mu.Lock()
	w.handler = broken
	w.mu.Unlock()
	for what, r := range map[string]reply{"page": c.get("/people"), "operators": c.get("/operators"), "login": c.logsInAnyway(),
		"action": c.post("/act/bypass", url.Values{"form": {form}, "user": {"alice"}, "device": {laptop}, "life": {"1h"}, "reason": {"x"}})} {
		if r.status != http.StatusServiceUnavailable || strings.Contains(r.body, "canary") || strings.Contains(r.body, "alice") {
			t.Errorf("%s: %d %s", what, r.status, r.body)
		}
	}
}

// TestHtmxIsThatOfTheRegistry: the file is the published one, byte for byte.
func TestHtmxIsThatOfTheRegistry(t *testing.T) {
	b, err := embedded.ReadFile("page/htmx.min.js")
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(b)); sum != "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717" {
		t.Errorf("htmx.min.js is %s: docs/adr/2026-11-22-console.md says how it is taken over", sum)
	}
}
