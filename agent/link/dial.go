package link

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"sallyport/agent/store"
)

const (
	// defaultPort is the authority's for devices.
	defaultPort = "7443"
	// dialTime is how long TCP and TLS may take.
	dialTime = 10 * time.Second
	// callTime is how long a call may take.
	callTime = 15 * time.Second
	// An idle link has no other traffic than this, and a dead one is noticed by it.
	pingEvery = 30 * time.Second
	pingTime  = 15 * time.Second
	// maxReceive is above the largest message of the authority.
	maxReceive = 512 << 10
	// window64K is what may be on its way: of many items that were signed, no more
	// are before the word that phones ring.
	window64K = 64 << 10
)

// place is where the authority is.
type place struct{ host, port string }

// parseURL reads "https://authority.example.com:7443".
func parseURL(text string) (place, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return place{}, fmt.Errorf("%q is not an authority's address: it looks like https://authority.example.com:%s", clean(text, maxText), defaultPort)
	}
	return place{u.Hostname(), cmp.Or(u.Port(), defaultPort)}, nil
}

func (p place) String() string { return net.JoinHostPort(p.host, p.port) }

// wire is a gRPC channel that connects once.
type wire struct {
	*grpc.ClientConn
	place place

	mu   sync.Mutex
	used bool
	raw  net.Conn
	err  error // why there is no connection

	heard atomic.Int64 // when something last came, in the boot clock; see contact.go
	boot  func() time.Duration
}

var errUsed = errors.New("the channel was used")

// dial makes a channel. No proxy of the environment is asked: whoever sets one
// for a service must not come between it and its authority.
func (l *Link) dial(p place, config *tls.Config) (*wire, error) {
	w := &wire{place: p, boot: func() time.Duration { return l.o.Clock.Now().Boot }}
	var err error
	w.ClientConn, err = grpc.NewClient("passthrough:///"+p.String(),
		grpc.WithNoProxy(),
		grpc.WithContextDialer(w.connect),
		grpc.WithTransportCredentials(noting{credentials.NewTLS(config), w}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTime, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: dialTime, Backoff: backoff.DefaultConfig}),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDisableHealthCheck(),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithStaticStreamWindowSize(window64K), grpc.WithStaticConnWindowSize(window64K),
		grpc.WithMaxHeaderListSize(16<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
		grpc.WithUserAgent("sallyport/"+l.o.Version),
	)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// connect dials, once: when to try again is Run's to say. The kernel's keepalive
// would be a second one.
func (w *wire) connect(ctx context.Context, addr string) (net.Conn, error) {
	w.mu.Lock()
	used := w.used
	w.used = true
	w.mu.Unlock()
	if used {
		return nil, errUsed
	}
	d := net.Dialer{Timeout: dialTime, KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", addr)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	if err != nil {
		return nil, err
	}
	w.raw = c
	return heardConn{c, w}, nil
}

// cut ends the connection now: whoever is at the other end of a black hole is not
// waited for.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.raw != nil {
		_ = w.raw.Close()
	}
}

// noting remembers why a handshake failed; gRPC makes a text of it.
type noting struct {
	credentials.TransportCredentials
	w *wire
}

func (n noting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, raw)
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.err = err
	return c, info, err
}

func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.w}
}

// explain puts the failure of a call into words.
func (w *wire) explain(err error) error {
	w.mu.Lock()
	cause := w.err
	w.mu.Unlock()
	who := "the authority at " + w.place.String()
	if s := status.Convert(err); s.Code() != codes.Unavailable && s.Code() != codes.DeadlineExceeded && s.Code() != codes.Canceled {
		return fmt.Errorf("%s refuses: %s", who, clean(s.Message(), maxText))
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var op *net.OpError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.Is(cause, errOtherCA):
		return fmt.Errorf("%s shows a certificate that is not of the CA which the token names: the token is another authority's, the port is not that of the computers, or somebody is in between", who)
	case errors.As(cause, &unknown):
		return fmt.Errorf("%s shows a certificate that is not of the CA which this computer knows: it is another server, or somebody is in between", who)
	case errors.As(cause, &name):
		return fmt.Errorf("%s shows a certificate that is not for the name %s; it has to be one of its device_hosts: sallyport-authority config show", who, w.place.host)
	case errors.As(cause, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%s shows a certificate that is not valid at the time of this computer; is its clock right?", who)
	case errors.As(cause, &dns):
		return fmt.Errorf("the name %s is not found (DNS)", w.place.host)
	case errors.As(cause, &noTLS):
		return fmt.Errorf("at %s nobody speaks TLS: the port is not that of an authority's computers", w.place)
	case errors.As(cause, &op) && op.Op == "remote error":
		return fmt.Errorf("%s ended the handshake: %s", who, clean(op.Err.Error(), maxText))
	case cause != nil:
		if op != nil && op.Err != nil {
			cause = op.Err // without the addresses, which change
		}
		return fmt.Errorf("%s does not answer: %s", who, clean(cause.Error(), maxText))
	case status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%s does not answer", who)
	}
	return fmt.Errorf("the connection to %s broke", who)
}

// memberTLS is the configuration of a computer that has joined: this CA and no
// other, the system's least of all.
func (l *Link) memberTLS(a *store.Authority, p place) (*tls.Config, error) {
	ca, err := x509.ParseCertificate(a.CA)
	if err != nil {
		return nil, fmt.Errorf("the authority's CA as it is kept: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("this computer's key as it is kept: %w", err)
	}
	own := &tls.Certificate{Certificate: a.Chain, PrivateKey: key}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: p.host, RootCAs: roots, Time: l.wall,
		// Whatever CAs the server names, and also when it has expired.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
	}, nil
}

func (l *Link) wall() time.Time { return l.o.Clock.Now().Wall }

var errOtherCA = errors.New("the server's certificate is not of the CA that the token names")

// strangerTLS is the configuration of a computer that knows the authority by a
// token. took gets the CA, once its hash was right and the server was found to
// have its certificate from it.
func (l *Link) strangerTLS(hash [32]byte, p place, took func(*x509.Certificate)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: p.host, Time: l.wall,
		InsecureSkipVerify: true, // what it would verify by is not known yet: VerifyConnection does
		VerifyConnection: func(cs tls.ConnectionState) error {
			chain := cs.PeerCertificates
			if len(chain) < 2 || sha256.Sum256(chain[len(chain)-1].Raw) != hash || !chain[len(chain)-1].IsCA {
				return errOtherCA
			}
			ca := chain[len(chain)-1]
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(ca)
			for _, c := range chain[1 : len(chain)-1] {
				between.AddCert(c)
			}
			if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: p.host, Roots: roots, Intermediates: between, CurrentTime: l.wall(),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return err
			}
			took(ca)
			return nil
		},
	}
}
