package enrol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The files of a key directory.
const (
	caCertificateFile = "ca.crt"
	caKeyFile         = "ca.key"
	organisationFile  = "organisation.key"
	publicFile        = "organisation.pub"
)

// early is how far back a certificate begins: a laptop whose clock is slow still
// takes it.
const early = 24 * time.Hour

// Keys are the CA that devices and servers have their certificates from, and the
// organisation key, whose private half may be kept elsewhere.
type Keys struct {
	CA           *x509.Certificate
	Organisation ed25519.PublicKey

	caKey   crypto.Signer
	signing ed25519.PrivateKey // nil: kept elsewhere
	// escrow seals the keys of offline bypasses; nil: escrowErr says why there is none.
	escrow    []byte
	escrowErr error
}

// HoldsOrganisationKey says whether the private half is here: whoever owns this
// authority can then sign whatever devices take.
func (k *Keys) HoldsOrganisationKey() bool { return k.signing != nil }

// CreateKeys makes a CA for ten years and an organisation key in dir. It replaces
// nothing.
func CreateKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{caCertificateFile, caKeyFile, organisationFile, publicFile, escrowFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already: keys are never replaced, as every device would have to join again", filepath.Join(dir, name))
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Sallyport authority"},
		NotBefore: now.Add(-early), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:    x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		// It may name devices and nothing else by a URI. Host names
		// are not constrained: they change with the configuration, and only devices
		// that joined trust this CA, for this authority.
		PermittedDNSDomainsCritical: true,
		PermittedURIDomains:         []string{deviceHost},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	public, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.MarshalPKCS8PrivateKey(caKey)
	if err != nil {
		return err
	}
	signingDER, err := x509.MarshalPKCS8PrivateKey(signing)
	if err != nil {
		return err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	var made []string
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{
		{organisationFile, "PRIVATE KEY", signingDER}, {publicFile, "PUBLIC KEY", publicDER},
		{caKeyFile, "PRIVATE KEY", caDER}, {caCertificateFile, "CERTIFICATE", certificate},
	} {
		path := filepath.Join(dir, f.name)
		if err = writeNew(path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})); err != nil {
			break
		}
		made = append(made, path)
	}
	if err == nil {
		path := filepath.Join(dir, escrowFile)
		if err = writeNew(path, newEscrowKey()); err == nil {
			made = append(made, path)
		}
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		for _, path := range made {
			_ = os.Remove(path)
		}
	}
	return err
}

// writeNew writes a file that must not exist, and has it on disk: the whole of it, or
// after a crash none.
func writeNew(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path) // unlike rename it replaces nothing
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadKeys reads a key directory. Without organisation.key the authority can
// sign nothing, and needs organisation.pub.
func LoadKeys(dir string) (*Keys, error) {
	k := new(Keys)
	der, err := readPEM(filepath.Join(dir, caCertificateFile), "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	if k.CA, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, caCertificateFile), err)
	}
	private, err := readPrivate(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, err
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || !k.CA.IsCA || !key.PublicKey.Equal(k.CA.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", filepath.Join(dir, caKeyFile), caCertificateFile)
	}
	k.caKey = key
	k.loadEscrow(dir)

	k.signing, err = LoadOrganisationKey(filepath.Join(dir, organisationFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	der, err = readPEM(filepath.Join(dir, publicFile), "PUBLIC KEY")
	switch {
	case err == nil:
		public, err := x509.ParsePKIXPublicKey(der)
		if k.Organisation, ok = public.(ed25519.PublicKey); err != nil || !ok {
			return nil, fmt.Errorf("%s is not an Ed25519 public key", filepath.Join(dir, publicFile))
		}
		if k.signing != nil && !k.Organisation.Equal(k.signing.Public()) {
			return nil, fmt.Errorf("%s is not the key of %s", filepath.Join(dir, organisationFile), publicFile)
		}
	case k.signing == nil || !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the organisation key is not here, so its public half has to be: %w", err)
	default:
		k.Organisation = k.signing.Public().(ed25519.PublicKey)
	}
	return k, nil
}

// LoadOrganisationKey reads the private half, wherever it is kept.
func LoadOrganisationKey(path string) (ed25519.PrivateKey, error) {
	private, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	key, ok := private.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", path)
	}
	return key, nil
}

func readPrivate(path string) (any, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): chmod 600 it, and think about who may have", path, info.Mode().Perm())
	}
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s is not a private key (PKCS#8)", path)
	}
	return key, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%s does not hold one PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

// CAHash is how a token names the CA.
func (k *Keys) CAHash() [32]byte { return sha256.Sum256(k.CA.Raw) }
