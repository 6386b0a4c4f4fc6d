package cli

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/agent/cli/doctor"
)

const doctorLong = `Looks for the usual mistakes: in the PAM stacks (it computes what libpam would do
with them), in sshd_config, the sockets, the authority, the clock, SELinux; and lists the ways in
that no stack covers. Run it as root: some files are not for others to read.`

// platformEnv fills in what only the kernel can say.
func (a *app) platformEnv(e *doctor.Env) {
	e.Root, e.EUID = a.deps.Root, os.Geteuid()
	e.Lstat = func(path string) (doctor.Stat, error) {
		st, err := os.Lstat(path)
		if err != nil {
			return doctor.Stat{}, err
		}
		return doctor.Stat{Mode: st.Mode(), UID: int(st.Sys().(*syscall.Stat_t).Uid)}, nil
	}
	e.Synchronised = func() (bool, error) {
		var t unix.Timex // modes 0: only asks, adjtimex(2)
		if _, err := unix.Adjtimex(&t); err != nil {
			return false, err
		}
		return t.Status&unix.STA_UNSYNC == 0, nil
	}
}
