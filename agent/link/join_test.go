package link

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/event"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func TestJoinKeepsWhatWasChecked(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	var asked *authorityv1.RegisterRequest
	a.register = func(r *authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
		asked = r
		return a.goodRegister(r), nil
	}
	c.join(a)
	if asked.GetName() != "laptop" || asked.GetSerial() != "SN-1" || asked.GetVersion() != "1.2.3" || asked.GetPlatform() != "linux/amd64" || len(asked.GetToken()) != 20 {
		t.Errorf("the authority was told %v", asked)
	}
	k := c.authorityKept()
	if k.URL != a.url() || k.DeviceID != deviceID || k.DeviceName != "laptop" || len(k.Chain) != 2 {
		t.Errorf("kept: %+v", k)
	}
	sealing, err := ecdh.X25519().NewPrivateKey(k.SealingKey)
	if err != nil || string(sealing.PublicKey().Bytes()) != string(asked.GetSealingKey()) {
		t.Errorf("the sealing key is not the one that was registered: %v", err)
	}
	if i := c.signed(organisation.KindSettings, ""); i.Version != 1 || *i.Settings != goodSettings {
		t.Errorf("the settings: %+v", i)
	}
	if e := c.event(event.AuthorityJoined, a.url()); e.By != "uid:0" || k.EventsSent != e.Seq-1 {
		t.Errorf("the event %+v; events are sent after %d", e, k.EventsSent)
	}

	t.Log("joining again: only after leaving")
	wantError(t, c.link.Join(t.Context(), "uid:0", a.url(), a.token().String(), ""), "leave that first: sallyport leave")
	if a.count(&a.registers) != 1 {
		t.Error("the authority was asked again")
	}

	t.Log("leaving forgets all of it")
	if err := c.link.Leave(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	if c.authorityKept() != nil || c.signed(organisation.KindSettings, "").Version != 0 {
		t.Error("something is left")
	}
	c.event(event.AuthorityLeft, deviceID)
	wantError(t, c.link.Leave(t.Context(), "uid:0"), "has joined no authority")
	c.join(a)
}

func TestATokenIsReadBeforeAnythingIsDone(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	good := a.token().String()
	for _, token := range []string{"", "sallyport1.", "hello", strings.TrimPrefix(good, "sallyport1."), good[:60], // without the hashes
		good[:40] + "A" + good[41:] + "", good + good} {
		if token == good {
			continue
		}
		if err := c.link.Join(t.Context(), "uid:0", a.url(), token, ""); err == nil || strings.Contains(err.Error(), good[12:30]) {
			t.Errorf("%.20q: %v", token, err)
		}
	}
	for _, url := range []string{"", "authority.example.com", "http://127.0.0.1:1", "https://u:p@127.0.0.1", "https://127.0.0.1/path", "https://127.0.0.1?q", "https://127.0.0.1/#f", "https://"} {
		wantError(t, c.link.Join(t.Context(), "uid:0", url, good, ""), "not an authority's address")
	}
	wantError(t, c.link.Join(t.Context(), "uid:0", a.url(), good, "new\nline"), "printable")
	if n := a.count(&a.registers); n != 0 || c.authorityKept() != nil {
		t.Errorf("the authority was asked %d times", n)
	}
}

