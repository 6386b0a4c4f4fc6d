package link

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sallyport/authority/enrol"
	"sallyport/authority/push"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/clock"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

var settings = organisation.Settings{Name: "Example", RPID: "approve.example.com", Origin: "https://approve.example.com", API: "https://approve.example.com"}

var rp = factor.RelyingParty{ID: settings.RPID, Origin: settings.Origin}

// patience is how long anything may take before the test fails.
const patience = time.Minute

// clockwork is the time of the authority and of its clients: the real one, moved. It
// stands where something is counted that grows with time.
type clockwork struct {
	ahead  atomic.Int64
	frozen atomic.Pointer[time.Time]
}

func (c *clockwork) now() time.Time {
	at := time.Now()
	if frozen := c.frozen.Load(); frozen != nil {
		at = *frozen
	}
	return at.Add(time.Duration(c.ahead.Load()))
}

func (c *clockwork) freeze()                 { at := time.Now(); c.frozen.Store(&at) }
func (c *clockwork) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is one node of an authority, as others on the same database are.
type world struct {
	testing.TB
	*clockwork
	store store.Store
	keys  *enrol.Keys
	enrol *enrol.Service
	push  *push.Service
	link  *Service
	at    string // address
	rings *rings
	kill  func() // the node dies without a word
}

// rings counts.
type rings struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *rings) Ring(_ context.Context, subscription, _ []byte, _ time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[string(subscription)]++
	return nil
}

func makeKeys(t testing.TB) *enrol.Keys {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := enrol.CreateKeys(dir); err != nil {
		t.Fatal(err)
	}
	k, err := enrol.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newNode starts a node. Its gRPC is real, over TLS on loopback.
func newNode(t testing.TB, s store.Store, k *enrol.Keys, c *clockwork) *world {
	t.Helper()
	w := &world{TB: t, clockwork: c, store: s, keys: k, rings: &rings{n: map[string]int{}}}
	w.enrol = enrol.New(enrol.Options{Store: s, Keys: k, Settings: settings, Now: c.now})
	if _, err := w.enrol.EnsureSettings(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.push = push.New(push.Options{Store: s, Limits: factor.DefaultLimits(), Ringer: w.rings, Now: c.now})
	w.link = New(Options{Store: s, Enrol: w.enrol, Push: w.push, Hosts: []string{"localhost", "127.0.0.1"}, Version: "test", Now: c.now})
	w.link.beginTime, w.link.requestTime, w.link.goodbye = patience, patience, patience // a slow machine is none that does not answer
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.at = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { w.link.Run(ctx) })
	tasks.Go(func() {
		if err := w.link.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	w.kill = sync.OnceFunc(func() {
		stop()
		w.link.server.Stop()
		tasks.Wait()
	})
	t.Cleanup(w.kill)
	return w
}

// each runs a test on each kind of database, with one node.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		test(t, newNode(t, open("a"), makeKeys(t), new(clockwork)))
	})
}

// one is a node on SQLite, for what does not touch the database.
func one(t testing.TB) *world {
	return newNode(t, storetest.Open(t, store.Options{SQLite: filepath.Join(t.TempDir(), "a.db"), Node: "a"}), makeKeys(t), new(clockwork))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) update(fn func(tx store.Tx) error) {
	w.Helper()
	w.must(w.store.Update(w.Context(), fn))
}

// eventually waits for a condition that nothing tells of.
func (w *world) eventually(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("never happened: %s", what)
		}
	}
}

func (w *world) users(names ...string) {
	w.Helper()
	for _, n := range names {
		w.must(w.enrol.AddUser(w.Context(), "root", n))
	}
}

// events counts the events of a name.
func (w *world) events(name string) (n int) {
	w.Helper()
	w.must(w.store.View(w.Context(), func(tx store.Tx) error {
		n = 0
		list, _, err := tx.Events(0, "", "", 1000)
		for _, e := range list {
			if e.Name == name {
				n++
			}
		}
		return err
	}))
	return n
}

// phone gives a user one in the manifest, whose page is open.
func (w *world) phone(user string) *passkey.Key {
	w.Helper()
	k := passkey.New(rp)
	w.update(func(tx store.Tx) error {
		a := store.Approver{ID: factor.NewID(), Approver: k.Approver("Pixel"), User: user, Created: w.now()}
		return errors.Join(tx.PutApprover(a),
			tx.PutSession(store.Session{Hash: k.ID, Approver: a.ID, Subscription: []byte(user), Created: w.now(), Seen: w.now()}))
	})
	return k
}

