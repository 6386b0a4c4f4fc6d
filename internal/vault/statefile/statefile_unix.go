//go:build unix

package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/internal/acl"
)

// Access is who, beside the owner, may have what right to a file.
type Access fs.FileMode

// The two that are used.
const (
	Private Access = 0o077 // nobody else may do anything: keys, records
	Guarded Access = 0o022 // others may read, only the owner may write
)

// makeDir makes a directory with mode 0700, whatever the umask.
func makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chmod(path, 0o700)
}

// MkdirAll makes a directory with mode 0755, and its parents, where they are not
// there yet.
func MkdirAll(path string) error { return os.MkdirAll(path, 0o755) }

// checkParent: whoever keeps the state below a directory that others can change, or
// that a link leads to, has said so; by default it is /var/lib.
func checkParent(string) error { return nil }

// CheckDir refuses a directory that is a symbolic link, that is not ours, or
// that someone else may write.
func CheckDir(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is a %s, not a directory: %w", path, kind(info.Mode()), ErrUntrusted)
	}
	return check(path, info, Guarded)
}

// Open opens a regular file with the flags given (os.O_CREATE excepted) and
// refuses one that is not ours or gives others more than access allows.
func Open(path string, flags int, access Access) (*os.File, error) {
	// O_NONBLOCK: a FIFO in the file's place must not hang us.
	f, err := os.OpenFile(path, flags&^os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: %w", path, ErrUntrusted)
	}
	if errors.Is(err, unix.EISDIR) {
		return nil, fmt.Errorf("%s is a directory, not a file: %w", path, ErrUntrusted)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is a %s, not a file: %w", path, kind(info.Mode()), ErrUntrusted)
	}
	if err == nil {
		err = check(path, info, access)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Create makes a file that must not be there yet, with mode 0600.
func Create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Rename gives a file or directory another name, in place of a file of that name.
// It is on the disk after SyncDir.
func Rename(from, to string) error { return os.Rename(from, to) }

// Lock locks a directory for this process. The lock is on the directory itself,
// which can neither be forgotten in a backup nor removed under an agent.
func Lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	return f, nil
}

// SyncDir waits until the names in a directory are on the disk.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("cannot flush directory %s: %w", path, err)
	}
	return nil
}

func check(path string, info fs.FileInfo, access Access) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told: %w", path, ErrUntrusted)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, not to uid %d (chown it, after finding out why): %w", path, st.Uid, os.Geteuid(), ErrUntrusted)
	}
	if extra := info.Mode().Perm() & fs.FileMode(access); extra != 0 {
		return fmt.Errorf("%s has mode %04o, which gives others rights (chmod go-rwx, after finding out why): %w", path, info.Mode().Perm(), ErrUntrusted)
	}
	if err := acl.Check(path); err != nil {
		return fmt.Errorf("%w: %w", err, ErrUntrusted)
	}
	return nil
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "file"
	default:
		return "special file"
	}
}
