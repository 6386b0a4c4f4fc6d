package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/agent/loginsvc"
	"sallyport/internal/event"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func TestHelloSaysWhatIsThere(t *testing.T) {
	c, a, d := connected(t)
	v, err := c.store.Vault()
	if err != nil {
		t.Fatal(err)
	}
	if h := d.hello; h.GetProtocolVersion() != 1 || h.GetVaultId() != v.Info().VaultID || h.GetVaultGeneration() == 0 || h.GetVersion() != "1.2.3" ||
		len(h.GetHave()) != 1 || h.GetHave()[0].GetKind() != "settings" || h.GetHave()[0].GetVersion() != 1 {
		t.Errorf("Hello is %v", d.hello)
	}
	s := c.link.State()
	if !s.Connected || s.LastError != "" || s.Refused != "" || !slices.Equal(s.Users, []string{"*"}) || s.HoldsKey {
		t.Errorf("the state is %+v", s)
	}
	a.set(func() {
		a.welcome = &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Welcome{Welcome: &authorityv1.Welcome{Users: []string{"maya", "ev\nil"}, HoldsOrganisationKey: true}}}
	})
	d.end()
	a.stream()
	c.until("the new welcome", func() bool {
		s := c.link.State()
		return s.Connected && s.HoldsKey && slices.Equal(s.Users, []string{"maya"})
	})
}

func TestTheLinkEndsWithoutATrace(t *testing.T) {
	c, a, _ := connected(t)
	c.stop()
	a.server.Stop()
	noGoroutines(t, "agent/link.", "grpc/internal/transport.", "grpc.(*")
	if c.link.State().Connected {
		t.Error("it says that it is connected")
	}
}

func TestLeavingEndsTheStream(t *testing.T) {
	c, _, d := connected(t)
	if err := c.link.Leave(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	receive(t, d.finished, "the end of the stream")
	c.until("forgotten", func() bool { s := c.link.State(); return !s.Connected && s.Users == nil })
}

func TestAnotherVaultIsAnotherComputer(t *testing.T) {
	c, a, d := connected(t)
	if err := c.store.Replace(vault.Init); err != nil {
		t.Fatal(err)
	}
	receive(t, d.finished, "the end of the stream")
	if c.authorityKept() != nil {
		t.Fatal("the new vault has the authority")
	}
	c.join(a) // and Run sees it
	a.stream()
}

// waits makes every wait end at once, and notes how long each would have been.
type waits struct {
	mu   sync.Mutex
	list []time.Duration
	full chan struct{}
}

func (w *waits) after(n int) func(time.Duration) <-chan time.Time {
	w.full = make(chan struct{})
	return func(d time.Duration) <-chan time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		if d == coalesce || d == saveEvery || d > 24*time.Hour || d == 12*time.Hour { // of others
			return nil
		}
		if len(w.list) == n {
			return nil // for ever
		}
		if w.list = append(w.list, d.Round(time.Second)); len(w.list) == n {
			close(w.full)
			return nil
		}
		c := make(chan time.Time, 1)
		c <- time.Time{}
		return c
	}
}

// TestAFlappingAuthorityIsNotHammered: it takes the stream and ends it, again and
// again. Many computers see that at once.
func TestAFlappingAuthorityIsNotHammered(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	var w waits
	c.link.after = w.after(12)
	c.run()
	go func() {
		for d := range a.streams {
			d.end()
		}
	}()
	receive(t, w.full, "the twelfth wait")
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300}
	for i, d := range w.list {
		if d != want[i]*time.Second {
			t.Fatalf("the windows are %v", w.list)
		}
	}
	c.stop()
	close(a.streams)
}

func TestTheWaitIsAnyTimeWithinTheWindow(t *testing.T) {
	low, high := 0, 0
	for range 1000 {
		d := jitter(time.Minute)
		if d < 0 || d >= time.Minute {
			t.Fatalf("%v", d)
		}
		if d < 15*time.Second {
			low++
		} else if d > 45*time.Second {
			high++
		}
	}
	if low < 150 || high < 150 {
		t.Errorf("%d below a quarter, %d above three", low, high)
	}
	if window(0) != time.Second || window(9) != 5*time.Minute || window(1000) != 5*time.Minute {
		t.Error("the windows are wrong")
	}
}

