package door

import (
	"io"
	"net"
	"sync"
	"testing"
)

// from is a connection that says it comes from somewhere.
type from struct {
	net.Conn
	address net.Addr
	closed  chan struct{} // of many
}

func (f from) RemoteAddr() net.Addr { return f.address }
func (f from) Close() error         { f.closed <- struct{}{}; return nil }

// callers is a listener that people of any address call.
type callers chan net.Conn

func (c callers) Accept() (net.Conn, error) {
	if f, ok := <-c; ok {
		return f, nil
	}
	return nil, io.EOF
}
func (callers) Close() error   { return nil }
func (callers) Addr() net.Addr { return nil }

// door is a listener at work.
type door struct {
	testing.TB
	calls    callers
	list     *Listener
	accepted chan net.Conn
}

func newDoor(t testing.TB, most, strangers int) *door {
	d := &door{TB: t, calls: make(callers), accepted: make(chan net.Conn, 1)}
	d.list = New(d.calls, most, strangers)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := d.list.Accept()
			if err != nil {
				close(d.accepted)
				return
			}
			d.accepted <- c
		}
	})
	t.Cleanup(func() {
		close(d.calls)
		tasks.Wait()
	})
	return d
}

// call is a connection from an address; nil: it was hung up on.
func (d *door) call(ip string) *Conn {
	f := from{address: &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}, closed: make(chan struct{}, 2)}
	d.calls <- f
	select {
	case c := <-d.accepted:
		return c.(*Conn)
	case <-f.closed:
		return nil
	}
}

// TestOneHostWithoutACertificateDoesNotKeepTheComputersOut: it opens as many
// connections as it likes; others still get in, and those that are in stay.
func TestOneHostWithoutACertificateDoesNotKeepTheComputersOut(t *testing.T) {
	d := newDoor(t, 10_000, 1000)
	computer := d.call("198.51.100.1")
	if !computer.IsOf("A") {
		t.Fatal("a computer's connection is refused")
	}
	var held []*Conn
	for range 3000 {
		if c := d.call("203.0.113.9"); c != nil {
			held = append(held, c)
		}
	}
	if len(held) > 500 {
		t.Errorf("one address holds %d of %d places", len(held), d.list.strangers)
	}
	// A network of IPv6 is one address.
	n := 0
	for i := range 200 {
		if c := d.call(net.IP{0x20, 1, 0xd, 0xb8, 15: byte(i)}.String()); c != nil {
			n++
		}
	}
	if n > Each {
		t.Errorf("one network holds %d", n)
	}
	other := d.call("198.51.100.2")
	if other == nil || !other.IsOf("B") {
		t.Error("another computer does not get in")
	}
	// It goes away.
	for _, c := range held {
		_ = c.Close()
		_ = c.Close() // twice counts once
	}
	if d.call("203.0.113.9") == nil {
		t.Error("it is never let in again")
	}
}

// TestAProxyOnThisMachine is everybody's address.
func TestAProxyOnThisMachine(t *testing.T) {
	d := newDoor(t, 1000, 1000)
	for i := range 1000 {
		if d.call([]string{"127.0.0.1", "::1"}[i%2]) == nil {
			t.Fatalf("connection %d is hung up on", i)
		}
	}
	if d.call("127.0.0.1") != nil {
		t.Error("there is no bound")
	}
}

// TestAStormOfComputersBehindOneAddress: they get in one after the other, as those
// before have shown whose they are.
func TestAStormOfComputersBehindOneAddress(t *testing.T) {
	d := newDoor(t, 10_000, 1000)
	for i := range 5000 {
		c := d.call("198.51.100.1")
		if c == nil || !c.IsOf(string(rune('A'+i))) {
			t.Fatalf("computer %d is hung up on", i)
		}
	}
	if d.list.new != 0 || d.list.n != 5000 {
		t.Errorf("%d of %d are strangers", d.list.new, d.list.n)
	}
}

func TestOneConnectionTooManyIsHungUpOn(t *testing.T) {
	d := newDoor(t, 1, 100)
	first := d.call("198.51.100.1")
	if first == nil || d.call("198.51.100.2") != nil {
		t.Error("another than the second is hung up on")
	}
	_ = first.Close()
	if d.call("198.51.100.2") == nil {
		t.Error("there is room again")
	}
}
