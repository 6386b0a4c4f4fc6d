//go:build linux

package machine

import (
	"errors"
	"net"
	"sync"
)

// Cable is the network between two programs, as a TCP relay that can be cut:
// frozen, so that nothing arrives and nobody is told, as on a train.
type Cable struct {
	Port int

	listener net.Listener

	mu      sync.Mutex
	to      string
	thawed  *sync.Cond
	frozen  bool
	closed  bool
	dialled int
	conns   map[net.Conn]bool
}

// NewCable relays what connects to its port on 127.0.0.1 to the address.
func NewCable(to string) (*Cable, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Cable{Port: l.Addr().(*net.TCPAddr).Port, listener: l, to: to, conns: map[net.Conn]bool{}}
	c.thawed = sync.NewCond(&c.mu)
	go c.accept()
	return c, nil
}

// Freeze stops everything that is under way, and new connections. Thaw lets it go on.
func (c *Cable) Freeze() { c.set(true) }

// Thaw lets what was held back go on.
func (c *Cable) Thaw() { c.set(false) }

// Plug has new connections go to another address, and cuts those that are there.
func (c *Cable) Plug(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
	for conn := range c.conns {
		_ = conn.Close() // whoever relays notices
	}
}

// Dialled is how many connections were made through it.
func (c *Cable) Dialled() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialled
}

func (c *Cable) address() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.to
}

func (c *Cable) set(frozen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = frozen
	c.thawed.Broadcast()
}

// Close takes it away.
func (c *Cable) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.thawed.Broadcast()
	err := c.listener.Close()
	for conn := range c.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

func (c *Cable) accept() {
	for {
		from, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.dialled++
		c.mu.Unlock()
		go c.connect(from)
	}
}

func (c *Cable) connect(from net.Conn) {
	defer from.Close()
	if !c.pass() {
		return
	}
	to, err := net.Dial("tcp", c.address())
	if err != nil {
		return
	}
	defer to.Close()
	if !c.keep(from, to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { c.relay(to, from) })
	both.Go(func() { c.relay(from, to) })
	both.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, from)
	delete(c.conns, to)
}

// keep notes connections to be closed with the cable.
func (c *Cable) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.conns[conn] = true
	}
	return !c.closed
}

// relay moves bytes until an end closes, and then closes both.
func (c *Cable) relay(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if !c.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the cable is frozen; false when it was taken away.
func (c *Cable) pass() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.frozen && !c.closed {
		c.thawed.Wait()
	}
	return !c.closed
}
