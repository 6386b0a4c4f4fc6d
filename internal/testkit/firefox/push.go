package firefox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// The codes with which a browser acknowledges a message.
const (
	Delivered = 100 // it was decrypted, and the service worker began with it
	NotOpened = 101 // it could not be decrypted
	Threw     = 301 // after 100: the service worker threw an exception
	Rejected  = 302 // after 100: the promise that it gave to waitUntil was rejected
)

// Ack is what a browser said of one message.
type Ack struct {
	Channel string // "" with Threw and Rejected
	Version string
	Code    int
}

// PushService is Mozilla's push service: browsers subscribe over a WebSocket,
// whoever has the subscription posts to it (RFC 8030), signed with the key that
// it was made for (RFC 8292).
type PushService struct {
	listener net.Listener
	server   *http.Server
	stop     context.CancelFunc

	mu       sync.Mutex
	channels map[string]*channel
	acks     []Ack
	changed  chan struct{} // closed when there is one more
}

// channel is one subscription.
type channel struct {
	conn *websocket.Conn
	key  string // only who has it may post
}

// NewPushService starts one on this machine.
func NewPushService() (*PushService, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &PushService{listener: l, stop: stop, channels: map[string]*channel{}, changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.browser(ctx, w, r) })
	mux.HandleFunc("POST /wpush/{channel}", p.post)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

// Close ends it.
func (p *PushService) Close() error {
	p.stop()
	return p.server.Close()
}

// Host is the host:port of the endpoints, which are http.
func (p *PushService) Host() string { return p.listener.Addr().String() }

// Forget drops every subscription: a post to one is answered with 410.
func (p *PushService) Forget() {
	p.mu.Lock()
	clear(p.channels)
	p.mu.Unlock()
}

// Acked waits until browsers said n things of messages since the start, and
// returns them.
func (p *PushService) Acked(ctx context.Context, n int) ([]Ack, error) {
	for {
		p.mu.Lock()
		acks, changed := append([]Ack(nil), p.acks...), p.changed
		p.mu.Unlock()
		if len(acks) >= n {
			return acks, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return acks, fmt.Errorf("%d acknowledgements came, not %d: %w", len(acks), n, ctx.Err())
		}
	}
}

// browser talks to one browser.
func (p *PushService) browser(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"push-notification"}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		_, text, err := c.Read(ctx)
		if err != nil {
			return
		}
		var m struct {
			MessageType string
			UAID        string
			Version     string // of nack
			Code        int
			ChannelID   string
			Key         string
			Updates     []struct {
				ChannelID string
				Version   string
				Code      int
			}
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return
		}
		var answer map[string]any
		switch m.MessageType {
		case "": // a ping: {}
			answer = map[string]any{}
		case "hello":
			if m.UAID == "" {
				m.UAID = randomHex()
			}
			answer = map[string]any{"messageType": "hello", "uaid": m.UAID, "status": 200, "use_webpush": true, "broadcasts": map[string]string{}}
		case "register":
			p.mu.Lock()
			p.channels[m.ChannelID] = &channel{c, strings.TrimRight(m.Key, "=")}
			p.mu.Unlock()
			answer = map[string]any{"messageType": "register", "channelID": m.ChannelID, "status": 200,
				"pushEndpoint": "http://" + p.Host() + "/wpush/" + m.ChannelID}
		case "unregister":
			p.mu.Lock()
			delete(p.channels, m.ChannelID)
			p.mu.Unlock()
			answer = map[string]any{"messageType": "unregister", "channelID": m.ChannelID, "status": 200}
		case "ack", "nack":
			p.mu.Lock()
			if m.MessageType == "nack" {
				p.acks = append(p.acks, Ack{Version: m.Version, Code: m.Code})
			}
			for _, u := range m.Updates {
				p.acks = append(p.acks, Ack{u.ChannelID, u.Version, u.Code})
			}
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			continue
		default: // broadcast_subscribe: nothing to answer
			continue
		}
		b, _ := json.Marshal(answer)
		if c.Write(ctx, websocket.MessageText, b) != nil {
			return
		}
	}
}

// post takes a message as the real service does: what it would refuse is refused.
func (p *PushService) post(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("channel")
	p.mu.Lock()
	ch := p.channels[id]
	p.mu.Unlock()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4096))
	switch {
	case ch == nil:
		http.Error(w, "no such subscription", http.StatusGone)
		return
	case err != nil:
		http.Error(w, "too long", http.StatusRequestEntityTooLarge)
		return
	case r.Header.Get("TTL") == "" || r.Header.Get("Content-Encoding") != "aes128gcm":
		http.Error(w, "TTL or Content-Encoding", http.StatusBadRequest)
		return
	}
	if err := p.checkToken(r.Header.Get("Authorization"), ch.key); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	b, _ := json.Marshal(map[string]any{"messageType": "notification", "channelID": id, "version": randomHex(),
		"data": base64.RawURLEncoding.EncodeToString(body), "headers": map[string]string{"encoding": "aes128gcm"}})
	if err := ch.conn.Write(r.Context(), websocket.MessageText, b); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// checkToken checks who posts: RFC 8292.
func (p *PushService) checkToken(header, key string) error {
	rest, ok := strings.CutPrefix(header, "vapid t=")
	token, k, ok2 := strings.Cut(rest, ", k=")
	parts := strings.Split(token, ".")
	if !ok || !ok2 || len(parts) != 3 {
		return errors.New("no vapid token")
	}
	if k != key {
		return errors.New("the subscription is for another key")
	}
	point, err := base64.RawURLEncoding.DecodeString(k)
	if err != nil {
		return err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		return errors.New("the token's signature is malformed")
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return errors.New("the token's signature is wrong")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var claims struct {
		Aud string
		Exp int64
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return err
	}
	left := time.Until(time.Unix(claims.Exp, 0))
	if claims.Aud != "http://"+p.Host() || left <= 0 || left > 24*time.Hour {
		return fmt.Errorf("the token is for %s, another %v", claims.Aud, left)
	}
	return nil
}

func randomHex() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return hex.EncodeToString(b)
}
