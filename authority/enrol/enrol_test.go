package enrol_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
)

var settings = organisation.Settings{Name: "Example & Sons", RPID: "approve.example.com", Origin: "https://approve.example.com", API: "https://approve.example.com"}

var rp = push.RelyingParty{ID: settings.RPID, Origin: settings.Origin}

// world is an authority without a network.
type world struct {
	*testing.T
	*enrol.Service
	store store.Store
	keys  *enrol.Keys
	time  time.Time
	seen  map[string][]uint64 // versions; see nth
}

func makeKeys(t testing.TB) (dir string, k *enrol.Keys) {
	t.Helper()
	dir = t.TempDir()
	if err := enrol.CreateKeys(dir); err != nil {
		t.Fatal(err)
	}
	k, err := enrol.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, k
}

func newWorld(t *testing.T, s store.Store, k *enrol.Keys) *world {
	w := &world{T: t, store: s, keys: k, time: time.Now().Round(time.Second), seen: map[string][]uint64{}}
	w.Service = enrol.New(enrol.Options{Store: s, Keys: k, Settings: settings, Now: func() time.Time { return w.time }})
	if _, err := w.EnsureSettings(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// each runs a test on each kind of database, with the organisation key here.
func each(t *testing.T, test func(w *world)) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		_, k := makeKeys(t)
		test(newWorld(t, open("a"), k))
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) refused(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("got %v, want %v", err, want)
	}
}

func (w *world) view(fn func(tx store.Tx) error) {
	w.Helper()
	w.must(w.store.View(w.Context(), fn))
}

// events are the names of the authority's events so far.
func (w *world) events() (names []string) {
	w.Helper()
	w.view(func(tx store.Tx) error {
		list, _, err := tx.Events(0, "", "", 1000)
		for _, e := range list {
			names = append(names, e.Name)
		}
		return err
	})
	return names
}

func (w *world) happened(name string, times int) {
	w.Helper()
	n := 0
	for _, e := range w.events() {
		if e == name {
			n++
		}
	}
	if n != times {
		w.Errorf("%d events %s, want %d, among %v", n, name, times, w.events())
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csr(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// device is one that has joined.
type device struct {
	id      string
	key     *ecdsa.PrivateKey
	sealing *ecdh.PrivateKey
	chain   [][]byte
}

func (w *world) join(users ...string) *device {
	w.Helper()
	token, _, err := w.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: users})
	w.must(err)
	d, r := w.newcomer(token)
	j, err := w.Register(w.Context(), r)
	w.must(err)
	d.id, d.chain = j.Device, j.Chain
	return d
}

// newcomer is a computer that comes with a token.
func (w *world) newcomer(token organisation.Token) (*device, enrol.JoinRequest) {
	w.Helper()
	sealing, err := ecdh.X25519().GenerateKey(rand.Reader)
	w.must(err)
	d := &device{key: newKey(w), sealing: sealing}
	return d, enrol.JoinRequest{Token: token.Secret[:], CSR: csr(w, d.key), Name: "laptop", Serial: "S1", SealingKey: sealing.PublicKey().Bytes(),
		Version: "1.0", Platform: "linux/amd64", Remote: "192.0.2.1"}
}

func (w *world) identity(chain [][]byte) enrol.Identity {
	w.Helper()
	c, err := x509.ParseCertificate(chain[0])
	w.must(err)
	i, err := w.keys.Identify(c, w.time)
	w.must(err)
	return i
}

func TestKeysAreMadeOnceAndReadableByNobodyElse(t *testing.T) {
	dir, k := makeKeys(t)
	if !k.HoldsOrganisationKey() {
		t.Error("the organisation key is not held")
	}
	before := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Error(e.Name(), info.Mode(), err)
		}
		before[e.Name()], _ = os.ReadFile(filepath.Join(dir, e.Name()))
	}
	// Any one of the four in the way is enough.
	for name := range before {
		one := t.TempDir()
		if err := os.WriteFile(filepath.Join(one, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := enrol.CreateKeys(one); err == nil {
			t.Errorf("made keys over %s", name)
		}
		if left, _ := os.ReadDir(one); len(left) != 1 {
			t.Errorf("left %v beside %s", left, name)
		}
	}
	if err := enrol.CreateKeys(dir); err == nil {
		t.Error("made keys over keys")
	}
	for name, b := range before {
		if now, _ := os.ReadFile(filepath.Join(dir, name)); !bytes.Equal(now, b) {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestTheOrganisationKeyMayLieElsewhere(t *testing.T) {
	dir, with := makeKeys(t)
	if err := os.Remove(filepath.Join(dir, "organisation.key")); err != nil {
		t.Fatal(err)
	}
	k, err := enrol.LoadKeys(dir)
	if err != nil || k.HoldsOrganisationKey() || !k.Organisation.Equal(with.Organisation) {
		t.Fatal(k, err)
	}
	if err := os.Remove(filepath.Join(dir, "organisation.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := enrol.LoadKeys(dir); err == nil {
		t.Error("took a directory without an organisation key of any kind")
	}
}

func TestKeysThatDoNotFitAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(dir, other string) error{
		"another CA's key":         func(dir, other string) error { return move(other, dir, "ca.key") },
		"another organisation key": func(dir, other string) error { return move(other, dir, "organisation.key") },
		"a key others can read":    func(dir, _ string) error { return os.Chmod(filepath.Join(dir, "ca.key"), 0o640) },
		"an organisation key others can read": func(dir, _ string) error {
			return os.Chmod(filepath.Join(dir, "organisation.key"), 0o604)
		},
		"an empty certificate": func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0o600) },
		"no CA key":            func(dir, _ string) error { return os.Remove(filepath.Join(dir, "ca.key")) },
	} {
		dir, _ := makeKeys(t)
		other, _ := makeKeys(t)
		if err := spoil(dir, other); err != nil {
			t.Fatal(err)
		}
		if _, err := enrol.LoadKeys(dir); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func move(from, to, name string) error {
	return os.Rename(filepath.Join(from, name), filepath.Join(to, name))
}

func TestTheCANamesDevicesAndServersOnly(t *testing.T) {
	each(t, func(w *world) {
		pool := x509.NewCertPool()
		pool.AddCert(w.keys.CA)
		get := w.keys.ServerCertificate([]string{"authority.example.com", "127.0.0.1"}, func() time.Time { return w.time })
		server, err := get(nil)
		w.must(err)
		for _, host := range []string{"authority.example.com", "127.0.0.1"} {
			if _, err := server.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, CurrentTime: w.time}); err != nil {
				w.Error(err)
			}
		}
		if _, err := w.keys.Identify(server.Leaf, w.time); err == nil {
			w.Error("the server's certificate passes for a device's")
		}
		d := w.join(enrol.Everyone)
		leaf, err := x509.ParseCertificate(d.chain[0])
		w.must(err)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: w.time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			w.Error(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: w.time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
			w.Error("a device's certificate passes for a server's")
		}
		if i := w.identity(d.chain); i.Device != d.id || i.Expired(w.time) || !i.Expired(w.time.Add(enrol.DeviceLife)) {
			w.Errorf("%+v", i)
		}
		// Renewed in memory at half of its life, with another key.
		w.time = w.time.Add(3 * 24 * time.Hour)
		if again, _ := get(nil); again != server {
			w.Error("renewed too early")
		}
		w.time = w.time.Add(24 * time.Hour)
		if again, err := get(nil); err != nil || again == server || again.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(server.Leaf.PublicKey) {
			w.Error("not renewed", err)
		}
		// The hash of a token is the CA's.
		token, _, err := w.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: []string{enrol.Everyone}})
		w.must(err)
		if token.CA != sha256.Sum256(d.chain[1]) || token.Organisation != sha256.Sum256(w.keys.Organisation) {
			w.Error("the token names other keys")
		}
	})
}

