package push_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/push"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/authority/webpush"
	"sallyport/internal/clock"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
)

var rp = factor.RelyingParty{ID: "approve.example.com", Origin: "https://approve.example.com"}

const (
	laptop  = "LAPTOPLAPTOPLAPTOPLAPTOPAA"
	desktop = "DESKTOPDESKTOPDESKTOPDESAA"
)

// phones record what they are sent.
type phones struct {
	mu    sync.Mutex
	rings map[string][]string // by subscription
	err   error
}

func (p *phones) Ring(_ context.Context, subscription, payload []byte, _ time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rings[string(subscription)] = append(p.rings[string(subscription)], string(payload))
	return p.err
}

// world is maya with a phone in the manifest, and two computers.
type world struct {
	*testing.T
	*push.Service
	store  store.Store
	time   time.Time
	phones *phones
	keys   map[string]*passkey.Key
	ids    map[string]string // of approvers
}

func newWorld(t *testing.T, s store.Store) *world {
	w := &world{T: t, store: s, time: time.Now().Round(time.Second), phones: &phones{rings: map[string][]string{}},
		keys: map[string]*passkey.Key{}, ids: map[string]string{}}
	w.Service = push.New(push.Options{Store: s, Limits: factor.DefaultLimits(), Ringer: w.phones, Now: func() time.Time { return w.time }})
	w.update(func(tx store.Tx) error {
		for _, name := range []string{"maya", "jo"} {
			if err := tx.CreateUser(store.User{Name: name, Created: w.time}); err != nil {
				return err
			}
		}
		for _, id := range []string{laptop, desktop} {
			if err := tx.PutDevice(store.Device{ID: id, Name: id[:6], SealingKey: make([]byte, 32), Users: []string{"maya"}, KeyHash: []byte(id), Created: w.time}); err != nil {
				return err
			}
		}
		return nil
	})
	w.phone("maya", "Pixel", "", false)
	return w
}

func (w *world) update(fn func(tx store.Tx) error) {
	w.Helper()
	if err := w.store.Update(w.Context(), fn); err != nil {
		w.Fatal(err)
	}
}

// phone gives a user one more, whose page is open.
func (w *world) phone(user, name, device string, pending bool) {
	w.Helper()
	k := passkey.New(rp)
	w.keys[name], w.ids[name] = k, factor.NewID()
	w.update(func(tx store.Tx) error {
		a := store.Approver{ID: w.ids[name], Approver: k.Approver(name), User: user, Device: device, Pending: pending, Created: w.time}
		return errors.Join(tx.PutApprover(a),
			tx.PutSession(store.Session{Hash: []byte("session of " + name), Approver: a.ID, Subscription: []byte(name), Created: w.time, Seen: w.time}))
	})
}

// request is what a device sends for a login.
func (w *world) request(device, user string, phones ...string) push.Request {
	w.Helper()
	l, err := factor.NewChallenge(factor.Challenge{Device: device, Name: "x", User: user, Service: "sshd", From: "192.0.2.7"}, clock.Instant{Wall: w.time}, time.Minute, 2)
	if err != nil {
		w.Fatal(err)
	}
	r := push.Request{ID: l.Challenge.ID, User: user, Challenge: l.Bytes, Resource: "sshd"}
	for _, p := range phones {
		r.CredentialIDs = append(r.CredentialIDs, w.keys[p].ID)
	}
	return r
}

func (w *world) begins(device string, r push.Request) {
	w.Helper()
	if _, err := w.Begin(w.Context(), device, r); err != nil {
		w.Fatalf("refused: %v", err)
	}
}

func (w *world) isRefused(device string, r push.Request, why factor.Reason) {
	w.Helper()
	_, err := w.Begin(w.Context(), device, r)
	var no *push.Refused
	if !errors.As(err, &no) || no.Reason != why {
		w.Fatalf("got %v, want %s", err, why)
	}
}

