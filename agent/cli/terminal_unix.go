//go:build unix

package cli

import (
	"fmt"
	"os"
	"syscall"
)

// execProgram replaces this process, so that the terminal has one owner.
func execProgram(path string, argv []string) (int, error) {
	err := syscall.Exec(path, argv, os.Environ())
	return ExitFailed, fmt.Errorf("%s does not start: %w", path, err)
}
