package daemon

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// noDumps keeps what the agent knows out of core files, also where no launchd says
// so, and debuggers of its user out of its memory (setrlimit(2), ptrace(2)).
func noDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps cannot be turned off: setrlimit: %w", err)
	}
	// A debugger that is attached already ends the agent here: "the process will
	// exit with the exit status of ENOTSUP". What macOS does not let debuggers do by
	// itself is left to root, and no reason to let nobody in.
	if err := unix.PtraceDenyAttach(); err != nil {
		slog.Warn("debuggers cannot be kept out: ptrace", "error", err)
	}
	return nil
}
