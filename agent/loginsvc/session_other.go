//go:build !linux && !darwin

package loginsvc

import "strconv"

// SessionOf is the number of a Windows session. That of the login screen before
// anybody is in is a new one each time.
func SessionOf(session string) string {
	if _, err := strconv.ParseUint(session, 10, 32); err != nil {
		return ""
	}
	return session
}