// answer is what the page's API does.
func (w *world) answer(k *passkey.Key, b *authorityv1.PushBegin, d factor.Decision) error {
	w.Helper()
	var by store.Approver
	w.must(w.store.View(w.Context(), func(tx store.Tx) (err error) {
		by, err = tx.ApproverByCredential(k.ID)
		return err
	}))
	return w.push.Answer(w.Context(), by, b.GetId(), k.Answer(b.GetChallenge(), d, "42"))
}

// device is the other end, in as far as a test needs it.
type device struct {
	*world
	id         string
	key        *ecdsa.PrivateKey
	chain      [][]byte
	client     authorityv1.AuthorityServiceClient
	conn       *grpc.ClientConn
	generation uint64
	vault      string
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csrOf(t testing.TB, key any) []byte {
	t.Helper()
	b, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dial connects to a node with a client certificate, or without one.
func (w *world) dial(certificate *tls.Certificate) (authorityv1.AuthorityServiceClient, *grpc.ClientConn) {
	w.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(w.keys.CA)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13, Time: w.now}
	if certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	conn, err := grpc.NewClient("passthrough:///"+w.at, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	w.must(err)
	w.Cleanup(func() { _ = conn.Close() })
	return authorityv1.NewAuthorityServiceClient(conn), conn
}

func (w *world) token(users []string, serial string) organisation.Token {
	w.Helper()
	t, _, err := w.enrol.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: users, Serial: serial})
	w.must(err)
	return t
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) registration(t organisation.Token, key *ecdsa.PrivateKey) *authorityv1.RegisterRequest {
	w.Helper()
	sealing, err := ecdh.X25519().GenerateKey(rand.Reader)
	w.must(err)
	return &authorityv1.RegisterRequest{Token: t.Secret[:], Csr: csrOf(w, key), Name: "laptop", Serial: "S1", SealingKey: sealing.PublicKey().Bytes(), Version: "1", Platform: "linux/amd64"}
}

// join is a computer that joins over the wire.
func (w *world) join(users ...string) *device {
	w.Helper()
	d := &device{world: w, key: newKey(w), vault: "vault-1", generation: 1}
	client, conn := w.dial(nil)
	r, err := client.Register(w.ctx(), w.registration(w.token(users, ""), d.key))
	w.must(err)
	w.must(conn.Close())
	if _, err := organisation.Open(r.GetOrganisationKey(), r.GetDeviceId(), r.GetSettings()); err != nil {
		w.Fatal(err)
	}
	d.id, d.chain = r.GetDeviceId(), r.GetChain()
	d.redial()
	return d
}

// redial connects with the certificate that the device has now.
func (d *device) redial() {
	d.Helper()
	if d.conn != nil {
		_ = d.conn.Close()
	}
	d.client, d.conn = d.dial(&tls.Certificate{Certificate: d.chain, PrivateKey: d.key})
}

// on is the same device, connected to another node.
func (d *device) on(w *world) *device {
	d.Helper()
	e := *d
	e.world, e.conn = w, nil
	e.redial()
	return &e
}

// session is one stream.
type session struct {
	*device
	wire grpc.BidiStreamingClient[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]
	stop context.CancelFunc
	in   chan *authorityv1.AuthorityMessage
	err  error // once in is closed
}

// connect opens a stream and sends a first message.
func (d *device) connect(first *authorityv1.DeviceMessage) *session {
	d.Helper()
	ctx, stop := context.WithCancel(context.Background())
	d.Cleanup(stop)
	wire, err := d.client.Connect(ctx)
	d.must(err)
	s := &session{device: d, wire: wire, stop: stop, in: make(chan *authorityv1.AuthorityMessage, 10000)}
	if first != nil {
		s.send(first)
	}
	go func() {
		defer close(s.in)
		for {
			m, err := wire.Recv()
			if err != nil {
				s.err = err
				return
			}
			s.in <- m
		}
	}()
	return s
}

func (d *device) hello(have ...*authorityv1.Have) *authorityv1.DeviceMessage {
	return &authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Hello{Hello: &authorityv1.Hello{ProtocolVersion: 1, Version: "1.1", Platform: "linux/amd64",
		VaultId: d.vault, VaultGeneration: d.generation, Have: have}}}
}

