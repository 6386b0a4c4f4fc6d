package localsock

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport/internal/identity"
)

// peerOfDescriptor asks the kernel: SO_PEERCRED, unix(7).
func peerOfDescriptor(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return Peer{ID: identity.UID(cred.Uid), Admin: cred.Uid == 0}, nil
}
