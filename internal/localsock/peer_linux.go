package localsock

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"sallyport/internal/identity"
)

// peerOfSocket asks the kernel: SO_PEERCRED, unix(7).
func peerOfSocket(conn net.Conn) (Peer, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("a %T has no peer credentials", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return Peer{ID: identity.UID(cred.Uid), Admin: cred.Uid == 0}, nil
}
