//go:debug x509usefallbackroots=1

package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/identity"
	"sallyport/internal/keychain"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// systemCA is one that this process's system roots have: see TestMain.
var systemCA *ca

func TestMain(m *testing.M) {
	systemCA = newCA("a CA of the system's")
	roots := x509.NewCertPool()
	roots.AddCert(systemCA.cert)
	x509.SetFallbackRoots(roots) // by x509usefallbackroots instead of the system's own
	os.Exit(m.Run())
}

// ca makes certificates.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newCA(name string) *ca {
	c := &ca{key: newKey()}
	c.cert = c.make(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: epoch.AddDate(-1, 0, 0), NotAfter: epoch.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign}, c.key)
	return c
}

// make signs a certificate; a CA's first is its own.
func (c *ca) make(t *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<60))
	parent := c.cert
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, c.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

// server makes a server's certificate for a host.
func (c *ca) server(host string) *tls.Certificate {
	key := newKey()
	t := &x509.Certificate{NotBefore: epoch.AddDate(-1, 0, 0), NotAfter: epoch.AddDate(10, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{host}
	}
	return &tls.Certificate{Certificate: [][]byte{c.make(t, key).Raw, c.cert.Raw}, PrivateKey: key}
}

// device makes a device's certificate for a CSR.
func (c *ca) device(csr []byte, id string, from time.Time, life time.Duration) [][]byte {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		panic(err)
	}
	u, _ := url.Parse(deviceURI + id)
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: from.Add(life), URIs: []*url.URL{u}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, r.PublicKey, c.key)
	if err != nil {
		panic(err)
	}
	return [][]byte{der, c.cert.Raw}
}

const (
	deviceID = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	week     = 7 * 24 * time.Hour
)

// epoch is when the tests play.
var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fakeClock stands still unless it is moved.
type fakeClock struct {
	mu  sync.Mutex
	now clock.Instant
}

func (c *fakeClock) Now() clock.Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Wall, c.now.Boot = c.now.Wall.Add(d), c.now.Boot+d
}

// authority is a scripted one.
type authority struct {
	authorityv1.UnimplementedAuthorityServiceServer
	t            *testing.T
	ca           *ca
	organisation ed25519.PrivateKey
	clock        *fakeClock
	addr         string
	server       *grpc.Server
	tls          *tls.Config

	mu        sync.Mutex
	register  func(*authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error)
	renew     func(*authorityv1.RenewRequest) (*authorityv1.RenewResponse, error)
	welcome   *authorityv1.AuthorityMessage
	refuse    error // of Connect
	stalled   bool  // answers no probe and no push
	registers int
	connects  int
	renewals  int
	uploads   chan *authorityv1.UploadEventsRequest
	lastSeq   func(*authorityv1.UploadEventsRequest) (uint64, error)
	streams   chan *devStream
}

// devStream is one stream as the authority has it.
type devStream struct {
	t        *testing.T
	hello    *authorityv1.Hello
	in       chan *authorityv1.DeviceMessage
	out      chan *authorityv1.AuthorityMessage
	hang     chan struct{} // closed: the authority ends the stream
	finished chan struct{}
	once     sync.Once
}

func newAuthority(t *testing.T, clk *fakeClock) *authority {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, ca: newCA("the authority's CA"), organisation: key, clock: clk,
		streams: make(chan *devStream, 100), uploads: make(chan *authorityv1.UploadEventsRequest, 1000)}
	a.tls = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*a.ca.server("127.0.0.1")}, ClientAuth: tls.RequestClientCert}
	a.listen("127.0.0.1:0")
	return a
}

// listen starts the server; stop and listen again is a restart.
func (a *authority) listen(addr string) {
	a.t.Helper()
	var l net.Listener
	var err error
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // until the port is free again
		if l, err = net.Listen("tcp", addr); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.addr = l.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.tls)), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}))
	authorityv1.RegisterAuthorityServiceServer(server, a)
	a.server = server
	go func() { _ = server.Serve(l) }()
	a.t.Cleanup(server.Stop)
}

// restart changes the certificate, or whatever there is of TLS.
func (a *authority) restart(change func(*tls.Config)) {
	a.t.Helper()
	a.server.Stop()
	change(a.tls)
	a.listen(a.addr)
}

