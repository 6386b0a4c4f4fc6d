package link

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/offline"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	maxName   = 64
	maxSerial = 128
	idLength  = 26
	// deviceURI is before the device's id in its certificate.
	deviceURI = "sallyport://device/"
)

// errMember: a computer has one authority.
func errMember(a *store.Authority) error {
	return fmt.Errorf("this computer has joined %s already; leave that first: sallyport leave", a.URL)
}

// Join makes this computer a device of the authority at address: it proves by
// the token's hashes that it is the right one, buys a certificate for a key made
// here, and keeps all of it in one transaction. by is who asked for it, name what
// the computer will be called ("": its host name).
func (l *Link) Join(ctx context.Context, by, address, token, name string) error {
	l.membership.Lock()
	defer l.membership.Unlock()
	p, err := parseURL(address)
	if err != nil {
		return err
	}
	t, err := organisation.ParseToken(token)
	if err != nil {
		return err
	}
	if name, err = computerName(name); err != nil {
		return err
	}
	if a, _, err := l.joined(); err != nil {
		return err
	} else if a != nil {
		return errMember(a)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	sealing, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	a := &store.Authority{URL: "https://" + p.String(), DeviceName: name, SealingKey: sealing.Bytes(), BypassKey: offline.NewKey()}
	if a.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return err
	}
	settings, err := l.register(ctx, p, t, a, key, sealing.PublicKey().Bytes())
	if err != nil {
		return err
	}
	e := event.Event{Name: event.AuthorityJoined, By: by, Text: fmt.Sprintf("%s (%s) as the device %s, %s", a.URL, settings.Settings.Name, a.DeviceID, name)}
	v, err := l.o.Store.Vault()
	if err != nil {
		return spent(err)
	}
	err = v.Update(ctx, func(tx *vault.Tx) error {
		if err := store.PutInvitation(tx, nil); err != nil {
			return err
		}
		if old, err := store.JoinedTo(tx); err != nil {
			return err
		} else if old != nil {
			return errMember(old)
		}
		// What happened before is not the authority's.
		a.EventsVault, a.EventsSent, a.Joined = v.Info().VaultID, tx.LastSeq(), tx.Now().Wall
		tx.Append(e)
		if err := store.PutSigned(tx, organisation.KindSettings, "", settings); err != nil {
			return err
		}
		if err := store.PutContact(tx, offline.Contact{}.New(tx.Now())); err != nil {
			return err
		}
		return store.PutAuthority(tx, a)
	})
	if err != nil {
		return spent(err)
	}
	l.o.Store.Log(e)
	l.mu.Lock()
	l.alone = false // whoever asks from now on waits for the connection
	l.state.Joining = ""
	poke(l.changed)
	l.mu.Unlock()
	return nil
}

// unreached is why a token is not used up: the authority did not decide about it.
type unreached struct{ error }

func (e unreached) Unwrap() error { return e.error }

// JoinLater is Join. When the authority cannot be reached it keeps the token, sealed,
// and joins as soon as it can; now says whether it has joined already.
func (l *Link) JoinLater(ctx context.Context, by, address, token, name string) (now bool, err error) {
	err = l.Join(ctx, by, address, token, name)
	if !errors.As(err, new(unreached)) {
		return err == nil, err
	}
	i := &store.Invitation{URL: address, Token: token, Name: name, By: by}
	if err := l.o.Store.Update(context.WithoutCancel(ctx), func(tx *vault.Tx) error { return store.PutInvitation(tx, i) }); err != nil {
		return false, err
	}
	poke(l.changed)
	return false, nil
}

// follow tries the invitation that waits, if there is one, and says whether to try
// again. What the authority has refused is forgotten.
func (l *Link) follow(ctx context.Context) bool {
	var i *store.Invitation
	if err := l.o.Store.View(func(tx *vault.Tx) (err error) { i, err = store.Invited(tx); return err }); err != nil || i == nil {
		return false
	}
	l.joining(i.URL, l.unjoined)
	err := l.Join(ctx, i.By, i.URL, i.Token, i.Name)
	switch {
	case err == nil:
		l.unjoined = ""
		return false
	case ctx.Err() != nil || errors.As(err, new(unreached)):
		if why := err.Error(); why != l.unjoined {
			l.unjoined = why
			l.o.Log.Warn("the authority cannot be joined yet", "url", i.URL, "reason", why)
		}
		l.joining(i.URL, l.unjoined)
		return true
	}
	e := event.Event{Name: event.AuthorityRefused, Text: "this computer could not join " + i.URL + ": " + err.Error()}
	if err := l.o.Store.Update(ctx, func(tx *vault.Tx) error {
		tx.Append(e)
		return store.PutInvitation(tx, nil)
	}); err != nil {
		return true
	}
	l.o.Store.Log(e)
	l.unjoined = ""
	l.joining("", "")
	return false
}

// joining makes known what is to be joined, and why it is not yet.
func (l *Link) joining(url, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Joining, l.state.LastError = url, why
}

func spent(err error) error {
	return fmt.Errorf("the authority took this computer, but it could not be kept: %w; the token is used up, make another", err)
}

