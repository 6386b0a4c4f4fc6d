package console

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
)

// out says that the client is not logged in.
func (c *client) out() bool {
	c.w.t.Helper()
	r := c.get("/people")
	return r.status == http.StatusSeeOther && r.header.Get("Location") == "/login"
}

func TestTheCookie(t *testing.T) {
	w := newWorld(t)
	c := w.operator("anna", Read)
	r := c.logsIn()
	set := r.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-console=", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(set, part) {
			t.Errorf("%s is not in %s", part, set)
		}
	}
	if strings.Contains(set, "Domain") || strings.Contains(set, "Max-Age") || strings.Contains(set, "Expires") {
		t.Error(set)
	}
	// What the browser holds is nowhere in the database.
	raw, err := b64.DecodeString(c.cookie)
	w.ok(err)
	w.view(func(tx store.Tx) error {
		if _, err := tx.OperatorSession(raw); err == nil {
			t.Error("the database has the cookie itself")
		}
		return nil
	})
	if strings.Contains(w.log.String(), c.cookie) {
		t.Error("the log has it")
	}
}

// HAZARD: session fixation. What somebody put into the browser before the login opens
// nothing after it.
func TestALoginMakesANewSession(t *testing.T) {
	w := newWorld(t)
	attacker := w.in("mallory", Read)
	victim := w.operator("anna", Admin)
	planted := attacker.cookie
	victim.cookie = planted
	if r := victim.logsIn(); r.status != http.StatusOK {
		t.Fatalf("%+v", r)
	}
	if victim.cookie == planted {
		t.Fatal("the planted cookie became the session")
	}
	if !attacker.out() {
		t.Error("the planted session outlived the login")
	}
	// One that nobody issued, neither.
	made := b64.EncodeToString(random(cookieSize))
	other := w.operator("ben", Read)
	other.cookie = made
	other.logsIn()
	if other.cookie == made || !(&client{w: w, cookie: made}).out() {
		t.Error("a cookie that was made up became a session")
	}
	// Two cookies of the name: one of them is somebody else's doing.
	r := httptest.NewRequest("GET", "/people", nil)
	r.Header.Set("Cookie", cookieName+"="+victim.cookie+"; "+cookieName+"="+planted)
	if got := (&client{w: w}).send(r); got.status != http.StatusSeeOther {
		t.Errorf("two cookies: %d", got.status)
	}
	// A second login of the same browser ends the first.
	first := victim.cookie
	victim.logsIn()
	if !(&client{w: w, cookie: first}).out() {
		t.Error("the first session lives on")
	}
}

func TestCookiesThatAreNone(t *testing.T) {
	w := newWorld(t)
	good := w.in("anna", Read).cookie
	for _, cookie := range []string{"x", good[:42], good + "A", good + "=", strings.ToUpper(good), "AAAA" + good[4:], base64.StdEncoding.EncodeToString(make([]byte, 32)), good[:len(good)-1] + "_"} {
		if cookie != good && !(&client{w: w, cookie: cookie}).out() {
			t.Errorf("%q is in", cookie)
		}
	}
}

func TestASessionEnds(t *testing.T) {
	w := newWorld(t)
	idle := w.in("anna", Read)
	w.pass(14 * time.Minute)
	if idle.out() {
		t.Error("after 14 minutes")
	}
	w.pass(14 * time.Minute)
	if idle.out() {
		t.Error("using it did not keep it")
	}
	w.pass(15 * time.Minute)
	if !idle.out() {
		t.Error("15 minutes idle, and still in")
	}
	w.restart()
	w.pass(-15 * time.Minute) // the clock goes back: what ended stays ended
	if !idle.out() {
		t.Error("it came to life again")
	}
	// The live view asks by itself: that keeps no session.
	live := w.in("ben", Read)
	for range 16 {
		w.pass(time.Minute)
		live.get("/events/new?after=0")
	}
	if !live.out() {
		t.Error("a page that is left open keeps its session")
	}
	used := w.in("carla", Read)
	for range 12*6 - 1 {
		w.pass(10 * time.Minute)
		if used.out() {
			t.Fatal("it ended while it was used")
		}
	}
	w.pass(10 * time.Minute)
	if !used.out() {
		t.Error("12 hours, and still in")
	}
}