func TestAfterAStableConnectionTheWaitsAreShortAgain(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	var w waits
	c.link.after = w.after(5)
	c.run()
	for range 3 {
		a.stream().end() // flaps
	}
	d := a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	c.clock.advance(2 * stableAfter)
	d.goodbye("stopping", "an update")
	a.stream().end()
	receive(t, w.full, "the fifth wait")
	// 1, 2, 4 s; then a restart of the authority, which all computers notice at once.
	want := []time.Duration{1, 2, 4, 16, 32}
	for i, got := range w.list {
		if got != want[i]*time.Second {
			t.Fatalf("the windows are %v", w.list)
		}
	}
}

func TestGoodbyes(t *testing.T) {
	for _, c := range []struct {
		reason, says, refused string
		wait                  time.Duration
	}{
		{"revoked", "has revoked this computer (lost in a taxi); if it is to be used again, leave and join with a new token", "revoked", slowWindow},
		{"unknown", "does not know this computer (lost in a taxi): was it restored from a backup? Leave and join with a new token", "unknown", slowWindow},
		{"vault_rolled_back", "knows a later state of this computer's vault (lost in a taxi)", "vault_rolled_back", slowWindow},
		{"replaced", "was the computer cloned?", "replaced", time.Second},
	} {
		t.Run(c.reason, func(t *testing.T) {
			d := newComputer(t)
			a := newAuthority(t, d.clock)
			d.join(a)
			var w waits
			d.link.after = w.after(1)
			d.run()
			a.stream().goodbye(c.reason, "lost in a taxi")
			receive(t, w.full, "the wait")
			if w.list[0] != c.wait {
				t.Errorf("it waits %v, want %v", w.list[0], c.wait)
			}
			s := d.link.State()
			if s.Connected || s.Refused != c.refused || !strings.Contains(s.LastError, c.says) {
				t.Errorf("the state is %+v", s)
			}
			if e := d.event(event.AuthorityRefused, c.says); e.Reason != c.reason {
				t.Errorf("the event is %+v", e)
			}
		})
	}
}

// TestTheAuthorityWasRestoredFromABackup: it knows this computer no more, and status
// says so at once.
func TestTheAuthorityWasRestoredFromABackup(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.refuse = status.Error(codes.NotFound, "this device is not known by this key")
	var w waits
	c.link.after = w.after(1)
	c.run()
	receive(t, w.full, "the wait")
	if s := c.link.State(); s.Refused != "unknown" || !strings.Contains(s.LastError, "sallyport join") || w.list[0] != slowWindow {
		t.Errorf("the state is %+v, the wait %v", s, w.list)
	}
	if a.count(&a.renewals) != 0 {
		t.Error("it tried to renew its certificate")
	}
}

// TestTwoComputersWithOneCertificateFloodNoLog: a clone. Each replaces the other.
func TestTwoComputersWithOneCertificateFloodNoLog(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	var w waits
	c.link.after = w.after(30)
	c.run()
	go func() {
		for d := range a.streams {
			d.goodbye("replaced", "")
		}
	}()
	receive(t, w.full, "the thirtieth wait")
	if n := c.countEvents(event.AuthorityRefused); n != 1 {
		t.Errorf("%d events", n)
	}
	c.stop()
	close(a.streams)
}

func TestARevokedComputerIsToldSoAtTheDoor(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.refuse = status.Error(codes.PermissionDenied, "revoked by otto")
	var w waits
	c.link.after = w.after(1)
	c.run()
	receive(t, w.full, "the wait")
	c.event(event.AuthorityRefused, "has revoked this computer (revoked by otto)")
	if w.list[0] != slowWindow {
		t.Errorf("it tries again within %v", w.list[0])
	}
	t.Log("and a login does not wait for it")
	_, err := c.link.Send(t.Context(), "maya", c.challenge(), nil)
	var refused *loginsvc.PushRefused
	if !errors.As(err, &refused) || refused.Reason != loginsvc.PushOffline || !strings.Contains(refused.Text, "revoked") {
		t.Errorf("%v", err)
	}
	if a.count(&a.connects) != 1 {
		t.Error("it was tried again")
	}
}

