package approver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
)

// vapid is some P-256 point.
const vapid = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"

// world is an authority with a real database, and the computers around it.
type world struct {
	t        testing.TB
	store    store.Store
	settings organisation.Settings
	handler  http.Handler
	log      bytes.Buffer

	mu    sync.Mutex
	clock time.Time // zero: the real one
	lives map[string]*push.Live
	// What computers made of the answers that came, by challenge.
	verified  map[string]push.Verified
	secrets   map[string][]byte // of devices' enrolments
	refuse    string            // what the computers say to a phone
	mute      bool              // the computers say nothing
	completed int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, clock: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), lives: map[string]*push.Live{},
		verified: map[string]push.Verified{}, secrets: map[string][]byte{},
		settings: organisation.Settings{Name: "Example Works", RPID: "localhost", Origin: "http://localhost:1", API: "http://localhost:1"}}
	var err error
	if w.store, err = store.Open(t.Context(), store.Options{SQLite: filepath.Join(t.TempDir(), "authority.db"), Node: "one"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	w.update(func(tx store.Tx) error {
		for _, d := range []store.Device{{ID: "LAPTOP", Name: "laptop-17"}, {ID: "SERVER", Name: "build-server"}} {
			d.Users, d.Created = []string{"*"}, w.now()
			if err := tx.PutDevice(d); err != nil {
				return err
			}
			if _, err := tx.Attach(d.ID, w.now()); err != nil {
				return err
			}
		}
		for _, u := range []string{"alice", "bob"} {
			if err := tx.CreateUser(store.User{Name: u, Created: w.now()}); err != nil {
				return err
			}
		}
		return nil
	})
	w.handler = Handler(w.options())
	return w
}

func (w *world) options() Options {
	return Options{
		Store: w.store, Settings: func() organisation.Settings { return w.settings }, VAPIDPublicKey: vapid,
		CheckSubscription: func(b []byte) error {
			if !strings.HasPrefix(string(b), `{"endpoint":"https://push.example.com/`) {
				return errors.New("refused")
			}
			return nil
		},
		Complete: w.complete, Answer: w.answer, Now: w.now, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
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

func (w *world) rp() push.RelyingParty {
	return push.RelyingParty{ID: w.settings.RPID, Origin: w.settings.Origin}
}

func (w *world) update(fn func(tx store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) view(fn func(tx store.Tx) error) {
	w.t.Helper()
	if err := w.store.View(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// answer is what authority/push does.
func (w *world) answer(ctx context.Context, _ store.Approver, id string, a push.Answer) error {
	return w.store.Update(ctx, func(tx store.Tx) error {
		c, err := tx.Challenge(id)
		if err != nil {
			return err
		}
		if err := tx.Answer(id, a, w.now()); err != nil {
			return err
		}
		return tx.Notify(store.Notice{Topic: store.TopicAnswer, Device: c.Device, ID: id})
	})
}

// complete is what authority/enrol does with an enrolment of the authority's own.
func (w *world) complete(ctx context.Context, id string) error {
	w.mu.Lock()
	w.completed++
	w.mu.Unlock()
	return w.store.Update(ctx, func(tx store.Tx) error { return w.judge(tx, id) })
}

// judge is what an endpoint, or the authority itself, makes of a phone's key.
func (w *world) judge(tx store.Tx, id string) error {
	e, err := tx.Enrolment(id)
	if err != nil || e.Done {
		return err
	}
	w.mu.Lock()
	secret, refuse := w.secrets[id], w.refuse
	w.mu.Unlock()
	if e.Device == "" {
		secret = e.Secret
	}
	if !bytes.Equal(e.MAC, push.EnrolmentMAC(secret, id, e.Device, e.User, *e.Registration)) {
		refuse = "the key did not come from whoever scanned the code"
	}
	if refuse != "" {
		return tx.EndEnrolment(id, false, refuse)
	}
	a, err := e.Registration.Approver(w.rp())
	if err != nil {
		return err
	}
	kept := store.Approver{ID: push.NewID(), Approver: a, User: e.User, Device: e.Device, Created: w.now()}
	if err := tx.PutApprover(kept); err != nil {
		return err
	}
	if err := tx.PutSession(store.Session{Hash: e.Session, Approver: kept.ID, Created: w.now(), Seen: w.now()}); err != nil {
		return err
	}
	return tx.EndEnrolment(id, true, "")
}

// computers has the devices do their part, as they hear of it.
func (w *world) computers() {
	notices := w.store.Listen(w.t.Context())
	done := make(chan struct{})
	w.t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for n := range notices {
			w.mu.Lock()
			mute := w.mute
			w.mu.Unlock()
			if mute {
				continue
			}
			err := w.store.Update(context.Background(), func(tx store.Tx) error {
				switch n.Topic {
				case store.TopicEnrolment:
					return w.judge(tx, n.ID)
				case store.TopicAnswer:
					return w.verify(tx, n.ID)
				}
				return nil
			})
			if err != nil {
				w.t.Errorf("the computer: %s %s: %v", n.Topic, n.ID, err)
			}
		}
	}()
}

// verify is what an endpoint does with an answer.
func (w *world) verify(tx store.Tx, id string) error {
	c, err := tx.Challenge(id)
	if err != nil {
		return err
	}
	var keys []push.Approver
	list, err := tx.Approvers(c.User)
	if err != nil {
		return err
	}
	for _, a := range list {
		keys = append(keys, a.Approver)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	live := w.lives[id]
	v := live.Verify(*c.Answer, keys, nil, push.Rules{RelyingParty: w.rp(), AllowSynced: true}, clock.Instant{Wall: live.Until.Wall.Add(-live.Until.For)})
	w.verified[id] = v
	outcome := map[push.Reason]string{push.Approved: "approved", push.Denied: "denied", push.Reported: "reported", push.WrongNumber: "wrong_number"}[v.Reason]
	if outcome == "" {
		outcome = "forged: " + v.Detail
	}
	return tx.EndChallenge(id, outcome, c.Created)
}

// came waits for what the computer made of an answer.
func (w *world) came(id string) push.Verified {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verified[id]
}

// login has a computer ask the phones of a user.
func (w *world) login(c push.Challenge, device string, credentials ...[]byte) *push.Live {
	w.t.Helper()
	return w.loginOf(c.User, c, device, credentials...)
}

// loginOf is a login of a user whom the computer calls something else.
func (w *world) loginOf(user string, c push.Challenge, device string, credentials ...[]byte) *push.Live {
	w.t.Helper()
	c.Device = device
	now := w.now()
	live, err := push.NewChallenge(c, clock.Instant{Wall: now}, time.Minute, 2)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.lives[live.Challenge.ID] = live
	w.mu.Unlock()
	w.update(func(tx store.Tx) error {
		return tx.CreateChallenge(store.Challenge{ID: live.Challenge.ID, Device: device, User: user, Resource: c.Service, Bytes: live.Bytes,
			CredentialIDs: credentials, Created: now, Expires: now.Add(time.Minute)})
	})
	return live
}

// code is an enrolment, as the QR code has it.
func (w *world) code(device, user string) (id string, secret []byte, fragment string) {
	w.t.Helper()
	id, secret = push.NewID(), []byte(strings.Repeat(push.NewID(), 2)[:32])
	e := store.Enrolment{ID: id, User: user, Device: device, Created: w.now(), Expires: w.now().Add(10 * time.Minute)}
	name := "laptop-17"
	if device == "" {
		e.Secret, name = secret, w.settings.Name
	}
	w.mu.Lock()
	w.secrets[id] = secret
	w.mu.Unlock()
	w.update(func(tx store.Tx) error { return tx.CreateEnrolment(e) })
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	return id, secret, "#e=" + id + "&s=" + base64.RawURLEncoding.EncodeToString(secret) + "&d=" + device + "&n=" + escape(name) + "&u=" + escape(user)
}

// reply is what the API said.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) field(name string) string {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	s, _ := m[name].(string)
	return s
}

// ask asks the API, as a browser does; body is JSON, or text as it is.
func (w *world) ask(method, path, token string, body any) reply {
	w.t.Helper()
	var text string
	switch b := body.(type) {
	case nil:
	case string:
		text = b
	default:
		j, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(j)
	}
	r := httptest.NewRequest(method, prefix+path, strings.NewReader(text))
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return w.serve(r)
}

func (w *world) serve(r *http.Request) reply {
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return reply{rec.Code, rec.Header(), rec.Body.String()}
}

// phone is an enrolled phone with its page open.
type phone struct {
	key   *passkey.Key
	token string
}

// enrolled enrols a phone of the user at a device ("" = the authority's own).
func (w *world) enrolled(device, user string) phone {
	w.t.Helper()
	p := phone{key: passkey.New(w.rp())}
	id, secret, _ := w.code(device, user)
	body, token := p.posts(id, secret, device, user)
	p.token = token
	if r := w.ask("POST", "enrolment/"+id, "", body); r.status != http.StatusAccepted {
		w.t.Fatalf("enrol: %+v", r)
	}
	w.update(func(tx store.Tx) error { return w.judge(tx, id) })
	return p
}

// posts is what the page posts of a new passkey.
func (p phone) posts(id string, secret []byte, device, user string) (body map[string]any, token string) {
	reg := p.key.Registration("Pixel 9")
	token = base64.StdEncoding.EncodeToString([]byte(strings.Repeat(push.NewID(), 2)[:32]))
	return map[string]any{
		"credential_id": reg.CredentialID, "public_key": reg.PublicKey, "authenticator_data": reg.AuthenticatorData, "phone": reg.Phone,
		"mac": push.EnrolmentMAC(secret, id, device, user, reg), "token": token,
	}, token
}

func wire(a push.Assertion) map[string]any {
	return map[string]any{"credential_id": a.CredentialID, "authenticator_data": a.AuthenticatorData, "client_data": a.ClientData, "signature": a.Signature}
}

// answers is what the page posts of a decision.
func (p phone) answers(l *push.Live, d push.Decision, number string) map[string]any {
	m := wire(p.key.Answer(l.Bytes, d, number).Assertion)
	m["decision"] = d
	return m
}