func TestACertificateOfAnotherCA(t *testing.T) {
	each(t, func(w *world) {
		_, other := makeKeys(t)
		c, err := x509.ParseCertificate(w.join(enrol.Everyone).chain[0])
		w.must(err)
		if _, err := other.Identify(c, w.time); err == nil {
			w.Error("taken by another CA")
		}
		// Signed by nobody, with the right name and the right issuer's name.
		own := newKey(w)
		self, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{RawSubject: w.keys.CA.RawSubject, SubjectKeyId: w.keys.CA.SubjectKeyId}, own.Public(), own)
		w.must(err)
		f, err := x509.ParseCertificate(self)
		w.must(err)
		if _, err := w.keys.Identify(f, w.time); err == nil {
			w.Error("a self-signed certificate is taken")
		}
	})
}

// TestStrangersDoNotFillTheDatabase, from however many addresses; and what is known
// of a token is told all the same.
func TestStrangersDoNotFillTheDatabase(t *testing.T) {
	each(t, func(w *world) {
		stranger := func() {
			w.Helper()
			_, r := w.newcomer(organisation.Token{})
			_, err := w.Register(w.Context(), r)
			w.refused(err, enrol.ErrToken)
		}
		for range 130 {
			stranger()
		}
		w.happened("token_refused", 100)
		token, _, err := w.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: []string{enrol.Everyone}, Serial: "S1"})
		w.must(err)
		_, thief := w.newcomer(token)
		thief.Serial = "S2"
		_, err = w.Register(w.Context(), thief)
		w.refused(err, enrol.ErrToken)
		w.happened("token_refused", 101)
		w.time = w.time.Add(time.Minute)
		stranger()
		w.happened("token_refused", 102)
		var last string
		w.must(w.store.View(w.Context(), func(tx store.Tx) error {
			list, _, err := tx.Events(0, "", "", 1000)
			last = string(list[len(list)-1].JSON)
			return err
		}))
		if !strings.Contains(last, "and 30 others before it") {
			t.Errorf("%s", last)
		}
	})
}

func TestStolenEnrolmentToken(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		token, _, err := w.CreateToken(ctx, "root", enrol.TokenRequest{Users: []string{enrol.Everyone}, Serial: "S1"})
		w.must(err)
		w.happened("token_created", 1)

		_, thief := w.newcomer(token)
		thief.Serial = "S2"
		_, err = w.Register(ctx, thief)
		w.refused(err, enrol.ErrToken)
		w.happened("token_refused", 1)

		// That did not use it up.
		_, owner := w.newcomer(token)
		if _, err := w.Register(ctx, owner); err != nil {
			w.Fatal(err)
		}
		w.happened("device_joined", 1)

		// Reuse, also by the very same computer.
		for _, r := range []enrol.JoinRequest{thief, owner} {
			_, err = w.Register(ctx, r)
			w.refused(err, enrol.ErrToken)
		}
		w.happened("token_refused", 3)
		w.happened("device_joined", 1)

		// One that has expired, and one that never was.
		late, _, err := w.CreateToken(ctx, "root", enrol.TokenRequest{Users: []string{enrol.Everyone}})
		w.must(err)
		w.time = w.time.Add(24 * time.Hour)
		_, r := w.newcomer(late)
		_, err = w.Register(ctx, r)
		w.refused(err, enrol.ErrToken)
		_, r = w.newcomer(organisation.Token{})
		_, err = w.Register(ctx, r)
		w.refused(err, enrol.ErrToken)
		w.happened("token_refused", 5)
		w.view(func(tx store.Tx) error {
			list, err := tx.Devices("")
			if len(list) != 1 {
				w.Errorf("%d devices", len(list))
			}
			return err
		})
	})
}

