//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/phone"
)

// person is somebody with a phone.
type person struct {
	*phone.Phone
	user string
}

func newPerson(user string, rp push.RelyingParty) *person {
	return &person{phone.New(rp.Origin, "bench"), user}
}

// newClient returns what phones make their requests with: it keeps so many connections
// open for the next request, or makes a new one for each. The certificate is the
// server's own, on loopback.
func newClient(keep int) *http.Client {
	var dialled atomic.Uint32
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			// Phones are everywhere: the authority bounds what one address may ask.
			d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+dialled.Add(1)%250))}}
			return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		},
		MaxIdleConnsPerHost: keep, DisableKeepAlives: keep == 0, IdleConnTimeout: 5 * time.Minute,
	}}
}

// use has all phones share a client, until done.
func (a *authority) use(c *http.Client) (done func()) {
	for _, p := range a.phones {
		p.Use(c)
	}
	return c.CloseIdleConnections
}

// overloaded: the authority had no time for this request of a phone.
func overloaded(err error) bool {
	var r *phone.Refused
	return errors.As(err, &r) && r.Status == http.StatusServiceUnavailable
}

// open opens another session of the page with the passkey, and returns its token.
func (p *person) open(ctx context.Context) ([]byte, error) {
	var begun struct{ Nonce []byte }
	if err := p.Call(ctx, http.MethodPost, "session/begin", struct{}{}, &begun); err != nil {
		return nil, err
	}
	a := p.Key.Assert(push.SessionDigest(begun.Nonce))
	var opened struct{ Token []byte }
	err := p.Call(ctx, http.MethodPost, "session", map[string][]byte{"nonce": begun.Nonce, "credential_id": a.CredentialID,
		"authenticator_data": a.AuthenticatorData, "client_data": a.ClientData, "signature": a.Signature}, &opened)
	return opened.Token, err
}
