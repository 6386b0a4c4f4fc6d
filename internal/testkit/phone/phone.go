// Package phone is a phone in software, for tests: the approver's page without a
// browser. It speaks the page's HTTP API and signs with a passkey of its own, so
// that a test can have many, and can have one that lies.
package phone

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
)

// again is how often the page asks again for what it waits for.
const again = 25 * time.Millisecond

// Phone is one, with its passkey and its session. One request at a time.
type Phone struct {
	Key   *passkey.Key
	Name  string
	Token []byte // of its session

	origin string
	client *http.Client

	mu  sync.Mutex
	via string // host:port to connect to; "" = the origin's
}

// New takes a phone out of its box; the page is at origin, on this machine.
func New(origin, name string) *Phone {
	host := origin
	if u, err := url.Parse(origin); err == nil {
		host = u.Hostname()
	}
	p := &Phone{Key: passkey.New(push.RelyingParty{ID: host, Origin: origin}), Name: name, Token: make([]byte, 32), origin: origin}
	_, _ = rand.Read(p.Token) // never fails: crypto/rand
	p.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		// The certificate is the server's own, on loopback.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, // the server may have been restarted
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if via := p.address(); via != "" {
				address = via
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	return p
}

// Via has the phone connect to another address (host:port) than the origin's, as
// a load balancer would.
func (p *Phone) Via(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.via = address
}

func (p *Phone) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.via
}

// Use has the phone make its requests with another client, which phones may share.
func (p *Phone) Use(c *http.Client) { p.client = c }

// Refused is an answer of the API that is no success.
type Refused struct {
	Status int
	Body   string
}

func (r *Refused) Error() string { return fmt.Sprintf("the API answered %d: %s", r.Status, r.Body) }

// Call makes one request of the API, with the session's token, and reads the
// answer into out, if given.
func (p *Phone) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, p.origin+"/api/v1/"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Origin", p.origin)
	r.Header.Set("Authorization", "Bearer "+base64.StdEncoding.EncodeToString(p.Token))
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return &Refused{resp.StatusCode, strings.TrimSpace(string(content))}
	}
	if out != nil {
		return json.Unmarshal(content, out)
	}
	return nil
}

// until calls done until it says so, an error comes, or ctx ends.
func until(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Scan posts this phone's key to the enrolment that the QR code is of, and does not
// wait for what comes of it. It returns the enrolment's id.
func (p *Phone) Scan(ctx context.Context, link string) (id string, err error) {
	u, err := url.Parse(link)
	if err != nil {
		return "", errors.New("phone: the QR code holds no link") // which may hold the secret
	}
	f, err := url.ParseQuery(strings.ReplaceAll(u.EscapedFragment(), "+", "%2B"))
	if err != nil {
		return "", errors.New("phone: the link's fragment is malformed")
	}
	secret, err := base64.RawURLEncoding.DecodeString(f.Get("s"))
	if err != nil {
		return "", errors.New("phone: the link's secret is malformed")
	}
	id = f.Get("e")
	r := p.Key.Registration(p.Name)
	return id, p.Call(ctx, http.MethodPost, "enrolment/"+id, map[string]any{
		"credential_id": r.CredentialID, "public_key": r.PublicKey, "authenticator_data": r.AuthenticatorData, "phone": r.Phone,
		"mac": push.EnrolmentMAC(secret, id, f.Get("d"), f.Get("u"), r), "token": p.Token,
	}, nil)
}

// Enrol scans a QR code, and waits until the phone is enrolled.
func (p *Phone) Enrol(ctx context.Context, link string) error {
	id, err := p.Scan(ctx, link)
	if err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		var got struct{ State, Text string }
		if err := p.Call(ctx, http.MethodGet, "enrolment/"+id+"/result", nil, &got); err != nil {
			return false, err
		}
		switch got.State {
		case "accepted":
			return true, nil
		case "waiting":
			return false, nil
		}
		return false, fmt.Errorf("the phone was %s: %s", got.State, got.Text)
	})
}

// Waiting is a login that the page shows.
type Waiting struct {
	ID        string `json:"id"`
	Challenge []byte `json:"challenge"`
}

// Shown are the logins that wait for an answer of this phone.
func (p *Phone) Shown(ctx context.Context) ([]Waiting, error) {
	var out struct {
		Challenges []Waiting `json:"challenges"`
	}
	err := p.Call(ctx, http.MethodGet, "challenges", nil, &out)
	return out.Challenges, err
}

// Rings waits until the page shows the one login.
func (p *Phone) Rings(ctx context.Context) (w Waiting, err error) {
	err = until(ctx, func() (bool, error) {
		list, err := p.Shown(ctx)
		if len(list) > 1 {
			err = fmt.Errorf("the phone shows %d logins, not the one", len(list))
		}
		if len(list) == 1 {
			w = list[0]
		}
		return len(list) == 1, err
	})
	return w, err
}

// Answer waits for the login and answers it; number is "" unless it approves.
func (p *Phone) Answer(ctx context.Context, d push.Decision, number string) (Waiting, error) {
	w, err := p.Rings(ctx)
	if err != nil {
		return w, err
	}
	return w, p.Post(ctx, w.ID, p.Key.Answer(w.Challenge, d, number))
}

// Post sends a signed answer.
func (p *Phone) Post(ctx context.Context, id string, a push.Answer) error {
	return p.Call(ctx, http.MethodPost, "challenges/"+id+"/answer", map[string]any{
		"decision": a.Decision, "credential_id": a.CredentialID, "authenticator_data": a.AuthenticatorData,
		"client_data": a.ClientData, "signature": a.Signature}, nil)
}

// Outcome waits until the login has ended, and says how: what the page shows.
func (p *Phone) Outcome(ctx context.Context, id string) (outcome string, err error) {
	err = until(ctx, func() (bool, error) {
		var got struct{ State, Outcome string }
		err := p.Call(ctx, http.MethodGet, "challenges/"+id, nil, &got)
		outcome = got.Outcome
		return got.State == "ended", err
	})
	return outcome, err
}
