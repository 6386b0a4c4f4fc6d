package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authority/config"
	"sallyport/authority/store"
	"sallyport/authority/webpush"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
)

var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// clock is the time of a test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); c.t = c.t.Add(d); c.mu.Unlock() }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// certificate writes one for a name, and its key.
func certificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func TestARenewedCertificateIsReadWithoutARestart(t *testing.T) {
	dir, c, m := t.TempDir(), &clock{t: start}, newMetrics("1")
	certificate(t, dir, "one.example.com")
	cfg := config.Config{TLS: config.TLS{Mode: config.TLSFiles, Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	web, err := webTLS(&cfg, c.now, slog.New(slog.DiscardHandler), m)
	ok(t, err)
	serves := func(name string) {
		t.Helper()
		got, err := web.GetCertificate(nil)
		if err != nil || got.Leaf.Subject.CommonName != name {
			t.Errorf("%v, %v; want %s", got.Leaf.Subject, err, name)
		}
	}
	serves("one.example.com")
	certificate(t, dir, "second.example.com") // of another size: the time of both may be one tick
	serves("one.example.com")                 // it is not looked at with each connection
	c.pass(lookEvery)
	serves("second.example.com")
	// Between the writing of one file and the other they do not fit.
	old, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	ok(t, err)
	certificate(t, dir, "three.example.com")
	fits, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "key.pem"), append(old, '\n'), 0o600))
	c.pass(lookEvery)
	serves("second.example.com")
	ok(t, os.WriteFile(filepath.Join(dir, "key.pem"), append(fits, "\n\n"...), 0o600))
	c.pass(lookEvery)
	serves("three.example.com")

	if _, err := webTLS(&config.Config{TLS: config.TLS{Mode: config.TLSFiles, Cert: "/nowhere", Key: "/nowhere"}}, c.now, slog.Default(), newMetrics("1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without files: %v", err)
	}
}

func TestACMEAsksOnlyForItsOwnName(t *testing.T) {
	var asked atomic.Int32
	directory := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); w.WriteHeader(404) }))
	defer directory.Close()
	c := config.Config{StateDir: t.TempDir(), Web: config.Web{API: "https://authority.example.com"}, Console: config.Console{Origin: "https://helpdesk.example.com:8443"}, TLS: config.TLS{Mode: config.TLSACME, ACMEDirectory: directory.URL}}
	web, err := webTLS(&c, time.Now, slog.New(slog.DiscardHandler), newMetrics("1"))
	ok(t, err)
	hello := func(name string) *tls.ClientHelloInfo {
		return &tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{"h2"}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
	}
	if _, err := web.GetCertificate(hello("evil.example.org")); err == nil || asked.Load() != 0 {
		t.Errorf("a stranger's name: %v, asked %d times", err, asked.Load())
	}
	if _, err := web.GetCertificate(hello("authority.example.com")); err == nil || asked.Load() == 0 {
		t.Errorf("its own name: %v, asked %d times", err, asked.Load())
	}
	before := asked.Load()
	if _, err := web.GetCertificate(hello("helpdesk.example.com")); err == nil || asked.Load() == before {
		t.Errorf("the console's name: %v, asked %d times", err, asked.Load()-before)
	}
	if p := strings.Join(web.NextProtos, " "); p != "h2 http/1.1 acme-tls/1" {
		t.Errorf("protocols: %s", p)
	}
}

func TestSelfSignedIsForLocalhostOnly(t *testing.T) {
	c := config.Config{TLS: config.TLS{Mode: config.TLSSelfSigned}}
	web, err := webTLS(&c, time.Now, slog.New(slog.DiscardHandler), newMetrics("1"))
	ok(t, err)
	leaf, err := x509.ParseCertificate(web.Certificates[0].Certificate[0])
	ok(t, err)
	if leaf.VerifyHostname("localhost") != nil || leaf.VerifyHostname("authority.example.com") == nil || leaf.IsCA {
		t.Errorf("it is for %v, a CA: %v", leaf.DNSNames, leaf.IsCA)
	}
}

// shows is what monitoring reads, by name and labels.
func (m *metrics) shows(t *testing.T) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	(&server{metrics: m}).monitoring().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	list := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "sallyport_") {
			list[strings.TrimPrefix(name, "sallyport_")] = value
		}
	}
	return list
}

// newAuthority makes an authority with a database.
func newAuthority(t *testing.T, m *metrics) *server {
	t.Helper()
	c := config.Default()
	c.StateDir, c.Name, c.Organisation = filepath.Join(t.TempDir(), "state"), "one", "Example"
	c.Web = config.Web{Origin: "http://localhost:1", API: "http://localhost:1", RPID: "localhost"}
	ok(t, Init(t.Context(), c, ""))
	a, err := open(t.Context(), c, "test", slog.New(slog.DiscardHandler), func() time.Time { return start }, m.meter)
	ok(t, err)
	t.Cleanup(func() { ok(t, a.Close()) })
	return &server{Authority: a, metrics: m, options: Options{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return start }}}
}