// open opens a stream up to Welcome and the settings.
func (d *device) open(have ...*authorityv1.Have) *session {
	d.Helper()
	s := d.connect(d.hello(have...))
	if s.next().GetWelcome() == nil {
		d.Fatal("no welcome")
	}
	return s
}

func (s *session) send(m *authorityv1.DeviceMessage) {
	s.Helper()
	if err := s.wire.Send(m); err != nil && !errors.Is(err, io.EOF) {
		s.Fatal(err)
	}
}

// next is the next message of the authority.
func (s *session) next() *authorityv1.AuthorityMessage {
	s.Helper()
	select {
	case m, ok := <-s.in:
		if !ok {
			s.Fatalf("the stream ended: %v", s.err)
		}
		return m
	case <-time.After(patience):
		s.Fatal("nothing comes")
	}
	return nil
}

// wait is the next message that is wanted; others, such as items, are passed over.
func wait[T any](s *session, get func(*authorityv1.AuthorityMessage) *T) *T {
	s.Helper()
	for {
		if x := get(s.next()); x != nil {
			return x
		}
	}
}

func (s *session) started() *authorityv1.PushStarted {
	s.Helper()
	return wait(s, (*authorityv1.AuthorityMessage).GetPushStarted)
}

func (s *session) answered() *authorityv1.PushAnswer {
	s.Helper()
	return wait(s, (*authorityv1.AuthorityMessage).GetPushAnswer)
}

// ends waits for the end and says how the stream did: by a Goodbye's reason, or a
// status.
func (s *session) ends() (reason string, code codes.Code) {
	s.Helper()
	for {
		select {
		case m, ok := <-s.in:
			if !ok {
				if errors.Is(s.err, io.EOF) {
					return reason, codes.OK
				}
				return reason, status.Code(s.err)
			}
			if g := m.GetGoodbye(); g != nil {
				reason = g.GetReason()
			}
		case <-time.After(patience):
			s.Fatal("the stream does not end")
		}
	}
}

func (s *session) endsWith(reason string) {
	s.Helper()
	if r, _ := s.ends(); r != reason {
		s.Fatalf("it ended with %q (%v); want %q", r, s.err, reason)
	}
}

// alive says that the authority answers, and has nothing else to say.
func (s *session) alive() {
	s.Helper()
	s.probe(7)
	m := s.next()
	if r := m.GetProbeReply(); r.GetNonce() != 7 {
		s.Fatalf("got %v", m)
	}
}

func (s *session) probe(nonce uint64) {
	s.Helper()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Probe{Probe: &authorityv1.Probe{Nonce: nonce}}})
}

func (d *device) request(user string, keys ...*passkey.Key) *authorityv1.PushBegin {
	d.Helper()
	l, err := factor.NewChallenge(factor.Challenge{Device: d.id, Name: "laptop", User: user, Service: "sshd"}, clock.Instant{Wall: d.now()}, time.Minute, 2)
	d.must(err)
	b := &authorityv1.PushBegin{Id: l.Challenge.ID, User: user, Challenge: l.Bytes, Resource: "sshd"}
	for _, k := range keys {
		b.CredentialIds = append(b.CredentialIds, k.ID)
	}
	return b
}

func (s *session) begin(b *authorityv1.PushBegin) {
	s.Helper()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: b}})
}

// begins has the user's phone ring.
func (s *session) begins(user string, k *passkey.Key) *authorityv1.PushBegin {
	s.Helper()
	b := s.request(user, k)
	s.begin(b)
	if got := s.started(); got.GetRefused() != "" || got.GetId() != b.GetId() || got.GetPhone() != "Pixel" {
		s.Fatalf("not started: %v", got)
	}
	return b
}

func (s *session) end(id, outcome string) {
	s.Helper()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: id, Outcome: outcome}}})
}

// synced waits for an item and returns its version.
func (s *session) synced(kind organisation.Kind, user string) uint64 {
	s.Helper()
	for {
		x := wait(s, (*authorityv1.AuthorityMessage).GetSync)
		e, err := organisation.Open(s.keys.Organisation, s.id, x.GetEnvelope())
		s.must(err)
		if e.Kind == kind && e.User == user {
			return e.Version
		}
	}
}

// code of an error, for tables.
func refusedWith(t testing.TB, err error, want ...codes.Code) {
	t.Helper()
	if !slices.Contains(want, status.Code(err)) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func joinErrors(errs ...error) error { return errors.Join(errs...) }

func b64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unmarshal(b []byte, m proto.Message) error { return proto.Unmarshal(b, m) }
