package loginsvc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"sallyport/agent/store"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	seeds "sallyport/internal/factor/totp"
	"sallyport/internal/identity"
	"sallyport/internal/keychain"
	"sallyport/internal/localsock"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	"sallyport/internal/testkit/people"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// patience is for what has to happen; only a test that fails waits so long.
const patience = time.Minute

var (
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	rp   = push.RelyingParty{ID: "approve.example.com", Origin: "https://approve.example.com"}
	// base32 of "12345678901234567890"
	seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
)

// world is a computer that has joined an authority. Its user, root, has a TOTP
// secret and a phone; another, daemon, has no factor. The vault is real; the time is made up; the authority is the test.
type world struct {
	*testing.T
	service  *Service
	options  vault.Options
	phone    *passkey.Key
	person   string
	courier  *courier
	stopping chan struct{}

	mu       sync.Mutex
	config   config.Config
	passed   time.Duration
	boots    int
	expiries []chan time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{T: t, person: "root", phone: passkey.New(rp), config: config.Default(),
		courier: &courier{sends: make(chan *sending, 100)}}
	w.options = vault.Options{Dir: filepath.Join(dir, "state"), Keychain: keychain.Config{Kind: "file"}, Clock: w,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	w.starts()
	w.change(func(tx *vault.Tx) error {
		settings := &organisation.Settings{RPID: rp.ID, Origin: rp.Origin}
		return errors.Join(
			store.PutAuthority(tx, &store.Authority{DeviceID: "DEVICE", DeviceName: "mars"}),
			store.PutSigned(tx, organisation.KindSettings, "", store.Item{Version: 1, Settings: settings}))
	})
	w.enrols(w.person, 0, w.phone.Approver("Pixel of maya"))
	return w
}

// starts is the agent's start; after another one, it was killed.
func (w *world) starts() {
	w.Helper()
	s := store.New(w.options)
	w.Cleanup(func() { _ = s.Close() })
	w.stopping = make(chan struct{})
	w.service = &Service{Store: s, Names: people.People{"root": 0, "daemon": 1}, Clock: w, Courier: w.courier, Stopping: w.stopping, timer: w.timer,
		Settings: func() Settings {
			w.mu.Lock()
			defer w.mu.Unlock()
			return Settings{Config: w.config, RulesKnown: true}
		}}
}

func (w *world) change(fn func(*vault.Tx) error) {
	w.Helper()
	if err := w.service.Store.Update(context.Background(), fn); err != nil {
		w.Fatal(err)
	}
}

// enrols gives a user the seed and phones.
func (w *world) enrols(name string, uid uint32, phones ...push.Approver) {
	w.Helper()
	w.change(func(tx *vault.Tx) error {
		state, err := seeds.FromSeed([]byte("12345678901234567890"), "", 0, 0)
		if err != nil {
			return err
		}
		return store.Put(tx, &factor.Account{Key: string(identity.UID(uid)), Name: name, TOTP: state, Phones: phones})
	})
}

func (w *world) account() *factor.Account {
	w.Helper()
	var a *factor.Account
	if err := w.service.Store.View(func(tx *vault.Tx) (err error) { a, err = store.Account(tx, string(identity.Root)); return err }); err != nil {
		w.Fatal(err)
	}
	return a
}

// Now implements clock.Clock.
func (w *world) Now() clock.Instant {
	w.mu.Lock()
	defer w.mu.Unlock()
	return clock.Instant{Wall: noon.Add(w.passed), Boot: time.Hour + w.passed, BootID: fmt.Sprint("boot ", w.boots)}
}

// later lets time go by. What waits for it is told.
func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed += d
}

// timer stands in for time.After: the time has come when the test says so. The
// prompts' and the pushes' timers are told apart by how long they are.
func (w *world) timer(d time.Duration) <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan time.Time, 1)
	if d == time.Duration(w.config.Push.Life) {
		w.expiries = append(w.expiries, c)
	}
	return c
}

// expires ends the life of the last challenge.
func (w *world) expires() {
	w.later(time.Duration(w.config.Push.Life))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expiries[len(w.expiries)-1] <- noon
}

func (w *world) code() string {
	w.Helper()
	code, err := totp.GenerateCode(seed, w.Now().Wall)
	if err != nil {
		w.Fatal(err)
	}
	return code
}

func (w *world) events() (list []event.Event) {
	w.Helper()
	if err := w.service.Store.View(func(tx *vault.Tx) error {
		return tx.Events(0, func(e event.Event) bool { list = append(list, e); return true })
	}); err != nil {
		w.Fatal(err)
	}
	return list
}

