//go:build unix

package vault

import (
	"os"
	"testing"
)

// private lets nobody else at a file. Here its mode did at its creation.
func private(testing.TB, string) {}

func readableByAll(t testing.TB, path string) { must(t, os.Chmod(path, 0o644)) }

func writableByAll(t testing.TB, path string) { must(t, os.Chmod(path, 0o777)) }

func giveAway(t testing.TB, path string) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	must(t, os.Lchown(path, 12345, 12345))
}
