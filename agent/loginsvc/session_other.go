//go:build !unix

package loginsvc

// SessionOf tells one session from the next: by what the hook calls it.
func SessionOf(session string) string { return session }