func TestOfManyWithOneTokenOneJoins(t *testing.T) {
	each(t, func(w *world) {
		token, _, err := w.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: []string{enrol.Everyone}})
		w.must(err)
		const many = 8
		results := make(chan error, many)
		for range many {
			_, r := w.newcomer(token)
			go func() {
				_, err := w.Register(w.Context(), r)
				results <- err
			}()
		}
		joined := 0
		for range many {
			switch err := <-results; {
			case err == nil:
				joined++
			case !errors.Is(err, enrol.ErrToken):
				w.Error(err)
			}
		}
		if joined != 1 {
			w.Errorf("%d joined", joined)
		}
	})
}

func TestMalformedJoinsAreRefusedAndBurnNoToken(t *testing.T) {
	each(t, func(w *world) {
		token, _, err := w.CreateToken(w.Context(), "root", enrol.TokenRequest{Users: []string{enrol.Everyone}})
		w.must(err)
		_, good := w.newcomer(token)
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		w.must(err)
		rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
		w.must(err)
		_, edKey, err := ed25519.GenerateKey(rand.Reader)
		w.must(err)
		flipped := bytes.Clone(good.CSR)
		flipped[len(flipped)-1] ^= 1
		for name, spoil := range map[string]func(r *enrol.JoinRequest){
			"no token":           func(r *enrol.JoinRequest) { r.Token = nil },
			"long token":         func(r *enrol.JoinRequest) { r.Token = make([]byte, 21) },
			"no CSR":             func(r *enrol.JoinRequest) { r.CSR = nil },
			"huge CSR":           func(r *enrol.JoinRequest) { r.CSR = make([]byte, enrol.MaxCSR+1) },
			"CSR with a tail":    func(r *enrol.JoinRequest) { r.CSR = append(bytes.Clone(r.CSR), 0) },
			"CSR of another key": func(r *enrol.JoinRequest) { r.CSR = flipped },
			"P-384":              func(r *enrol.JoinRequest) { r.CSR = csr(w, p384) },
			"RSA":                func(r *enrol.JoinRequest) { r.CSR = csr(w, rsaKey) },
			"Ed25519":            func(r *enrol.JoinRequest) { r.CSR = csr(w, edKey) },
			"no name":            func(r *enrol.JoinRequest) { r.Name = "" },
			"NUL in the name":    func(r *enrol.JoinRequest) { r.Name = "a\x00b" },
			"newline in it":      func(r *enrol.JoinRequest) { r.Name = "a\nb" },
			"no UTF-8":           func(r *enrol.JoinRequest) { r.Name = "a\xff" },
			"long name":          func(r *enrol.JoinRequest) { r.Name = strings.Repeat("a", 65) },
			"long serial":        func(r *enrol.JoinRequest) { r.Serial = strings.Repeat("a", 129) },
			"short sealing key":  func(r *enrol.JoinRequest) { r.SealingKey = make([]byte, 31) },
			"long version":       func(r *enrol.JoinRequest) { r.Version = strings.Repeat("1", 65) },
		} {
			r := good
			spoil(&r)
			if _, err := w.Register(w.Context(), r); !errors.Is(err, enrol.ErrInvalid) {
				w.Errorf("%s: %v", name, err)
			}
		}
		if _, err := w.Register(w.Context(), good); err != nil {
			w.Error(err)
		}
	})
}

func TestRenewing(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		d := w.join(enrol.Everyone)
		old := w.identity(d.chain)
		w.time = w.time.Add(enrol.DeviceLife / 2)
		// With the same key.
		chain, err := w.Renew(ctx, d.id, csr(w, d.key))
		w.must(err)
		if i := w.identity(chain); i.Device != d.id || !i.Expires.After(old.Expires) {
			w.Errorf("%+v", i)
		}
		// With a new key, and the answer was lost: the old one still counts, and so
		// does the second try.
		lost, err := w.Renew(ctx, d.id, csr(w, newKey(w)))
		w.must(err)
		_, err = w.Check(ctx, old)
		w.must(err)
		next, err := w.Renew(ctx, d.id, csr(w, newKey(w)))
		w.must(err)
		_, err = w.Check(ctx, w.identity(lost))
		w.refused(err, enrol.ErrKey)
		// Its first use ends the old one.
		_, err = w.Check(ctx, w.identity(next))
		w.must(err)
		_, err = w.Check(ctx, w.identity(next))
		w.must(err)
		_, err = w.Check(ctx, old)
		w.refused(err, enrol.ErrKey)
		_, err = w.Check(ctx, w.identity(chain))
		w.refused(err, enrol.ErrKey)

		w.must(w.RevokeDevice(ctx, "root", d.id, "stolen"))
		w.must(w.RevokeDevice(ctx, "root", d.id, "again"))
		w.happened("device_revoked", 1)
		_, err = w.Check(ctx, w.identity(next))
		w.refused(err, enrol.ErrRevoked)
		_, err = w.Renew(ctx, d.id, csr(w, d.key))
		w.refused(err, enrol.ErrRevoked)
		_, err = w.Check(ctx, enrol.Identity{Device: strings.Repeat("A", 26), KeyHash: next[0]})
		w.refused(err, enrol.ErrKey)
	})
}