func TestLogout(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Read)
	cookie := c.cookie
	r := c.post("/logout", url.Values{"form": {c.get("/people").token("/logout")}})
	if r.status != http.StatusSeeOther || !strings.Contains(r.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("%+v", r)
	}
	c.cookie = cookie
	if !c.out() {
		t.Error("the cookie still opens the console")
	}
	w.happened(enrol.OperatorLogout, "operator:anna", "")
}

// HAZARD: who loses a role keeps what it opened.
func TestLosingARoleEndsTheSession(t *testing.T) {
	w := newWorld(t)
	o := w.operators()
	for name, end := range map[string]func() error{
		"demoted":  func() error { return o.SetRole(t.Context(), "test", "demoted", Read) },
		"promoted": func() error { return o.SetRole(t.Context(), "test", "promoted", Admin) },
		"removed":  func() error { return o.Remove(t.Context(), "test", "removed") },
		"keyless": func() error {
			var keys []store.OperatorKey
			w.view(func(tx store.Tx) (err error) { keys, err = tx.OperatorKeys("keyless"); return err })
			return o.RemoveKey(t.Context(), "test", "keyless", keys[0].CredentialID)
		},
	} {
		c := w.in(name, Helpdesk)
		form := c.get("/act/phone?user=alice").token("/act/phone")
		w.ok(end())
		if r := c.post("/act/phone", url.Values{"form": {form}, "user": {"alice"}}); r.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, r.status)
		}
		if !c.out() {
			t.Errorf("%s is in", name)
		}
		if r := c.logsIn(); (r.status == http.StatusOK) != (name == "demoted" || name == "promoted") {
			t.Errorf("%s logs in: %d", name, r.status)
		}
	}
	// By the database itself, too: the role is read each time.
	c := w.in("anna", Admin)
	w.update(func(tx store.Tx) error {
		o, err := tx.Operator("anna")
		if err != nil {
			return err
		}
		h, err := tx.OperatorSession(hashOf(t, c.cookie))
		if err != nil {
			return err
		}
		if err := tx.SetOperatorRole(o.Name, "nonsense"); err != nil {
			return err
		}
		return tx.PutOperatorSession(h)
	})
	if r := c.get("/people"); r.status != http.StatusForbidden {
		t.Errorf("a role that is none: %d", r.status)
	}
}

// TestWhoIsNoOperatorDoesNotLogIn: everything that can be wrong with a passkey's answer.
func TestWhoIsNoOperatorDoesNotLogIn(t *testing.T) {
	w := newWorld(t)
	c := w.operator("anna", Admin)
	stranger := &client{w: w, key: passkey.New(w.rp())}
	if r := stranger.logsIn(); r.status != http.StatusForbidden || stranger.cookie != "" {
		t.Errorf("a stranger's: %+v", r)
	}
	good := *c.key
	for name, spoil := range map[string]func(k *passkey.Key){
		"the person not verified":  func(k *passkey.Key) { k.Flags = passkey.UserPresent },
		"nobody there":             func(k *passkey.Key) { k.Flags = passkey.UserVerified },
		"another page":             func(k *passkey.Key) { k.Origin = "https://approve.example.com" },
		"the same host":            func(k *passkey.Key) { k.Origin = "https://localhost:1" },
		"another relying party":    func(k *passkey.Key) { k.RP.ID = "example.com" },
		"in a frame":               func(k *passkey.Key) { k.CrossOrigin = true },
		"a registration's":         func(k *passkey.Key) { k.Type = "webauthn.create" },
		"synced by now":            func(k *passkey.Key) { k.Flags |= passkey.BackupEligible | passkey.BackedUp },
		"another signature":        func(k *passkey.Key) { k.AfterSigning = func(a *push.Assertion) { a.Signature[9] ^= 1 } },
		"other authenticator data": func(k *passkey.Key) { k.AfterSigning = func(a *push.Assertion) { a.AuthenticatorData[36] ^= 1 } },
		"a copy of the key":        func(k *passkey.Key) { k.Counter, k.Counts = 0, false },
	} {
		if name == "a copy of the key" {
			if r := c.logsIn(); r.status != http.StatusOK {
				t.Fatalf("%+v", r)
			}
			c.cookie = ""
		}
		k := good
		spoil(&k)
		c.key = &k
		refused := w.count(enrol.OperatorLoginRefused)
		if r := c.logsIn(); r.status != http.StatusForbidden || c.cookie != "" || w.count(enrol.OperatorLoginRefused) != refused+1 {
			t.Errorf("%s: %+v", name, r)
		}
		c.key = &good
		w.pass(time.Minute)
	}
	// HAZARD: the same answer twice.
	nonce, challenge := c.begun()
	a := c.key.Assert(challenge)
	if r := c.answers(nonce, a); r.status != http.StatusOK {
		t.Fatalf("%+v", r)
	}
	c.cookie = ""
	w.restart()
	if r := c.answers(nonce, a); r.status == http.StatusOK || c.cookie != "" {
		t.Errorf("twice: %+v", r)
	}
	// Late; made up; for another nonce; from before another node's start.
	nonce, challenge = c.begun()
	a = c.key.Assert(challenge)
	w.pass(2 * time.Minute)
	if r := c.answers(nonce, a); r.status == http.StatusOK {
		t.Errorf("late: %+v", r)
	}
	if r := c.logsInAnyway(); r.status == http.StatusOK {
		t.Errorf("made up: %+v", r)
	}
	_, challenge = c.begun()
	nonce, _ = c.begun()
	if r := c.answers(nonce, c.key.Assert(challenge)); r.status == http.StatusOK {
		t.Errorf("another nonce: %+v", r)
	}
	// What a phone signs for its own page is no login here.
	nonce, _ = c.begun()
	raw, _ := b64.DecodeString(nonce)
	if r := c.answers(nonce, c.key.Assert(push.SessionDigest(raw))); r.status == http.StatusOK {
		t.Errorf("a phone's: %+v", r)
	}
	nonce, challenge = c.begun()
	w.restart()
	if r := c.answers(nonce, c.key.Assert(challenge)); r.status != http.StatusOK {
		t.Errorf("another node: %+v", r)
	}
}

