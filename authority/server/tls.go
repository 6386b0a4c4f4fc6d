package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"sallyport/authority/config"
)

// webTLS is what browsers get; nil: plain http.
func webTLS(c *config.Config, now func() time.Time, log *slog.Logger, m *metrics) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	switch c.TLS.Mode {
	case config.TLSNone:
		return nil, nil
	case config.TLSFiles:
		f := &files{cert: c.TLS.Cert, key: c.TLS.Key, now: now, log: log}
		if err := f.load(); err != nil {
			return nil, err
		}
		t.GetCertificate = f.get
		m.webCertificate(f.ends)
	case config.TLSSelfSigned:
		certificate, err := selfSigned(now())
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{*certificate}
	case config.TLSACME:
		if err := os.MkdirAll(c.ACMEDir(), 0o700); err != nil {
			return nil, err
		}
		api, err := url.Parse(c.Web.API)
		if err != nil {
			return nil, err
		}
		hosts := []string{api.Hostname()}
		if c.Console.Origin != "" {
			hosts = append(hosts, c.ConsoleRPID()) // its host name
		}
		m := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(c.ACMEDir()), HostPolicy: autocert.HostWhitelist(hosts...),
			Email: c.TLS.ACMEEmail, Client: &acme.Client{DirectoryURL: c.TLS.ACMEDirectory, UserAgent: "sallyport-authority"}}
		if c.TLS.ACMEDirectory == "" {
			m.Client.DirectoryURL = autocert.DefaultACMEDirectory
		}
		t.GetCertificate = m.GetCertificate
		// The challenge comes over this very port (tls-alpn-01): no other is opened.
		t.NextProtos = append(t.NextProtos, acme.ALPNProto)
	default:
		return nil, fmt.Errorf("tls.mode is %q", c.TLS.Mode)
	}
	return t, nil
}

// consoleTLS is webTLS for the console: its own certificate where it has one, else
// that of the phones' page.
func consoleTLS(c *config.Config, web *tls.Config, now func() time.Time, log *slog.Logger) (*tls.Config, error) {
	if c.TLS.Mode != config.TLSFiles || c.Console.Cert == "" {
		return web, nil
	}
	f := &files{cert: c.Console.Cert, key: c.Console.Key, now: now, log: log}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: web.NextProtos, GetCertificate: f.get}, nil
}

// files is a certificate that somebody else renews.
type files struct {
	cert, key string
	now       func() time.Time
	log       *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   string
	looked  time.Time
}

// lookEvery is how often the files are looked at.
const lookEvery = 10 * time.Second

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now().Sub(f.looked) >= lookEvery {
		f.looked = f.now()
		if s := f.stampNow(); s != f.stamp {
			// Between the writing of one file and the other they do not fit: the last
			// good certificate stays.
			if err := f.loadLocked(); err != nil {
				f.log.Error("the web certificate changed and cannot be read; the one before stays", "error", err)
			} else {
				f.log.Info("the web certificate was read anew", "ends", f.current.Leaf.NotAfter)
			}
		}
	}
	return f.current, nil
}

func (f *files) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = f.now()
	return f.loadLocked()
}

func (f *files) loadLocked() error {
	stamp := f.stampNow()
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("tls.cert, tls.key: %w", err)
	}
	f.current, f.stamp = &c, stamp
	return nil
}

func (f *files) stampNow() string {
	s := ""
	for _, p := range []string{f.cert, f.key} {
		if st, err := os.Stat(p); err == nil {
			s += fmt.Sprint(st.ModTime().UnixNano(), st.Size(), " ")
		}
	}
	return s
}

// selfSigned is for localhost only, and lives as long as the process.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 3, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// ends says when the certificate does.
func (f *files) ends() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current.Leaf.NotAfter
}