// down is a database that cannot be written.
type down struct{ store.Store }

func (down) Ping(context.Context) error { return store.ErrUnavailable }

func TestReadyIsADatabaseThatIsWrittenAndHeard(t *testing.T) {
	s := newAuthority(t, newMetrics("1"))
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		s.monitoring().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	if code, text := ask("/readyz"); code != 503 || !strings.Contains(text, "notices do not come in") {
		t.Errorf("before it listens: %d %s", code, text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.watch(ctx, func() {}); close(ended) }()
	deadline := time.After(time.Minute)
	for code := 0; code != 200; code, _ = ask("/readyz") {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("it is never ready")
		}
	}
	good := s.Store
	s.Store = down{good}
	if code, _ := ask("/readyz"); code != 503 {
		t.Errorf("with a database that is down: %d", code)
	}
	if code, _ := ask("/healthz"); code != 200 {
		t.Errorf("the process is up: %d", code)
	}
	s.Store = good
	cancel()
	<-ended
	if code, _ := ask("/readyz"); code != 503 {
		t.Errorf("when the notices ended: %d", code)
	}
	if code, _ := ask("/debug/pprof/"); code != 404 {
		t.Errorf("pprof: %d", code)
	}
}

func TestWhatIsCountedIsWhatWasKept(t *testing.T) {
	m := newMetrics("1")
	s := newAuthority(t, m)
	put := func(tx store.Tx, id, reason string) error {
		return errors.Join(
			tx.CreateChallenge(store.Challenge{ID: id, Device: "D", User: "maya", Created: start, Expires: start.Add(time.Minute)}),
			addEvent(tx, event.Event{Name: event.PushFailed, Reason: reason}))
	}
	ok(t, s.Store.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.CreateUser(store.User{Name: "maya", Created: start}), tx.PutDevice(store.Device{ID: "D", Users: []string{"maya"}, Created: start, Expires: start.Add(time.Hour)}))
	}))
	failed := errors.New("not this time")
	if err := s.Store.Update(t.Context(), func(tx store.Tx) error { return errors.Join(put(tx, "c1", "x"), failed) }); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if n := m.shows(t)["pushes_begun_total"]; n != "0" {
		t.Errorf("%s begun, and nothing was kept", n)
	}
	// A function may run twice.
	twice := &meteredStore{twiceStore{s.Store.(*meteredStore).Store}, m}
	ok(t, twice.Update(t.Context(), func(tx store.Tx) error { return put(tx, "c2", string(push.TooMany)) }))
	ok(t, s.Store.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.Answer("c2", push.Answer{Decision: push.Deny}, start.Add(3*time.Second)), tx.EndChallenge("c2", "denied", start))
	}))
	shown := m.shows(t)
	for _, name := range []string{"pushes_begun_total", `pushes_refused_total{reason="too_many_push_requests"}`, `pushes_answered_total{decision="deny"}`,
		`pushes_ended_total{outcome="denied"}`, "certificates_issued_total", `push_answer_seconds_bucket{le="4"}`} {
		if shown[name] != "1" {
			t.Errorf("%s is %q, want 1", name, shown[name])
		}
	}
}

