package loginsvc

import (
	"fmt"
	"strconv"
	"strings"
)

// SessionOf tells one use of a terminal from the next: each ttys* is a new node with
// a number of its own in devfs, which gives none twice in a boot (xnu, dev_add_node
// and ptmx_get_ioctl; its ctime changes with what is written to it). The authorization
// plug-in names authd's session, which is another one after each login.
func SessionOf(session string) string {
	if _, err := strconv.ParseUint(session, 10, 64); err == nil {
		return session
	}
	name, st, ok := deviceOf(session)
	if !ok || !strings.HasPrefix(name, "/dev/ttys") {
		return ""
	}
	return fmt.Sprintf("%s %d", name, st.Ino)
}
