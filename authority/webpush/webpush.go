// Package webpush sends Web Push messages (RFC 8030), encrypted for one browser
// (RFC 8291) and signed as this authority's (RFC 8292).
//
// A push endpoint is a URL that a stranger's browser supplied, and this server
// posts to it. So only push services on a list are reached, over https on port
// 443, at public addresses as they are dialled, without redirects and proxies.
package webpush

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// DefaultHosts are the push services of the browsers that people have: Chrome and
// most of Android, Firefox, Safari, Edge.
func DefaultHosts() []string {
	return []string{"fcm.googleapis.com", "updates.push.services.mozilla.com", "*.push.apple.com", "*.notify.windows.com"}
}

const (
	// maxSubscription bounds a PushSubscription as JSON.
	maxSubscription = 4096
	// MaxPayload bounds what can be sent: with its frame it fits into the 4096
	// bytes that every push service takes.
	MaxPayload = 3072
	// padding hides the length of names from the push service.
	padding = 256
	// tokenLife is below the day that RFC 8292 allows.
	tokenLife = 12 * time.Hour
	// maxAnswer is how much of an answer is read.
	maxAnswer = 1024
	// sendTime bounds one message, whatever the caller's context says.
	sendTime = 10 * time.Second
)

// ErrGone: the browser took the subscription back. It is to be forgotten.
var ErrGone = errors.New("webpush: the subscription is gone")

// ErrRefused: the subscription is malformed, or leads where none may lead.
var ErrRefused = errors.New("webpush: refused")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Options say who sends, and where to.
type Options struct {
	Key     *ecdsa.PrivateKey // P-256: see NewKey, ParseKey
	Subject string            // "mailto:" or "https:" where the push service finds a person
	Hosts   []string          // host names, or "*.example.com"; nil: DefaultHosts
	// UnsafeLocal lists host:port on this machine that may be reached as well, also
	// by http: for tests and the demo.
	UnsafeLocal []string
	Resolver    *net.Resolver    // nil: the system's
	Now         func() time.Time // nil: time.Now
	Log         *slog.Logger     // nil: slog.Default()
}

// Sender sends. Safe for concurrent use.
type Sender struct {
	key     *ecdsa.PrivateKey
	public  string
	subject string
	hosts   []string
	local   []string
	now     func() time.Time
	// Two clients, so that whatever is let through for a local service is let
	// through for no other.
	remoteClient, localClient *http.Client
}

// New checks the options.
func New(o Options) (*Sender, error) {
	if o.Key == nil || o.Key.Curve != elliptic.P256() {
		return nil, errors.New("webpush: the key is not of P-256")
	}
	public, err := o.Key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("webpush: the key: %w", err)
	}
	if u, err := url.Parse(o.Subject); err != nil || u.Scheme != "mailto" && u.Scheme != "https" || u.Opaque+u.Host == "" {
		return nil, fmt.Errorf("webpush: the subject is %q; it must be mailto:somebody@example.com or an https address", o.Subject)
	}
	s := &Sender{key: o.Key, public: base64.RawURLEncoding.EncodeToString(public), subject: o.Subject,
		hosts: o.Hosts, local: o.UnsafeLocal, now: o.Now}
	if s.hosts == nil {
		s.hosts = DefaultHosts()
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, h := range s.hosts {
		if err := CheckHost(h); err != nil {
			return nil, fmt.Errorf("webpush: %w", err)
		}
	}
	if len(s.local) > 0 {
		log := cmp.Or(o.Log, slog.Default())
		log.Warn("UNSAFE: push messages go to services on this machine, without encryption of the way; this is for tests and the demo", "unsafe_local", s.local)
	}
	s.remoteClient = client(o.Resolver, checkPublic)
	s.localClient = client(o.Resolver, checkLoopback)
	return s, nil
}

// CheckHost says whether a host can be one of Options.Hosts.
func CheckHost(h string) error {
	labels := strings.Split(strings.TrimPrefix(h, "*."), ".")
	bad := func(label string) bool {
		return label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
	}
	// The last label of a name is no number; that of an address is, also of 127.1.
	if len(labels) < 2 || slices.ContainsFunc(labels, bad) || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("%q is no host name of a push service, such as fcm.googleapis.com or *.push.apple.com", h)
	}
	return nil
}