func TestWhatIsOverGoes(t *testing.T) {
	s := newAuthority(t, newMetrics("1"))
	s.Config.EventsKept = config.Duration(48 * time.Hour)
	ok(t, s.Store.Update(t.Context(), func(tx store.Tx) error {
		var errs []error
		for _, age := range []time.Duration{49 * time.Hour, 47 * time.Hour, 0} {
			_, err := tx.AddEvents([]store.Event{{Device: "D", VaultID: "v", Seq: uint64(100*time.Hour - age), Time: start, Kept: start.Add(-age), Name: "login_attempt", JSON: []byte("{}")}})
			errs = append(errs, err)
		}
		for id, ended := range map[string]time.Duration{"new": -time.Minute, "old": 31 * 24 * time.Hour} {
			errs = append(errs, tx.CreateEnrolment(store.Enrolment{ID: id, User: "maya", Created: start.Add(-ended - time.Hour), Expires: start.Add(-ended)}))
		}
		return errors.Join(errs...)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.sweep(ctx); close(ended) }()
	gone := func() (gone bool) {
		ok(t, s.Store.View(t.Context(), func(tx store.Tx) error {
			_, old := tx.Enrolment("old")
			_, fresh := tx.Enrolment("new")
			list, _, err := tx.Events(0, "D", "", 10)
			gone = errors.Is(old, store.ErrNotFound) && fresh == nil && len(list) == 2
			return err
		}))
		return gone
	}
	deadline := time.After(time.Minute)
	for !gone() {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("what is over stays, or what is not goes")
		}
	}
	cancel()
	<-ended
}

// twiceStore rolls back once before it commits, as PostgreSQL may.
type twiceStore struct{ store.Store }

func (s twiceStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	again := errors.New("again")
	if err := s.Store.Update(ctx, func(tx store.Tx) error { return errors.Join(fn(tx), again) }); !errors.Is(err, again) {
		return err
	}
	return s.Store.Update(ctx, fn)
}

func addEvent(tx store.Tx, e event.Event) error {
	_, err := tx.AddEvents([]store.Event{{Time: start, Kept: start, Name: string(e.Name), JSON: fmt.Appendf(nil, `{"event":%q,"reason":%q}`, e.Name, e.Reason)}})
	return err
}

// HAZARD: labels that a stranger can invent fill the monitoring's memory.
func TestLabelsAreBounded(t *testing.T) {
	m := newMetrics("1")
	s := newAuthority(t, m)
	for i := range 50 {
		ok(t, s.Store.Update(t.Context(), func(tx store.Tx) error {
			return errors.Join(addEvent(tx, event.Event{Name: event.PushFailed, Reason: fmt.Sprint("reason", i)}), addEvent(tx, event.Event{Name: event.Name(fmt.Sprint("event", i))}))
		}))
	}
	reasons, events := 0, 0
	for name := range m.shows(t) {
		if strings.HasPrefix(name, "pushes_refused_total{") {
			reasons++
		} else if strings.HasPrefix(name, "authority_events_total{") {
			events++
		}
	}
	if reasons != len(refusals)+1 || events != 2 { // with "other"; push_mfa_attempt_failed and "other"
		t.Errorf("%d reasons, %d events", reasons, events)
	}
}

// reports is a ringer with a fixed end.
type reports struct{ error }

func (r reports) Ring(context.Context, []byte, []byte, time.Duration) error { return r.error }

func TestMessagesToPhonesAreCounted(t *testing.T) {
	m := newMetrics("1")
	for result, err := range map[string]error{"ok": nil, "gone": fmt.Errorf("x: %w", webpush.ErrGone), "error": errors.New("no")} {
		if got := (ringer{reports{err}, m}).Ring(t.Context(), nil, nil, 0); !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
		if n := m.shows(t)[`phone_messages_total{result="`+result+`"}`]; n != "1" {
			t.Errorf("%s: %s", result, n)
		}
	}
}

// HAZARD: a request says itself where it comes from, and escapes its limits.
func TestTheAddressBehindAProxyIsWhatTheProxySaw(t *testing.T) {
	if addressOf(config.TLSFiles) != nil || addressOf(config.TLSACME) != nil {
		t.Error("X-Forwarded-For is read from strangers")
	}
	f := addressOf(config.TLSNone)
	for _, c := range []struct {
		headers []string
		want    string
	}{
		{nil, "127.0.0.1"},
		{[]string{"203.0.113.7"}, "203.0.113.7"},
		{[]string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{[]string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		{[]string{"2001:db8::1"}, "2001:db8::1"},
		{[]string{"nonsense"}, "127.0.0.1"},
		{[]string{""}, "127.0.0.1"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "127.0.0.1:1234"
		for _, h := range c.headers {
			r.Header.Add("X-Forwarded-For", h)
		}
		if got := f(r); got != c.want {
			t.Errorf("%q: %s, want %s", c.headers, got, c.want)
		}
	}
}

func TestTheWebServerIsBounded(t *testing.T) {
	s := newAuthority(t, newMetrics("1"))
	l, err := s.serve("listen_web", "127.0.0.1:0", s.metrics.http(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })), nil)
	ok(t, err)
	if h := l.server; h.ReadHeaderTimeout == 0 || h.ReadTimeout == 0 || h.WriteTimeout == 0 || h.IdleTimeout == 0 {
		t.Error("a slow client is waited for without end")
	}
	ended := make(chan error, 1)
	go func() { ended <- l.run() }()
	get := func(header string) int {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		ok(t, err)
		defer c.Close()
		// All at once: the server may have answered and gone before a client's last part.
		_, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + header + "\r\n\r\n"))
		ok(t, err)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		ok(t, err)
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	if code := get("small"); code != 204 {
		t.Errorf("%d", code)
	}
	if code := get(strings.Repeat("x", 32<<10)); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("32 KiB of headers: %d", code)
	}
	if n := s.metrics.shows(t)[`http_requests_total{code="204"}`]; n != "1" {
		t.Errorf("%q requests counted", n)
	}
	stop([]*listening{l})
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) { // its port may be another's by now
		t.Errorf("it still listens: %v", err)
	}
}

