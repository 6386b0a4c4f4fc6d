package localsock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// peerOfDescriptor asks the kernel: LOCAL_PEERCRED, unix(4). It is who connected, or
// who listens, as that was done.
func peerOfDescriptor(fd int) (Peer, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("LOCAL_PEERCRED: %w", err)
	}
	return xucredPeer(cred.Version, cred.Uid, cred.Ngroups)
}