// TestOneAnswerAtTheSameInstant: of many with one challenge, one is in.
func TestOneAnswerAtTheSameInstant(t *testing.T) {
	w := newWorld(t)
	c := w.operator("anna", Admin)
	c.key.Counts = false
	c.key.Counter = 0
	nonce, challenge := c.begun()
	a := c.key.Assert(challenge)
	results := make(chan int, 8)
	for range cap(results) {
		go func() { one := &client{w: w, key: c.key}; results <- one.answers(nonce, a).status }()
	}
	in := 0
	for range cap(results) {
		if <-results == http.StatusOK {
			in++
		}
	}
	if in != 1 {
		t.Errorf("%d are in", in)
	}
}

func TestAnInvitationIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	o := w.operators()
	first, err := o.Add(t.Context(), "test", "anna", Admin)
	w.ok(err)
	second, err := o.Invite(t.Context(), "test", "anna")
	w.ok(err)
	try := func(i *Invitation) int { return (&client{w: w, key: passkey.New(w.rp())}).accepts(i).status }
	if s := try(first); s != http.StatusForbidden {
		t.Errorf("the one before: %d", s)
	}
	// A passkey that cannot be used does not use it up.
	bad := &client{w: w, key: passkey.New(w.rp())}
	bad.key.Flags = passkey.UserPresent | passkey.Attested
	if r := bad.accepts(second); r.status != http.StatusBadRequest {
		t.Errorf("not verified: %d %s", r.status, r.body)
	}
	bad.key = passkey.New(push.RelyingParty{ID: "example.com", Origin: w.origin})
	if r := bad.accepts(second); r.status != http.StatusBadRequest {
		t.Errorf("another relying party: %d", r.status)
	}
	if s := try(second); s != http.StatusOK {
		t.Errorf("%d", s)
	}
	if s := try(second); s != http.StatusForbidden {
		t.Errorf("twice: %d", s)
	}
	late, err := o.Invite(t.Context(), "test", "anna")
	w.ok(err)
	w.pass(24 * time.Hour)
	if s := try(late); s != http.StatusForbidden {
		t.Errorf("late: %d", s)
	}
	// Another's passkey is not taken over.
	ben := w.operator("ben", Read)
	again, err := o.Invite(t.Context(), "test", "anna")
	w.ok(err)
	ben.key.Flags = passkey.UserPresent | passkey.UserVerified
	if r := ben.accepts(again); r.status != http.StatusBadRequest {
		t.Errorf("ben's: %d", r.status)
	}
	var in struct{ Secret string }
	_, in.Secret, _ = strings.Cut(again.URL.Reveal(), "#")
	if b, _ := json.Marshal(again); strings.Contains(string(b)+fmt.Sprintf("%v %+v", again, again), in.Secret) {
		t.Error("the link prints itself")
	}
	if strings.Contains(w.log.String(), in.Secret) || strings.Contains(fmt.Sprint(w.events()), in.Secret) {
		t.Error("it is in the log or an event")
	}
}

