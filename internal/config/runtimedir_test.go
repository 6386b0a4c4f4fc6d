package config

import (
	"strings"
	"testing"
)

// TestARuntimeDirectoryLeavesRoomForASocket: sun_path holds 108 bytes on Linux and 104
// on macOS, its NUL among them, and a socket has a longer name first (localsock.Listen).
func TestARuntimeDirectoryLeavesRoomForASocket(t *testing.T) {
	for sys, size := range map[System]int{Linux: 108, MacOS: 104} {
		longest := size - 1 - len("/.login.sock.new/s")
		for length, fits := range map[int]bool{longest: true, longest + 1: false} {
			if why := badRuntimeDir(sys, "/"+strings.Repeat("r", length-1)); fits != (why == "") {
				t.Errorf("%v, %d bytes: %q", sys, length, why)
			}
		}
	}
}
