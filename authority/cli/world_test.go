package cli

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"sallyport/authority/server"
	"sallyport/internal/command"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/port"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// patience is how long anything here may take before the test fails.
const patience = time.Minute

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// buffer is an output that several write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// shell runs commands against one authority.
type shell struct {
	t      *testing.T
	dir    string
	config string
	stdin  string
	env    map[string]string
	tty    bool
}

func newShell(t *testing.T) *shell {
	dir := t.TempDir()
	return &shell{t: t, dir: dir, config: filepath.Join(dir, "etc", "authority.toml")}
}

func (s *shell) deps(out, errs io.Writer) Deps {
	return Deps{Version: "1.2.3", AnswerTime: patience, Process: command.Process{Stdin: strings.NewReader(s.stdin), Stdout: out, Stderr: errs,
		IsTTY: func(any) bool { return s.tty }, Width: func(any) int { return 0 }, Getenv: func(k string) string { return s.env[k] }}}
}

// run runs one command line.
func (s *shell) run(args ...string) (exit int, out, errs string) {
	s.t.Helper()
	var o, e bytes.Buffer
	exit = Main(context.Background(), append(args, "--config", s.config), s.deps(&o, &e))
	return exit, o.String(), e.String()
}

// ok runs one that has to succeed.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	exit, out, errs := s.run(args...)
	if exit != ExitOK {
		s.t.Fatalf("sallyport-authority %s: exit %d\n%s%s", strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// json runs one with --json and decodes what it prints.
func (s *shell) json(into any, args ...string) {
	s.t.Helper()
	out := s.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.t.Fatalf("%s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// fails runs one that has to end with an exit code, and say something.
func (s *shell) fails(exit int, says string, args ...string) {
	s.t.Helper()
	got, out, errs := s.run(args...)
	if got != exit || !strings.Contains(errs, says) {
		s.t.Errorf("sallyport-authority %s: exit %d, want %d, and %q in:\n%s%s", strings.Join(args, " "), got, exit, says, out, errs)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	p, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(p)
}

// init makes an authority on this machine.
func (s *shell) init(more ...string) (origin string) {
	s.t.Helper()
	origin = "http://localhost:" + freePort(s.t)
	s.ok(append([]string{"init", "--name", "Example Works", "--origin", origin, "--state-dir", filepath.Join(s.dir, "state"),
		"--device-host", "127.0.0.1", "--listen-devices", "127.0.0.1:" + freePort(s.t), "--listen-metrics", "127.0.0.1:" + freePort(s.t), "--node", "one"}, more...)...)
	return origin
}

// running is a server.
type running struct {
	server.Addresses
	log  *buffer
	stop func() int
}

// serve runs the server until the test's end.
func (s *shell) serve() *running {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{log: new(buffer)}
	up := make(chan server.Addresses, 1)
	ended := make(chan int, 1)
	d := s.deps(io.Discard, r.log)
	d.Listening = func(a server.Addresses) { up <- a }
	go func() { ended <- Main(ctx, []string{"run", "--config", s.config}, d) }()
	select {
	case r.Addresses = <-up:
	case exit := <-ended:
		cancel()
		s.t.Fatalf("run: exit %d\n%s", exit, r.log)
	case <-time.After(time.Minute):
		cancel()
		s.t.Fatalf("run does not say that it is up\n%s", r.log)
	}
	r.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	s.t.Cleanup(func() {
		if exit := r.stop(); exit != ExitOK {
			s.t.Errorf("run ended with %d\n%s", exit, r.log)
		}
		if s.t.Failed() {
			s.t.Logf("the server's log:\n%s", r.log)
		}
	})
	return r
}

// get reads a page of the monitoring port.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	answer, err := http.Get("http://" + r.Metrics.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// computer is a device as the agent is one, with its own idea of whom to trust.
type computer struct {
	t            *testing.T
	id           string
	organisation ed25519.PublicKey
	sealing      *ecdh.PrivateKey
	client       authorityv1.AuthorityServiceClient
	stream       grpc.BidiStreamingClient[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]
	incoming     chan *authorityv1.AuthorityMessage
	items        map[string]*organisation.Envelope // newest by kind/user
	refuses      string                            // why it takes nothing; "": it does
	leave        context.CancelFunc                // ends its stream
}

// join joins with a token as it was printed.
func join(t *testing.T, address net.Addr, token string) (*computer, error) {
	t.Helper()
	tok, err := organisation.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &computer{t: t, items: map[string]*organisation.Envelope{}, incoming: make(chan *authorityv1.AuthorityMessage, 64)}
	if c.sealing, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // pinned by the token instead
		VerifyConnection: func(s tls.ConnectionState) error {
			ca := s.PeerCertificates[len(s.PeerCertificates)-1]
			if sha256.Sum256(ca.Raw) != tok.CA || s.PeerCertificates[0].CheckSignatureFrom(ca) != nil || s.PeerCertificates[0].VerifyHostname("127.0.0.1") != nil {
				return errors.New("another authority")
			}
			return nil
		}}
	dial := func() *grpc.ClientConn {
		conn, err := grpc.NewClient(address.String(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := authorityv1.NewAuthorityServiceClient(dial()).Register(ctx, &authorityv1.RegisterRequest{Token: tok.Secret[:], Csr: csr,
		Name: "laptop-17", Serial: "S1", SealingKey: c.sealing.PublicKey().Bytes(), Version: "1", Platform: "linux/amd64"})
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(answer.OrganisationKey) != tok.Organisation {
		t.Fatal("another organisation's key")
	}
	c.id, c.organisation = answer.DeviceId, answer.OrganisationKey
	config = config.Clone()
	config.Certificates = []tls.Certificate{{Certificate: answer.Chain, PrivateKey: key}}
	c.client = authorityv1.NewAuthorityServiceClient(dial())
	return c, nil
}

// connect opens the stream.
func (c *computer) connect() *authorityv1.Welcome {
	c.t.Helper()
	var err error
	ctx, leave := context.WithCancel(c.t.Context())
	c.leave = leave
	if c.stream, err = c.client.Connect(ctx); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(c.incoming)
		for {
			m, err := c.stream.Recv()
			if err != nil {
				return
			}
			c.incoming <- m
		}
	}()
	c.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Hello{Hello: &authorityv1.Hello{ProtocolVersion: 1, Version: "1", Platform: "linux/amd64",
		VaultId: "v1", VaultGeneration: 1}}})
	return c.await("welcome", func(m *authorityv1.AuthorityMessage) bool { return m.GetWelcome() != nil }).GetWelcome()
}

func (c *computer) send(m *authorityv1.DeviceMessage) {
	c.t.Helper()
	if err := c.stream.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

// await waits for a message, and takes signed items on the way.
func (c *computer) await(what string, is func(*authorityv1.AuthorityMessage) bool) *authorityv1.AuthorityMessage {
	c.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		select {
		case m, ok := <-c.incoming:
			if !ok {
				c.t.Fatalf("the stream ended while waiting for: %s", what)
			}
			if s := m.GetSync(); s != nil {
				e, err := organisation.Open(c.organisation, c.id, s.Envelope)
				if err != nil {
					c.t.Fatal(err)
				}
				c.items[fmt.Sprint(e.Kind, "/", e.User)] = e
				err = c.stream.Send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_SyncApplied{SyncApplied: &authorityv1.SyncApplied{Kind: string(e.Kind), User: e.User, Version: e.Version, Refused: c.refuses}}})
				if err != nil && !errors.Is(err, io.EOF) { // the stream may have ended behind the message
					c.t.Fatal(err)
				}
			}
			if is(m) {
				return m
			}
		case <-deadline.C:
			c.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// item waits for a signed item of a version or a higher one.
func (c *computer) item(kind organisation.Kind, user string, version uint64) *organisation.Envelope {
	c.t.Helper()
	has := func() bool { e := c.items[fmt.Sprint(kind, "/", user)]; return e != nil && e.Version >= version }
	if !has() {
		c.await(string(kind), func(*authorityv1.AuthorityMessage) bool { return has() })
	}
	return c.items[fmt.Sprint(kind, "/", user)]
}
