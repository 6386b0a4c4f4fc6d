package eventsout

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/internal/event"
)

// receiveHooks is an https server of a CA.
func receiveHooks(t *testing.T, c *ca, h http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = server(c)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func secretFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	ok(t, os.WriteFile(path, []byte(text), 0o600))
	ok(t, os.Chmod(path, mode))
	return path
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the specification's example

// TestTheSignatureOfTheSpecification: the example of the Standard Webhooks libraries.
func TestTheSignatureOfTheSpecification(t *testing.T) {
	key, err := readSecret(secretFile(t, secret+"\n", 0o600))
	ok(t, err)
	if got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("%s", got)
	}
}

func hook(t *testing.T, c *ca, url, format string) *Webhook {
	t.Helper()
	w, err := NewWebhook(WebhookOptions{URL: url, SecretFile: secretFile(t, secret, 0o600), CA: c.File, Format: format, Version: "1.2.3", Now: func() time.Time { return noon }})
	ok(t, err)
	return w
}

func TestAWebhook(t *testing.T) {
	c := newCA(t)
	for _, format := range []string{FormatSallyport, FormatOCSF} {
		var ids []string
		url := receiveHooks(t, c, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			if want := sign(key, r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body); r.Header.Get("webhook-signature") != want {
				t.Errorf("the signature is %q, want %q", r.Header.Get("webhook-signature"), want)
			}
			if r.Method != http.MethodPost || r.URL.RequestURI() != "/in?token=canary" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("webhook-timestamp") != "1795348800" {
				t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
			}
			var b struct {
				Type, Format string
				Events       []struct {
					ID    string
					Event event.Event
					Class int `json:"class_uid"`
				}
			}
			if err := json.Unmarshal(body, &b); err != nil || b.Type != "sallyport.events" || b.Format != format || len(b.Events) != 2 {
				t.Errorf("%v: %s", err, body)
			} else if format == FormatSallyport && (b.Events[1].ID != "d1/v1/2" || b.Events[1].Event.User != "maya") || format == FormatOCSF && b.Events[1].Class != 3002 {
				t.Errorf("%s", body)
			}
			ids = append(ids, r.Header.Get("webhook-id"))
			w.WriteHeader(http.StatusAccepted)
		})
		w := hook(t, c, url+"/in?token=canary", format)
		for range 2 {
			if n, err := w.Send(t.Context(), some(t, 2)); n != 2 || err != nil {
				t.Fatalf("%d %v", n, err)
			}
		}
		if len(ids) != 2 || ids[0] != ids[1] || ids[0] == "" {
			t.Errorf("the same events have the ids %q", ids)
		}
	}
}