// rang says how often the phones rang by now.
func (w *world) rang(want map[string]int) {
	w.Helper()
	w.Wait()
	w.phones.mu.Lock()
	defer w.phones.mu.Unlock()
	got := map[string]int{}
	for k, v := range w.phones.rings {
		got[k] = len(v)
	}
	if len(got) != len(want) {
		w.Fatalf("rang: %v, want %v", got, want)
	}
	for k := range want {
		if got[k] != want[k] {
			w.Fatalf("rang: %v, want %v", got, want)
		}
	}
}

// events are those of a name, newest last.
func (w *world) events(name string) (list []store.Event) {
	w.Helper()
	if err := w.store.View(w.Context(), func(tx store.Tx) error {
		all, _, err := tx.Events(0, "", "", 1000)
		list = slices.DeleteFunc(all, func(e store.Event) bool { return e.Name != name })
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return list
}

func (w *world) approver(name string) (a store.Approver) {
	w.Helper()
	if err := w.store.View(w.Context(), func(tx store.Tx) (err error) {
		a, err = tx.Approver(w.ids[name])
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return a
}

func (w *world) answers(phone string, r push.Request, d factor.Decision) error {
	w.Helper()
	return w.Answer(w.Context(), w.approver(phone), r.ID, w.keys[phone].Answer(r.Challenge, d, "42"))
}

func (w *world) ends(device string, r push.Request, outcome string) {
	w.Helper()
	if err := w.End(w.Context(), device, r.ID, outcome); err != nil {
		w.Fatal(err)
	}
}

func each(t *testing.T, test func(w *world)) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) { test(newWorld(t, open("a"))) })
}

func TestALoginRingsAndIsAnswered(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		names, err := w.Begin(w.Context(), laptop, r)
		if err != nil || names != "Pixel" {
			t.Fatal(names, err)
		}
		w.rang(map[string]int{"Pixel": 1})
		var m map[string]any
		if err := json.Unmarshal([]byte(w.phones.rings["Pixel"][0]), &m); err != nil {
			t.Fatal(err)
		}
		if m["type"] != "login" || m["id"] != r.ID || m["user"] != "maya" || m["device"] != "LAPTOP" || m["service"] != "sshd" || m["from"] != "192.0.2.7" || m["expires"].(float64) != float64(w.time.Add(time.Minute).Unix()) || len(m) != 7 {
			t.Errorf("%v", m)
		}
		if err := w.answers("Pixel", r, factor.Approve); err != nil {
			t.Fatal(err)
		}
		if err := w.answers("Pixel", r, factor.Deny); !errors.Is(err, store.ErrUsed) {
			t.Errorf("a second answer: %v", err)
		}
		w.ends(laptop, r, "approved")
		w.ends(laptop, r, "denied") // it is over
		w.begins(laptop, w.request(laptop, "maya", "Pixel"))
	})
}

func TestPushBombingAtTheAuthority(t *testing.T) {
	each(t, func(w *world) {
		// One pending.
		first := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, first)
		w.isRefused(laptop, w.request(laptop, "maya", "Pixel"), factor.TooMany)
		// Answered: the next one may come at once; the fourth in five minutes may not.
		w.answers("Pixel", first, factor.Approve)
		w.ends(laptop, first, "approved")
		for range 2 {
			r := w.request(laptop, "maya", "Pixel")
			w.begins(laptop, r)
			w.answers("Pixel", r, factor.Approve)
			w.ends(laptop, r, "approved")
		}
		w.isRefused(laptop, w.request(laptop, "maya", "Pixel"), factor.TooMany)
		w.rang(map[string]int{"Pixel": 3})
		list := w.events("push_mfa_attempt_failed")
		if len(list) != 2 || !bytes.Contains(list[1].JSON, []byte("too many concurrent push requests")) || list[1].User != "maya" || list[1].Device != "" {
			t.Errorf("%+v", list)
		}
		// Another computer has its own share.
		w.begins(desktop, w.request(desktop, "maya", "Pixel"))
		w.time = w.time.Add(5*time.Minute + time.Second)
		w.begins(laptop, w.request(laptop, "maya", "Pixel"))
	})
}

