package cli

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/agent/cli/doctor"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
)

// platformEnv fills in what only the kernel can say.
func (a *app) platformEnv(e *doctor.Env) {
	e.EUID = os.Geteuid()
	e.Lstat = func(path string) (doctor.Stat, error) {
		st, err := os.Lstat(path)
		if err != nil {
			return doctor.Stat{}, err
		}
		return doctor.Stat{Mode: st.Mode(), UID: int(st.Sys().(*syscall.Stat_t).Uid)}, nil
	}
	e.Peer = func(socket string) (identity.ID, error) {
		c, err := net.DialTimeout("unix", socket, dialTimeout)
		if err != nil {
			return "", err
		}
		defer func() { _ = c.Close() }()
		peer, err := localsock.PeerOf(c)
		return peer.ID, err
	}
	e.Synchronised = func() (bool, error) {
		var t unix.Timex // modes 0: only asks, adjtimex(2)
		if _, err := unix.Adjtimex(&t); err != nil {
			return false, err
		}
		return t.Status&unix.STA_UNSYNC == 0, nil
	}
}
