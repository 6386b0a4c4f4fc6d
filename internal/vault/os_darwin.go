package vault

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// mapSize is address space, not memory. A vault that outgrows it is mapped
// again, for which it must wait until no one reads.
const mapSize = 256 << 20

// otherwise is what to do about an error that remedy does not know.
const otherwise = "see the system's log (log show --last 10m --predicate 'process == \"kernel\"')"

// remedy says what to do about an error of the file system; "" if nothing is
// known.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free some disk space"
	case errors.Is(err, unix.EROFS):
		return "make the volume writable again, after finding out why it is not (diskutil info)"
	case errors.Is(err, fs.ErrPermission):
		return "check the directory's owner, mode, access list and flags (ls -lde@O)"
	case errors.Is(err, unix.EIO):
		return "the disk reports errors (diskutil verifyVolume)"
	}
	return ""
}

// unlock releases the lock of a file that stays mapped, which would keep it.
func unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// flushData waits until what was written to a file is on the disk. fsync(2) of
// macOS leaves it in the drive's cache; os.File.Sync, which bbolt uses, too, asks
// for F_FULLFSYNC (fcntl(2)).
func flushData(f *os.File) error { return f.Sync() }

// forget has nothing to do: there is no documented call that drops a file from the
// cache. (F_NOCACHE only keeps what comes from getting there.) A vault is flushed
// whenever it is opened, and what could not be written the first time is tried
// again then.
func forget(string) error { return nil }
