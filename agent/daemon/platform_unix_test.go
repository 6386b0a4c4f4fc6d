//go:build unix

package daemon

import (
	"path/filepath"
	"testing"
)

// runtimeDir is for the sockets of an agent that has dir to itself.
func runtimeDir(dir string) string { return filepath.Join(dir, "run") }

// listened is called once before a socket is used.
func listened(*testing.T, string) {}
