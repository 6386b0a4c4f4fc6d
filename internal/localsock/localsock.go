// Package localsock is gRPC over a local socket where the kernel says who the
// other end is. The identity travels as gRPC TransportCredentials: a handler
// sees a Peer, never a file descriptor, and a call without one is an error.
package localsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"sallyport/internal/identity"
)

// Peer is the process at the other end, as the kernel saw it when it connected.
// There is no PID in it: PIDs are used again.
type Peer struct {
	ID identity.ID
	// Admin: an administrator of this computer whose rights are switched on. On
	// Linux and macOS that is root alone.
	Admin bool
}

// AuthType implements credentials.AuthInfo.
func (Peer) AuthType() string { return "local" }

func (p Peer) String() string { return string(p.ID) }

// FromContext returns who calls. A call without an identity is an error, never
// a zero Peer.
func FromContext(ctx context.Context) (Peer, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if local, ok := p.AuthInfo.(Peer); ok {
			return local, nil
		}
	}
	return Peer{}, errors.New("the caller's identity is unknown")
}

// Credentials are the TransportCredentials of both ends. accept is asked whether
// the other end is whom it should be, before anything is read from it; nil takes
// anybody.
func Credentials(accept func(Peer) error) credentials.TransportCredentials {
	return creds{accept}
}

type creds struct{ accept func(Peer) error }

func (c creds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}

func (c creds) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}

func (c creds) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var p Peer
	var err error
	if counted, ok := conn.(*countedConn); ok {
		p = counted.peer
	} else {
		p, err = PeerOf(conn)
	}
	if err == nil && c.accept != nil {
		err = c.accept(p)
	}
	if err != nil {
		return nil, nil, err
	}
	return conn, p, nil
}

func (creds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "local"}
}
func (c creds) Clone() credentials.TransportCredentials { return c }
func (creds) OverrideServerName(string) error           { return nil }

// TrustAgent is what a client accepts as the agent: root, or its own user.
func TrustAgent(p Peer) error {
	if !p.IsRoot() && p.ID != Self() {
		return fmt.Errorf("the socket is served by %s, neither the system nor you", p)
	}
	return nil
}

// IsRoot says whether the peer is the system itself: root, or LocalSystem.
func (p Peer) IsRoot() bool { return p.ID.IsRoot() }

// IsOwner says whether the peer may do anything here: the system, an
// administrator, or the agent's own user.
func (p Peer) IsOwner() bool { return p.IsRoot() || p.Admin || p.ID != "" && p.ID == Self() }

// maxOthers bounds the connections of all users but root and the agent's own:
// with subordinate uids (subuid(5)) one person is many users.
const maxOthers = 256

// Listen makes the socket at path with the given mode and takes at most
// perUID connections at once from any user but root and its own. The socket appears
// under its name only once it listens. A socket that a dead agent left behind
// is replaced; one that somebody listens on is an error.
func Listen(path string, mode os.FileMode, perUID int) (net.Listener, error) {
	switch conn, err := net.Dial("unix", path); {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("another agent listens on %s", path)
	case !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist):
		// EAGAIN, for one: somebody listens who is too busy, or stopped.
		return nil, fmt.Errorf("whether another agent listens on %s cannot be told: %w", path, err)
	}
	// bind(2) makes the socket with the umask's mode: it gets its own where
	// nobody else can come, and its name after that.
	dir := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.RemoveAll(dir); err != nil { // of an agent that died here
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(tmp, mode); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &listener{UnixListener: l, perUID: perUID, open: map[identity.ID]int{},
		// Once: the name may be another agent's by then.
		close: sync.OnceValue(func() error { return errors.Join(os.Remove(path), l.Close()) })}, nil
}

type listener struct {
	*net.UnixListener
	perUID int
	close  func() error

	mu     sync.Mutex
	open   map[identity.ID]int // without root and the agent's own
	others int                 // of them all
}

// Accept returns the next connection within its user's bound. What is over it
// is closed at once, so that no user can use up the agent's descriptors.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.UnixListener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := PeerOf(conn)
		if err != nil {
			conn.Close()
			continue
		}
		if p.IsOwner() {
			return &countedConn{Conn: conn, peer: p, done: func() {}}, nil
		}
		if !l.take(p.ID) {
			conn.Close()
			continue
		}
		return &countedConn{Conn: conn, peer: p, done: sync.OnceFunc(func() { l.release(p.ID) })}, nil
	}
}

func (l *listener) take(id identity.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[id] >= l.perUID || l.others >= maxOthers {
		return false
	}
	l.open[id]++
	l.others++
	return true
}

func (l *listener) release(id identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.others--
	if l.open[id]--; l.open[id] == 0 {
		delete(l.open, id)
	}
}

// Close ends the listening and takes the name away.
func (l *listener) Close() error { return l.close() }

type countedConn struct {
	net.Conn
	peer Peer
	done func()
}

func (c *countedConn) Close() error {
	c.done()
	return c.Conn.Close()
}