// HAZARD: CSRF. A POST counts only from a page of the console, and with the token of a
// form that this session was shown for this very thing.
func TestOnlyTheConsolesOwnFormsCount(t *testing.T) {
	w := newWorld(t)
	c, other := w.in("anna", Helpdesk), w.in("ben", Helpdesk)
	fresh := func() url.Values {
		return url.Values{"form": {c.get("/act/phone?user=alice").token("/act/phone")}, "user": {"alice"}}
	}
	opened := w.count(enrol.EnrolmentOpened)
	for name, change := range map[string]func(r *http.Request){
		"no origin":             func(r *http.Request) { r.Header.Del("Origin") },
		"null":                  func(r *http.Request) { r.Header.Set("Origin", "null") },
		"another origin":        func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") },
		"another port":          func(r *http.Request) { r.Header.Set("Origin", "https://localhost:1") },
		"another scheme":        func(r *http.Request) { r.Header.Set("Origin", strings.Replace(w.origin, "https", "http", 1)) },
		"longer":                func(r *http.Request) { r.Header.Set("Origin", w.origin+".evil.example.com") },
		"cross-site":            func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":             func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"nobody's":              func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") },
		"a form that is a text": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"several parts":         func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") },
	} {
		r := c.request("/act/phone", "application/x-www-form-urlencoded", fresh().Encode())
		change(r)
		if got := c.send(r); got.status < 400 || got.status > 499 {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	for name, token := range map[string]string{
		"none": "", "made up": b64.EncodeToString(random(nonceSize)), "another's": other.get("/act/phone?user=alice").token("/act/phone"),
		"another form's": c.get("/act/recovery?" + aliceHere.Encode()).token("/act/recovery"), "the logout's": c.get("/people").token("/logout"),
		"a login's": func() string { nonce, _ := c.begun(); return nonce }(), "cut short": fresh().Get("form")[:40],
	} {
		if got := c.post("/act/phone", url.Values{"form": {token}, "user": {"alice"}}); got.status != http.StatusForbidden {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	// In the address it does not count.
	f := fresh()
	if got := c.post("/act/phone?"+f.Encode(), url.Values{}); got.status != http.StatusForbidden {
		t.Errorf("in the address: %d", got.status)
	}
	old := fresh()
	for range 60 {
		w.pass(10 * time.Minute)
		c.get("/people")
	}
	w.pass(2 * time.Hour)
	c.logsIn()
	if got := c.post("/act/phone", old); got.status != http.StatusForbidden {
		t.Errorf("of the session before: %d", got.status)
	}
	if n := w.count(enrol.EnrolmentOpened); n != opened {
		t.Errorf("%d phones could enrol", n-opened)
	}
	// And one that is good is good once.
	f = fresh()
	if got := c.post("/act/phone", f); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := c.post("/act/phone", f); got.status != http.StatusForbidden || strings.Contains(got.body, "#e=") {
		t.Errorf("twice: %d", got.status)
	}
	if n := w.count(enrol.EnrolmentOpened); n != opened+1 {
		t.Errorf("%d phones could enrol", n-opened)
	}
}

// TestNoGETChangesAnything: a link can be sent to anybody.
func TestNoGETChangesAnything(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Admin)
	before := w.events()
	for _, r := range routes {
		if method, path, _ := strings.Cut(r.pattern, " "); method == "GET" {
			c.get(strings.NewReplacer("{$}", "", "{action}", "phone").Replace(path) + "?user=alice&done=phone_remove")
		}
	}
	for _, a := range actions {
		c.get("/act/" + a.name + "?" + aliceHere.Encode())
	}
	if after := w.events(); !slices.Equal(after, before) {
		t.Errorf("%+v", after[len(before):])
	}
}
