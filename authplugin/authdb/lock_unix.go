//go:build unix

package authdb

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// ErrBusy says that another process changes the rights now.
var ErrBusy = errors.New("another installation, removal or repair of the rights is under way")

// lockPause is how often it is asked whether the other one has ended.
const lockPause = 50 * time.Millisecond

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
	for end := time.Now().Add(r.Patience); ; time.Sleep(lockPause) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			_ = f.Close()
			return nil, err
		case !time.Now().Before(end):
			_ = f.Close()
			return nil, ErrBusy
		}
	}
}

// ownerOf is whose a file is.
func ownerOf(st fs.FileInfo) int { return int(st.Sys().(*syscall.Stat_t).Uid) }