func TestUsersAndDevices(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		_, _, err := w.CreateToken(ctx, "root", enrol.TokenRequest{Users: []string{"maya"}})
		w.refused(err, store.ErrNotFound)
		w.must(w.AddUser(ctx, "root", "maya"))
		w.refused(w.AddUser(ctx, "root", "maya"), store.ErrExists)
		for _, name := range []string{"", " maya", "a,b", "*", "a\x00", "a\nb", "\xff", strings.Repeat("a", 321)} {
			w.refused(w.AddUser(ctx, "root", name), enrol.ErrInvalid)
		}
		w.must(w.AddUser(ctx, "root", "jo do@EXAMPLE"))
		d := w.join("maya")
		allowed := func(want ...string) {
			w.Helper()
			w.view(func(tx store.Tx) error {
				d, err := tx.Device(d.id)
				if !slices.Equal(d.Users, want) {
					w.Errorf("allowed: %q, want %q", d.Users, want)
				}
				return err
			})
		}
		allowed("maya")
		w.refused(w.AllowUser(ctx, "root", d.id, "nobody"), store.ErrNotFound)
		w.must(w.AllowUser(ctx, "root", d.id, "jo do@EXAMPLE"))
		w.must(w.AllowUser(ctx, "root", d.id, "jo do@EXAMPLE"))
		w.happened("user_allowed", 1)
		allowed("maya", "jo do@EXAMPLE")
		w.must(w.DisallowUser(ctx, "root", d.id, "maya"))
		w.refused(w.DisallowUser(ctx, "root", d.id, "maya"), enrol.ErrInvalid)
		allowed("jo do@EXAMPLE")
		_, err = w.RemoveUser(ctx, "root", "jo do@EXAMPLE")
		w.must(err)
		allowed()
		if enrol.Allowed(store.Device{}, "maya") || enrol.Allowed(store.Device{Users: []string{"*", "jo"}}, "maya") {
			w.Error("allowed by a list that does not say so")
		}
	})
}

// enrolPhone goes all the way of an enrolment of the authority's own.
func (w *world) enrolPhone(user, phone string) (key *passkey.Key, e store.Enrolment) {
	w.Helper()
	w.time = w.time.Add(time.Second)
	i, err := w.BeginEnrolment(w.Context(), "root", user, 0)
	w.must(err)
	key = passkey.New(rp)
	w.post(i, user, key.Registration(phone), nil)
	w.must(w.CompleteEnrolment(w.Context(), i.ID))
	w.must(w.CompleteEnrolment(w.Context(), i.ID)) // twice is harmless
	return key, w.enrolment(i.ID)
}

func (w *world) enrolment(id string) (e store.Enrolment) {
	w.Helper()
	w.view(func(tx store.Tx) (err error) {
		e, err = tx.Enrolment(id)
		return err
	})
	return e
}

// post is what the page does with an invitation.
func (w *world) post(i *enrol.Invitation, user string, r push.Registration, spoil func(mac []byte)) {
	w.Helper()
	u, err := url.Parse(i.URL)
	w.must(err)
	q, err := url.ParseQuery(u.EscapedFragment())
	w.must(err)
	secret, err := base64.RawURLEncoding.DecodeString(q.Get("s"))
	w.must(err)
	if q.Get("e") != i.ID || q.Get("u") != user || q.Get("n") != settings.Name || q.Get("d") != "" || len(secret) != 32 || u.Host != settings.RPID {
		w.Fatalf("the invitation is %s", i.URL)
	}
	mac := push.EnrolmentMAC(secret, i.ID, "", user, r)
	if spoil != nil {
		spoil(mac)
	}
	session := sha256.Sum256([]byte("session of " + i.ID))
	w.must(w.store.Update(w.Context(), func(tx store.Tx) error { return tx.PostKey(i.ID, r, mac, session[:], w.time) }))
}

// manifest is what a device makes of the signed phones of a user.
func (w *world) manifest(user string) (version uint64, phones []string) {
	w.Helper()
	w.view(func(tx store.Tx) error {
		i, err := tx.Item(organisation.KindApprovers, "", user)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		e, err := organisation.Open(w.keys.Organisation, "any", i.Envelope)
		if err != nil {
			return err
		}
		if e.User != user || e.Version != i.Version {
			w.Errorf("%+v", e)
		}
		version = e.Version
		var m organisation.Manifest
		if err := json.Unmarshal(e.Payload, &m); err != nil {
			return err
		}
		for _, a := range m.Approvers {
			phones = append(phones, a.Phone)
		}
		return nil
	})
	return version, phones
}

