package loginsvc

import (
	"fmt"
	"strings"
)

// SessionOf tells one use of a terminal from the next. The number of a pts(4) goes
// to the next who opens one, and a console to the next who logs in: each time the
// device is made anew or given to its user (chown(2)), which changes its ctime, as
// writing to it does not.
//
// A console that is root's is nobody's yet: the login screen is on it, or the next
// person. What is no terminal has no session that could be told from the next: sshd calls
// every login "ssh", and a display manager calls whoever sits there ":0".
func SessionOf(session string) string {
	name, st, ok := deviceOf(session)
	if !ok || st.Uid == 0 && !strings.HasPrefix(name, "/dev/pts/") {
		return ""
	}
	return fmt.Sprintf("%s %d %d %d.%09d", name, st.Dev, st.Rdev, st.Ctim.Sec, st.Ctim.Nsec)
}
