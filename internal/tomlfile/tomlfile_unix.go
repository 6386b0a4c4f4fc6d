//go:build !windows

package tomlfile

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/acl"
)

// open opens a file to read it. O_NONBLOCK: a FIFO is to be refused, not waited for.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func checkDir(dir string, _ Trust) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	switch {
	case sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("the directory %s belongs to uid %d; it must belong to root: chown root %s", dir, sys.Uid, dir)
	case st.Mode().Perm()&0o022 != 0 && st.Mode()&os.ModeSticky == 0: // in a sticky one everybody keeps their own: /tmp
		return fmt.Errorf("the directory %s can be changed by others (mode %#o): chmod go-w %s", dir, st.Mode().Perm(), dir)
	}
	return acl.Check(dir)
}

func checkFile(_ *os.File, st fs.FileInfo, path string, _ Trust) error {
	sys := st.Sys().(*syscall.Stat_t)
	switch {
	case sys.Uid != 0 && int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d; it must belong to root: chown root %s", path, sys.Uid, path)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be changed by others (mode %#o): chmod go-w %s", path, st.Mode().Perm(), path)
	}
	return acl.Check(path)
}

// accessList is a variable for tests.
var accessList = acl.Check

// Stamp tells versions of a file apart without reading it; of a directory, only
// whose it is. It is "" when there is none.
func Stamp(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ""
	}
	// Owner, mode and access list too: a file may be refused for them alone.
	stamp := fmt.Sprintf("%d %o", st.Uid, st.Mode)
	if err := accessList(path); err != nil {
		stamp += " " + err.Error()
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		// The time of the last change of any kind: whoever writes a file can set back the
		// other one, as cp -p does.
		stamp += fmt.Sprintf(" %d %d %d %d", st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Ino)
	}
	return stamp
}