// register buys the certificate, and checks everything that comes back.
func (l *Link) register(ctx context.Context, p place, t organisation.Token, a *store.Authority, key *ecdsa.PrivateKey, sealing []byte) (store.Item, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return store.Item{}, err
	}
	cas := make(chan *x509.Certificate, 1)
	w, err := l.dial(p, l.strangerTLS(t.CA, p, func(ca *x509.Certificate) {
		select {
		case cas <- ca:
		default:
		}
	}))
	if err != nil {
		return store.Item{}, unreached{err}
	}
	defer w.Close()
	r, err := authorityv1.NewAuthorityServiceClient(w).Register(ctx, &authorityv1.RegisterRequest{Token: t.Secret[:], Csr: csr, Name: a.DeviceName,
		Serial: truncate(l.o.Serial, maxSerial), SealingKey: sealing, Version: l.o.Version, Platform: l.o.Platform, BypassKey: a.BypassKey})
	if status.Code(err) == codes.Unauthenticated {
		return store.Item{}, fmt.Errorf("the authority does not take the token: %s", clean(status.Convert(err).Message(), maxText))
	} else if err != nil {
		return store.Item{}, unreached{w.explain(err)}
	}
	ca := <-cas // there was an answer, so there was a handshake
	odd := func(err error) error {
		return fmt.Errorf("what the authority at %s answered is not right, and nothing of it was kept: %w; the token is used up, make another", p, err)
	}
	a.CA, a.DeviceID, a.Organisation = ca.Raw, r.GetDeviceId(), r.GetOrganisationKey()
	if sha256.Sum256(a.Organisation) != t.Organisation || len(a.Organisation) != ed25519.PublicKeySize {
		return store.Item{}, odd(errors.New("the organisation key is not the one that the token names"))
	}
	if a.Chain, err = l.checkChain(r.GetChain(), ca, key, a.DeviceID); err != nil {
		return store.Item{}, odd(err)
	}
	e, err := organisation.Open(a.Organisation, a.DeviceID, r.GetSettings())
	if err != nil {
		return store.Item{}, odd(fmt.Errorf("the settings: %w", err))
	}
	if e.Kind != organisation.KindSettings || e.User != "" {
		return store.Item{}, odd(fmt.Errorf("in the place of the settings something else is signed: %q", clean(string(e.Kind), 32)))
	}
	s, err := parseSettings(e.Payload)
	if err != nil {
		return store.Item{}, odd(fmt.Errorf("the settings: %w", err))
	}
	digest := sha256.Sum256(r.GetSettings())
	return store.Item{Version: e.Version, Settings: s, Digest: digest[:]}, nil
}

// checkChain checks a certificate that was made for this computer and returns
// what to keep: it and the CA.
func (l *Link) checkChain(chain [][]byte, ca *x509.Certificate, key *ecdsa.PrivateKey, device string) ([][]byte, error) {
	if len(chain) == 0 || len(device) != idLength || strings.Trim(strings.ToUpper(device), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return nil, errors.New("there is no certificate, or no device id")
	}
	own, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := own.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: l.wall(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	if public, ok := own.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(&key.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	if len(own.URIs) != 1 || own.URIs[0].String() != deviceURI+device {
		return nil, errors.New("the certificate is for another device")
	}
	return [][]byte{own.Raw, ca.Raw}, nil
}

// computerName is what this computer will be called.
func computerName(name string) (string, error) {
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("this computer has no name of its own (%w): give one with --name", err)
		}
		return cmp.Or(truncate(strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return '-'
			}
			return r
		}, host), maxName), "computer"), nil
	}
	if len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("a computer's name has at most %d printable ASCII characters", maxName)
	}
	return name, nil
}

func truncate(s string, n int) string { return s[:min(len(s), n)] }

// Leave forgets the authority and everything that it brought but the secrets,
// without which people would not be asked any more. by is who asked for it.
func (l *Link) Leave(ctx context.Context, by string) error {
	l.membership.Lock()
	defer l.membership.Unlock()
	e := event.Event{Name: event.AuthorityLeft, By: by}
	err := l.o.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.JoinedTo(tx)
		if err != nil {
			return err
		}
		if a == nil {
			return errNotJoined
		}
		e.Text = fmt.Sprintf("%s, where it was the device %s", a.URL, a.DeviceID)
		tx.Append(e)
		return store.ForgetAuthority(tx)
	})
	if err != nil {
		return err
	}
	l.o.Store.Log(e)
	l.mu.Lock()
	s := l.current
	l.current, l.live = nil, nil
	l.mu.Unlock()
	if s != nil {
		s.end(errLeft)
	}
	l.mu.Lock()
	l.forget()
	l.mu.Unlock()
	poke(l.changed)
	return nil
}

// renewLate is how long after its end a certificate can still be renewed.
const renewLate = 180 * 24 * time.Hour

// renewAt is when a certificate is to be renewed: at half of its life and up to
// an eighth later, each computer at its own moment.
func renewAt(c *x509.Certificate) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	sum := sha256.Sum256(c.Raw)
	part := time.Duration(sum[0])<<8 | time.Duration(sum[1]) // of 65536
	return c.NotBefore.Add(life/2 + life/8/65536*part)
}

// renew gets a new certificate for the key that there is: were it for another,
// an answer that is lost would leave neither good.
func (s *session) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	parsed, err := x509.ParsePKCS8PrivateKey(s.a.Key)
	if err != nil {
		return err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("this computer's key as it is kept is of another kind")
	}
	ca, err := x509.ParseCertificate(s.a.CA)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	r, err := s.client.Renew(ctx, &authorityv1.RenewRequest{Csr: csr})
	if err != nil {
		return err
	}
	chain, err := s.l.checkChain(r.GetChain(), ca, key, s.a.DeviceID)
	if err != nil {
		return fmt.Errorf("the renewed certificate is not taken: %w", err)
	}
	return s.l.o.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.JoinedTo(tx)
		if err != nil {
			return err
		}
		if a == nil || a.DeviceID != s.a.DeviceID {
			return errLeft
		}
		a.Chain = chain
		return store.PutAuthority(tx, a)
	})
}
