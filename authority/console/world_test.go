package console

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
)

// world is an authority with a real database and its console, on https://localhost.
type world struct {
	t       testing.TB
	store   store.Store
	file    string // of the database, where it is SQLite's
	keys    string // their directory
	enrol   *enrol.Service
	handler http.Handler
	server  *httptest.Server
	origin  string
	log     lockedBuffer
	// device is laptop-17's id, bypassKey what it escrowed.
	bypassKey []byte

	mu     sync.Mutex
	clock  time.Time // zero: the real one
	second []string
	// browser is the cookie that a real one last came with.
	browser string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const (
	laptop = "LAPTOP17AAAAAAAAAAAAAAAAAA"
	desk   = "DESKTOP4AAAAAAAAAAAAAAAAAA"
)

// ServeHTTP lets the console be made anew under an address that browsers have open.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	h := w.handler
	if c, err := r.Cookie(cookieName); err == nil && r.TLS != nil {
		w.browser = c.Value
	}
	w.mu.Unlock()
	h.ServeHTTP(rw, r)
}

// newWorld is the console of Example Works, where the actions named take two.
func newWorld(t testing.TB, second ...string) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "authority.db")
	s, err := store.Open(t.Context(), store.Options{SQLite: file, Node: "one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := newWorldOn(t, s, second...)
	w.file = file
	return w
}

// newWorldOn is the same on a database that is there.
func newWorldOn(t testing.TB, s store.Store, second ...string) *world {
	t.Helper()
	w := &world{t: t, clock: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), second: second, store: s}
	dir := filepath.Join(t.TempDir(), "keys")
	w.ok(enrol.CreateKeys(dir))
	w.keys = dir
	w.opens()
	w.ok(w.enrol.EnsureEscrowKey(t.Context(), dir))
	for _, name := range []string{"alice", "bob", `corp\zoë`} {
		w.ok(w.enrol.AddUser(t.Context(), "test", name))
	}
	w.joined(laptop, "laptop-17", "*")
	w.joined(desk, "desk-4", "bob")
	w.update(func(tx store.Tx) error { _, err := tx.Attach(laptop, w.now()); return err })
	w.bypassKey = offline.NewKey()
	_, err := w.enrol.Escrow(t.Context(), laptop, w.bypassKey)
	w.ok(err)

	w.server = httptest.NewUnstartedServer(w)
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&w.log, nil), slog.LevelDebug)
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	w.origin = strings.Replace(w.server.URL, "127.0.0.1", "localhost", 1)
	w.restart()
	return w
}

// opens the keys, and signs with them what there is to sign.
func (w *world) opens() {
	w.t.Helper()
	keys, err := enrol.LoadKeys(w.keys)
	w.ok(err)
	w.enrol = enrol.New(enrol.Options{Store: w.store, Keys: keys, Now: w.now,
		Settings: organisation.Settings{Name: "Example Works", RPID: "approve.example.com", Origin: "https://approve.example.com", API: "https://approve.example.com"}})
	_, err = w.enrol.EnsureSettings(context.Background())
	w.ok(err)
}

// restart makes the console anew: what it remembered in the process is gone.
func (w *world) restart() { w.over(w.store) }

