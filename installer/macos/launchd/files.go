package launchd

import (
	"fmt"
	"io/fs"
	"os"
	"path"
)

// OnlyRoots says why others than root could change a file, or put another one in
// its place. The name is absolute and without symbolic links.
func OnlyRoots(name string, lstat func(string) (mode fs.FileMode, uid int, err error)) error {
	for at := path.Clean(name); ; at = path.Dir(at) {
		mode, uid, err := lstat(at)
		switch {
		case err != nil:
			return err
		case mode.Type()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link", at)
		case uid != 0:
			return fmt.Errorf("%s belongs to uid %d, not to root", at, uid)
		case mode.Perm()&0o022 != 0:
			return fmt.Errorf("%s can be written by others than root (mode %#o)", at, mode.Perm())
		case at == path.Dir(at):
			return nil
		}
	}
}

// maxStderr is what is kept of what the agent once wrote to its standard error:
// launchd appends, for ever.
const maxStderr = 1 << 20

// Bound empties the file that is the agent's standard error when it has grown, as
// by an agent that crashes again and again; and keeps it for root, whatever launchd
// made it with.
func Bound(stderr *os.File) error {
	st, err := stderr.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return err
	}
	if err := stderr.Chmod(0o600); err != nil || st.Size() <= maxStderr {
		return err
	}
	return stderr.Truncate(0)
}
