//go:build !testclock

package clock

// System returns this computer's clock.
func System() Clock { return newSystem() }
