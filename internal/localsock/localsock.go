// Package localsock is gRPC over a local socket, on Windows a named pipe, where
// the kernel says who the other end is. The identity travels as gRPC
// TransportCredentials: a handler sees a Peer, never a file descriptor, and a
// call without one is an error.
package localsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"sallyport/internal/identity"
)

// Peer is the process at the other end, as the kernel saw it when it connected.
// There is no PID in it: PIDs are used again. The agent, as its clients see it on
// Windows, is whoever owns the pipe.
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
	p, err := PeerOf(conn)
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

// IsRoot says whether the peer is the system itself: root, or LocalSystem.
func (p Peer) IsRoot() bool { return p.ID.IsRoot() }

// IsOwner says whether the peer may do anything here: the system, an
// administrator, or the agent's own user, unless the agent has an administrator's
// rights that not every program of that user has (Windows).
func (p Peer) IsOwner() bool {
	return p.IsRoot() || p.Admin || p.ID != "" && p.ID == identity.Self() && !elevated()
}

// ErrTaken says that another program listens under the name. On Windows that may be
// anybody's, and end at any time.
var ErrTaken = errors.New("another program listens there")

// Access says who may connect to a socket.
type Access int

// The kinds of access. The zero value is the narrow one.
const (
	OwnerOnly Access = iota // the agent's own user; on Windows the administrators too
	Everyone                // everybody who is logged in here: its calls are checked one by one
)

// maxOthers bounds the connections of all users but the owners: with subordinate
// uids (subuid(5)) one person is many users.
const maxOthers = 256

// quota counts the connections of those who are not owners.
type quota struct {
	perUser int

	mu     sync.Mutex
	open   map[identity.ID]int
	others int // of them all
}

func newQuota(perUser int) *quota { return &quota{perUser: perUser, open: map[identity.ID]int{}} }

// take counts a connection and returns what ends it, or an error when the user
// has all it may have: no user can use up the agent's descriptors.
func (q *quota) take(p Peer) (done func(), err error) {
	if p.IsOwner() {
		return func() {}, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[p.ID] >= q.perUser || q.others >= maxOthers {
		return nil, fmt.Errorf("%s has too many connections", p)
	}
	q.open[p.ID]++
	q.others++
	return sync.OnceFunc(func() { q.release(p.ID) }), nil
}

func (q *quota) release(id identity.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.others--
	if q.open[id]--; q.open[id] == 0 {
		delete(q.open, id)
	}
}
