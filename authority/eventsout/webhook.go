package eventsout

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBody bounds a request.
	maxBody = 1 << 20
	// maxAnswer is what is read of an answer.
	maxAnswer = 4 << 10
	// The bounds of a secret, of the Standard Webhooks specification.
	minSecret, maxSecret = 24, 64
	secretPrefix         = "whsec_"
)

// The formats of events in a webhook's body.
const (
	FormatSallyport = "sallyport"
	FormatOCSF      = "ocsf"
)

// WebhookOptions say where a webhook is.
type WebhookOptions struct {
	URL        string // https
	SecretFile string // base64, with or without whsec_ before it
	CA         string // file; "": the system's
	Format     string
	Version    string // of this program
	Now        func() time.Time
}

// Webhook posts events to a URL, signed as the Standard Webhooks specification
// (www.standardwebhooks.com) has it: HMAC-SHA256 over id, time and body.
type Webhook struct {
	o      WebhookOptions
	host   string
	secret []byte
	client *http.Client
	most   int // bytes of a request that the other end takes
}

// NewWebhook reads the files.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("events_out.webhook.url is no https address") // it is not shown: it may hold a token
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &Webhook{o: o, host: u.Host, most: maxBody}
	if w.secret, err = readSecret(o.SecretFile); err != nil {
		return nil, fmt.Errorf("events_out.webhook.secret_file: %w", err)
	}
	pool, err := roots(o.CA)
	if err != nil {
		return nil, fmt.Errorf("events_out.webhook.ca: %w", err)
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // also none of the environment
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			IdleConnTimeout:        90 * time.Second,
			MaxConnsPerHost:        1,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

func readSecret(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 || !st.Mode().IsRegular() || st.Size() > 4096 {
		return nil, fmt.Errorf("%s holds a secret and can be read by others, or is no small file: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(bytes.TrimSpace(text)), secretPrefix))
	if err != nil || len(secret) < minSecret || len(secret) > maxSecret {
		return nil, fmt.Errorf("%s does not hold %d to %d bytes in base64: make some with 'openssl rand -base64 32'", path, minSecret, maxSecret)
	}
	return secret, nil
}

// Name implements Sink.
func (w *Webhook) Name() string { return "webhook" }

// Send implements Sink.
func (w *Webhook) Send(ctx context.Context, records []Record) (int, error) {
	body, n, err := w.body(records)
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.o.URL, bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("events_out.webhook.url is no address")
	}
	sum := sha256.Sum256(body)
	id, at := "msg_"+hex.EncodeToString(sum[:16]), strconv.FormatInt(w.o.Now().Unix(), 10) // the same events, the same id
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "sallyport-authority")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", at)
	r.Header.Set("webhook-signature", sign(w.secret, id, at, body))
	answer, err := w.client.Do(r)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) { // without the address: it may hold a token
			err = inner.Err
		}
		return 0, fmt.Errorf("%s: %w", w.host, err)
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer) // so that the connection can be used again; what it says may be anything
	code := answer.StatusCode
	if code/100 == 2 {
		return n, nil
	}
	err = fmt.Errorf("%s answered %d %s", w.host, code, http.StatusText(code))
	after := retryAfter(answer.Header.Get("Retry-After"), w.o.Now())
	switch {
	case code == http.StatusRequestEntityTooLarge && n > 1:
		w.most = len(body) / 2 // and soon
	case code/100 == 3:
		err = fmt.Errorf("%w: redirects are not followed", err)
		after = max(after, slowly)
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		after = max(after, slowly)
	}
	return 0, retry{err, after}
}

// body is as many records as fit.
func (w *Webhook) body(records []Record) ([]byte, int, error) {
	var b bytes.Buffer
	b.WriteString(`{"type":"sallyport.events","format":"` + w.o.Format + `","events":[`)
	n := 0
	for _, r := range records {
		var v any = r
		if w.o.Format == FormatOCSF {
			v = OCSF(r, w.o.Version)
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, 0, err
		}
		if n > 0 {
			if b.Len()+len(text) > w.most-8 {
				break
			}
			b.WriteByte(',')
		}
		b.Write(text)
		n++
	}
	b.WriteString("]}")
	return b.Bytes(), n, nil
}

// sign is the value of webhook-signature.
func sign(secret []byte, id, at string, body []byte) string {
	h := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(h, "%s.%s.%s", id, at, body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// retryAfter is seconds or a date, RFC 9110 section 10.2.3.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, int(longest/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(0, t.Sub(now)), longest)
	}
	return 0
}