// over has the console use that database.
func (w *world) over(s store.Store) {
	h := Handler(Options{Store: s, Enrol: w.enrol, Organisation: "Example Works", RelyingParty: w.rp(), Idle: 15 * time.Minute, Life: 12 * time.Hour,
		SecondPerson: w.second, Now: w.now, Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = h
}

func (w *world) rp() push.RelyingParty { return push.RelyingParty{ID: "localhost", Origin: w.origin} }

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clock.IsZero() {
		return time.Now()
	}
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

func (w *world) update(fn func(tx store.Tx) error) {
	w.t.Helper()
	w.ok(w.store.Update(context.Background(), fn))
}

func (w *world) view(fn func(tx store.Tx) error) {
	w.t.Helper()
	w.ok(w.store.View(context.Background(), fn))
}

// joined is a computer that has.
func (w *world) joined(id, name string, users ...string) {
	w.t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	w.ok(err)
	w.update(func(tx store.Tx) error {
		return tx.PutDevice(store.Device{ID: id, Name: name, Serial: "SN-" + name, Platform: "linux/amd64", Version: "1.4.0", SealingKey: key.PublicKey().Bytes(),
			Users: users, KeyHash: []byte(id), Created: w.now(), Seen: w.now(), Expires: w.now().AddDate(1, 0, 0)})
	})
}

// phone is one of the user's, for every computer.
func (w *world) phone(user, name string) (id string) {
	w.t.Helper()
	id = push.NewID()
	key := passkey.New(push.RelyingParty{ID: "approve.example.com", Origin: "https://approve.example.com"})
	w.update(func(tx store.Tx) error {
		return tx.PutApprover(store.Approver{ID: id, Approver: key.Approver(name), User: user, Created: w.now()})
	})
	return id
}

func (w *world) operators() Operators {
	return Operators{Store: w.store, Origin: w.origin, Now: w.now}
}

// events are the authority's own so far, from a number on.
func (w *world) events() (list []event.Event) {
	w.t.Helper()
	w.view(func(tx store.Tx) error {
		kept, _, err := tx.Events(0, "", "", 1000)
		list = nil
		for _, e := range kept {
			var one event.Event
			if err := json.Unmarshal(e.JSON, &one); err != nil {
				return err
			}
			list = append(list, one)
		}
		return err
	})
	return list
}

// happened wants an event of that name, by that operator, whose text has it in it.
func (w *world) happened(name event.Name, by, text string) {
	w.t.Helper()
	for _, e := range w.events() {
		if e.Name == name && e.By == by && strings.Contains(e.Text, text) {
			return
		}
	}
	var all []string
	for _, e := range w.events() {
		all = append(all, fmt.Sprintf("%s by %s: %s", e.Name, e.By, e.Text))
	}
	w.t.Errorf("there is no event %s by %s with %q among\n%s", name, by, text, strings.Join(all, "\n"))
}

// count is how many events of that name there are.
func (w *world) count(name event.Name) (n int) {
	w.t.Helper()
	for _, e := range w.events() {
		if e.Name == name {
			n++
		}
	}
	return n
}

// client is a browser without a window: it does what it is told, and no more.
type client struct {
	w      *world
	key    *passkey.Key
	cookie string
}

// reply is what the console said.
type reply struct {
	status int
	header http.Header
	body   string
}

// send sends a request as it is.
func (c *client) send(r *http.Request) reply {
	c.w.t.Helper()
	if c.cookie != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: c.cookie})
	}
	rec := httptest.NewRecorder()
	c.w.ServeHTTP(rec, r)
	for _, k := range rec.Result().Cookies() {
		if k.Name == cookieName {
			c.cookie = k.Value
		}
	}
	body, _ := io.ReadAll(rec.Result().Body)
	return reply{rec.Code, rec.Header(), string(body)}
}

func (c *client) get(path string) reply {
	c.w.t.Helper()
	return c.send(httptest.NewRequest("GET", path, nil))
}

// request is what a page of the console would send.
func (c *client) request(path, kind, body string) *http.Request {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Origin", c.w.origin)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func (c *client) post(path string, form url.Values) reply {
	c.w.t.Helper()
	return c.send(c.request(path, "application/x-www-form-urlencoded", form.Encode()))
}

func (c *client) json(path string, v any) reply {
	c.w.t.Helper()
	b, err := json.Marshal(v)
	c.w.ok(err)
	return c.send(c.request(path, "application/json", string(b)))
}