func TestRingCancelRingIsNoWayAroundTheLimit(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		w.ends(laptop, r, "cancelled")
		w.isRefused(laptop, w.request(laptop, "maya", "Pixel"), factor.TooMany)
		// Nor is an approval that never was.
		w.time = w.time.Add(time.Minute)
		r = w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		w.ends(laptop, r, "approved")
		w.time = w.time.Add(time.Minute)
		r = w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		w.ends(laptop, r, "timed_out")
		// Three misses in a row.
		w.time = w.time.Add(5 * time.Minute)
		w.isRefused(laptop, w.request(laptop, "maya", "Pixel"), factor.Paused)
		if len(w.events("push_paused")) != 1 {
			t.Error("the pause is no event")
		}
		w.time = w.time.Add(15 * time.Minute)
		w.begins(laptop, w.request(laptop, "maya", "Pixel"))
	})
}

func TestNotMeLocksUntilTheHelpdeskClears(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		if err := w.answers("Pixel", r, factor.Report); err != nil {
			t.Fatal(err)
		}
		w.ends(laptop, r, "reported")
		w.time = w.time.Add(24 * time.Hour)
		w.isRefused(laptop, w.request(laptop, "maya", "Pixel"), factor.Reported)
		if len(w.events("push_mfa_reported")) != 1 {
			t.Error("the report is no event")
		}
		if err := w.Clear(w.Context(), "root", "nobody", ""); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if err := w.Clear(w.Context(), "root", "maya", "another"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if err := w.Clear(w.Context(), "root", "maya", ""); err != nil {
			t.Fatal(err)
		}
		w.begins(laptop, w.request(laptop, "maya", "Pixel"))
	})
}

func TestOnlyPhonesThatTheDeviceWouldTakeAreRung(t *testing.T) {
	each(t, func(w *world) {
		w.phone("maya", "pinned here", laptop, false)
		w.phone("maya", "pinned there", desktop, false)
		w.phone("maya", "unsigned", "", true)
		w.phone("maya", "not named", "", false)
		w.phone("jo", "Jo's", "", false)
		named := []string{"Pixel", "pinned here", "pinned there", "unsigned", "Jo's"}
		r := w.request(laptop, "maya", named...)
		names, err := w.Begin(w.Context(), laptop, r)
		if err != nil || !strings.Contains(names, "Pixel") || !strings.Contains(names, "pinned here") || strings.Contains(names, "there") || strings.Contains(names, "Jo") {
			t.Fatal(names, err)
		}
		w.rang(map[string]int{"Pixel": 1, "pinned here": 1})
		// And only they may answer; to the others it is not there.
		for _, p := range []string{"pinned there", "unsigned", "not named", "Jo's"} {
			if err := w.answers(p, r, factor.Deny); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", p, err)
			}
		}
		// Nor with another's credential.
		a := w.keys["pinned here"].Answer(r.Challenge, factor.Approve, "42")
		if err := w.Answer(w.Context(), w.approver("Pixel"), r.ID, a); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if err := w.answers("pinned here", r, factor.Approve); err != nil {
			t.Error(err)
		}
		w.isRefused(laptop, w.request(laptop, "maya", "pinned there", "unsigned"), push.NoPhone)
	})
}

func TestAnApproverThatWasRemovedMeanwhileCannotAnswer(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		before := w.approver("Pixel")
		w.update(func(tx store.Tx) error { return tx.RemoveApprover(before.ID) })
		if err := w.Answer(w.Context(), before, r.ID, w.keys["Pixel"].Answer(r.Challenge, factor.Approve, "42")); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestDeviceACannotSpeakForDeviceB(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		w.isRefused(desktop, r, push.Malformed) // the bytes name the laptop
		w.begins(laptop, r)
		if err := w.End(w.Context(), desktop, r.ID, "denied"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		// Its id is taken, for whomever.
		again := w.request(desktop, "maya", "Pixel")
		again.Challenge = bytes.Replace(again.Challenge, []byte(again.ID), []byte(r.ID), 1)
		again.ID = r.ID
		w.isRefused(desktop, again, push.Malformed)
		if err := w.answers("Pixel", r, factor.Approve); err != nil {
			t.Error(err)
		}
	})
}