func (a *authority) url() string { return "https://" + a.addr }

// token is a good one for this authority.
func (a *authority) token() organisation.Token {
	t := organisation.Token{CA: sha256.Sum256(a.ca.cert.Raw), Organisation: sha256.Sum256(a.organisation.Public().(ed25519.PublicKey))}
	copy(t.Secret[:], "twenty secret bytes!")
	return t
}

var goodSettings = organisation.Settings{Name: "Example Ltd", RPID: "example.com", Origin: "https://approve.example.com", API: "https://authority.example.com"}

func (a *authority) sign(e organisation.Envelope, payload any) []byte {
	a.t.Helper()
	if payload != nil {
		b, err := json.Marshal(payload)
		if err != nil {
			a.t.Fatal(err)
		}
		e.Payload = b
	}
	b, err := organisation.Sign(a.organisation, e)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

// seal signs what is sealed to the device's key.
func (a *authority) seal(to []byte, e organisation.Envelope, content any) []byte {
	a.t.Helper()
	if err := e.Seal(to, content); err != nil {
		a.t.Fatal(err)
	}
	return a.sign(e, nil)
}

func (a *authority) goodRegister(r *authorityv1.RegisterRequest) *authorityv1.RegisterResponse {
	return &authorityv1.RegisterResponse{DeviceId: deviceID, Chain: a.ca.device(r.GetCsr(), deviceID, a.clock.Now().Wall.Add(-time.Hour), week),
		OrganisationKey: a.organisation.Public().(ed25519.PublicKey), Settings: a.sign(organisation.Envelope{Kind: organisation.KindSettings, Version: 1}, goodSettings)}
}

func (a *authority) Register(_ context.Context, r *authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.registers++
	if a.register != nil {
		return a.register(r)
	}
	return a.goodRegister(r), nil
}

func (a *authority) Renew(_ context.Context, r *authorityv1.RenewRequest) (*authorityv1.RenewResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.renewals++
	if a.renew != nil {
		return a.renew(r)
	}
	return &authorityv1.RenewResponse{Chain: a.ca.device(r.GetCsr(), deviceID, a.clock.Now().Wall.Add(-time.Hour), week)}, nil
}

func (a *authority) UploadEvents(_ context.Context, r *authorityv1.UploadEventsRequest) (*authorityv1.UploadEventsResponse, error) {
	var last event.Event
	for _, b := range r.GetEvents() {
		if err := json.Unmarshal(b, &last); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	seq := last.Seq
	a.mu.Lock()
	script := a.lastSeq
	a.mu.Unlock()
	if script != nil {
		var err error
		if seq, err = script(r); err != nil {
			return nil, err
		}
	}
	a.uploads <- r
	return &authorityv1.UploadEventsResponse{LastSeq: seq}, nil
}

func (a *authority) Connect(s grpc.BidiStreamingServer[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]) error {
	a.mu.Lock()
	a.connects++
	refuse, welcome := a.refuse, a.welcome
	a.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	m, err := s.Recv()
	if err != nil {
		return err
	}
	d := &devStream{t: a.t, hello: m.GetHello(), in: make(chan *authorityv1.DeviceMessage, 1000), out: make(chan *authorityv1.AuthorityMessage),
		hang: make(chan struct{}), finished: make(chan struct{})}
	defer close(d.finished)
	if welcome == nil {
		welcome = &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Welcome{Welcome: &authorityv1.Welcome{Version: "test", Users: []string{"*"}}}}
	}
	if err := s.Send(welcome); err != nil {
		return err
	}
	a.streams <- d
	replies := make(chan *authorityv1.AuthorityMessage, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			a.mu.Lock()
			stalled := a.stalled
			a.mu.Unlock()
			if p := m.GetProbe(); p != nil {
				if !stalled {
					replies <- &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_ProbeReply{ProbeReply: &authorityv1.ProbeReply{Nonce: p.GetNonce()}}}
				}
				continue
			}
			d.in <- m
		}
	}()
	for {
		select {
		case m := <-d.out:
			err = s.Send(m)
		case m := <-replies:
			err = s.Send(m)
		case <-d.hang:
			return nil
		case <-ended:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (a *authority) set(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
}

func (a *authority) count(n *int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return *n
}

// stream waits for the device's next stream.
func (a *authority) stream() *devStream {
	a.t.Helper()
	return receive(a.t, a.streams, "a stream of the device")
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		buf := make([]byte, 1<<16)
		t.Fatalf("%s did not come\n%s", what, buf[:runtime.Stack(buf, true)])
		panic("unreachable")
	}
}

func (d *devStream) send(m *authorityv1.AuthorityMessage) {
	d.t.Helper()
	select {
	case d.out <- m:
	case <-d.finished:
		d.t.Fatal("the stream has ended")
	case <-time.After(patience):
		d.t.Fatal("the authority could not send")
	}
}

// end ends the stream on the authority's side.
func (d *devStream) end() { d.once.Do(func() { close(d.hang) }); <-d.finished }

func (d *devStream) goodbye(reason, text string) {
	d.t.Helper()
	d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Goodbye{Goodbye: &authorityv1.Goodbye{Reason: reason, Text: text}}})
}

