package vault

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// mapSize is small, as bbolt makes the file as large as its mapping on Windows. A
// vault that outgrows it is mapped again, for which it must wait until no one
// reads; it then doubles.
const mapSize = growBy

// otherwise is what to do about an error that remedy does not know.
const otherwise = "see the system's event log"

// remedy says what to do about an error of the file system; "" if nothing is
// known.
func remedy(err error) string {
	for _, c := range []struct {
		err    error
		remedy string
	}{
		{windows.ERROR_DISK_FULL, "free some disk space"},
		{windows.ERROR_HANDLE_DISK_FULL, "free some disk space"},
		{windows.ERROR_DISK_QUOTA_EXCEEDED, "free some disk space, or raise the quota"},
		{windows.ERROR_WRITE_PROTECT, "make the volume writable again, after finding out why it is not"},
		{windows.ERROR_SHARING_VIOLATION, "another program has it open (openfiles, or Resource Monitor, say which); leave the state directory out of backups of open files and of virus scans"},
		{windows.ERROR_LOCK_VIOLATION, "another program has locked it; leave the state directory out of backups of open files"},
		{fs.ErrPermission, "check the directory's owner and DACL (icacls), and that the service runs as LocalSystem"},
		{windows.ERROR_CRC, "the disk reports errors (event log; chkdsk)"},
		{windows.ERROR_IO_DEVICE, "the disk reports errors (event log; chkdsk)"},
		{windows.ERROR_FILE_CORRUPT, "the volume is damaged (chkdsk)"},
		{windows.ERROR_DISK_CORRUPT, "the volume is damaged (chkdsk)"},
	} {
		if errors.Is(err, c.err) {
			return c.remedy
		}
	}
	return ""
}

// unlock releases bbolt's lock of a file. Closing it does, too, but not at once
// (LockFileEx).
func unlock(f *os.File) error {
	const last = 1<<32 - 1 // where bbolt has it, behind everything
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{Offset: last, OffsetHigh: last})
}

// flushData waits until what was written to a file is on the disk.
func flushData(f *os.File) error { return f.Sync() }

// forget has nothing to do: there is no call that drops a file from the cache. A
// vault is flushed whenever it is opened, and what could not be written the first
// time is tried again then.
func forget(string) error { return nil }
