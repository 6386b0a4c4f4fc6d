package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noDumps keeps what the agent knows out of core files, also where no unit says
// LimitCORE=0, and other processes of its user out of its memory (prctl(2)).
func noDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("core dumps cannot be turned off: prctl: %w", err)
	}
	return nil
}
