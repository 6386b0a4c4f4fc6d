package link

import (
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// Bounds of the connections of one node.
const (
	maxConnections = 60_000
	// maxStrangers have shown no device's certificate: they are within their
	// handshake, or want to join. From half of them on an address may have
	// strangersEach; many computers behind one address come back more slowly then.
	maxStrangers  = 8192
	strangersEach = 64
	// maxOfDevice is above what a computer leaves behind that loses its network
	// again and again.
	maxOfDevice = 16
)

// connections is a listener that hangs up on whoever is one too many. What
// strangers take up is bounded, and what one of them does while there are many:
// else a single host, which needs to be nobody, could keep every computer out.
type connections struct {
	net.Listener
	most, strangers int

	mu  sync.Mutex
	n   int            // all
	new int            // strangers
	by  map[string]int // strangers by address, the others by device
}

func newConnections(l net.Listener, most int) *connections {
	return &connections{Listener: l, most: most, strangers: min(maxStrangers, most), by: map[string]int{}}
}

// Accept implements net.Listener.
func (l *connections) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := addressOf(c.RemoteAddr())
		l.mu.Lock()
		full := l.n >= l.most || l.new >= l.strangers || l.new >= l.strangers/2 && l.by[address] >= strangersEach
		if !full {
			l.n, l.new = l.n+1, l.new+1
			l.by[address]++
		}
		l.mu.Unlock()
		if !full {
			return &connection{Conn: c, of: l, who: address, stranger: true}, nil
		}
		_ = c.Close()
	}
}

// forget has l.mu.
func (l *connections) forget(who string) {
	if l.by[who]--; l.by[who] <= 0 {
		delete(l.by, who)
	}
}

// connection is one that is counted.
type connection struct {
	net.Conn
	of *connections
	// Under of.mu:
	who      string // an address or a device
	stranger bool
	closed   bool
}

// isOf says that the connection is a device's; false: that has too many.
func (c *connection) isOf(device string) bool {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.closed || !c.stranger:
		return true
	case l.by[device] >= maxOfDevice:
		return false
	}
	l.forget(c.who)
	l.new--
	c.who, c.stranger = device, false
	l.by[device]++
	return true
}

// Close implements net.Conn.
func (c *connection) Close() error {
	l := c.of
	l.mu.Lock()
	if !c.closed {
		c.closed = true
		l.n--
		l.forget(c.who)
		if c.stranger {
			l.new--
		}
	}
	l.mu.Unlock()
	return c.Conn.Close()
}

// knowing are TLS credentials that tell a connection whose it is.
type knowing struct {
	credentials.TransportCredentials
	s *Service
}

var errTooManyConnections = errors.New("this device has too many connections")

// ServerHandshake implements credentials.TransportCredentials.
func (k knowing) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := k.TransportCredentials.ServerHandshake(raw)
	counted, isCounted := raw.(*connection)
	t, isTLS := info.(credentials.TLSInfo)
	if err != nil || !isCounted || !isTLS || len(t.State.PeerCertificates) == 0 {
		return c, info, err
	}
	// Whether it may do anything is for admit to say.
	if i, err := k.s.keys.Identify(t.State.PeerCertificates[0], k.s.now()); err == nil && !counted.isOf(i.Device) {
		k.s.log.Debug("a device has too many connections", "device", i.Device)
		return nil, nil, errTooManyConnections
	}
	return c, info, nil
}

// Clone implements credentials.TransportCredentials.
func (k knowing) Clone() credentials.TransportCredentials {
	return knowing{k.TransportCredentials.Clone(), k.s}
}
