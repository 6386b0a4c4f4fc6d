//go:build unix

package localsock

import (
	"errors"

	"sallyport/internal/identity"
)

// xucredVersion is XUCRED_VERSION of macOS (sys/ucred.h).
const xucredVersion = 0

// xucredPeer is who a struct xucred is about. Everybody has a group: an answer that
// the kernel did not fill in has none, and would be root's.
func xucredPeer(version, uid uint32, groups int16) (Peer, error) {
	if version != xucredVersion || groups < 1 {
		return Peer{}, errors.New("LOCAL_PEERCRED: the kernel's answer is not one that this agent knows")
	}
	return Peer{ID: identity.UID(uid), Admin: uid == 0}, nil
}