// token is that of the first form on a page that is sent to this path.
func (r reply) token(path string) string {
	_, form, ok := strings.Cut(r.body, `action="`+path+`"`)
	if !ok {
		return ""
	}
	_, value, _ := strings.Cut(form, `name="form" value="`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// submits opens the action's form with what is given, fills in the rest and sends it.
func (c *client) submits(action string, given, rest url.Values) reply {
	c.w.t.Helper()
	page := c.get("/act/" + action + "?" + given.Encode())
	form := url.Values{"form": {page.token("/act/" + action)}}
	for _, values := range []url.Values{given, rest} {
		for k, v := range values {
			form[k] = v
		}
	}
	return c.post("/act/"+action, form)
}

// operator adds one, who has a passkey by now and is not logged in.
func (w *world) operator(name string, role Role) *client {
	w.t.Helper()
	i, err := w.operators().Add(context.Background(), "test", name, role)
	w.ok(err)
	c := &client{w: w, key: passkey.New(w.rp())}
	if r := c.accepts(i); r.status != http.StatusOK {
		w.t.Fatalf("%+v", r)
	}
	return c
}

func (c *client) accepts(i *Invitation) reply {
	c.w.t.Helper()
	_, secret, _ := strings.Cut(i.URL.Reveal(), "#")
	reg := c.key.Registration("x")
	return c.json("/invite", map[string]string{"secret": secret, "credential_id": b64.EncodeToString(reg.CredentialID), "public_key": b64.EncodeToString(reg.PublicKey),
		"authenticator_data": b64.EncodeToString(reg.AuthenticatorData), "label": "test key"})
}

// begun is a login that the server knows of.
func (c *client) begun() (nonce string, challenge [32]byte) {
	c.w.t.Helper()
	r := c.json("/login/begin", struct{}{})
	var begun struct{ Nonce, Challenge string }
	c.w.ok(json.Unmarshal([]byte(r.body), &begun))
	b, err := b64.DecodeString(begun.Challenge)
	c.w.ok(err)
	return begun.Nonce, [32]byte(b)
}

func (c *client) answers(nonce string, a push.Assertion) reply {
	c.w.t.Helper()
	return c.json("/login", map[string]string{"nonce": nonce, "credential_id": b64.EncodeToString(a.CredentialID), "authenticator_data": b64.EncodeToString(a.AuthenticatorData),
		"client_data": b64.EncodeToString(a.ClientData), "signature": b64.EncodeToString(a.Signature)})
}

func (c *client) logsIn() reply {
	c.w.t.Helper()
	nonce, challenge := c.begun()
	return c.answers(nonce, c.key.Assert(challenge))
}

// in is an operator who is logged in.
func (w *world) in(name string, role Role) *client {
	w.t.Helper()
	c := w.operator(name, role)
	if r := c.logsIn(); r.status != http.StatusOK || c.cookie == "" {
		w.t.Fatalf("%+v", r)
	}
	return c
}

// challenge is what laptop-17's screen shows to somebody when it is offline.
func (w *world) challenge(user string) string {
	return offline.NewChallenge(laptop, user).String()
}

// failing is a database that does not answer.
type failing struct{ store.Store }

func (failing) down() error { return fmt.Errorf("canary: %w", store.ErrUnavailable) }

func (f failing) View(context.Context, func(store.Tx) error) error   { return f.down() }
func (f failing) Update(context.Context, func(store.Tx) error) error { return f.down() }
func (f failing) Change(context.Context, func(store.Tx) error) error { return f.down() }

var quiet = slog.New(slog.DiscardHandler)

// logsInAnyway tries with a challenge that was made up.
func (c *client) logsInAnyway() reply {
	return c.answers(b64.EncodeToString(random(nonceSize)), c.key.Assert([32]byte{}))
}

func hashOf(t testing.TB, cookie string) []byte {
	t.Helper()
	b, err := b64.DecodeString(cookie)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(b)
	return h[:]
}

// request is the id of the only request.
func (w *world) request() (id string) {
	w.t.Helper()
	w.view(func(tx store.Tx) error {
		list, err := tx.OperatorRequests(w.now())
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d requests", len(list))
		}
		if err == nil {
			id = list[0].ID
		}
		return err
	})
	return id
}

// formToken is a form's token as a page of that session would have it, whether or not one has.
func (w *world) formToken(c *client, what string) string {
	v := &visit{}
	v.cookie, _ = b64.DecodeString(c.cookie)
	return (&server{Options: Options{Life: time.Hour, Now: w.now}}).token(v, what)
}