// TestWhatAWebhookAnswers: only 2xx is a delivery; what time does not mend is tried
// slowly, and where it says when, then.
func TestWhatAWebhookAnswers(t *testing.T) {
	c := newCA(t)
	var elsewhere atomic.Int32
	other := receiveHooks(t, c, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for _, a := range []struct {
		code  int
		after string
		wait  time.Duration // at least
		good  bool
	}{
		{200, "", 0, true}, {204, "", 0, true},
		{500, "", 0, false}, {503, "120", 2 * time.Minute, false}, {503, noon.Add(3 * time.Minute).UTC().Format(http.TimeFormat), 2 * time.Minute, false},
		{429, "30", 30 * time.Second, false}, {408, "", 0, false}, {503, "999999999", time.Hour, false}, {503, "soon", 0, false},
		{400, "", slowly, false}, {401, "", slowly, false}, {404, "", slowly, false}, {410, "", slowly, false},
		{301, "", slowly, false}, {307, "", slowly, false}, {308, "", slowly, false},
	} {
		url := receiveHooks(t, c, func(w http.ResponseWriter, _ *http.Request) {
			if a.after != "" {
				w.Header().Set("Retry-After", a.after)
			}
			w.Header().Set("Location", other)
			w.WriteHeader(a.code)
			_, _ = io.WriteString(w, "\x1b[31mwhatever")
		})
		n, err := hook(t, c, url+"/canary", FormatSallyport).Send(t.Context(), some(t, 1))
		if a.good {
			if n != 1 || err != nil {
				t.Errorf("%d: %d %v", a.code, n, err)
			}
			continue
		}
		var r retry
		if n != 0 || !errors.As(err, &r) || r.after < a.wait || r.after > longest || a.wait == 0 && r.after != 0 {
			t.Errorf("%d, Retry-After %q: %d, %v, wait %v; want %v", a.code, a.after, n, err, r.after, a.wait)
		} else if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "whatever") {
			t.Errorf("the error holds the address, or what was answered: %v", err)
		}
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// HAZARD: a TLS server with another's certificate; an address or a secret in an error.
func TestAWebhookKnowsItsServer(t *testing.T) {
	c, another := newCA(t), newCA(t)
	url := receiveHooks(t, c, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	n, err := hook(t, another, url+"/canary", FormatSallyport).Send(t.Context(), some(t, 1))
	if n != 0 || err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%d %v", n, err)
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // HAZARD: proxy variables in the environment
	seen := false
	url = receiveHooks(t, c, func(http.ResponseWriter, *http.Request) { seen = true })
	if n, err := hook(t, c, url, FormatSallyport).Send(t.Context(), some(t, 1)); n != 1 || err != nil || !seen {
		t.Errorf("%d %v", n, err)
	}
}

func TestASecretThatIsNoneIsRefused(t *testing.T) {
	for what, path := range map[string]string{
		"that others can read": secretFile(t, secret, 0o640), "that is short": secretFile(t, "c2hvcnQ=", 0o600), "that is no base64": secretFile(t, "canary canary canary canary canary", 0o600),
		"that is empty": secretFile(t, "", 0o600), "that is not there": "/nonexistent", "that is a directory": t.TempDir(),
	} {
		_, err := NewWebhook(WebhookOptions{URL: "https://example.com/canary", SecretFile: path})
		if err == nil || !strings.Contains(err.Error(), "secret_file") || strings.Contains(err.Error(), "canary") {
			t.Errorf("a secret %s: %v", what, err)
		}
	}
	for _, url := range []string{"http://example.com/canary", "example.com/canary", "https:///canary", "ftp://example.com/canary"} {
		if _, err := NewWebhook(WebhookOptions{URL: url, SecretFile: secretFile(t, secret, 0o600)}); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestABodyIsBounded: of large events as many as fit, and one in any case.
func TestABodyIsBounded(t *testing.T) {
	c := newCA(t)
	var got, largest int
	url := receiveHooks(t, c, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var b struct{ Events []json.RawMessage }
		if json.Unmarshal(body, &b) != nil {
			t.Error("no JSON")
		}
		got, largest = got+len(b.Events), max(largest, len(body))
	})
	var list []Record
	for i := range 1000 {
		list = append(list, record(t, event.Event{Seq: uint64(i + 1), Name: event.LoginAttempt, Text: strings.Repeat("x", 7000)}))
	}
	w := hook(t, c, url, FormatSallyport)
	sent := 0
	for sent < len(list) {
		n, err := w.Send(t.Context(), list[sent:])
		ok(t, err)
		sent += n
	}
	if got != 1000 || largest > maxBody {
		t.Errorf("%d events, the largest body has %d bytes", got, largest)
	}
}

// HAZARD: a receiver with a bound of its own never takes the batch, and nothing after it.
func TestARequestThatIsTooLargeIsHalved(t *testing.T) {
	c := newCA(t)
	taken := 0
	url := receiveHooks(t, c, func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || len(body) > 2000 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		taken++
	})
	var list []Record
	for i := range 20 {
		list = append(list, record(t, event.Event{Seq: uint64(i + 1), Name: event.LoginAttempt, Text: strings.Repeat("x", 200)}))
	}
	w := hook(t, c, url, FormatSallyport)
	for tries := 0; len(list) > 0; tries++ {
		n, err := w.Send(t.Context(), list)
		if r := (retry{}); errors.As(err, &r) && r.after != 0 {
			t.Fatalf("it waits %s", r.after)
		}
		if tries > 40 {
			t.Fatalf("%d are left: %v", len(list), err)
		}
		list = list[n:]
	}
	if taken < 2 {
		t.Errorf("%d requests", taken)
	}
	// One event alone cannot be made smaller: it is tried again slowly.
	w.most = 0
	_, err := w.Send(t.Context(), []Record{record(t, event.Event{Seq: 1, Name: event.LoginAttempt, Text: strings.Repeat("x", 3000)})})
	if r := (retry{}); !errors.As(err, &r) || r.after != slowly {
		t.Errorf("%v", err)
	}
}