// TestNothingOfTheTokenGoesToAnotherServer: whatever is wrong with the server, it
// is found before the token is sent.
func TestNothingOfTheTokenGoesToAnotherServer(t *testing.T) {
	for name, arrange := range map[string]struct {
		how  func(a *authority) organisation.Token
		says string
	}{
		"of another CA": {func(a *authority) organisation.Token {
			a.restart(func(c *tls.Config) { c.Certificates = []tls.Certificate{*newCA("another").server("127.0.0.1")} })
			return a.token()
		}, "not of the CA"},
		"the hash of another CA in the token": {func(a *authority) organisation.Token {
			t := a.token()
			t.CA[0] ^= 1
			return t
		}, "not of the CA which the token names: the token is another authority's"},
		"of a CA that the system trusts": {func(a *authority) organisation.Token {
			a.restart(func(c *tls.Config) { c.Certificates = []tls.Certificate{*systemCA.server("127.0.0.1")} })
			return a.token()
		}, "not of the CA"},
		"the right CA's certificate behind another's": {func(a *authority) organisation.Token {
			other := newCA("another").server("127.0.0.1")
			other.Certificate[1] = a.ca.cert.Raw
			a.restart(func(c *tls.Config) { c.Certificates = []tls.Certificate{*other} })
			return a.token()
		}, "not of the CA"},
		"for another name": {func(a *authority) organisation.Token {
			a.restart(func(c *tls.Config) { c.Certificates = []tls.Certificate{*a.ca.server("authority.example.com")} })
			return a.token()
		}, "not for the name 127.0.0.1"},
		"its own certificate in the place of a CA": {func(a *authority) organisation.Token {
			own := a.ca.server("127.0.0.1")
			own.Certificate = own.Certificate[:1]
			a.restart(func(c *tls.Config) { c.Certificates = []tls.Certificate{*own} })
			t := a.token()
			t.CA = sha256.Sum256(own.Certificate[0])
			return t
		}, "not of the CA"},
		"a device's certificate": {func(a *authority) organisation.Token {
			key := newKey()
			cert := a.ca.make(&x509.Certificate{NotBefore: epoch.AddDate(-1, 0, 0), NotAfter: epoch.AddDate(1, 0, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, key)
			a.restart(func(c *tls.Config) {
				c.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw, a.ca.cert.Raw}, PrivateKey: key}}
			})
			return a.token()
		}, "does not answer"},
		"TLS 1.2": {func(a *authority) organisation.Token {
			a.restart(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
			return a.token()
		}, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newComputer(t)
			a := newAuthority(t, c.clock)
			token := arrange.how(a)
			wantError(t, c.link.Join(t.Context(), "uid:0", a.url(), token.String(), "laptop"), arrange.says)
			if a.count(&a.registers) != 0 {
				t.Error("the server got the token")
			}
			if c.authorityKept() != nil {
				t.Error("something was kept")
			}
		})
	}
}

// TestAServerWithoutACertificateGetsNothing: plain text, as an anonymous server
// has no more to show.
func TestAServerWithoutACertificateGetsNothing(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := grpc.NewServer()
	authorityv1.RegisterAuthorityServiceServer(plain, a)
	go func() { _ = plain.Serve(lingering{l}) }()
	t.Cleanup(plain.Stop)
	wantError(t, c.link.Join(t.Context(), "uid:0", "https://"+l.Addr().String(), a.token().String(), "laptop"), "nobody speaks TLS: the port is not that of an authority's computers")
	if a.count(&a.registers) != 0 {
		t.Error("the server got the token")
	}
}

// lingering accepts connections that are read to their end before they are closed: who
// closes one with something unread resets it, and on Windows the answer is lost with it.
type lingering struct{ net.Listener }

func (l lingering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return lingeringConn{conn.(*net.TCPConn)}, nil
}

type lingeringConn struct{ *net.TCPConn }

func (c lingeringConn) Close() error {
	err := c.CloseWrite()
	go func() {
		_, _ = io.Copy(io.Discard, c.TCPConn)
		_ = c.TCPConn.Close()
	}()
	return err
}