func TestUserNotAllowedOnTheDevice(t *testing.T) {
	each(t, func(w *world) {
		w.phone("jo", "Jo's", "", false)
		w.isRefused(laptop, w.request(laptop, "jo", "Jo's"), push.NotAllowed)
		w.isRefused(laptop, w.request(laptop, "nobody", "Jo's"), push.NotAllowed)
		w.update(func(tx store.Tx) error {
			d, err := tx.Device(laptop)
			d.Users = []string{"*"}
			return errors.Join(err, tx.PutDevice(d))
		})
		w.begins(laptop, w.request(laptop, "jo", "Jo's"))
		w.isRefused(laptop, w.request(laptop, "nobody", "Jo's"), push.NotAllowed)
		w.update(func(tx store.Tx) error {
			d, err := tx.Device(laptop)
			d.Revoked = w.time
			return errors.Join(err, tx.PutDevice(d))
		})
		if _, err := w.Begin(w.Context(), laptop, w.request(laptop, "maya", "Pixel")); !errors.Is(err, enrol.ErrRevoked) {
			t.Error(err)
		}
	})
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	each(t, func(w *world) {
		spoilt := func(fn func(c *factor.Challenge)) func(*push.Request) {
			return func(r *push.Request) {
				c, err := factor.ParseChallenge(r.Challenge)
				if err != nil {
					t.Fatal(err)
				}
				fn(&c)
				r.Challenge, _ = json.Marshal(c)
			}
		}
		for name, spoil := range map[string]func(r *push.Request){
			"no id":                func(r *push.Request) { r.ID = "" },
			"another id":           func(r *push.Request) { r.ID = factor.NewID() },
			"long id":              func(r *push.Request) { r.ID += "A" },
			"another user":         spoilt(func(c *factor.Challenge) { c.User = "jo" }),
			"another device":       spoilt(func(c *factor.Challenge) { c.Device = desktop }),
			"another type":         spoilt(func(c *factor.Challenge) { c.Type = "sallyport.session.v1" }),
			"an hour ahead":        spoilt(func(c *factor.Challenge) { c.Expires += 3600; c.Issued += 3600 }),
			"lives for an hour":    spoilt(func(c *factor.Challenge) { c.Expires += 3600 }),
			"an hour ago":          spoilt(func(c *factor.Challenge) { c.Expires -= 3600; c.Issued -= 3600 }),
			"ends before it began": spoilt(func(c *factor.Challenge) { c.Issued = c.Expires + 1 }),
			"times that overflow":  spoilt(func(c *factor.Challenge) { c.Issued = -1 << 62; c.Expires = 1 << 62 }),
			"NUL in the user":      func(r *push.Request) { r.User = "a\x00" },
			"too long":             func(r *push.Request) { r.Challenge = append(r.Challenge, bytes.Repeat([]byte(" "), 2048)...) },
			"long resource":        func(r *push.Request) { r.Resource = strings.Repeat("a", 129) },
			"NUL in the resource":  func(r *push.Request) { r.Resource = "a\x00" },
			"no credentials":       func(r *push.Request) { r.CredentialIDs = nil },
			"an empty credential":  func(r *push.Request) { r.CredentialIDs = [][]byte{{}} },
			"many credentials":     func(r *push.Request) { r.CredentialIDs = slices.Repeat(r.CredentialIDs, 17) },
			"a long credential":    func(r *push.Request) { r.CredentialIDs = [][]byte{make([]byte, 1024)} },
			"nothing":              func(r *push.Request) { *r = push.Request{} },
		} {
			r := w.request(laptop, "maya", "Pixel")
			spoil(&r)
			_, err := w.Begin(w.Context(), laptop, r)
			var no *push.Refused
			if !errors.As(err, &no) || no.Reason != push.Malformed {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.begins(laptop, w.request(laptop, "maya", "Pixel")) // none of it counted
	})
}

func TestAComputersClockMayBeALittleOff(t *testing.T) {
	each(t, func(w *world) {
		w.time = w.time.Add(-5 * time.Minute)
		r := w.request(laptop, "maya", "Pixel")
		w.time = w.time.Add(5 * time.Minute)
		w.begins(laptop, r)
		w.time = w.time.Add(59 * time.Second)
		if err := w.answers("Pixel", r, factor.Approve); err != nil {
			t.Error("expired by another's clock:", err)
		}
		w.time = w.time.Add(10 * time.Minute)
		r = w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		w.time = w.time.Add(time.Minute)
		if err := w.answers("Pixel", r, factor.Approve); !errors.Is(err, store.ErrUsed) {
			t.Error("answered after its end:", err)
		}
	})
}

func TestMalformedAnswersAreRefused(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		good := w.keys["Pixel"].Answer(r.Challenge, factor.Approve, "42")
		for name, spoil := range map[string]func(a *factor.Answer){
			"no decision":           func(a *factor.Answer) { a.Decision = "" },
			"another":               func(a *factor.Answer) { a.Decision = "maybe" },
			"short auth data":       func(a *factor.Answer) { a.AuthenticatorData = a.AuthenticatorData[:36] },
			"long auth data":        func(a *factor.Answer) { a.AuthenticatorData = make([]byte, 1025) },
			"no client data":        func(a *factor.Answer) { a.ClientData = nil },
			"long client data":      func(a *factor.Answer) { a.ClientData = make([]byte, 2049) },
			"no signature":          func(a *factor.Answer) { a.Signature = nil },
			"a signature too long":  func(a *factor.Answer) { a.Signature = make([]byte, 1025) },
			"another credential id": func(a *factor.Answer) { a.CredentialID = []byte("x") },
		} {
			a := good
			spoil(&a)
			if err := w.Answer(w.Context(), w.approver("Pixel"), r.ID, a); !errors.Is(err, enrol.ErrInvalid) && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, id := range []string{"", "x", factor.NewID(), "../" + r.ID, r.ID + "\x00"} {
			if err := w.Answer(w.Context(), w.approver("Pixel"), id, good); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
		if err := w.Answer(w.Context(), w.approver("Pixel"), r.ID, good); err != nil {
			t.Error(err)
		}
		for _, outcome := range []string{"", "allowed", "approved\x00"} {
			if err := w.End(w.Context(), laptop, r.ID, outcome); !errors.Is(err, enrol.ErrInvalid) {
				t.Errorf("%q: %v", outcome, err)
			}
		}
	})
}

func TestOfTwoAnswersAtOnceOneCounts(t *testing.T) {
	each(t, func(w *world) {
		r := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		by := w.approver("Pixel")
		results := make(chan error, 8)
		for i := range cap(results) {
			d := []factor.Decision{factor.Approve, factor.Deny}[i%2]
			a := w.keys["Pixel"].Answer(r.Challenge, d, "42")
			go func() { results <- w.Answer(context.Background(), by, r.ID, a) }()
		}
		taken := 0
		for range cap(results) {
			if err := <-results; err == nil {
				taken++
			} else if !errors.Is(err, store.ErrUsed) {
				t.Error(err)
			}
		}
		if taken != 1 {
			t.Errorf("%d answers were taken", taken)
		}
	})
}

func TestAtTheSameInstantOneRings(t *testing.T) {
	each(t, func(w *world) {
		results := make(chan error, 8)
		for range cap(results) {
			r := w.request(laptop, "maya", "Pixel")
			go func() {
				_, err := w.Begin(context.Background(), laptop, r)
				results <- err
			}()
		}
		began := 0
		for range cap(results) {
			var no *push.Refused
			if err := <-results; err == nil {
				began++
			} else if !errors.As(err, &no) || no.Reason != factor.TooMany {
				t.Error(err)
			}
		}
		if began != 1 {
			t.Errorf("%d began", began)
		}
		w.rang(map[string]int{"Pixel": 1})
	})
}

func TestASubscriptionThatIsGoneIsForgotten(t *testing.T) {
	each(t, func(w *world) {
		w.phones.err = webpush.ErrGone
		r := w.request(laptop, "maya", "Pixel")
		w.begins(laptop, r)
		w.rang(map[string]int{"Pixel": 1})
		w.ends(laptop, r, "code")
		w.phones.err = nil
		w.begins(laptop, w.request(laptop, "maya", "Pixel"))
		w.rang(map[string]int{"Pixel": 1})
	})
}

// stuck is a push service that does not answer.
type stuck struct{ begun, end chan struct{} }

func (s stuck) Ring(ctx context.Context, _, _ []byte, _ time.Duration) error {
	s.begun <- struct{}{}
	<-s.end
	return errors.New("the push service does not answer")
}

func TestASlowPushServiceHoldsUpNobody(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "a.db"), Node: "a"})
	w := newWorld(t, s)
	slow := stuck{make(chan struct{}, 100), make(chan struct{})}
	w.Ringer = slow
	for _, d := range []string{laptop, desktop} {
		w.begins(d, w.request(d, "maya", "Pixel")) // returns while the phone is being rung
	}
	for range 2 {
		select {
		case <-slow.begun:
		case <-time.After(time.Minute):
			t.Fatal("nobody rings")
		}
	}
	close(slow.end)
	w.Wait()
}

