package webpush

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func unb64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 8291, appendix A.
func TestTheVectorOfRFC8291(t *testing.T) {
	own, err := ecdh.P256().NewPrivateKey(unb64(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ecdh.P256().NewPublicKey(unb64(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"))
	if err != nil {
		t.Fatal(err)
	}
	sub := &subscription{key: theirs, auth: unb64(t, "BTBZMqHH6r4Tts7J_aSIgg")}
	body, err := encrypt(sub, own, unb64(t, "DGv6ra1nlYgDCS1FRnbzlw"), []byte("When I grow up, I want to be a watermelon"), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if got := base64.RawURLEncoding.EncodeToString(body); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// browser is the other end: it subscribes and decrypts.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	auth := make([]byte, 16)
	_, _ = rand.Read(auth)
	return &browser{key, auth}
}

func (b *browser) subscription(endpoint string) []byte {
	j, _ := json.Marshal(map[string]any{"endpoint": endpoint, "expirationTime": nil, "keys": map[string]string{
		"p256dh": base64.RawURLEncoding.EncodeToString(b.key.PublicKey().Bytes()),
		"auth":   base64.URLEncoding.EncodeToString(b.auth)}}) // padded, as some browsers do
	return j
}

func (b *browser) decrypt(t *testing.T, body []byte) (payload []byte, pad int) {
	t.Helper()
	sender, err := ecdh.P256().NewPublicKey(body[21:86])
	if err != nil {
		t.Fatal(err)
	}
	shared, _ := b.key.ECDH(sender)
	ikm, _ := hkdf.Key(sha256.New, shared, b.auth, "WebPush: info\x00"+string(b.key.PublicKey().Bytes())+string(body[21:86]), 32)
	key, _ := hkdf.Key(sha256.New, ikm, body[:16], "Content-Encoding: aes128gcm\x00", 16)
	nonce, _ := hkdf.Key(sha256.New, ikm, body[:16], "Content-Encoding: nonce\x00", 12)
	block, _ := aes.NewCipher(key)
	gcm, _ := cipher.NewGCM(block)
	plain, err := gcm.Open(nil, nonce, body[86:], nil)
	if err != nil {
		t.Fatal(err)
	}
	payload = bytes.TrimRight(plain, "\x00")
	return payload[:len(payload)-1], len(plain) - len(payload)
}

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func newSender(t *testing.T, o Options) *Sender {
	t.Helper()
	text, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if o.Key, err = ParseKey(text); err != nil {
		t.Fatal(err)
	}
	o.Subject, o.Now, o.Log = "mailto:it@example.com", func() time.Time { return now }, slog.New(slog.DiscardHandler)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// service is a push service on this machine.
func service(t *testing.T, h http.HandlerFunc) (host string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestAPhoneIsRung(t *testing.T) {
	var request *http.Request
	var body []byte
	host := service(t, func(w http.ResponseWriter, r *http.Request) {
		request, body = r, must(io.ReadAll(r.Body))
		w.WriteHeader(http.StatusCreated)
	})
	s, phone := newSender(t, Options{UnsafeLocal: []string{host}}), newBrowser(t)
	sub := phone.subscription("http://" + host + "/push/abc")
	if err := s.Check(sub); err != nil {
		t.Fatal(err)
	}
	if err := s.Ring(t.Context(), sub, []byte(`{"id":"c1"}`), time.Minute); err != nil {
		t.Fatal(err)
	}
	payload, pad := phone.decrypt(t, body)
	if string(payload) != `{"id":"c1"}` || (len(payload)+1+pad)%padding != 0 {
		t.Errorf("the phone got %q with %d bytes of padding", payload, pad)
	}
	for k, want := range map[string]string{"TTL": "60", "Urgency": "high", "Content-Encoding": "aes128gcm", "Content-Type": "application/octet-stream"} {
		if got := request.Header.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	if request.Method != "POST" || request.URL.Path != "/push/abc" {
		t.Errorf("%s %s", request.Method, request.URL)
	}

	// RFC 8292: the push service can check who sent it.
	auth, ok := strings.CutPrefix(request.Header.Get("Authorization"), "vapid t=")
	token, k, ok2 := strings.Cut(auth, ", k=")
	if !ok || !ok2 || k != s.PublicKey() {
		t.Fatalf("Authorization: %q", request.Header.Get("Authorization"))
	}
	public, err := ecdsa.ParseUncompressedPublicKey(s.key.Curve, unb64(t, k))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	sig := unb64(t, parts[2])
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the token's signature is wrong")
	}
	var claims struct {
		Aud, Sub string
		Exp      int64
	}
	if err := json.Unmarshal(unb64(t, parts[1]), &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Aud != "http://"+host || claims.Sub != "mailto:it@example.com" || claims.Exp != now.Add(tokenLife).Unix() {
		t.Errorf("claims: %+v", claims)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestWhatAPushServiceAnswers(t *testing.T) {
	for status, want := range map[int]string{201: "", 202: "", 404: ErrGone.Error(), 410: ErrGone.Error(),
		429: "answered 429", 500: "answered 500", 401: "answered 401", 307: "answered 307"} {
		host := service(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://"+r.Host+"/elsewhere")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, strings.Repeat("\x1b[2Jno", 10000))
		})
		s := newSender(t, Options{UnsafeLocal: []string{host}})
		err := s.Ring(t.Context(), newBrowser(t).subscription("http://"+host+"/secret-path"), nil, time.Minute)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d: %v, want %q", status, err, want)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\x1b\n") || strings.Contains(err.Error(), "secret-path") || len(err.Error()) > 500) {
			t.Errorf("%d: the error carries the service's control characters or length, or the secret path: %q", status, err)
		}
	}
}

// HAZARD: server-side request forgery by a subscription.
func TestSSRFBySubscriptionIsRefused(t *testing.T) {
	s, phone := newSender(t, Options{}), newBrowser(t)
	for _, good := range []string{
		"https://fcm.googleapis.com/fcm/send/x", "https://FCM.googleapis.com:443/fcm/send/x",
		"https://updates.push.services.mozilla.com/wpush/v2/x", "https://web.push.apple.com/x", "https://db5p.notify.windows.com/w/?token=x",
	} {
		if err := s.Check(phone.subscription(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"http://fcm.googleapis.com/x", "https://fcm.googleapis.com:8443/x", "https://fcm.googleapis.com:80/x",
		"https://169.254.169.254/latest/meta-data/", "http://169.254.169.254/", "https://metadata.google.internal/computeMetadata/v1/",
		"https://metadata/", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/",
		"https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/", "https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/",
		"https://localhost/", "https://0.0.0.0/", "https://[::]/", "https:///x", "https://:443/", "",
		"https://fcm.googleapis.com@127.0.0.1/", "https://user:pw@fcm.googleapis.com/", "https://127.0.0.1#@fcm.googleapis.com/",
		"https://fcm.googleapis.com.evil.example/", "https://evilfcm.googleapis.com/", "https://fcm.googleapis.com./",
		"https://evilpush.apple.com/", "https://push.apple.com/", "https://.push.apple.com.evil.example/",
		"https://evil.example\\@fcm.googleapis.com/", "https://evil.example/.push.apple.com", "https://127.0.0.1/?.push.apple.com",
		"ftp://fcm.googleapis.com/", "file:///etc/passwd", "gopher://fcm.googleapis.com/", "https:fcm.googleapis.com/x", "//fcm.googleapis.com/",
		"https://fcm.googleapis.com/\r\nHost: evil", "https://fcm.googleapis.com:443:80/", "https://fcm.googleapis.com%2f@evil.example/",
		"https://fcm.googleapis.com/" + strings.Repeat("x", 5000),
	} {
		if err := s.Check(phone.subscription(bad)); !errors.Is(err, ErrRefused) {
			t.Errorf("Check(%s): %v", bad, err)
		}
		if err := s.Ring(t.Context(), phone.subscription(bad), nil, time.Minute); !errors.Is(err, ErrRefused) {
			t.Errorf("Ring(%s): %v", bad, err)
		}
	}
}

// HAZARD: the name is that of a push service, and leads into the own network.
func TestDNSRebindingIsRefused(t *testing.T) {
	for _, inside := range []string{"127.0.0.1", "169.254.169.254", "10.1.2.3", "::1", "fd00::1", "fe80::1", "::ffff:127.0.0.1"} {
		// The first look-up, as a check before the connection would make it, gives an
		// address of the Internet; each later one leads inside.
		var leads atomic.Value
		leads.Store("142.250.0.1")
		names := resolver(t, func() string { return leads.Load().(string) })
		s := newSender(t, Options{Resolver: names})
		if ips, err := names.LookupNetIP(t.Context(), "ip", "fcm.googleapis.com"); err != nil || len(ips) == 0 || ips[0].String() != "142.250.0.1" {
			t.Fatalf("the name server of this test does not work: %v %v", ips, err)
		}
		leads.Store(inside)
		err := s.Ring(t.Context(), newBrowser(t).subscription("https://fcm.googleapis.com/fcm/send/x"), nil, time.Minute)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no public address") {
			t.Errorf("%s: %v", inside, err)
		}
	}
}

// resolver asks a name server on this machine.
func resolver(t *testing.T, address func() string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			a, q := netip.MustParseAddr(address()), m.Questions[0]
			m.Response, m.Additionals = true, nil
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
			switch {
			case q.Type == dnsmessage.TypeA && a.Is4():
				m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: a.As4()}}}
			case q.Type == dnsmessage.TypeAAAA && a.Is6():
				m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}}
			}
			out, _ := m.Pack()
			_, _ = server.WriteTo(out, from)
		}
	}()
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// HAZARD: a redirect from a push service into the own network.
func TestARedirectIsNotFollowed(t *testing.T) {
	var reached atomic.Bool
	inside := service(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		host := service(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+inside+"/", status)
		})
		// Even where the target would be let through by itself.
		s := newSender(t, Options{UnsafeLocal: []string{host, inside}})
		if err := s.Ring(t.Context(), newBrowser(t).subscription("http://"+host+"/"), nil, time.Minute); err == nil {
			t.Errorf("%d: no error", status)
		}
	}
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

// HAZARD: a proxy variable in the environment takes the messages elsewhere.
func TestAProxyInTheEnvironmentIsIgnored(t *testing.T) {
	if s := newSender(t, Options{}); s.remoteClient.Transport.(*http.Transport).Proxy != nil || s.localClient.Transport.(*http.Transport).Proxy != nil {
		t.Error("there is a proxy")
	}
}

func TestUnsafeLocalOpensOnlyWhatItLists(t *testing.T) {
	var reached atomic.Int32
	host := service(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	other := service(t, func(http.ResponseWriter, *http.Request) { t.Error("another local service was reached") })
	s, phone := newSender(t, Options{UnsafeLocal: []string{host, "10.0.0.1:80"}}), newBrowser(t)
	if err := s.Ring(t.Context(), phone.subscription("http://"+other+"/"), nil, time.Minute); !errors.Is(err, ErrRefused) {
		t.Errorf("not listed: %v", err)
	}
	if err := s.Ring(t.Context(), phone.subscription("http://10.0.0.1:80/"), nil, time.Minute); !errors.Is(err, ErrRefused) {
		t.Errorf("listed, and not of this machine: %v", err)
	}
	if err := s.Ring(t.Context(), phone.subscription("http://"+host+"/"), nil, time.Minute); err != nil || reached.Load() != 1 {
		t.Errorf("listed: %v, reached %d times", err, reached.Load())
	}
}

func TestOnlyAddressesOfTheInternetArePublic(t *testing.T) {
	for _, a := range []string{"142.250.0.1", "8.8.8.8", "223.255.255.1", "2a00:1450:4001::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"} {
		if !public(netip.MustParseAddr(a)) {
			t.Errorf("%s is refused", a)
		}
	}
	for _, a := range []string{"0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.192", "192.168.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "2002:7f00:1::1", "2001:0:7f00:1::1", "2a00::1%eth0"} {
		if public(netip.MustParseAddr(a)) {
			t.Errorf("%s counts as public", a)
		}
	}
	if checkPublic(netip.MustParseAddrPort("8.8.8.8:22")) == nil {
		t.Error("port 22 is let through")
	}
}

func TestMalformedSubscriptionsAreRefused(t *testing.T) {
	s, phone := newSender(t, Options{}), newBrowser(t)
	const endpoint = "https://fcm.googleapis.com/x"
	good := string(phone.subscription(endpoint))
	if err := s.Check([]byte(good)); err != nil {
		t.Fatal(err)
	}
	key := base64.RawURLEncoding.EncodeToString(phone.key.PublicKey().Bytes())
	for name, bad := range map[string]string{
		"empty": "", "null": "null", "no JSON": "{", "a list": "[]", "no keys": `{"endpoint":"` + endpoint + `"}`,
		"point not on the curve": strings.Replace(good, key, "BA"+strings.Repeat("A", 85), 1),
		"point at infinity":      strings.Replace(good, key, "AA", 1),
		"compressed point":       strings.Replace(good, key, base64.RawURLEncoding.EncodeToString(append([]byte{2}, phone.key.PublicKey().Bytes()[1:33]...)), 1),
		"short auth":             strings.Replace(good, base64.URLEncoding.EncodeToString(phone.auth), "AAAA", 1),
		"too long":               good + strings.Repeat(" ", maxSubscription),
	} {
		if bad == good {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if err := s.Check([]byte(bad)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	key := must(ParseKey(must(NewKey())))
	for name, o := range map[string]Options{
		"no key":     {Subject: "mailto:a@b.example"},
		"no subject": {Key: key},
		"http":       {Key: key, Subject: "http://example.com"},
		"wildcard":   {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"*"}},
		"top level":  {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"*.com"}},
		"address":    {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"10.0.0.1"}},
		"short":      {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"127.1"}},
		"v6":         {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"[::1]"}},
		"a port":     {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"push.example.com:8443"}},
		"upper case": {Key: key, Subject: "mailto:a@b.example", Hosts: []string{"Push.example.com"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ParseKey([]byte("nonsense")); err == nil {
		t.Error("a key that is none")
	}
	if err := newSender(t, Options{}).Ring(t.Context(), newBrowser(t).subscription("https://fcm.googleapis.com/x"), make([]byte, MaxPayload+1), 0); err == nil {
		t.Error("a payload over the bound")
	}
}

func TestUnsafeLocalIsLoud(t *testing.T) {
	var log bytes.Buffer
	_, err := New(Options{Key: must(ParseKey(must(NewKey()))), Subject: "mailto:a@b.example", UnsafeLocal: []string{"127.0.0.1:1"}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil || !strings.Contains(log.String(), "UNSAFE") || !strings.Contains(log.String(), "127.0.0.1:1") {
		t.Errorf("%v, log: %s", err, &log)
	}
}

// A push service that hangs costs one message its time, and no more.
func TestASlowPushServiceIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	host := service(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	s := newSender(t, Options{UnsafeLocal: []string{host}})
	s.localClient.Timeout = 50 * time.Millisecond
	if err := s.Ring(t.Context(), newBrowser(t).subscription("http://"+host+"/"), nil, time.Minute); err == nil {
		t.Error("no error")
	}
}

func FuzzSubscription(f *testing.F) {
	key := must(ParseKey(must(NewKey())))
	s := must(New(Options{Key: key, Subject: "mailto:a@b.example"}))
	f.Add([]byte(`{"endpoint":"https://fcm.googleapis.com/x","keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`))
	f.Add([]byte(`{"endpoint":"https://a@web.push.apple.com:443/x?y#z","keys":{"p256dh":"","auth":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		sub, err := s.parse(b)
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		u := sub.endpoint
		host := strings.ToLower(u.Hostname())
		if u.Scheme != "https" || u.User != nil || u.Port() != "" && u.Port() != "443" || sub.local ||
			host != "fcm.googleapis.com" && host != "updates.push.services.mozilla.com" && !strings.HasSuffix(host, ".push.apple.com") && !strings.HasSuffix(host, ".notify.windows.com") {
			t.Errorf("%s is let through", u)
		}
	})
}
