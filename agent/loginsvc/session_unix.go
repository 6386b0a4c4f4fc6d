//go:build unix

package loginsvc

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// SessionOf tells one use of a terminal from the next. The number of a pts(4) goes
// to the next who opens one, and a console to the next who logs in: each time the
// device is made anew or given to its user (chown(2)), which changes its ctime, as
// writing to it does not. A session that is no terminal, such as sshd's "ssh", is
// its name.
func SessionOf(session string) string {
	if session == "" {
		return ""
	}
	name, ok := terminal(session)
	if !ok {
		return ""
	}
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	switch {
	case errors.Is(err, unix.ENOENT) && !strings.HasPrefix(session, "/"):
		return session
	case err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR:
		return ""
	}
	return fmt.Sprintf("%s %d %d %d.%09d", name, st.Dev, st.Rdev, st.Ctim.Sec, st.Ctim.Nsec)
}
