//go:build unix

package loginsvc

import "golang.org/x/sys/unix"

// deviceOf is the device of a session that is a terminal.
func deviceOf(session string) (name string, st unix.Stat_t, ok bool) {
	if name, ok = terminal(session); !ok {
		return name, st, false
	}
	err := unix.Stat(name, &st)
	return name, st, err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}
