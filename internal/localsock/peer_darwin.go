package localsock

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

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
	return xucredPeer(cred.Version, cred.Uid, cred.Ngroups)
}
