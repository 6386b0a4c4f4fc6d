package localsock

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"sallyport/internal/identity"
)

// xucredVersion is XUCRED_VERSION (sys/ucred.h).
const xucredVersion = 0

// peerOfSocket asks the kernel: LOCAL_PEERCRED, unix(4). It is who connected, or
// who listens, as that was done.
func peerOfSocket(conn net.Conn) (Peer, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("a %T has no peer credentials", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Xucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("LOCAL_PEERCRED: %w", credErr)
	}
	// Everybody has a group. An answer that was not filled in has none, and would
	// be root's.
	if cred.Version != xucredVersion || cred.Ngroups < 1 {
		return Peer{}, errors.New("LOCAL_PEERCRED: the kernel's answer is not one that this agent knows")
	}
	return Peer{ID: identity.UID(cred.Uid), Admin: cred.Uid == 0}, nil
}