// nth says which version this is of those seen of one thing: 1 for the first, 0 for
// none. They only rise.
func (w *world) nth(of string, version uint64) uint64 {
	w.Helper()
	seen := w.seen[of]
	switch {
	case version == 0:
		return 0
	case len(seen) == 0 || version > seen[len(seen)-1]:
		seen = append(seen, version)
		w.seen[of] = seen
	case version < seen[len(seen)-1]:
		w.Errorf("%s went back from version %d to %d", of, seen[len(seen)-1], version)
	}
	return uint64(len(seen))
}

func (w *world) manifestIs(user string, nth uint64, phones ...string) {
	w.Helper()
	v, p := w.manifest(user)
	if v = w.nth("the manifest of "+user, v); v != nth || !slices.Equal(p, phones) {
		w.Errorf("the manifest of %s is the version no. %d with %q, want %d with %q", user, v, p, nth, phones)
	}
}

func TestAPhoneOfTheAuthoritysOwnEnrolment(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		w.must(w.AddUser(ctx, "root", "maya & co"))
		key, e := w.enrolPhone("maya & co", "Pixel")
		if !e.Done || !e.Accepted {
			t.Fatalf("%+v", e)
		}
		w.manifestIs("maya & co", 1, "Pixel")
		w.enrolPhone("maya & co", "iPhone")
		w.manifestIs("maya & co", 2, "Pixel", "iPhone")
		var a store.Approver
		w.view(func(tx store.Tx) (err error) {
			if a, err = tx.ApproverByCredential(key.Registration("").CredentialID); err != nil {
				return err
			}
			session, err := tx.Session(e.Session)
			if session.Approver != a.ID || a.Pending || a.Device != "" {
				t.Errorf("%+v %+v", a, session)
			}
			return err
		})
		waits, err := w.RevokeApprover(ctx, "root", a.ID)
		w.must(err)
		if waits {
			t.Error("waits for a key that is here")
		}
		w.manifestIs("maya & co", 3, "iPhone")
		_, err = w.RemoveUser(ctx, "root", "maya & co")
		w.must(err)
		w.manifestIs("maya & co", 4)
		w.happened("phone_enrolled", 2)
		w.happened("phone_removed", 1)
		w.happened("user_removed", 1)
	})
}

func TestAKeyFromWhoeverDidNotScanTheCode(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		w.must(w.AddUser(ctx, "root", "maya"))
		w.must(w.AddUser(ctx, "root", "eve"))
		mine, _ := w.enrolPhone("eve", "Eve's")
		for name, c := range map[string]struct {
			r     push.Registration
			spoil func([]byte)
		}{
			"one byte of the MAC": {passkey.New(rp).Registration("x"), func(mac []byte) { mac[31] ^= 1 }},
			"another site's key":  {passkey.New(push.RelyingParty{ID: "evil.example", Origin: "https://evil.example"}).Registration("x"), nil},
			"a key enrolled here": {mine.Registration("x"), nil},
		} {
			i, err := w.BeginEnrolment(ctx, "root", "maya", 0)
			w.must(err)
			w.post(i, "maya", c.r, c.spoil)
			w.must(w.CompleteEnrolment(ctx, i.ID))
			if e := w.enrolment(i.ID); !e.Done || e.Accepted || e.Reason == "" {
				t.Errorf("%s: %+v", name, e)
			}
		}
		w.manifestIs("maya", 0)
		w.happened("enrolment_refused", 3)
		_, err := w.BeginEnrolment(ctx, "root", "nobody", 0)
		w.refused(err, store.ErrNotFound)
		i, err := w.BeginEnrolment(ctx, "root", "maya", 0)
		w.must(err)
		w.refused(w.CompleteEnrolment(ctx, i.ID), enrol.ErrInvalid) // no key yet
		w.post(i, "maya", passkey.New(rp).Registration("x"), nil)
		w.time = i.Expires
		w.refused(w.CompleteEnrolment(ctx, i.ID), store.ErrUsed)
		w.manifestIs("maya", 0)
	})
}