func FuzzBegin(f *testing.F) {
	s := storetest.Open(f, store.Options{SQLite: filepath.Join(f.TempDir(), "a.db"), Node: "a"})
	now := time.Unix(1_800_000_000, 0)
	service := push.New(push.Options{Store: s, Limits: factor.DefaultLimits(), Ringer: &phones{rings: map[string][]string{}}, Now: func() time.Time { return now }})
	k := passkey.New(rp)
	err := s.Update(context.Background(), func(tx store.Tx) error {
		return errors.Join(tx.CreateUser(store.User{Name: "maya", Created: now}),
			tx.PutDevice(store.Device{ID: laptop, Name: "laptop", SealingKey: make([]byte, 32), Users: []string{"*"}, KeyHash: []byte("k"), Created: now}),
			tx.PutApprover(store.Approver{ID: factor.NewID(), Approver: k.Approver("Pixel"), User: "maya", Created: now}))
	})
	if err != nil {
		f.Fatal(err)
	}
	l, err := factor.NewChallenge(factor.Challenge{Device: laptop, User: "maya", Service: "sshd"}, clock.Instant{Wall: now}, time.Minute, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Challenge.ID, "maya", l.Bytes, k.ID, "sshd")
	f.Add(l.Challenge.ID, "maya\x00", []byte(`{"type":"sallyport.login.v1","id":"`+l.Challenge.ID+`","user":"maya\u0000"}`), []byte{}, "\xff")
	f.Add("", "", []byte(nil), []byte(nil), "")
	f.Fuzz(func(t *testing.T, id, user string, challenge, credential []byte, resource string) {
		_, err := service.Begin(context.Background(), laptop, push.Request{ID: id, User: user, Challenge: challenge, CredentialIDs: [][]byte{credential}, Resource: resource})
		var no *push.Refused
		if err != nil && !errors.As(err, &no) {
			t.Errorf("the database did not take it: %v", err)
		}
		if err == nil {
			if c, err := factor.ParseChallenge(challenge); err != nil || c.ID != id || c.User != user || c.Device != laptop {
				t.Errorf("began %+v for %s of %s", c, id, user)
			}
		}
	})
}