// runs has Run serve what s has, on ports of the system's choice.
func runs(s *server) config.Config {
	c := s.Config
	c.DeviceHosts, c.TLS.Mode, c.PushServices.Contact = []string{"localhost"}, config.TLSNone, "mailto:a@example.com"
	c.ListenDevices, c.ListenWeb, c.ListenMetrics = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	return c
}

// TestWhoeverIsToldThatItIsUpFindsItReady: a script that starts it and asks for its
// status in the next line.
func TestWhoeverIsToldThatItIsUpFindsItReady(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	told := false
	ok(t, Run(ctx, Options{Config: &config.Loaded{Config: runs(newAuthority(t, newMetrics("1")))}, Version: "1", Log: slog.New(slog.DiscardHandler), Listening: func(a Addresses) {
		defer stop()
		told = true
		answer, err := http.Get("http://" + a.Metrics.String() + "/readyz")
		if err != nil {
			t.Error(err)
			return
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", answer.Status, text)
		}
	}}))
	if !told {
		t.Error("nobody was told")
	}
}

func TestAPortThatIsTakenIsSaid(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer taken.Close()
	for _, key := range []string{"listen_devices", "listen_web", "listen_metrics"} {
		c := runs(newAuthority(t, newMetrics("1")))
		*map[string]*string{"listen_devices": &c.ListenDevices, "listen_web": &c.ListenWeb, "listen_metrics": &c.ListenMetrics}[key] = taken.Addr().String()
		err := Run(t.Context(), Options{Config: &config.Loaded{Config: c}, Version: "1", Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// HAZARD: a key that others can read.
func TestKeysThatOthersCanReadAreRefused(t *testing.T) {
	s := newAuthority(t, newMetrics("1"))
	if _, err := WebPush(&s.Config, slog.Default()); err == nil || !strings.Contains(err.Error(), "subject") {
		t.Errorf("without a contact: %v", err)
	}
	ok(t, os.Chmod(s.Config.WebPushKey(), 0o640))
	if _, err := WebPushKey(&s.Config); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
}

func TestAKeyIsMovedWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	ok(t, os.WriteFile(from, []byte("key"), 0o600))
	ok(t, os.WriteFile(to, []byte("another"), 0o600))
	if err := moveKey(from, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	if b, err := os.ReadFile(from); err != nil || string(b) != "key" {
		t.Error("the key is gone")
	}
	ok(t, os.Remove(to))
	ok(t, moveKey(from, to))
	if b, err := os.ReadFile(to); err != nil || string(b) != "key" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := os.Stat(from); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the key is at both places")
	}
}

func TestMonitoringSeesWhoIsTrusted(t *testing.T) {
	s := newAuthority(t, newMetrics("1"))
	s.metrics.streams(func() int { return 3 })
	s.metrics.trusted(true, Settings(&s.Config))
	w := httptest.NewRecorder()
	s.monitoring().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, _ := io.ReadAll(w.Body)
	for _, want := range []string{"sallyport_streams 3", `sallyport_trusted{what="organisation_key"} 1`, `sallyport_database_errors_total{kind="update"} 0`, "go_goroutines", "process_open_fds"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %s", want)
		}
	}
}

// TestTheConsolesCertificate: its own where it has one, read again when it changes; else
// that of the phones' page. ACME gets one for both names.
func TestTheConsolesCertificate(t *testing.T) {
	dir, own, c := t.TempDir(), t.TempDir(), &clock{t: start}
	certificate(t, dir, "phones.example.com")
	certificate(t, own, "helpdesk.example.com")
	cfg := config.Config{TLS: config.TLS{Mode: config.TLSFiles, Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	page, err := webTLS(&cfg, c.now, slog.Default(), newMetrics("1"))
	ok(t, err)
	if got, err := consoleTLS(&cfg, page, c.now, slog.Default()); err != nil || got != page {
		t.Errorf("%v %v", got, err)
	}
	cfg.Console.Cert, cfg.Console.Key = filepath.Join(own, "cert.pem"), filepath.Join(own, "key.pem")
	console, err := consoleTLS(&cfg, page, c.now, slog.Default())
	ok(t, err)
	for _, name := range []string{"helpdesk.example.com", "new.example.com"} {
		if got, err := console.GetCertificate(nil); err != nil || got.Leaf.Subject.CommonName != name {
			t.Errorf("%v, %v; want %s", got.Leaf.Subject, err, name)
		}
		certificate(t, own, "new.example.com")
		c.pass(lookEvery)
	}
	cfg.Console.Key = "/nowhere"
	if _, err := consoleTLS(&cfg, page, c.now, slog.Default()); err == nil {
		t.Error("a key that is not there")
	}
}
