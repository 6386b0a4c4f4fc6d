//go:build !windows

package password

// System is nil: this system has checked the password before it asks a hook.
func System() Checker { return nil }
