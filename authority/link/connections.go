package link

import (
	"errors"
	"net"

	"google.golang.org/grpc/credentials"

	"sallyport/authority/door"
)

// Bounds of the connections of one node. Whoever has shown no device's certificate
// is within their handshake, or wants to join.
const (
	maxConnections = 60_000
	maxStrangers   = 8192
)

// knowing are TLS credentials that tell a connection whose it is.
type knowing struct {
	credentials.TransportCredentials
	s *Service
}

var errTooManyConnections = errors.New("this device has too many connections")

// ServerHandshake implements credentials.TransportCredentials.
func (k knowing) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := k.TransportCredentials.ServerHandshake(raw)
	counted, isCounted := raw.(*door.Conn)
	t, isTLS := info.(credentials.TLSInfo)
	if err != nil || !isCounted || !isTLS || len(t.State.PeerCertificates) == 0 {
		return c, info, err
	}
	// Whether it may do anything is for admit to say.
	if i, err := k.s.keys.Identify(t.State.PeerCertificates[0], k.s.now()); err == nil && !counted.IsOf(i.Device) {
		k.s.log.Debug("a device has too many connections", "device", i.Device)
		return nil, nil, errTooManyConnections
	}
	return c, info, nil
}

// Clone implements credentials.TransportCredentials.
func (k knowing) Clone() credentials.TransportCredentials {
	return knowing{k.TransportCredentials.Clone(), k.s}
}
