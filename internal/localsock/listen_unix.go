//go:build unix

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

	"golang.org/x/sys/unix"

	"sallyport/internal/identity"
)

// The names of the agent's sockets in its runtime directory.
const (
	LoginName = "login.sock"
	AdminName = "admin.sock"
)

// mode is what the file system is told.
func (a Access) mode() os.FileMode {
	if a == Everyone {
		return 0o666
	}
	return 0o600
}

// elevated: what one program of a user's may do here, all may.
func elevated() bool { return false }

// TrustAgent is what a client accepts as the agent: root, or its own user.
func TrustAgent(p Peer) error {
	if !p.IsRoot() && p.ID != identity.Self() {
		return fmt.Errorf("the socket is served by %s, neither the system nor you", p)
	}
	return nil
}

// Dial connects to a socket. Whoever dials asks PeerOf who serves it.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// Listen makes the socket at path for whoever has access and takes at most
// perUser connections at once from any user but root and its own. The socket appears
// under its name only once it listens. A socket that a dead agent left behind
// is replaced; one that somebody listens on is an error.
func Listen(path string, access Access, perUser int) (_ net.Listener, err error) {
	free, err := lock(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, free())
		}
	}()
	// One who listens without the lock is no agent, but has the name.
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
	if err = os.Chmod(tmp, access.mode()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &listener{UnixListener: l, quota: newQuota(perUser),
		// Once: the name may be another agent's by then.
		close: sync.OnceValue(func() error { return errors.Join(os.Remove(path), l.Close(), free()) })}, nil
}

// lock takes the name for this process, until free or the process's end. Whether an
// agent lives cannot be told by dialling alone: on macOS one that is stopped, or too
// busy, refuses a connection as a dead one does, once its backlog is full.
//
// The lock is a file of its own, which nobody else can open. The directory, which
// all can read, could be locked by all.
func lock(path string) (free func() error, err error) {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("another agent listens on %s", path)
			}
			return nil, fmt.Errorf("cannot lock %s: %w", name, err)
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Lstat(name); err == nil && os.SameFile(mine, there) {
			return func() error { return errors.Join(os.Remove(name), f.Close()) }, nil
		}
		f.Close() // whoever had it has just taken it away
	}
}

type listener struct {
	*net.UnixListener
	quota *quota
	close func() error
}

// Accept returns the next connection within its user's bound. What is over it
// is closed at once.
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
		done, err := l.quota.take(p)
		if err != nil {
			conn.Close()
			continue
		}
		return &countedConn{Conn: conn, peer: p, done: done}, nil
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

// PeerOf says who is at the other end: who connected, or who listens.
func PeerOf(conn net.Conn) (Peer, error) {
	if counted, ok := conn.(*countedConn); ok {
		return counted.peer, nil
	}
	return peerOfSocket(conn)
}

func peerOfSocket(conn net.Conn) (Peer, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("a %T has no peer credentials", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var askErr error
	if err := raw.Control(func(fd uintptr) { p, askErr = peerOfDescriptor(int(fd)) }); err != nil {
		return Peer{}, err
	}
	return p, askErr
}
