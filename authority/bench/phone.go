//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
)

// phone is an approver's page with its passkey. One request at a time.
type phone struct {
	user  string
	key   *passkey.Key
	token []byte // of its session
}

func newPhone(user string, rp push.RelyingParty) *phone {
	token := make([]byte, 32)
	_, _ = rand.Read(token) // never fails: crypto/rand
	return &phone{user: user, key: passkey.New(rp), token: token}
}

// web is the phones' way to the authority's API.
type web struct {
	origin string
	client *http.Client
}

// newWeb returns a client that keeps connections open for the next request, or
// one that makes a new connection for each. The certificate is the server's own,
// on loopback.
func newWeb(origin string, keep int) *web {
	var dialled atomic.Uint32
	t := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			// Phones are everywhere: the authority bounds what one address may ask.
			d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+dialled.Add(1)%250))}}
			return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		},
		MaxIdleConnsPerHost: keep, DisableKeepAlives: keep == 0, IdleConnTimeout: 5 * time.Minute,
	}
	return &web{origin: origin, client: &http.Client{Transport: t, Timeout: 20 * time.Second}}
}

func (w *web) close() { w.client.CloseIdleConnections() }

// call makes one request of the API and reads the answer into out, if given.
func (w *web) call(ctx context.Context, p *phone, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, w.origin+"/api/v1/"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Origin", w.origin)
	r.Header.Set("Authorization", "Bearer "+base64.StdEncoding.EncodeToString(p.token))
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return fmt.Errorf("%w: %s", errOverloaded, bytes.TrimSpace(content))
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(content))
	}
	if out != nil {
		return json.Unmarshal(content, out)
	}
	return nil
}

// answer is what the page posts for a challenge.
type answer struct {
	Decision          push.Decision `json:"decision"`
	CredentialID      []byte        `json:"credential_id"`
	AuthenticatorData []byte        `json:"authenticator_data"`
	ClientData        []byte        `json:"client_data"`
	Signature         []byte        `json:"signature"`
}

// sign approves a challenge with the number that the login shows.
func (p *phone) sign(challenge []byte, number string) answer {
	a := p.key.Answer(challenge, push.Approve, number)
	return answer{a.Decision, a.CredentialID, a.AuthenticatorData, a.ClientData, a.Signature}
}

// post sends a signed answer.
func (w *web) post(ctx context.Context, p *phone, id string, a answer) error {
	return w.call(ctx, p, http.MethodPost, "challenges/"+id+"/answer", a, nil)
}

// waiting is a challenge in the page's list.
type waiting struct {
	ID        string `json:"id"`
	Challenge []byte `json:"challenge"`
}

// list is what the page fetches when it is opened or rung.
func (w *web) list(ctx context.Context, p *phone) ([]waiting, error) {
	var out struct {
		Challenges []waiting `json:"challenges"`
	}
	err := w.call(ctx, p, http.MethodGet, "challenges", nil, &out)
	return out.Challenges, err
}

// open opens another session of the page with the passkey, and returns its token.
func (w *web) open(ctx context.Context, p *phone) ([]byte, error) {
	var begun struct{ Nonce []byte }
	if err := w.call(ctx, p, http.MethodPost, "session/begin", struct{}{}, &begun); err != nil {
		return nil, err
	}
	a := p.key.Assert(push.SessionDigest(begun.Nonce))
	var opened struct{ Token []byte }
	err := w.call(ctx, p, http.MethodPost, "session", map[string][]byte{"nonce": begun.Nonce, "credential_id": a.CredentialID,
		"authenticator_data": a.AuthenticatorData, "client_data": a.ClientData, "signature": a.Signature}, &opened)
	return opened.Token, err
}

// enrol scans the link of an enrolment and waits until the phone is accepted.
func (w *web) enrol(ctx context.Context, p *phone, link string) error {
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	f, err := url.ParseQuery(strings.ReplaceAll(u.EscapedFragment(), "+", "%2B"))
	if err != nil {
		return err
	}
	secret, err := base64.RawURLEncoding.DecodeString(f.Get("s"))
	if err != nil {
		return err
	}
	id, r := f.Get("e"), p.key.Registration("bench")
	err = w.call(ctx, p, http.MethodPost, "enrolment/"+id, map[string]any{
		"credential_id": r.CredentialID, "public_key": r.PublicKey, "authenticator_data": r.AuthenticatorData, "phone": r.Phone,
		"mac": push.EnrolmentMAC(secret, id, f.Get("d"), f.Get("u"), r), "token": p.token,
	}, nil)
	if err != nil {
		return err
	}
	for {
		var got struct{ State, Text string }
		if err := w.call(ctx, p, http.MethodGet, "enrolment/"+id+"/result", nil, &got); err != nil {
			return err
		}
		switch got.State {
		case "accepted":
			return nil
		case "waiting":
		default:
			return fmt.Errorf("the phone was %s: %s", got.State, got.Text)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond): // as the page asks again
		}
	}
}
