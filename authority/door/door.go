// Package door bounds how many connections whoever comes may hold. Without it a
// single host, which needs to be nobody, could keep everybody else out.
package door

import (
	"net"
	"net/netip"
	"sync"
)

const (
	// Each is how many connections one address may have from then on that half of the
	// places for strangers are taken. Many people behind one address come in more
	// slowly then.
	Each = 64
	// EachMember is above what a computer leaves behind that loses its network again
	// and again.
	EachMember = 16
)

// Listener hangs up on whoever is one too many. Whoever has not shown who they are
// is a stranger.
type Listener struct {
	net.Listener
	most, strangers int

	mu  sync.Mutex
	n   int            // all
	new int            // strangers
	by  map[string]int // strangers by address, the others by name
}

// New returns a listener that keeps at most so many connections, and of strangers
// so many.
func New(l net.Listener, most, strangers int) *Listener {
	return &Listener{Listener: l, most: most, strangers: min(strangers, most), by: map[string]int{}}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address, local := Address(c.RemoteAddr())
		l.mu.Lock()
		full := l.n >= l.most || l.new >= l.strangers || l.new >= l.strangers/2 && l.by[address] >= Each && !local // a proxy
		if !full {
			l.n, l.new = l.n+1, l.new+1
			l.by[address]++
		}
		l.mu.Unlock()
		if !full {
			return &Conn{Conn: c, of: l, who: address, stranger: true}, nil
		}
		_ = c.Close()
	}
}

// forget has l.mu.
func (l *Listener) forget(who string) {
	if l.by[who]--; l.by[who] <= 0 {
		delete(l.by, who)
	}
}

// Conn is a connection that is counted.
type Conn struct {
	net.Conn
	of *Listener
	// Under of.mu:
	who      string // an address or a name
	stranger bool
	closed   bool
}

// IsOf says whose connection it is; false: they have too many.
func (c *Conn) IsOf(name string) bool {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.closed || !c.stranger:
		return true
	case l.by[name] >= EachMember:
		return false
	}
	l.forget(c.who)
	l.new--
	c.who, c.stranger = name, false
	l.by[name]++
	return true
}

// Close implements net.Conn.
func (c *Conn) Close() error {
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

// Address is what an address counts as: an IPv4 address, or an IPv6 network of 64
// bits, of which a customer has all addresses. local: it is this machine.
func Address(a net.Addr) (address string, local bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return "?", false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() && !ip.IsLoopback() {
		if prefix, err := ip.WithZone("").Prefix(64); err == nil {
			return prefix.String(), false
		}
	}
	return netip.Addr.String(ip), ip.IsLoopback()
}