func TestAuthorityEnrolsItsOwnPhoneWithoutTheKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		dir, _ := makeKeys(t)
		away := filepath.Join(t.TempDir(), "organisation.key")
		if err := os.Rename(filepath.Join(dir, "organisation.key"), away); err != nil {
			t.Fatal(err)
		}
		k, err := enrol.LoadKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		offline, err := enrol.LoadOrganisationKey(away)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, open("a"), k)
		ctx := w.Context()
		// Nobody joins before the settings are signed.
		token, _, err := w.CreateToken(ctx, "root", enrol.TokenRequest{Users: []string{enrol.Everyone}})
		w.must(err)
		_, r := w.newcomer(token)
		_, err = w.Register(ctx, r)
		w.refused(err, enrol.ErrNotSigned)

		w.must(w.AddUser(ctx, "root", "maya"))
		key, e := w.enrolPhone("maya", "Pixel")
		if !e.Accepted {
			t.Fatalf("%+v", e)
		}
		w.manifestIs("maya", 0)
		pending := func(want bool) {
			t.Helper()
			w.view(func(tx store.Tx) error {
				a, err := tx.ApproverByCredential(key.Registration("").CredentialID)
				if a.Pending != want {
					t.Errorf("pending %v", a.Pending)
				}
				return err
			})
		}
		pending(true)
		file, n, err := w.Pending(ctx)
		w.must(err)
		lines, err := enrol.DescribePending(file)
		w.must(err)
		if n != 2 || len(lines) != 2 || !strings.Contains(strings.Join(lines, "\n"), `"Pixel"`) || !strings.Contains(lines[0], settings.Origin) {
			t.Errorf("%d: %q", n, lines)
		}
		signed, err := enrol.SignPending(offline, file)
		w.must(err)

		// What somebody changed on the way, or another key signed, is refused whole.
		_, wrong, err := ed25519.GenerateKey(rand.Reader)
		w.must(err)
		byAnother, err := enrol.SignPending(wrong, file)
		w.must(err)
		for _, b := range [][]byte{byAnother, bytes.Replace(signed, []byte(`"user": "maya"`), []byte(`"user": "jody"`), 1), file, []byte("{}"), nil} {
			if bytes.Equal(b, signed) {
				t.Fatal("the file was not changed")
			}
			_, err := w.ImportSigned(ctx, "root", b)
			w.refused(err, enrol.ErrInvalid)
		}
		w.manifestIs("maya", 0)

		// Meanwhile another phone: what was exported is not the last word.
		w.enrolPhone("maya", "iPhone")
		n, err = w.ImportSigned(ctx, "root", signed)
		w.must(err)
		if n != 2 {
			t.Errorf("%d items", n)
		}
		w.manifestIs("maya", 1, "Pixel")
		pending(false)
		file, n, err = w.Pending(ctx)
		if w.must(err); n != 1 {
			t.Errorf("%d wait", n)
		}
		newer, err := enrol.SignPending(offline, file)
		w.must(err)
		n, err = w.ImportSigned(ctx, "root", newer)
		w.must(err)
		w.manifestIs("maya", 2, "Pixel", "iPhone")
		// The older file again: nothing goes back.
		n2, err := w.ImportSigned(ctx, "root", signed)
		w.must(err)
		if n != 1 || n2 != 0 {
			t.Errorf("%d, then %d items", n, n2)
		}
		w.manifestIs("maya", 2, "Pixel", "iPhone")
		_, err = w.Register(ctx, r)
		w.must(err)

		// A removed user: no phone at once, the empty manifest waits.
		waits, err := w.RemoveUser(ctx, "root", "maya")
		if w.must(err); !waits {
			t.Error("does not wait")
		}
		w.view(func(tx store.Tx) error {
			list, err := tx.Approvers("maya")
			if len(list) != 0 {
				t.Errorf("%d phones are left", len(list))
			}
			return err
		})
		if waits, err = w.EnsureSettings(ctx); err != nil || waits {
			t.Error(waits, err)
		}
	})
}

func TestSettingsAreSignedAgainWhenTheyChange(t *testing.T) {
	each(t, func(w *world) {
		version := func() (v uint64) {
			w.view(func(tx store.Tx) error {
				i, err := tx.Item(organisation.KindSettings, "", "")
				v = i.Version
				return err
			})
			return v
		}
		w.must(second(w.EnsureSettings(w.Context())))
		if w.nth("settings", version()) != 1 {
			t.Errorf("version %d", version())
		}
		changed := settings
		changed.API = "https://api.example.com"
		w.must(second(enrol.New(enrol.Options{Store: w.store, Keys: w.keys, Settings: changed, Now: func() time.Time { return w.time }}).EnsureSettings(w.Context())))
		if w.nth("settings", version()) != 2 {
			t.Errorf("version %d", version())
		}
		w.happened("settings_changed", 2)
	})
}

func second[T any](_ T, err error) error { return err }

func TestWhatIsIssuedIsSealedToTheDevice(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		w.must(w.AddUser(ctx, "root", "maya"))
		w.must(w.AddUser(ctx, "root", "jo"))
		d, other := w.join("maya"), w.join("maya")
		open := func(kind organisation.Kind, nth uint64, content any) {
			t.Helper()
			w.view(func(tx store.Tx) error {
				i, err := tx.Item(kind, d.id, "maya")
				if err != nil {
					return err
				}
				e, err := organisation.Open(w.keys.Organisation, d.id, i.Envelope)
				if err != nil {
					return err
				}
				if n := w.nth(string(kind), e.Version); n != nth {
					t.Errorf("%s: version no. %d, want %d", kind, n, nth)
				}
				if e.Unseal(other.sealing, content) == nil {
					t.Errorf("%s: another device opens it", kind)
				}
				if _, err := organisation.Open(w.keys.Organisation, other.id, i.Envelope); err == nil {
					t.Errorf("%s: another device takes it", kind)
				}
				return e.Unseal(d.sealing, content)
			})
		}
		for version := range uint64(2) {
			i, err := w.IssueTOTP(ctx, "root", "maya", d.id)
			w.must(err)
			var seed organisation.TOTP
			open(organisation.KindTOTP, version+1, &seed)
			if seed.URI != i.URI.Reveal() || !strings.HasPrefix(seed.URI, "otpauth://totp/") {
				t.Error("the device gets another seed")
			}
			w.nowhere(seed.URI[strings.Index(seed.URI, "secret=")+7:][:32])
		}
		i, err := w.IssueRecovery(ctx, "root", "maya", d.id)
		w.must(err)
		var list organisation.Codes
		open(organisation.KindRecovery, 1, &list)
		if len(list.Codes) != 10 || len(i.Codes) != 10 || list.Codes[9] != i.Codes[9].Reveal() {
			t.Error("the device gets other codes")
		}
		w.nowhere(list.Codes[0])
		i, err = w.IssueBypass(ctx, "root", "maya", d.id, time.Hour, "ticket 1")
		w.must(err)
		var b organisation.Bypass
		open(organisation.KindBypass, 1, &b)
		if b.Code != i.Codes[0].Reveal() || b.Expires != w.time.Add(time.Hour).Unix() || b.Reason != "ticket 1" {
			t.Errorf("%+v", b)
		}
		w.nowhere(b.Code)
		w.happened("totp_issued", 2)
		w.happened("recovery_issued", 1)
		w.happened("bypass_issued", 1)

		for _, reason := range []string{"", "a\nb"} {
			_, err = w.IssueBypass(ctx, "root", "maya", d.id, time.Hour, reason)
			w.refused(err, enrol.ErrInvalid)
		}
		_, err = w.IssueBypass(ctx, "root", "maya", d.id, 8*24*time.Hour, "long")
		w.refused(err, enrol.ErrInvalid)
		_, err = w.IssueTOTP(ctx, "root", "jo", d.id) // not allowed there
		w.refused(err, enrol.ErrInvalid)
		_, err = w.IssueTOTP(ctx, "root", "nobody", d.id)
		w.refused(err, store.ErrNotFound)
		_, err = w.IssueTOTP(ctx, "root", "maya", strings.Repeat("A", 26))
		w.refused(err, store.ErrNotFound)
		w.must(w.RevokeDevice(ctx, "root", d.id, "stolen"))
		_, err = w.IssueTOTP(ctx, "root", "maya", d.id)
		w.refused(err, enrol.ErrInvalid)
	})
}

