package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noDumps keeps what the agent knows out of core files, also where no launchd says
// so, and debuggers of its user out of its memory (setrlimit(2), ptrace(2)).
func noDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps cannot be turned off: setrlimit: %w", err)
	}
	// A debugger that is attached already ends the agent here: "the process will
	// exit with the exit status of ENOTSUP".
	if err := unix.PtraceDenyAttach(); err != nil {
		return fmt.Errorf("debuggers cannot be kept out: ptrace: %w", err)
	}
	return nil
}
