//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// watchHangups has the configuration read again on SIGHUP, until ctx ends. From then on
// the signal is lost: it must not end an agent that starts over.
func (d *daemon) watchHangups(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hup:
				d.reload(true)
			case <-ctx.Done():
				return
			}
		}
	}()
}

// ownDirectory makes the directory of the sockets where no service manager does,
// whatever the umask, and refuses one that is somebody else's, or that others may
// write: they would put sockets of their own there.
func ownDirectory(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := st.Sys().(*syscall.Stat_t).Uid
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case owner != 0 && int(owner) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d: remove it", dir, owner)
	case st.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %#o): chmod go-w %s", dir, st.Mode().Perm(), dir)
	}
	return nil
}
