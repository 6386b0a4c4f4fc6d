package eventsout

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/testkit/port"
)

const patience = 5 * time.Minute

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// record is an event of a computer.
func record(t testing.TB, e event.Event) Record {
	t.Helper()
	if e.Time.IsZero() {
		e.Time = noon
	}
	b, err := json.Marshal(e)
	ok(t, err)
	return NewRecord(store.Event{Device: "d1", VaultID: "v1", Seq: e.Seq, Time: e.Time, Kept: noon.Add(time.Second), Name: string(e.Name), User: e.User, JSON: b}, "laptop-17")
}

// ca is one for servers and clients of a test.
type ca struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	File string
	next int64
}

func newCA(t testing.TB) *ca {
	t.Helper()
	c := &ca{t: t, dir: t.TempDir(), next: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	c.key = key
	c.cert, err = x509.ParseCertificate(der)
	ok(t, err)
	c.File = c.write("ca.pem", "CERTIFICATE", der)
	return c
}

func (c *ca) write(name, kind string, der []byte) string {
	path := filepath.Join(c.dir, name)
	ok(c.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// issue makes a certificate for a host name or address, and its files.
func (c *ca) issue(name string) (cert, key string, both tls.Certificate) {
	c.t.Helper()
	c.next++
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(c.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(c.next), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, own.Public(), c.key)
	ok(c.t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	ok(c.t, err)
	cert, key = c.write(fmt.Sprint(c.next, ".pem"), "CERTIFICATE", der), c.write(fmt.Sprint(c.next, ".key"), "PRIVATE KEY", raw)
	both, err = tls.LoadX509KeyPair(cert, key)
	ok(c.t, err)
	return cert, key, both
}

func (c *ca) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// receiver is a syslog server. It reads all of each connection before it answers its
// end, unless it is rude; it can be off, and it can die in the middle.
type receiver struct {
	t       testing.TB
	Address string
	config  *tls.Config

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	got      []string
	rude     bool // ends without TLS's own word
	dieAfter int  // messages; 0: never
}

func newReceiver(t testing.TB, config *tls.Config) *receiver {
	t.Helper()
	at, err := port.Address() // that nobody takes while it is off
	ok(t, err)
	r := &receiver{t: t, config: config, conns: map[net.Conn]bool{}, Address: at}
	r.on()
	t.Cleanup(r.off)
	return r
}

func (r *receiver) on() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.Address)
	ok(r.t, err)
	r.set(func() { r.listener = l })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.set(func() {
				if r.listener != l {
					_ = c.Close() // it went off while this one came
					return
				}
				r.conns[c] = true
				go r.serve(c)
			})
		}
	}()
}

// off is a server that is gone: what it had not read is lost.
func (r *receiver) off() { r.set(r.goOff) }

// goOff has r.mu.
func (r *receiver) goOff() {
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.listener = nil
	for c := range r.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	r.conns = map[net.Conn]bool{}
}

func (r *receiver) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *receiver) serve(raw net.Conn) {
	defer r.set(func() { delete(r.conns, raw) })
	defer raw.Close()
	c := tls.Server(raw, r.config)
	in := bufio.NewReader(c)
	for {
		length, err := in.ReadString(' ')
		if err != nil {
			break
		}
		n, err := strconv.Atoi(strings.TrimSpace(length))
		if err != nil || n > 8192 {
			return
		}
		m := make([]byte, n)
		if _, err := io.ReadFull(in, m); err != nil {
			return
		}
		die := false
		r.set(func() {
			r.got = append(r.got, string(m))
			if r.dieAfter > 0 {
				if r.dieAfter--; r.dieAfter == 0 {
					r.goOff()
					die = true
				}
			}
		})
		if die {
			return
		}
	}
	r.mu.Lock()
	rude := r.rude
	r.mu.Unlock()
	if !rude {
		_ = c.Close() // close_notify
	}
}

func (r *receiver) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