func (d *devStream) sync(envelope []byte) *authorityv1.SyncApplied {
	d.t.Helper()
	d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Sync{Sync: &authorityv1.Sync{Envelope: envelope}}})
	m := receive(d.t, d.in, "SyncApplied").GetSyncApplied()
	if m == nil {
		d.t.Fatal("another message than SyncApplied came")
	}
	return m
}

// names are the users of the test's computer.
type names map[string]uint32

func (n names) Lookup(_ context.Context, name string) (accounts.User, error) {
	if name == "hangs" {
		return accounts.User{}, errors.New("the directory did not answer")
	}
	if uid, ok := n[name]; ok {
		return accounts.User{Name: name, ID: identity.UID(uid)}, nil
	}
	return accounts.User{}, accounts.ErrUnknown
}

// logs is what was logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// computer is a device under test.
type computer struct {
	t     *testing.T
	clock *fakeClock
	store *store.Store
	link  *Link
	log   *logs

	mu     sync.Mutex
	config config.Config

	cancel context.CancelFunc
	done   chan struct{}
}

func newComputer(t *testing.T) *computer {
	t.Helper()
	return newComputerAt(t, clock.Instant{Wall: epoch, Boot: time.Hour, BootID: "a boot"})
}

func newComputerAt(t *testing.T, now clock.Instant) *computer {
	t.Helper()
	c := &computer{t: t, clock: &fakeClock{now: now}, log: &logs{}, config: config.Default()}
	log := slog.New(slog.NewTextHandler(c.log, nil))
	c.store = store.New(vault.Options{Dir: filepath.Join(t.TempDir(), "state"), Keychain: keychain.Config{Kind: keychain.File}, Clock: c.clock, EventLimit: 100, Log: log})
	if _, err := c.store.Vault(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.stop()
		if err := c.store.Close(); err != nil {
			t.Error(err)
		}
	})
	c.link = New(Options{Store: c.store, Clock: c.clock, Log: log, Names: names{"maya": 1000, "otto": 1001}, Version: "1.2.3", Platform: "linux/amd64", Serial: "SN-1",
		Settings: func() config.Config { c.mu.Lock(); defer c.mu.Unlock(); return c.config }})
	c.link.probe, c.link.dead = patience, patience                                 // see inRealTime
	c.link.jitter = func(window time.Duration) time.Duration { return window - 1 } // the longest wait
	c.link.after = func(d time.Duration) <-chan time.Time {                        // seconds are a hundred times faster; minutes and days as they are
		if d <= 20*time.Second {
			d /= 100
		}
		return time.After(d)
	}
	return c
}

// run starts the link.
func (c *computer) run() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.done = cancel, make(chan struct{})
	go func() { defer close(c.done); c.link.Run(ctx) }()
}

func (c *computer) stop() {
	if c.cancel != nil {
		c.cancel()
		receive(c.t, c.done, "the end of Run")
		c.cancel = nil
	}
}

func (c *computer) join(a *authority) {
	c.t.Helper()
	if err := c.link.Join(c.t.Context(), "uid:0", a.url(), a.token().String(), "laptop"); err != nil {
		c.t.Fatal(err)
	}
}

