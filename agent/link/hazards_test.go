package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// TestAClockThatIsAheadRenewsNotWithoutEnd: by this computer's clock the new
// certificate is past half of its life as well.
func TestAClockThatIsAheadRenewsNotWithoutEnd(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	const ahead = 5 * 24 * time.Hour
	c.clock.advance(ahead)
	a.renew = func(r *authorityv1.RenewRequest) (*authorityv1.RenewResponse, error) {
		return &authorityv1.RenewResponse{Chain: a.ca.device(r.GetCsr(), deviceID, a.clock.Now().Wall.Add(-ahead), week)}, nil
	}
	waits := make(chan time.Duration, 100)
	c.link.after = func(d time.Duration) <-chan time.Time {
		if d >= renewRetry/2 {
			waits <- d
			return nil
		}
		return time.After(d)
	}
	c.run()
	a.stream()
	receive(t, waits, "the wait behind a renewal")
	if n := a.count(&a.renewals); n != 1 {
		t.Errorf("%d renewals in a row", n)
	}
}

// TestLeavingBetweenTwoSteps: Leave comes when Run has read the authority and has
// not begun to connect.
func TestLeavingBetweenTwoSteps(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	kept := c.authorityKept()
	if err := c.link.Leave(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if end := c.link.session(ctx, kept); !end.again || ctx.Err() != nil || a.count(&a.connects) != 0 {
		t.Errorf("the computer connected to what it had left: %+v", end)
	}
}

// TestJoiningBetweenTwoSteps: Join comes when Run has read that there is no authority,
// and has not said so yet.
func TestJoiningBetweenTwoSteps(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	if !c.link.notJoined() {
		t.Fatal("there is one")
	}
	c.join(a)
	if c.link.notJoined() {
		t.Error("it goes by what it read before")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTooLate)
	if _, err := c.link.await(ctx); !errors.Is(err, errTooLate) {
		t.Errorf("a login does not wait for the connection: %v", err)
	}
}

// TestManySignedItemsKeepNoLinkDown: the authority takes so many and no more in
// Hello.
func TestManySignedItemsKeepNoLinkDown(t *testing.T) {
	c := newComputer(t)
	if err := c.store.Update(t.Context(), func(tx *vault.Tx) error {
		for i := range maxHave + 10 {
			if err := store.PutSigned(tx, organisation.KindApprovers, fmt.Sprint("user", i), store.Item{Version: 1}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h, err := (&session{l: c.link}).hello()
	if err != nil || len(h.GetHave()) != maxHave {
		t.Errorf("%v; Hello names %d items", err, len(h.GetHave()))
	}
}

// TestMalformedAnswersFillNoLog: whoever fills the log hides what else is in it.
func TestMalformedAnswersFillNoLog(t *testing.T) {
	c, a, d := connected(t)
	for range 100 {
		d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_PushAnswer{PushAnswer: &authorityv1.PushAnswer{Decision: "no"}}})
	}
	wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: "unknown", Version: 1}, 1)), "no such kind") // it has read all of it
	if n := strings.Count(c.log.String(), "an answer of the authority is dropped"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// TestAnotherComputersCertificateMakesNoAuthority: root on one laptop has a
// certificate of the right CA, and sits between another one and the authority.
func TestAnotherComputersCertificateMakesNoAuthority(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	key := newKey()
	laptops := a.ca.make(&x509.Certificate{NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(week), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, key)
	token := a.token().String()
	pose := func(config *tls.Config) {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{laptops.Raw, a.ca.cert.Raw}, PrivateKey: key}}
	}
	a.restart(pose)
	wantError(t, c.link.Join(t.Context(), "uid:0", a.url(), token, "laptop"), "incompatible key usage")
	a.restart(func(config *tls.Config) { config.Certificates = []tls.Certificate{*a.ca.server("127.0.0.1")} })
	c.join(a)
	a.restart(pose)
	c.run()
	c.until("the error", func() bool { return strings.Contains(c.link.State().LastError, "incompatible key usage") })
	if n := a.count(&a.registers); n != 1 || a.count(&a.connects) != 0 {
		t.Errorf("%d registrations, %d streams", n, a.connects)
	}
}