// client reaches only addresses that check lets through. The check is at the
// socket, after the name was resolved: a name that leads elsewhere the second
// time leads nowhere.
func client(resolver *net.Resolver, check func(netip.AddrPort) error) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Resolver: resolver, ControlContext: control(check)}
	return &http.Client{
		Timeout: sendTime,
		Transport: &http.Transport{
			Proxy:                  nil, // also none of the environment
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  sendTime,
			IdleConnTimeout:        90 * time.Second,
			MaxIdleConnsPerHost:    16,
			MaxConnsPerHost:        64,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// subscription is a PushSubscription, checked.
type subscription struct {
	endpoint *url.URL
	key      *ecdh.PublicKey // of the browser
	auth     []byte
	local    bool
}

func (s *Sender) parse(b []byte) (*subscription, error) {
	var j struct {
		Endpoint string `json:"endpoint"`
		Keys     struct {
			P256DH string `json:"p256dh"`
			Auth   string `json:"auth"`
		} `json:"keys"`
	}
	if len(b) > maxSubscription {
		return nil, refused("the subscription is over %d bytes", maxSubscription)
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, refused("the subscription is not JSON")
	}
	var sub subscription
	var err error
	if sub.endpoint, sub.local, err = s.checkEndpoint(j.Endpoint); err != nil {
		return nil, err
	}
	raw, err := decode(j.Keys.P256DH)
	if err != nil {
		return nil, refused("p256dh is not base64")
	}
	if sub.key, err = ecdh.P256().NewPublicKey(raw); err != nil {
		return nil, refused("p256dh is no point of P-256")
	}
	if sub.auth, err = decode(j.Keys.Auth); err != nil || len(sub.auth) != 16 {
		return nil, refused("auth is not 16 bytes in base64")
	}
	return &sub, nil
}

// decode takes base64url as browsers write it, with padding or without.
func decode(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// checkEndpoint says whether a message may be posted there.
func (s *Sender) checkEndpoint(endpoint string) (u *url.URL, local bool, err error) {
	u, err = url.Parse(endpoint)
	if err != nil {
		return nil, false, refused("the endpoint is no URL")
	}
	local = slices.Contains(s.local, u.Host)
	switch host := u.Host; {
	case u.User != nil:
		return nil, false, refused("the endpoint names a user")
	case u.Opaque != "" || u.Fragment != "":
		return nil, false, refused("the endpoint is no URL of a push service")
	case local && (u.Scheme == "http" || u.Scheme == "https"):
		return u, true, nil
	case u.Scheme != "https":
		return nil, false, refused("the endpoint is not https")
	case u.Port() != "" && u.Port() != "443":
		return nil, false, refused("the endpoint is on port %s", u.Port())
	case !s.listed(strings.TrimSuffix(host, ":443")):
		return nil, false, refused("%q is no push service that is listed (push_services.hosts)", u.Hostname())
	}
	return u, false, nil
}

func (s *Sender) listed(host string) bool {
	host = strings.ToLower(host)
	return slices.ContainsFunc(s.hosts, func(h string) bool {
		if suffix, ok := strings.CutPrefix(h, "*"); ok {
			return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
		}
		return host == h
	})
}

// Check says whether a subscription, a PushSubscription as JSON, could be rung.
// It reaches nobody.
func (s *Sender) Check(subscription []byte) error {
	_, err := s.parse(subscription)
	return err
}

// PublicKey is the application server key that a page subscribes with, in
// base64url.
func (s *Sender) PublicKey() string { return s.public }

// Ring sends the payload to one browser. The push service drops it when it could
// not be delivered within ttl.
func (s *Sender) Ring(ctx context.Context, subscription []byte, payload []byte, ttl time.Duration) error {
	sub, err := s.parse(subscription)
	if err != nil {
		return err
	}
	if len(payload) > MaxPayload {
		return fmt.Errorf("webpush: a payload of %d bytes is over %d", len(payload), MaxPayload)
	}
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails: crypto/rand
	body, err := encrypt(sub, own, salt, payload, padding-1-len(payload)%padding)
	if err != nil {
		return err
	}
	token, err := s.token(sub.endpoint)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, sub.endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("Content-Encoding", "aes128gcm")
	request.Header.Set("TTL", fmt.Sprint(max(0, int(ttl/time.Second))))
	request.Header.Set("Urgency", "high")
	request.Header.Set("Authorization", "vapid t="+token+", k="+s.public)
	request.Header.Set("User-Agent", "sallyport-authority")
	c := s.remoteClient
	if sub.local {
		c = s.localClient
	}
	answer, err := c.Do(request)
	if err != nil {
		// The path of the URL is what lets somebody send: it is not logged.
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return fmt.Errorf("webpush: %s: %w", sub.endpoint.Host, err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case answer.StatusCode/100 == 2:
		return nil
	case answer.StatusCode == http.StatusNotFound, answer.StatusCode == http.StatusGone:
		return ErrGone
	}
	return fmt.Errorf("webpush: %s answered %d: %.200q", sub.endpoint.Host, answer.StatusCode, text)
}

// token is the signed JWT of RFC 8292 by which a push service knows the sender.
func (s *Sender) token(endpoint *url.URL) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"aud": endpoint.Scheme + "://" + endpoint.Host, "exp": s.now().Add(tokenLife).Unix(), "sub": s.subject})
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return text + "." + b64(signature), nil
}