// TestAMemberTrustsNoOtherCA: not the system's, whatever certificate it shows, and
// no other name.
func TestAMemberTrustsNoOtherCA(t *testing.T) {
	for name, c := range map[string]struct {
		cert func(a *authority) *tls.Certificate
		says string
	}{
		"a CA that the system trusts": {func(*authority) *tls.Certificate { return systemCA.server("127.0.0.1") }, "not of the CA"},
		"another CA of the same name": {func(a *authority) *tls.Certificate { return newCA(a.ca.cert.Subject.CommonName).server("127.0.0.1") }, "not of the CA"},
		"another name":                {func(a *authority) *tls.Certificate { return a.ca.server("authority.example.com") }, "not for the name 127.0.0.1"},
		"an expired certificate": {func(a *authority) *tls.Certificate {
			key := newKey()
			cert := a.ca.make(&x509.Certificate{NotBefore: epoch.AddDate(-1, 0, 0), NotAfter: epoch.AddDate(0, 0, -1), DNSNames: []string{"x"}}, key)
			return &tls.Certificate{Certificate: [][]byte{cert.Raw, a.ca.cert.Raw}, PrivateKey: key}
		}, "not valid at the time of this computer"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newComputer(t)
			a := newAuthority(t, d.clock)
			d.join(a)
			a.restart(func(t *tls.Config) { t.Certificates = []tls.Certificate{*c.cert(a)} })
			d.run()
			d.until("the error", func() bool { return strings.Contains(d.link.State().LastError, c.says) })
			if a.count(&a.connects) != 0 {
				t.Error("it spoke to that server")
			}
		})
	}
}

func TestTheSystemsRootsAreReallyThere(t *testing.T) {
	leaf, err := x509.ParseCertificate(systemCA.server("example.com").Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "example.com", CurrentTime: epoch}); err != nil {
		t.Fatalf("the system's roots do not have the CA that the other tests refuse: %v", err)
	}
}

func TestAnAuthorityThatDoesNotAnswerIsNamed(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.server.Stop()
	c.run()
	c.until("the error", func() bool {
		return strings.Contains(c.link.State().LastError, "the authority at "+a.addr+" does not answer: ") && strings.Contains(c.link.State().LastError, "refused")
	})
	t.Log("it comes back")
	a.listen(a.addr)
	c.link.waitFor(t, c)
	a.stream()
}

// waitFor asks for an attempt, as a login does, until there is a connection.
func (l *Link) waitFor(t *testing.T, c *computer) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := l.await(t.Context()); err == nil {
			return
		}
	}
	t.Fatalf("no connection; the state is %+v", l.State())
}

func (c *computer) notAfter() time.Time {
	c.t.Helper()
	own, err := certificate(c.authorityKept())
	if err != nil {
		c.t.Fatal(err)
	}
	return own.NotAfter
}

func TestACertificateIsRenewedAtHalfOfItsLife(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	kept := c.authorityKept()
	own, err := certificate(kept)
	if err != nil {
		t.Fatal(err)
	}
	at := renewAt(own)
	if half := own.NotBefore.Add(week / 2); at.Before(half) || at.After(half.Add(week/8)) {
		t.Fatalf("it is renewed at %v, its life is %v to %v", at, own.NotBefore, own.NotAfter)
	}
	t.Log("some minutes before, it is not")
	const early = 7 * time.Minute // nothing else waits so long
	c.clock.advance(at.Sub(c.clock.Now().Wall) - early)
	timer := make(chan time.Time)
	asked := make(chan time.Duration, 100)
	c.link.after = func(d time.Duration) <-chan time.Time {
		if d == early {
			asked <- d
			return timer
		}
		return time.After(d)
	}
	c.run()
	a.stream()
	receive(t, asked, "the wait until then")
	if a.count(&a.renewals) != 0 {
		t.Fatal("it was renewed")
	}
	t.Log("then it is, and the stream goes on")
	c.clock.advance(early)
	timer <- time.Time{}
	before := own.NotAfter
	c.eventually("the new certificate", func() bool { return c.notAfter().After(before) })
	if !c.notAfter().After(before) || a.count(&a.renewals) != 1 || a.count(&a.connects) != 1 {
		t.Errorf("ends %v, %d renewals, %d streams", c.notAfter(), a.renewals, a.connects)
	}
	if k := c.authorityKept(); string(k.Key) != string(kept.Key) || k.DeviceID != deviceID {
		t.Error("more than the certificate was changed")
	}
}