// connected returns a computer, its authority and their stream.
func connected(t *testing.T) (*computer, *authority, *devStream) {
	t.Helper()
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	c.run()
	d := a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	return c, a, d
}

// until waits for a change of the link's state.
func (c *computer) until(what string, is func() bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.link.mu.Lock()
		turn := c.link.turn
		c.link.mu.Unlock()
		if is() {
			return
		}
		select {
		case <-turn:
		case <-deadline:
			c.t.Fatalf("never: %s; the state is %+v", what, c.link.State())
		}
	}
}

// eventually waits for what nobody tells of.
func (c *computer) eventually(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("never: %s", what)
		}
	}
}

// event waits for an event of that name which says so.
func (c *computer) event(name event.Name, says string) event.Event {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		v, err := c.store.Vault()
		if err != nil {
			c.t.Fatal(err)
		}
		changed := v.Changed()
		for _, e := range c.events() {
			if e.Name == name && strings.Contains(e.Text, says) {
				return e
			}
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("no event %s with %q; there are %+v", name, says, c.events())
		}
	}
}

func (c *computer) events() (list []event.Event) {
	c.t.Helper()
	if err := c.store.View(func(tx *vault.Tx) error {
		return tx.Events(0, func(e event.Event) bool { list = append(list, e); return true })
	}); err != nil {
		c.t.Fatal(err)
	}
	return list
}

func (c *computer) countEvents(name event.Name) int {
	return len(slices.DeleteFunc(c.events(), func(e event.Event) bool { return e.Name != name }))
}

// authorityKept is what the vault has.
func (c *computer) authorityKept() *store.Authority {
	c.t.Helper()
	a, _, err := c.link.joined()
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *computer) signed(kind organisation.Kind, user string) (i store.Item) {
	c.t.Helper()
	if err := c.store.View(func(tx *vault.Tx) (err error) { i, err = store.Signed(tx, kind, user); return err }); err != nil {
		c.t.Fatal(err)
	}
	return i
}

// proxy is a TCP proxy whose connections can be frozen: nothing passes, and
// nobody is told.
type proxy struct {
	addr     string
	accepted chan struct{}
	gate     chan struct{} // closed at the end
	mu       sync.Mutex
	to       string
	conns    []*frozen
	black    bool // new ones are frozen from the start
}

type frozen struct {
	mu   sync.Mutex
	gate chan struct{} // nil: open
}

func (f *frozen) wait() {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, accepted: make(chan struct{}, 1000), gate: make(chan struct{})}
	t.Cleanup(func() { l.Close(); close(p.gate) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			f := &frozen{}
			if p.black {
				f.gate = p.gate
			}
			p.conns = append(p.conns, f)
			p.mu.Unlock()
			p.accepted <- struct{}{}
			up, err := net.Dial("tcp", p.to)
			if err != nil {
				c.Close()
				continue
			}
			t.Cleanup(func() { c.Close(); up.Close() })
			pass := func(from, to net.Conn) {
				b := make([]byte, 4096)
				for {
					n, err := from.Read(b)
					f.wait()
					if err != nil {
						to.Close()
						return
					}
					if _, err := to.Write(b[:n]); err != nil {
						return
					}
				}
			}
			go pass(c, up)
			go pass(up, c)
		}
	}()
	return p
}

// freeze lets nothing pass any more on the connections that there are, and with
// black on no other either.
func (p *proxy) freeze(black bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.black = black
	for _, f := range p.conns {
		f.mu.Lock()
		f.gate = p.gate
		f.mu.Unlock()
	}
}

func wantError(t *testing.T, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Fatalf("the error is %v; it should say %q", err, says)
	}
}

// noGoroutines waits until none runs this package's or gRPC's code any more but
// the test's.
func noGoroutines(t *testing.T, of ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		buf := make([]byte, 1<<20)
		left := ""
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "testing.tRunner") || strings.Contains(g, "testing.(*T).Run") {
				continue
			}
			for _, name := range of {
				if strings.Contains(g, name) {
					left += g + "\n\n"
					break
				}
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", left)
		}
		runtime.Gosched()
		time.Sleep(5 * time.Millisecond) // nobody tells of a goroutine's end
	}
}
