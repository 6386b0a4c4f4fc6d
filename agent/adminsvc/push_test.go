package adminsvc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/agent/loginsvc"
	"sallyport/agent/store"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	"sallyport/internal/factor/totp"
	"sallyport/internal/keychain"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	"sallyport/internal/testkit/people"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const patience = time.Minute // only a test that hangs waits for it

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	party = push.RelyingParty{ID: "push.example.com", Origin: "https://approve.example.com"}
)

// world is a service with a vault of its own, whose time and link the test sets.
type world struct {
	t       *testing.T
	svc     *Service
	config  *config.Config
	link    *fakeLink
	elapsed time.Duration
}

// Now implements clock.Clock.
func (w *world) Now() clock.Instant {
	return clock.Instant{Wall: noon.Add(w.elapsed), Boot: time.Hour + w.elapsed, BootID: "boot"}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, link: &fakeLink{phones: make(chan push.Approver), told: make(chan error, 1),
		state: LinkState{Connected: true, Since: noon.Add(-time.Hour), Users: []string{"*"}}}}
	loaded := &config.Loaded{Config: config.Default()}
	w.config = &loaded.Config
	dir := t.TempDir()
	s := store.New(vault.Options{Dir: filepath.Join(dir, "state"), Keychain: keychain.Config{Kind: keychain.File}, Clock: w, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.link.store = s
	w.svc = &Service{Store: s, Names: people.People{"root": 0, "daemon": 1}, State: func() State { return State{Config: loaded} }, OpenLogins: func() int { return 0 }, Link: w.link}
	logins := &loginsvc.Service{Store: s, Names: w.svc.Names, Clock: w, Settings: func() loginsvc.Settings { return loginsvc.Settings{Config: *w.config, RulesKnown: true} }}
	w.svc.Explain = logins.Explain
	return w
}

func (w *world) update(fn func(tx *vault.Tx) error) {
	w.t.Helper()
	if err := w.svc.Store.Update(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// joins makes the computer one that has joined an authority.
func (w *world) joins() *world {
	w.t.Helper()
	w.update(func(tx *vault.Tx) error {
		if err := store.PutSigned(tx, organisation.KindSettings, "", store.Item{Version: 1, Settings: &organisation.Settings{Name: "Example", RPID: party.ID,
			Origin: party.Origin, API: "https://push.example.com"}}); err != nil {
			return err
		}
		return store.PutAuthority(tx, &store.Authority{URL: "https://push.example.com:7443", DeviceID: "DEV", DeviceName: "pc1", Chain: [][]byte{w.certificate(noon.Add(-time.Hour), noon.Add(6*24*time.Hour))}})
	})
	return w
}

func (w *world) certificate(from, to time.Time) []byte {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

// has gives a user a record; with a code when totp is set.
func (w *world) has(name string, code bool, phones ...push.Approver) *world {
	w.t.Helper()
	p, err := w.svc.find(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	a := &factor.Account{Key: p.key(), Name: name, Phones: phones}
	if code {
		if a.TOTP, err = totp.New("SHA1", 6); err != nil {
			w.t.Fatal(err)
		}
	}
	w.update(func(tx *vault.Tx) error { return store.Put(tx, a) })
	return w
}

func (w *world) account(name string) *factor.Account {
	w.t.Helper()
	p, err := w.svc.find(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	var a *factor.Account
	if err := w.svc.Store.View(func(tx *vault.Tx) (err error) { a, err = store.Account(tx, p.key()); return err }); err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) show(name string) *adminv1.User {
	w.t.Helper()
	u, err := w.svc.ShowUser(context.Background(), &adminv1.UserRequest{User: name})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// events are the names and texts of what was recorded, newest last.
func (w *world) events(name event.Name) (texts []string) {
	w.t.Helper()
	if err := w.svc.Store.View(func(tx *vault.Tx) error {
		return tx.Events(0, func(e event.Event) bool {
			if e.Name == name {
				texts = append(texts, e.Text)
			}
			return true
		})
	}); err != nil {
		w.t.Fatal(err)
	}
	return texts
}

func (w *world) status() *adminv1.StatusResponse {
	w.t.Helper()
	st, err := w.svc.Status(context.Background(), &adminv1.StatusRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

func (w *world) problem(code string) *adminv1.Problem {
	w.t.Helper()
	for _, p := range w.status().GetProblems() {
		if p.GetCode() == code {
			return p
		}
	}
	return nil
}

func phone(name string) push.Approver {
	k := passkey.New(party)
	return push.Approver{CredentialID: k.ID, PublicKey: k.PublicKey(), Phone: name}
}

// fakeLink is an authority in which phones enrol as the test says.
type fakeLink struct {
	mu     sync.Mutex
	state  LinkState
	phones chan push.Approver // the keys that come
	told   chan error         // what the phone is told
	joined []string
	fail   error
	store  *store.Store
}

func (f *fakeLink) State() LinkState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeLink) Join(_ context.Context, by, url, _, name string) error {
	f.joined = append(f.joined, by, url, name)
	return f.fail
}

func (f *fakeLink) JoinLater(_ context.Context, by, url, _, name string) (bool, error) {
	f.joined = append(f.joined, by, url, name)
	return f.state.Joining == "", f.fail
}

func (f *fakeLink) Leave(ctx context.Context, _ string) error {
	return f.store.Update(ctx, store.ForgetAuthority)
}

func (f *fakeLink) EnrolPhone(ctx context.Context, user string, show func(string, time.Time) error, pin func(push.Approver) error) error {
	if err := show("https://approve.example.com/#e=1&s=SECRET&u="+user, noon.Add(10*time.Minute)); err != nil {
		return err
	}
	select {
	case key := <-f.phones:
		err := pin(key)
		f.told <- err
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enrolling is one `enroll --push` as its caller sees it.
type enrolling struct {
	grpc.ServerStream
	ctx  context.Context
	sent chan *adminv1.EnrolPushResponse
	err  chan error
}

func (e *enrolling) Context() context.Context { return e.ctx }

func (e *enrolling) Send(m *adminv1.EnrolPushResponse) error {
	e.sent <- m
	return nil
}

func (w *world) enrols(ctx context.Context, user string, replace bool) *enrolling {
	e := &enrolling{ctx: ctx, sent: make(chan *adminv1.EnrolPushResponse, 2), err: make(chan error, 1)}
	go func() { e.err <- w.svc.EnrolPush(&adminv1.EnrolPushRequest{User: user, Replace: replace}, e) }()
	return e
}

func take[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
	return v
}

func (e *enrolling) ends(t *testing.T, code codes.Code, words string) {
	t.Helper()
	err := take(t, e.err, "the end")
	if status.Code(err) != code || !strings.Contains(fmt.Sprint(err), words) {
		t.Errorf("ended with %v, want %v with %q", err, code, words)
	}
}

func TestAPhoneIsEnrolled(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true)
	e := w.enrols(context.Background(), "daemon", false)
	first := take(t, e.sent, "the link")
	if !strings.HasPrefix(first.GetUrl(), party.Origin) || first.GetExpires().AsTime() != noon.Add(10*time.Minute) || first.GetPhone() != nil {
		t.Errorf("first: %v", first)
	}
	key := phone("Pixel 8")
	w.link.phones <- key
	if err := take(t, w.link.told, "what the phone is told"); err != nil {
		t.Fatal(err)
	}
	// The phone is told only what is on disk.
	if got := w.account("daemon").Phones; len(got) != 1 || string(got[0].PublicKey) != string(key.PublicKey) {
		t.Fatalf("pinned: %v", got)
	}
	if second := take(t, e.sent, "the phone"); second.GetPhone().GetName() != "Pixel 8" || second.GetUrl() != "" {
		t.Errorf("second: %v", second)
	}
	e.ends(t, codes.OK, "")
	if got := w.events(event.PhoneEnrolled); len(got) != 1 || !strings.Contains(got[0], "Pixel 8") {
		t.Errorf("events: %q", got)
	}
	if u := w.show("daemon"); !u.GetPushReady() || u.GetPushState() != "ready" || len(u.GetPhones()) != 1 || u.GetPhones()[0].GetSource() != "here" {
		t.Errorf("user: %v", u)
	}
}

func TestWhoMayHaveNoPhone(t *testing.T) {
	full := make([]push.Approver, maxPhones)
	for i := range full {
		full[i] = phone(fmt.Sprint("phone ", i))
	}
	for name, c := range map[string]struct {
		set   func(w *world)
		code  codes.Code
		words string
	}{
		"without codes (nobody is push-only)": {func(w *world) { w.joins().has("daemon", false) }, codes.FailedPrecondition, "sallyport enroll daemon"},
		"without a record":                    {func(w *world) { w.joins() }, codes.FailedPrecondition, "nobody is push-only"},
		"no authority":                        {func(w *world) { w.has("daemon", true) }, codes.FailedPrecondition, "sallyport join URL"},
		"not connected": {func(w *world) {
			w.joins().has("daemon", true)
			w.link.state = LinkState{LastError: "connection refused"}
		}, codes.FailedPrecondition, "connection refused"},
		"push is off":      {func(w *world) { w.joins().has("daemon", true); w.config.Push.Enabled = false }, codes.FailedPrecondition, "push.enabled"},
		"not allowed here": {func(w *world) { w.joins().has("daemon", true); w.link.state.Users = []string{"maya"} }, codes.FailedPrecondition, "does not list daemon"},
		"eight phones":     {func(w *world) { w.joins().has("daemon", true, full...) }, codes.FailedPrecondition, "has 8 phones"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.set(w)
			e := w.enrols(context.Background(), "daemon", false)
			e.ends(t, c.code, c.words)
			if len(e.sent) != 0 {
				t.Error("a link was shown")
			}
		})
	}
	w := newWorld(t).joins()
	w.enrols(context.Background(), "nobody-of-that-name", false).ends(t, codes.NotFound, "knows no user")
}

// TestReplaceKeepsTheOldPhoneUntilTheNewOneIsIn: whoever asked for a new phone
// and then gave up still has the old one.
func TestReplaceKeepsTheOldPhoneUntilTheNewOneIsIn(t *testing.T) {
	old := phone("old")
	w := newWorld(t).joins().has("daemon", true, old)
	w.update(func(tx *vault.Tx) error {
		a, err := store.Account(tx, "uid:1")
		if err != nil {
			return err
		}
		a.Push = &push.State{Counters: map[string]uint32{push.CounterKey(old.CredentialID): 7}}
		return store.Put(tx, a)
	})
	ctx, hangUp := context.WithCancel(context.Background())
	e := w.enrols(ctx, "daemon", true)
	take(t, e.sent, "the link")
	hangUp()
	e.ends(t, codes.Canceled, "")
	if got := w.account("daemon").Phones; len(got) != 1 || got[0].Phone != "old" {
		t.Fatalf("after giving up: %v", got)
	}
	e = w.enrols(context.Background(), "daemon", true)
	take(t, e.sent, "the link")
	w.link.phones <- phone("new")
	e.ends(t, codes.OK, "")
	a := w.account("daemon")
	if len(a.Phones) != 1 || a.Phones[0].Phone != "new" || len(a.Push.Counters) != 0 {
		t.Errorf("after the new one: %v, %v", a.Phones, a.Push)
	}
}

// TestNobodyBecomesPushOnlyMeanwhile: the codes were taken away while the phone
// was being looked for.
func TestNobodyBecomesPushOnlyMeanwhile(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true)
	e := w.enrols(context.Background(), "daemon", false)
	take(t, e.sent, "the link")
	if _, err := w.svc.RemoveUser(context.Background(), &adminv1.UserRequest{User: "daemon"}); err != nil {
		t.Fatal(err)
	}
	w.link.phones <- phone("Pixel")
	if err := take(t, w.link.told, "what the phone is told"); status.Code(err) != codes.NotFound {
		t.Errorf("the phone was told %v", err)
	}
	e.ends(t, codes.NotFound, "")
	if a := w.account("daemon"); a != nil {
		t.Errorf("a record: %v", a.Phones)
	}
}

func TestSyncedPasskeysAreThePolicys(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true)
	w.config.Push.AllowSynced = false
	e := w.enrols(context.Background(), "daemon", false)
	take(t, e.sent, "the link")
	synced := phone("cloud")
	synced.Synced = true
	w.link.phones <- synced
	e.ends(t, codes.FailedPrecondition, "push.allow_synced")
	if a := w.account("daemon"); len(a.Phones) != 0 {
		t.Errorf("pinned: %v", a.Phones)
	}
	// One from before the setting is shown, and does not make push ready.
	w.has("daemon", true, synced)
	if u := w.show("daemon"); u.GetPushState() != pushNoPhone || len(u.GetPhones()) != 1 || !u.GetPhones()[0].GetSynced() {
		t.Errorf("user: %v", u)
	}
}

// One credential id in 64 begins with a "-" in base64url, which 'phones remove'
// would take for an option.
func TestAPhonesIDIsNoOption(t *testing.T) {
	p := phone("Pixel")
	p.CredentialID = append([]byte{0xfb, 0xef}, p.CredentialID...) // "--..."
	id := shortID(p)
	if len(id) != phoneID || strings.HasPrefix(id, "-") {
		t.Fatalf("%q", id)
	}
	w := newWorld(t).joins().has("daemon", true, p)
	u, err := w.svc.RemovePhone(context.Background(), &adminv1.RemovePhoneRequest{User: "daemon", Phone: id})
	if err != nil || len(u.GetPhones()) != 0 {
		t.Errorf("%v, %v", u.GetPhones(), err)
	}
}

func TestPhonesAreRemovedByIDOrName(t *testing.T) {
	central := phone("central")
	a, b, twin := phone("Pixel"), phone("iPhone"), phone("Pixel")
	w := newWorld(t).joins().has("daemon", true, a, b, twin)
	w.update(func(tx *vault.Tx) error {
		return store.PutSigned(tx, organisation.KindApprovers, "daemon", store.Item{Version: 1, Approvers: []push.Approver{central}})
	})
	remove := func(name string) (*adminv1.User, error) {
		return w.svc.RemovePhone(context.Background(), &adminv1.RemovePhoneRequest{User: "daemon", Phone: name})
	}
	for name, want := range map[string]codes.Code{
		"Pixel":          codes.InvalidArgument, // two of them
		"Nokia":          codes.NotFound,
		"":               codes.NotFound,
		shortID(b)[:3]:   codes.NotFound, // too short to be meant
		"central":        codes.FailedPrecondition,
		shortID(central): codes.FailedPrecondition,
	} {
		if _, err := remove(name); status.Code(err) != want {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	if _, err := remove(shortID(twin)); err != nil {
		t.Fatal(err)
	}
	u, err := remove("iPhone")
	if err != nil {
		t.Fatal(err)
	}
	if len(u.GetPhones()) != 2 || u.GetPhones()[0].GetId() != shortID(a) || u.GetPhones()[1].GetSource() != "authority" {
		t.Errorf("left: %v", u.GetPhones())
	}
	if got := w.events(event.PhoneRemoved); len(got) != 2 {
		t.Errorf("events: %q", got)
	}
}

// TestNotMeIsClearedByTheHelpdeskOnly: time does not end it, unlock does not
// either, and clearing is an event.
func TestNotMeIsClearedByTheHelpdeskOnly(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true, phone("Pixel"))
	limits := push.DefaultLimits()
	w.update(func(tx *vault.Tx) error {
		a, err := store.Account(tx, "uid:1")
		if err != nil {
			return err
		}
		a.Push = new(push.State)
		if why := a.Push.Begin("c1", "sshd", tx.Now(), limits); why != "" {
			return errors.New(string(why))
		}
		a.Push.End("c1", push.Reported, tx.Now(), limits)
		return store.Put(tx, a)
	})
	w.elapsed = 48 * time.Hour
	if u := w.show("daemon"); !u.GetPushReported() || u.GetPushReady() || u.GetPushState() != pushReported {
		t.Errorf("user: %v", u)
	}
	if p := w.problem("push_reported"); p == nil || !strings.Contains(p.GetText(), "daemon") || !strings.Contains(p.GetRemedy(), "sallyport push clear") {
		t.Errorf("problem: %v", p)
	}
	if u, err := w.svc.Unlock(context.Background(), &adminv1.UserRequest{User: "daemon"}); err != nil || !u.GetPushReported() {
		t.Errorf("unlock: %v, %v", u, err)
	}
	u, err := w.svc.ClearPush(context.Background(), &adminv1.UserRequest{User: "daemon"})
	if err != nil || u.GetPushReported() || !u.GetPushReady() {
		t.Errorf("cleared: %v, %v", u, err)
	}
	if got := w.events(event.PushCleared); len(got) != 1 {
		t.Errorf("events: %q", got)
	}
	if p := w.problem("push_reported"); p != nil {
		t.Errorf("still a problem: %v", p)
	}
	if _, err := w.svc.ClearPush(context.Background(), &adminv1.UserRequest{User: "root"}); status.Code(err) != codes.NotFound {
		t.Errorf("somebody without a record: %v", err)
	}
}

// TestUnansweredPushesPause: three that nobody answered, and nothing asked since:
// what is shown is what the next login would find.
func TestUnansweredPushesPause(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true, phone("Pixel"))
	limits := push.DefaultLimits()
	for i := range 3 {
		w.update(func(tx *vault.Tx) error {
			a, err := store.Account(tx, "uid:1")
			if err != nil {
				return err
			}
			if a.Push == nil {
				a.Push = new(push.State)
			}
			if why := a.Push.Begin(fmt.Sprint(i), "sshd", tx.Now(), limits); why != "" {
				return errors.New(string(why))
			}
			return store.Put(tx, a)
		})
		if u := w.show("daemon"); u.GetPushState() != pushTooMany { // one is pending
			t.Errorf("while %d is pending: %s", i, u.GetPushState())
		}
		w.elapsed += 2 * time.Minute
	}
	u := w.show("daemon")
	if u.GetPushState() != pushPaused || u.GetPushPausedFor().AsDuration() != 15*time.Minute || u.GetPushReady() {
		t.Errorf("paused: %v", u)
	}
	if a := w.account("daemon"); !a.Push.Paused.IsZero() {
		t.Error("looking changed the record")
	}
	if u, err := w.svc.ClearPush(context.Background(), &adminv1.UserRequest{User: "daemon"}); err != nil || !u.GetPushReady() {
		t.Errorf("cleared: %v, %v", u, err)
	}
}

func TestPhonesOfTheManifestAreShown(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true)
	w.update(func(tx *vault.Tx) error {
		return store.PutSigned(tx, organisation.KindApprovers, "daemon", store.Item{Version: 3, Approvers: []push.Approver{phone("central")}})
	})
	list, err := w.svc.ListUsers(context.Background(), &adminv1.ListUsersRequest{})
	if err != nil || len(list.GetUsers()) != 1 || !list.GetUsers()[0].GetPushReady() || list.GetUsers()[0].GetPhones()[0].GetSource() != "authority" {
		t.Errorf("list: %v, %v", list, err)
	}
	// What root does not take from the authority does not count, and is not shown.
	w.config.Authority.Accept = []string{"policy"}
	if u := w.show("daemon"); len(u.GetPhones()) != 0 || u.GetPushState() != pushNoPhone {
		t.Errorf("not accepted: %v", u)
	}
}

func TestStatusOfTheAuthority(t *testing.T) {
	w := newWorld(t)
	if a := w.status().GetAuthority(); a != nil {
		t.Errorf("joined none: %v", a)
	}
	w.joins()
	w.link.state.HoldsKey = true
	st := w.status()
	a := st.GetAuthority()
	if !a.GetConnected() || a.GetOrganisation() != "Example" || !a.GetHoldsOrganisationKey() || !a.GetPageSeparate() || a.GetPageOrigin() != party.Origin ||
		a.GetCertificateExpires().AsTime() != noon.Add(6*24*time.Hour) || len(st.GetProblems()) != 0 {
		t.Errorf("%v, problems %v", a, st.GetProblems())
	}
	if a.GetEventsWaiting() == 0 {
		t.Error("nothing was sent yet, and no event waits")
	}
	// What was sent since the position was kept on disk does not wait.
	w.link.state.SentDevice, w.link.state.SentVault, w.link.state.Sent = "DEV", w.status().GetVault().GetId(), 1000
	if n := w.status().GetAuthority().GetEventsWaiting(); n != 0 {
		t.Errorf("all was sent, and %d wait", n)
	}
	w.link.state.SentDevice = "OTHER" // of an authority that it left
	if w.status().GetAuthority().GetEventsWaiting() == 0 {
		t.Error("another device's position counts")
	}
	w.config.Authority.AllowExemptions = true
	if got := w.status().GetAuthority().GetExceptions(); len(got) != 1 || !strings.Contains(got[0], "allow_exemptions") {
		t.Errorf("exceptions: %q", got)
	}
}

func TestProblemsWithTheAuthority(t *testing.T) {
	for name, c := range map[string]struct {
		link     LinkState
		from, to time.Duration // of the certificate, from now
		want     string        // "" is no problem
		words    string
	}{
		"connected":           {LinkState{Connected: true, Since: noon}, -time.Hour, 144 * time.Hour, "", ""},
		"down for 14 minutes": {LinkState{Since: noon.Add(-14 * time.Minute)}, -time.Hour, 144 * time.Hour, "", ""},
		"down for 16 minutes": {LinkState{Since: noon.Add(-16 * time.Minute), LastError: "no route to host"}, -time.Hour, 144 * time.Hour, "authority_unreachable", "no route to host"},
		"revoked":             {LinkState{Since: noon, Refused: "revoked"}, -time.Hour, 144 * time.Hour, "authority_refused", "revoked this computer"},
		"not known any more":  {LinkState{Since: noon, Refused: "unknown"}, -time.Hour, 144 * time.Hour, "authority_refused", "does not know this computer"},
		"rolled back":         {LinkState{Since: noon, Refused: "vault_rolled_back"}, -time.Hour, 144 * time.Hour, "authority_refused", "older state"},
		"another protocol": {LinkState{Since: noon, Refused: "version", LastError: "the agent, 1, speaks version 1 of the protocol, the authority, 9, version 2: update Sallyport on this computer"},
			-time.Hour, 144 * time.Hour, "authority_refused", "the authority, 9, version 2: update Sallyport"},
		"a reason of the future":    {LinkState{Since: noon, Refused: "moved"}, -time.Hour, 144 * time.Hour, "authority_refused", "moved"},
		"two days are left":         {LinkState{Connected: true, Since: noon}, -time.Hour, 49 * time.Hour, "", ""},
		"less than two days":        {LinkState{Connected: true, Since: noon}, -time.Hour, 47 * time.Hour, "certificate_ending", "47h"},
		"the certificate has ended": {LinkState{Since: noon}, -200 * time.Hour, -time.Hour, "certificate_expired", "1h"},
		"the clock is behind":       {LinkState{Since: noon}, time.Hour, 144 * time.Hour, "authority_clock", "clock is behind"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).joins()
			w.update(func(tx *vault.Tx) error {
				a, err := store.JoinedTo(tx)
				if err != nil {
					return err
				}
				a.Chain = [][]byte{w.certificate(noon.Add(c.from), noon.Add(c.to))}
				return store.PutAuthority(tx, a)
			})
			w.link.state = c.link
			got := w.status().GetProblems()
			if c.want == "" {
				if len(got) != 0 {
					t.Errorf("%v", got)
				}
				return
			}
			if len(got) != 1 || got[0].GetCode() != c.want || !strings.Contains(got[0].GetText(), c.words) || got[0].GetRemedy() == "" {
				t.Errorf("%v, want %s with %q", got, c.want, c.words)
			}
		})
	}
}

// TestTheOrganisationsPolicyIsShown: whoever looks why somebody is asked sees the
// rule that the login goes by.
func TestTheOrganisationsPolicyIsShown(t *testing.T) {
	w := newWorld(t).joins()
	signs := func(version uint64, rules string) {
		w.update(func(tx *vault.Tx) error {
			return store.PutSigned(tx, organisation.KindPolicy, "", store.Item{Version: version, Policy: []byte(rules)})
		})
	}
	if got := w.show("daemon").GetAsked(); got != "not asked, by default=enrolled" {
		t.Error(got)
	}
	signs(1, `{"Ask":"enrolled","Required":{"Users":["daemon"]}}`)
	if got := w.show("daemon").GetAsked(); got != "asked, by required.users=daemon (organisation)" {
		t.Error(got)
	}
	if got := w.status().GetPolicy(); !strings.Contains(got, "required entries: 1") || !strings.Contains(got, "organisation") {
		t.Error(got)
	}
	w.config.Policy.Exempt.Users = []string{"daemon"} // root's word
	if got := w.show("daemon").GetAsked(); got != "exempt, by exempt.users=daemon" {
		t.Error(got)
	}
	w.config.Policy.Exempt.Users = nil
	signs(2, "x")
	if got := w.show("daemon").GetAsked(); !strings.Contains(got, "cannot be read") {
		t.Error(got)
	}
	if p := w.problem("policy_unreadable"); p == nil || p.GetRemedy() == "" {
		t.Errorf("problems: %v", w.status().GetProblems())
	}
}

func TestWhoServesThePage(t *testing.T) {
	for _, c := range []struct {
		page, api string
		want      bool
	}{
		{"https://approve.example.com", "https://push.example.com", true},
		{"https://push.example.com", "https://push.example.com", false},
		{"https://push.example.com:8443", "https://push.example.com", false}, // the same machine
		{"https://PUSH.example.com", "https://push.example.com", false},
		{"", "https://push.example.com", false},
		{"https://approve.example.com", "", false},
		{"%", "https://push.example.com", false},
	} {
		if got := otherHost(c.page, c.api); got != c.want {
			t.Errorf("page %q, API %q: %v", c.page, c.api, got)
		}
	}
}

func TestJoinIsChecked(t *testing.T) {
	token := organisation.Token{Secret: [20]byte{1}}.String()
	w := newWorld(t)
	join := func(url, token, name string) error {
		_, err := w.svc.Join(context.Background(), &adminv1.JoinRequest{Url: url, Token: token, Name: name})
		return err
	}
	for name, err := range map[string]error{
		"http":          join("http://push.example.com:7443", token, ""),
		"no host":       join("https://", token, ""),
		"a path":        join("https://push.example.com/x", token, ""),
		"a password":    join("https://a:b@push.example.com", token, ""),
		"no token":      join("https://push.example.com:7443", "", ""),
		"a bad token":   join("https://push.example.com:7443", token[:len(token)-1]+"_", ""),
		"a long name":   join("https://push.example.com:7443", token, strings.Repeat("x", 65)),
		"an odd name":   join("https://push.example.com:7443", token, "a\x1b[31m"),
		"a name of ä's": join("https://push.example.com:7443", token, "ä"),
	} {
		if status.Code(err) != codes.InvalidArgument || strings.Contains(err.Error(), token[12:]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.link.joined) != 0 {
		t.Fatalf("joined: %q", w.link.joined)
	}
	if err := join("https://push.example.com:7443", token, "pc1"); err != nil {
		t.Error(err)
	}
	w.link.fail = errors.New("the authority's certificate is not the one of the token")
	if err := join("https://push.example.com:7443", token, ""); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "not the one of the token") {
		t.Error(err)
	}
	w.joins()
	if err := join("https://push.example.com:7443", token, ""); status.Code(err) != codes.AlreadyExists {
		t.Errorf("joined already: %v", err)
	}
}

func TestJoinAsSoonAsTheAuthorityIsReached(t *testing.T) {
	w := newWorld(t)
	w.link.state = LinkState{Joining: "https://push.example.com:7443", LastError: "connection refused"}
	r := &adminv1.JoinRequest{Url: "https://push.example.com:7443", Token: organisation.Token{}.String(), KeepTrying: true}
	if answer, err := w.svc.Join(context.Background(), r); err != nil || answer.GetAuthority() != nil {
		t.Errorf("it answers %v, %v", answer, err)
	}
	if p := w.problem("authority_not_joined_yet"); p == nil || !strings.Contains(p.GetText(), "https://push.example.com:7443") || !strings.Contains(p.GetText(), "connection refused") {
		t.Errorf("problems: %v", w.status().GetProblems())
	}
	w.link.fail = errors.New("that is not an enrolment token")
	if _, err := w.svc.Join(context.Background(), r); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("refused: %v", err)
	}
}

func TestLeave(t *testing.T) {
	w := newWorld(t)
	if _, err := w.svc.Leave(context.Background(), &adminv1.LeaveRequest{}); status.Code(err) != codes.NotFound {
		t.Errorf("joined none: %v", err)
	}
	w.joins().has("daemon", true, phone("Pixel"))
	if _, err := w.svc.Leave(context.Background(), &adminv1.LeaveRequest{}); err != nil {
		t.Error(err)
	}
	// Phones were for the device that this computer was there; codes are its own.
	if a := w.account("daemon"); len(a.Phones) != 0 || a.TOTP == nil {
		t.Errorf("phones %v, code %v", a.Phones, a.TOTP)
	}
}

// TestTheAgentStopsWhileAPhoneIsAwaited: the daemon does not wait for it.
func TestTheAgentStopsWhileAPhoneIsAwaited(t *testing.T) {
	w := newWorld(t).joins().has("daemon", true)
	stopping := make(chan struct{})
	w.svc.Stopping = stopping
	e := w.enrols(context.Background(), "daemon", false)
	take(t, e.sent, "the link")
	close(stopping)
	e.ends(t, codes.Unavailable, "stopping")
}
