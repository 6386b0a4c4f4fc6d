//go:build linux

package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// pushService is a browser's push service that takes messages and delivers none:
// the phones here are awake.
type pushService struct {
	listener net.Listener
	server   *http.Server
	count    atomic.Int64
	p256dh   []byte
}

func newPushService() (*pushService, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &pushService{p256dh: key.PublicKey().Bytes()}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, io.LimitReader(r.Body, 1<<16)); err == nil {
			s.count.Add(1)
		}
		w.WriteHeader(http.StatusCreated)
	})}
	go func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			progress("the push service ended: %v", err)
		}
	}()
	return s, nil
}

func (s *pushService) address() string { return s.listener.Addr().String() }

// subscription is what a browser gives the page.
func (s *pushService) subscription() any {
	id, auth := make([]byte, 16), make([]byte, 16)
	_, _ = rand.Read(id) // never fails: crypto/rand
	_, _ = rand.Read(auth)
	text := base64.RawURLEncoding.EncodeToString
	return map[string]any{"endpoint": "http://" + s.address() + "/" + text(id), "expirationTime": nil,
		"keys": map[string]string{"p256dh": text(s.p256dh), "auth": text(auth)}}
}

func (s *pushService) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.server.Shutdown(ctx)
}