// nowhere looks for a secret in what the database holds in the clear.
func (w *world) nowhere(canary string) {
	w.Helper()
	w.view(func(tx store.Tx) error {
		list, _, err := tx.Events(0, "", "", 1000)
		for _, e := range list {
			if bytes.Contains(e.JSON, []byte(canary)) {
				w.Errorf("an event holds a secret: %s", e.Name)
			}
		}
		devices, err2 := tx.Devices("")
		for _, d := range devices {
			items, err := tx.Items(d.ID)
			err2 = errors.Join(err2, err)
			for _, i := range items {
				var e organisation.Envelope
				if err := json.Unmarshal(i.Envelope, &e); err != nil || bytes.Contains(e.Payload, []byte(canary)) {
					w.Errorf("an item holds a secret: %s (%v)", i.Kind, err)
				}
			}
		}
		return errors.Join(err, err2)
	})
}

// After a restore the computers may have more than the database knows of: what is
// signed from then on must be above that.
func TestWhatIsSignedAfterARestoreIsNewer(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		w.must(second(w.SetPolicy(ctx, "root", []byte("ask = 'required'"))))
		// Until here goes the backup; what came after it is lost.
		lost := uint64(w.time.Unix()) + 20
		w.time = w.time.Add(time.Hour)
		w.must(second(w.SetPolicy(ctx, "root", []byte("ask = 'enrolled'"))))
		w.view(func(tx store.Tx) error {
			i, err := tx.Item(organisation.KindPolicy, "", "")
			if i.Version <= lost {
				t.Errorf("version %d, and the computers have %d", i.Version, lost)
			}
			return err
		})
	})
}

func TestPolicyIsSigned(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		for _, text := range []string{"ask = 'nobody'", "asks = 'required'", "[required]\nusers = ['']", "\x00", strings.Repeat("#", 20000)} {
			_, err := w.SetPolicy(ctx, "root", []byte(text))
			w.refused(err, enrol.ErrInvalid)
		}
		first := uint64(w.time.Unix())
		w.must(second(w.SetPolicy(ctx, "root", []byte("ask = 'required'\n[required]\nservices = ['sshd']"))))
		w.must(second(w.SetPolicy(ctx, "root", []byte("ask = 'required'"))))
		w.view(func(tx store.Tx) error {
			i, err := tx.Item(organisation.KindPolicy, "", "")
			if err != nil || i.Version <= first {
				t.Error(i.Version, err)
			}
			_, err = organisation.Open(w.keys.Organisation, "any", i.Envelope)
			return err
		})
		w.happened("policy_changed", 2)
	})
}

