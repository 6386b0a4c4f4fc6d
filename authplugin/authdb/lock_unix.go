//go:build unix

package authdb

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ErrBusy says that another process changes the rights now.
var ErrBusy = errors.New("another installation, removal or repair of the rights is under way")

// lock keeps other processes of ours from changing the rights; flock(2), so that it
// ends with the process.
func (r *Rights) lock() (unlock func(), err error) {
	if err := r.prepare(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(r.file("lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// ownerOf is whose a file is.
func ownerOf(st fs.FileInfo) int { return int(st.Sys().(*syscall.Stat_t).Uid) }