func TestAnExpiredCertificateIsRenewedLate(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	c.clock.advance(week + 179*24*time.Hour)

	c.run()
	a.stream()
	if a.count(&a.renewals) != 1 || c.notAfter().Before(c.clock.Now().Wall) {
		t.Errorf("%d renewals; it ends %v", a.renewals, c.notAfter())
	}
}

func TestACertificateThatIsTooOldNeedsAnotherToken(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	c.clock.advance(week + 181*24*time.Hour)
	var w waits
	c.link.after = w.after(1)
	c.run()
	receive(t, w.full, "the wait")
	c.event(event.AuthorityRefused, "cannot be renewed any more")
	if s := c.link.State(); !strings.Contains(s.LastError, "sallyport join") || w.list[0] != slowWindow {
		t.Errorf("the state is %+v, the wait %v", s, w.list)
	}
	if a.count(&a.renewals)+a.count(&a.connects) != 0 {
		t.Error("the authority was asked")
	}
}

// TestByTheAuthoritysClockTheCertificateHasEnded: this computer's is behind.
func TestByTheAuthoritysClockTheCertificateHasEnded(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	before := c.notAfter()
	a.refuse = status.Error(codes.Unauthenticated, "the certificate has expired")
	a.renew = func(r *authorityv1.RenewRequest) (*authorityv1.RenewResponse, error) {
		a.refuse = nil
		return &authorityv1.RenewResponse{Chain: a.ca.device(r.GetCsr(), deviceID, a.clock.Now().Wall, week)}, nil
	}
	c.run()
	a.stream()
	if !c.notAfter().After(before) {
		t.Error("it was not renewed")
	}
}

func TestARenewalThatIsRefused(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.renew = func(*authorityv1.RenewRequest) (*authorityv1.RenewResponse, error) {
		return nil, status.Error(codes.Unauthenticated, "the certificate ended too long ago")
	}
	c.clock.advance(2 * week)
	var w waits
	c.link.after = w.after(1)
	c.run()
	receive(t, w.full, "the wait")
	c.event(event.AuthorityRefused, "does not take this computer's certificate any more (the certificate ended too long ago); leave and join again")
	if a.count(&a.connects) != 0 {
		t.Error("the stream was tried with an expired certificate")
	}
}

// TestARenewedCertificateIsChecked: the authority's database, restored or hostile,
// must not swap this computer's identity.
func TestARenewedCertificateIsChecked(t *testing.T) {
	for name, chain := range map[string]func(a *authority, csr []byte) [][]byte{
		"another device's": func(a *authority, csr []byte) [][]byte {
			return a.ca.device(csr, strings.Repeat("Z", 26), a.clock.Now().Wall.Add(-time.Hour), week)
		},
		"another CA's": func(a *authority, csr []byte) [][]byte {
			return newCA("another").device(csr, deviceID, a.clock.Now().Wall.Add(-time.Hour), week)
		},
		"expired": func(a *authority, csr []byte) [][]byte { return a.ca.device(csr, deviceID, epoch.Add(-week), week) },
		"none":    func(*authority, []byte) [][]byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := newComputer(t)
			a := newAuthority(t, c.clock)
			c.join(a)
			before := c.notAfter()
			a.renew = func(r *authorityv1.RenewRequest) (*authorityv1.RenewResponse, error) {
				return &authorityv1.RenewResponse{Chain: chain(a, r.GetCsr())}, nil
			}
			c.clock.advance(2 * week)
			c.run()
			c.until("the error", func() bool {
				s := c.link.State().LastError
				return strings.Contains(s, "renewed certificate is not taken")
			})
			if !c.notAfter().Equal(before) {
				t.Error("it was kept")
			}
		})
	}
}

// TestWhatIsSignedStaysWhenTheCertificateIsRenewed: one transaction each.
func TestWhatIsSignedStaysWhenTheCertificateIsRenewed(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	c.clock.advance(week - time.Hour) // late, and still valid
	before := c.notAfter()
	c.run()
	a.stream()
	c.eventually("the new certificate", func() bool { return c.notAfter().After(before) })
	if c.signed(organisation.KindSettings, "").Version != 1 {
		t.Errorf("%d renewals", a.renewals)
	}
}