// reported checks the names, and the reasons, of all events so far, but those of
// the vault itself.
func (w *world) reported(want ...string) {
	w.Helper()
	var got []string
	for _, e := range w.events() {
		if !strings.HasPrefix(string(e.Name), "vault_") {
			got = append(got, strings.TrimSpace(strings.Join([]string{string(e.Name), e.Verdict, e.Reason}, " ")))
		}
	}
	for i, s := range got {
		got[i] = strings.Join(strings.Fields(s), " ")
	}
	if !slices.Equal(got, want) {
		w.Errorf("the events are\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// courier is the way to the phones, in the test's hands.
type courier struct {
	sends  chan *sending
	refuse error         // what Send says
	hangs  bool          // the link is a black hole
	within time.Duration // how long Send was given at the most, when it hung; 0: for ever
}

// sending is a challenge that a phone got.
type sending struct {
	user      string
	live      *push.Live
	approvers []push.Approver
	answers   chan push.Answer
	ended     chan string
}

func (c *courier) Send(ctx context.Context, user string, l *push.Live, approvers []push.Approver) (Sent, error) {
	if c.hangs {
		if end, ok := ctx.Deadline(); ok {
			c.within = max(time.Until(end), 1) // a machine may have stood still meanwhile
		}
		<-ctx.Done()
		return Sent{}, &PushRefused{Reason: PushOffline, Text: ctx.Err().Error()}
	}
	if c.refuse != nil {
		return Sent{}, c.refuse
	}
	s := &sending{user, l, approvers, make(chan push.Answer, 8), make(chan string, 8)}
	c.sends <- s
	return Sent{Phone: approvers[0].Phone, Answers: s.answers, End: func(outcome string) { s.ended <- outcome }}, nil
}

// rings is the challenge that reaches the phone next.
func (w *world) rings() *sending {
	w.Helper()
	select {
	case s := <-w.courier.sends:
		return s
	case <-time.After(patience):
		w.Fatal("no phone rings")
		return nil
	}
}

func (w *world) silent() {
	w.Helper()
	if len(w.courier.sends) > 0 {
		w.Error("a phone rings")
	}
}

// ends checks how the phone was told that the login ended, and that it was once.
func (w *world) ends(s *sending, outcome string) {
	w.Helper()
	select {
	case got := <-s.ended:
		if got != outcome {
			w.Errorf("the phone is told %q, want %q", got, outcome)
		}
	case <-time.After(patience):
		w.Fatalf("the phone is not told %q", outcome)
	}
	if len(s.ended) > 0 {
		w.Error("the phone is told twice")
	}
}

// answers posts what the person decided on the phone.
func (s *sending) decides(key *passkey.Key, d push.Decision, number string) {
	s.answers <- key.Answer(s.live.Bytes, d, number)
}

// approves does so with the number that is on the screen.
func (s *sending) approves(key *passkey.Key) { s.decides(key, push.Approve, s.live.Number) }

// hook is one login as a hook sees it. Each directive has to be named before the
// next answer.
type hook struct {
	grpc.ServerStream
	*world
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *loginv1.HookMessage
	out    chan *loginv1.Directive
	ended  chan error
	prompt *loginv1.Prompt // the open one
}

func (h *hook) Context() context.Context { return h.ctx }

func (h *hook) Recv() (*loginv1.HookMessage, error) {
	select {
	case m := <-h.in:
		return m, nil
	case <-h.ctx.Done():
		return nil, h.ctx.Err()
	}
}

func (h *hook) Send(d *loginv1.Directive) error {
	if h.ctx.Err() != nil {
		return h.ctx.Err()
	}
	h.out <- d
	return nil
}

// logsIn begins a login of the person by root's sshd; change may alter it.
func (w *world) logsIn(change ...func(*loginv1.Begin, *localsock.Peer)) *hook {
	b := &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_REMOTE,
		Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte(w.person), Service: []byte("sshd"), RemoteHost: []byte("192.0.2.7")}
	p := &localsock.Peer{ID: identity.Root, Admin: true}
	for _, fn := range change {
		fn(b, p)
	}
	h := &hook{world: w, in: make(chan *loginv1.HookMessage, 8), out: make(chan *loginv1.Directive, 100), ended: make(chan error, 1)}
	h.ctx, h.cancel = context.WithCancel(peer.NewContext(context.Background(), &peer.Peer{AuthInfo: *p}))
	h.in <- &loginv1.HookMessage{Message: &loginv1.HookMessage_Begin{Begin: b}}
	w.Cleanup(h.cancel)
	go func() {
		err := w.service.Converse(h)
		h.cancel()
		h.ended <- err
	}()
	return h
}

func (h *hook) next() *loginv1.Directive {
	h.Helper()
	select {
	case d := <-h.out:
		return d
	case <-time.After(patience):
		h.Fatal("the agent says nothing")
		return nil
	}
}

func (h *hook) prompts(pattern string) *hook {
	h.Helper()
	d := h.next()
	if h.prompt = d.GetPrompt(); h.prompt == nil || !regexp.MustCompile("^"+pattern).Match(h.prompt.GetText()) {
		h.Fatalf("the agent says %v, want a prompt %q", d, pattern)
	}
	return h
}

func (h *hook) types(text string) *hook {
	h.in <- &loginv1.HookMessage{Message: &loginv1.HookMessage_Answer{Answer: &loginv1.Answer{PromptId: h.prompt.GetId(), Text: []byte(text)}}}
	return h
}

func (h *hook) pressesEnter() *hook { return h.types("") }

// gets checks the verdict, and that nothing follows.
func (h *hook) gets(want string) *loginv1.Verdict {
	h.Helper()
	d := h.next()
	v := d.GetVerdict()
	if got := strings.ToLower(strings.TrimPrefix(v.GetDecision().String(), "DECISION_")) + " " + string(v.GetReason()); v == nil || got != want {
		h.Fatalf("the agent says %v, want %q", d, want)
	}
	h.isOver()
	if len(h.out) > 0 {
		h.Errorf("after the verdict: %v", <-h.out)
	}
	return v
}

func (h *hook) isOver() {
	h.Helper()
	select {
	case <-h.ended:
	case <-time.After(patience):
		h.Fatal("the login does not end")
	}
}

// asksPhone is a login up to the prompt with the number.
func (w *world) asksPhone(change ...func(*loginv1.Begin, *localsock.Peer)) (*hook, *sending) {
	w.Helper()
	h := w.logsIn(change...)
	s := w.rings()
	return h.prompts("Type " + s.live.Number + ` on your phone \(Pixel of maya\) to approve, then press Enter here\.\nOr type a code from your authenticator app: $`), s
}
