package vault

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"sallyport/internal/vault/statefile"
)

// mapSize is address space, not memory. A vault that outgrows it is mapped
// again, for which it must wait until no one reads.
const mapSize = 256 << 20

// otherwise is what to do about an error that remedy does not know.
const otherwise = "see the kernel's log"

// remedy says what to do about an error of the file system; "" if nothing is
// known.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free some disk space"
	case errors.Is(err, unix.EROFS):
		return "mount the file system read-write again, after finding out why it is not (dmesg)"
	case errors.Is(err, fs.ErrPermission):
		return "check the directory's owner, mode and SELinux label"
	case errors.Is(err, unix.EIO):
		return "the disk reports errors (dmesg)"
	}
	return ""
}

// unlock releases the lock of a file that stays mapped, which would keep it.
func unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// flushData waits until what was written to a file, which keeps its size, is on
// the disk.
func flushData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// forget drops the file from the kernel's cache. After a failed flush the cache
// may hold, as clean, what never reached the disk; what counts is on the disk.
func forget(path string) error {
	f, err := statefile.Open(path, os.O_RDONLY, statefile.Private)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
