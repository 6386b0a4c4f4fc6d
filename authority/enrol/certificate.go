package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// How long certificates are good.
const (
	DeviceLife = 7 * 24 * time.Hour
	serverLife = 7 * 24 * time.Hour
	// RenewLate is how long after its end a device may still renew.
	RenewLate = 180 * 24 * time.Hour
)

// MaxCSR bounds a certificate request, in bytes.
const MaxCSR = 4096

// A device's name in its certificate: sallyport://device/<id>.
const (
	deviceScheme = "sallyport"
	deviceHost   = "device"
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func newDeviceID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return idEncoding.EncodeToString(b)
}

// IsDeviceID says whether s has the shape of a device's id.
func IsDeviceID(s string) bool {
	b, err := idEncoding.DecodeString(s)
	return err == nil && len(b) == 16 && len(s) == 26
}

// parseCSR checks a certificate request and returns its key; nothing else of it
// counts.
func parseCSR(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) == 0 || len(der) > MaxCSR {
		return nil, fmt.Errorf("a certificate request of %d bytes; it may have 1 to %d", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errors.New("the certificate request is not PKCS#10")
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request is for a key that is not ECDSA P-256")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errors.New("the certificate request is not signed by its own key")
	}
	return key, nil
}

// keyHash is how the store knows a device's key.
func keyHash(key *ecdsa.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	sum := sha256.Sum256(spki)
	return sum[:], err
}

// issue makes a device's certificate; the chain ends with the CA's.
func (k *Keys) issue(id string, key *ecdsa.PublicKey, now time.Time) (chain [][]byte, expires time.Time, err error) {
	expires = now.Add(DeviceLife)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: id},
		NotBefore: now.Add(-early), NotAfter: expires, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: deviceScheme, Host: deviceHost, Path: "/" + id}},
	}, k.CA, key, k.caKey)
	return [][]byte{der, k.CA.Raw}, expires, err
}

// Identity is who a client certificate says is there. Whether the device is
// revoked, or has another key by now, Service.Check knows.
type Identity struct {
	Device  string
	KeyHash []byte
	Expires time.Time
}

// Expired says whether the certificate is.
func (i Identity) Expired(now time.Time) bool { return !now.Before(i.Expires) }

// Identify checks a client certificate against the CA and reads the device's id
// from it. One that has expired is for the caller to judge: Renew takes it.
func (k *Keys) Identify(c *x509.Certificate, now time.Time) (Identity, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case c.CheckSignatureFrom(k.CA) != nil:
		return Identity{}, errors.New("the certificate is not from this authority")
	case now.Before(c.NotBefore):
		return Identity{}, errors.New("the certificate is not valid yet: is the authority's clock right?")
	case c.IsCA, !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth), !ok,
		len(c.URIs) != 1, len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) != 0:
		return Identity{}, errors.New("the certificate is not a device's")
	}
	u := c.URIs[0]
	id := strings.TrimPrefix(u.Path, "/")
	if u.String() != deviceScheme+"://"+deviceHost+"/"+id || !IsDeviceID(id) {
		return Identity{}, errors.New("the certificate is not a device's")
	}
	hash, err := keyHash(key)
	return Identity{Device: id, KeyHash: hash, Expires: c.NotAfter}, err
}

// ServerCertificate returns what tls.Config.GetCertificate needs: a certificate
// for these host names and addresses, made at the first call and anew at half of
// its life. Its key is never written anywhere.
func (k *Keys) ServerCertificate(hosts []string, now func() time.Time) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	var mu sync.Mutex
	var current *tls.Certificate
	var renew time.Time
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		t := now()
		if current != nil && t.Before(renew) {
			return current, nil
		}
		c, err := k.serverCertificate(hosts, t)
		if err != nil {
			return nil, err
		}
		current, renew = c, t.Add(serverLife/2)
		return current, nil
	}
}

func (k *Keys) serverCertificate(hosts []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Sallyport authority's server"},
		NotBefore: now.Add(-early), NotAfter: now.Add(serverLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, k.CA, key.Public(), k.caKey)
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der, k.CA.Raw}, PrivateKey: key, Leaf: leaf}, err
}