// TestNoProxyOfTheEnvironmentIsAsked (induced fail-open: proxy variables).
func TestNoProxyOfTheEnvironmentIsAsked(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked := make(chan struct{}, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			conn.Close()
		}
	}()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "grpc_proxy"} {
		t.Setenv(name, "http://"+l.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	// Go never asks a proxy for loopback, so the name must be another.
	a.restart(func(c *tls.Config) { c.Certificates = []tls.Certificate{*a.ca.server("sallyport-test.invalid")} })
	err = c.link.Join(t.Context(), "uid:0", "https://sallyport-test.invalid:1", a.token().String(), "laptop")
	wantError(t, err, "sallyport-test.invalid")
	select {
	case <-asked:
		t.Error("the proxy was asked")
	default:
	}
}

// TestWhatTheAuthorityAnswersIsChecked: of an answer in which anything is wrong
// nothing is kept.
func TestWhatTheAuthorityAnswersIsChecked(t *testing.T) {
	_, otherOrganisation, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(a *authority, q *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse)
		says   string
	}{
		"another organisation key": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.OrganisationKey = otherOrganisation.Public().(ed25519.PublicKey)
		}, "organisation key is not the one"},
		"no organisation key": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.OrganisationKey = nil
		}, "organisation key is not the one"},
		"a certificate of another CA": {func(a *authority, q *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Chain = newCA("another").device(q.GetCsr(), deviceID, epoch.Add(-time.Hour), week)
		}, "the certificate"},
		"a certificate for another key": {func(a *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			csr, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, newKey())
			r.Chain = a.ca.device(csr, deviceID, epoch.Add(-time.Hour), week)
		}, "for another key"},
		"another device's certificate": {func(a *authority, q *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Chain = a.ca.device(q.GetCsr(), strings.Repeat("Z", 26), epoch.Add(-time.Hour), week)
		}, "for another device"},
		"a server's certificate": {func(a *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Chain = a.ca.server("127.0.0.1").Certificate
		}, "the certificate"},
		"an expired certificate": {func(a *authority, q *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Chain = a.ca.device(q.GetCsr(), deviceID, epoch.Add(-2*week), week)
		}, "the certificate"},
		"no certificate": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) { r.Chain = nil }, "no certificate"},
		"garbage": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Chain = [][]byte{{1, 2, 3}}
		}, "the certificate"},
		"a malformed id": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.DeviceId = "../../etc/passwd/././././x"
		}, "device id"},
		"no settings": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) { r.Settings = nil }, "the settings"},
		"unsigned settings": {func(_ *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Settings[60] ^= 1
		}, "the settings"},
		"settings of another": {func(a *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			b, _ := organisation.Sign(otherOrganisation, organisation.Envelope{Kind: organisation.KindSettings, Version: 1, Payload: []byte(`{}`)})
			r.Settings = b
		}, "not signed by the organisation"},
		"a policy in the place of the settings": {func(a *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Settings = a.sign(organisation.Envelope{Kind: organisation.KindPolicy, Version: 1}, goodSettings)
		}, "something else is signed"},
		"settings for another device": {func(a *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Settings = a.sign(organisation.Envelope{Kind: organisation.KindSettings, Device: "other", Version: 1}, goodSettings)
		}, "for the device other"},
		"an address as the relying party": {func(a *authority, _ *authorityv1.RegisterRequest, r *authorityv1.RegisterResponse) {
			r.Settings = a.sign(organisation.Envelope{Kind: organisation.KindSettings, Version: 1}, organisation.Settings{Name: "x", RPID: "10.0.0.1", Origin: "https://10.0.0.1", API: "https://10.0.0.1"})
		}, "not a host name"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newComputer(t)
			a := newAuthority(t, d.clock)
			a.register = func(q *authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
				r := a.goodRegister(q)
				c.change(a, q, r)
				return r, nil
			}
			err := d.link.Join(t.Context(), "uid:0", a.url(), a.token().String(), "laptop")
			wantError(t, err, c.says)
			wantError(t, err, "the token is used up")
			if d.authorityKept() != nil || d.countEvents(event.AuthorityJoined) != 0 || d.signed(organisation.KindSettings, "").Version != 0 {
				t.Error("something was kept")
			}
		})
	}
}

func TestAUsedTokenSaysSo(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	a.register = func(*authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
		return nil, status.Error(codes.Unauthenticated, "the token was used on 2026-11-21 by the device desk-7\x1b[2J")
	}
	err := c.link.Join(t.Context(), "uid:0", a.url(), a.token().String(), "laptop")
	wantError(t, err, "does not take the token: the token was used on 2026-11-21 by the device desk-7?[2J")
	if s := c.log.String(); strings.Contains(s, "twenty") || strings.Contains(err.Error(), a.token().String()) {
		t.Error("the token leaked")
	}
}

func TestTheAddressHasADefaultPort(t *testing.T) {
	p, err := parseURL("https://authority.example.com/")
	if err != nil || p.String() != "authority.example.com:7443" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err = parseURL("https://[::1]:9"); err != nil || p.String() != "[::1]:9" {
		t.Errorf("%v, %v", p, err)
	}
}