func TestADevicesOwnEnrolment(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		w.must(w.AddUser(ctx, "root", "maya"))
		w.must(w.AddUser(ctx, "root", "jo"))
		d, other := w.join("maya"), w.join("maya", "jo")
		id := push.NewID()
		in := w.time.Add(10 * time.Minute)
		w.refused(w.BeginDeviceEnrolment(ctx, d.id, id, "jo", in), enrol.ErrNotAllowed)
		w.refused(w.BeginDeviceEnrolment(ctx, d.id, id, "nobody", in), enrol.ErrNotAllowed)
		w.refused(w.BeginDeviceEnrolment(ctx, d.id, id, "maya", w.time), enrol.ErrInvalid)
		w.must(w.BeginDeviceEnrolment(ctx, d.id, id, "maya", in))
		w.must(w.BeginDeviceEnrolment(ctx, d.id, id, "maya", in)) // after the stream broke
		w.refused(w.BeginDeviceEnrolment(ctx, other.id, id, "maya", in), store.ErrExists)

		key := passkey.New(rp)
		r := key.Registration("Pixel")
		credential := r.CredentialID
		w.refused(w.EndDeviceEnrolment(ctx, d.id, id, true, "", credential), enrol.ErrInvalid) // nothing was posted
		w.must(w.store.Update(ctx, func(tx store.Tx) error { return tx.PostKey(id, r, make([]byte, 32), []byte("s"), w.time) }))
		w.refused(w.EndDeviceEnrolment(ctx, other.id, id, true, "", credential), store.ErrNotFound)
		w.refused(w.EndDeviceEnrolment(ctx, d.id, id, true, "", []byte("another")), enrol.ErrInvalid)
		w.refused(w.CompleteEnrolment(ctx, id), enrol.ErrInvalid) // the authority has no say
		w.must(w.EndDeviceEnrolment(ctx, d.id, id, true, "", credential))
		w.must(w.EndDeviceEnrolment(ctx, d.id, id, false, "changed its mind", nil)) // it is over
		if e := w.enrolment(id); !e.Accepted {
			t.Errorf("%+v", e)
		}
		w.view(func(tx store.Tx) error {
			a, err := tx.ApproverByCredential(credential)
			if a.Device != d.id || a.User != "maya" || a.Pending {
				t.Errorf("%+v", a)
			}
			return err
		})
		w.manifestIs("maya", 0) // it is that computer's alone
		w.happened("phone_enrolled", 1)

		// The same passkey cannot be had for another computer.
		id = push.NewID()
		w.must(w.BeginDeviceEnrolment(ctx, other.id, id, "jo", w.time.Add(48*time.Hour)))
		if e := w.enrolment(id); e.Expires.After(w.time.Add(time.Hour)) {
			t.Errorf("open until %v", e.Expires)
		}
		w.must(w.store.Update(ctx, func(tx store.Tx) error { return tx.PostKey(id, r, make([]byte, 32), []byte("t"), w.time) }))
		w.must(w.EndDeviceEnrolment(ctx, other.id, id, true, "", credential))
		if e := w.enrolment(id); e.Accepted || !e.Done {
			t.Errorf("%+v", e)
		}
		w.must(w.RevokeDevice(ctx, "root", d.id, "stolen"))
		w.refused(w.BeginDeviceEnrolment(ctx, d.id, push.NewID(), "maya", in), enrol.ErrRevoked)
	})
}

// TestARootedLaptopDoesNotUseUpSomebodysPhones: as many as it likes to claim for
// itself leave room for the user's other computers.
func TestARootedLaptopDoesNotUseUpSomebodysPhones(t *testing.T) {
	each(t, func(w *world) {
		ctx := w.Context()
		w.must(w.AddUser(ctx, "root", "maya"))
		rooted, other := w.join("maya"), w.join("maya")
		enrols := func(d *device) bool {
			w.Helper()
			id, r := push.NewID(), passkey.New(rp).Registration("Pixel")
			w.must(w.BeginDeviceEnrolment(ctx, d.id, id, "maya", w.time.Add(time.Minute)))
			w.must(w.store.Update(ctx, func(tx store.Tx) error {
				return tx.PostKey(id, r, make([]byte, 32), []byte(id), w.time)
			}))
			w.must(w.EndDeviceEnrolment(ctx, d.id, id, true, "", r.CredentialID))
			return w.enrolment(id).Accepted
		}
		n := 0
		for range 70 {
			if enrols(rooted) {
				n++
			}
		}
		if n != enrol.MaxApprovers {
			t.Errorf("one computer has %d phones", n)
		}
		if !enrols(other) {
			t.Error("no phone can be enrolled at another computer")
		}
	})
}

func FuzzCSR(f *testing.F) {
	_, k := makeKeys(f)
	f.Add(csr(f, newKey(f)))
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x82, 0xff, 0xff})
	s := storetest.Open(f, store.Options{SQLite: filepath.Join(f.TempDir(), "a.db"), Node: "a"})
	service := enrol.New(enrol.Options{Store: s, Keys: k, Settings: settings})
	if _, err := service.EnsureSettings(context.Background()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		// With a token that is none: whatever the request is, nobody joins.
		_, err := service.Register(context.Background(), enrol.JoinRequest{Token: make([]byte, 20), CSR: der, Name: "x", SealingKey: make([]byte, 32)})
		if !errors.Is(err, enrol.ErrInvalid) && !errors.Is(err, enrol.ErrToken) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzSigned(f *testing.F) {
	_, wrong, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"format":"sallyport.pending.v1","items":[{"kind":"approvers","user":"maya","version":1,"payload":"eyJhcHByb3ZlcnMiOltdfQ=="}]}`))
	f.Add([]byte(`{"format":"sallyport.signed.v1","items":[{"kind":"settings","version":1,"payload":"e30=","signature":"AAAA"}]}`))
	f.Add([]byte(`{"format":"sallyport.pending.v1","items":[{"kind":"policy","version":18446744073709551615,"payload":"e30="}]}`))
	_, k := makeKeys(f)
	s := storetest.Open(f, store.Options{SQLite: filepath.Join(f.TempDir(), "a.db"), Node: "a"})
	service := enrol.New(enrol.Options{Store: s, Keys: k, Settings: settings})
	f.Fuzz(func(t *testing.T, file []byte) {
		if n, err := service.ImportSigned(context.Background(), "fuzz", file); err == nil && n > 0 {
			t.Errorf("took %d items that nobody signed", n)
		}
		lines, err := enrol.DescribePending(file)
		signed, err2 := enrol.SignPending(wrong, file)
		if err == nil && err2 == nil && len(lines) > 0 {
			if n, err := service.ImportSigned(context.Background(), "fuzz", signed); err == nil {
				t.Errorf("took %d items of another key", n)
			}
		}
	})
}
