package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/internal/winacl"
)

// Access is which rights others than the owner, SYSTEM and the Administrators may
// have to a file.
type Access = winacl.Access

// The two that are used.
const (
	Private = winacl.Private  // nobody else may see what is in it: keys, records
	Guarded = winacl.Readable // others may read, and change nothing
)

const (
	shareAll  = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	noFollow  = windows.FILE_FLAG_OPEN_REPARSE_POINT
	dirsToo   = windows.FILE_FLAG_BACKUP_SEMANTICS // CreateFile opens no directory without
	justLook  = windows.READ_CONTROL | windows.FILE_READ_ATTRIBUTES
	writeDir  = windows.FILE_LIST_DIRECTORY | windows.FILE_WRITE_DATA
	openedNew = windows.FILE_ATTRIBUTE_NORMAL | noFollow
)

// makeDir makes a directory for SYSTEM and the Administrators alone.
func makeDir(path string) error { return makeDirFor(path, Private) }

// MkdirAll makes a directory that the users may read, and its parents, where they
// are not there yet.
func MkdirAll(path string) error {
	_, err := os.Stat(path)
	if parent := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) && parent != path {
		if err = MkdirAll(parent); err == nil {
			err = makeDirFor(path, Guarded)
		}
	}
	if errors.Is(err, fs.ErrExist) { // made by another process meanwhile
		return nil
	}
	return err
}

func makeDirFor(path string, others Access) error {
	sa, err := winacl.Attributes(true, others)
	if err != nil {
		return err
	}
	p, err := windows.UTF16PtrFromString(path)
	if err == nil {
		err = windows.CreateDirectory(p, sa)
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// checkParent refuses the directory of a state directory when it is a link, or when
// others can take the state directory away. Below %ProgramData% everybody can make
// such a one before us; what is gone, or elsewhere, at the next start would be a
// first start, with nobody enrolled.
func checkParent(path string) error {
	f, err := open(path, justLook, shareAll, windows.OPEN_EXISTING, dirsToo|noFollow, nil)
	if err != nil {
		return err
	}
	defer f.Close()
	o, err := winacl.Of(f)
	if err == nil {
		others := winacl.Shared
		if filepath.Dir(path) == path { // nobody removes a volume's root
			others |= windows.DELETE
		}
		err = o.Check(others)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return nil
}

// CheckDir refuses a directory that is a link of any kind, that is not ours, or
// that someone else may write.
func CheckDir(path string) error {
	f, err := open(path, justLook, shareAll, windows.OPEN_EXISTING, dirsToo|noFollow, nil)
	if err != nil {
		return err
	}
	defer f.Close()
	return check(f, true, Guarded)
}

// Open opens a regular file with the flags given (os.O_CREATE excepted) and
// refuses one that is not ours or gives others more than access allows. While it
// is open nobody else can open it for writing, rename or remove it.
func Open(path string, flags int, access Access) (*os.File, error) {
	want := uint32(windows.GENERIC_READ)
	if flags&os.O_RDWR != 0 {
		want |= windows.GENERIC_WRITE
	}
	f, err := open(path, want, windows.FILE_SHARE_READ, windows.OPEN_EXISTING, dirsToo|noFollow, nil)
	if err != nil {
		return nil, err
	}
	if err := check(f, false, access); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Create makes a file that must not be there yet, for SYSTEM and the
// Administrators alone.
func Create(path string) (*os.File, error) {
	sa, err := winacl.Attributes(false, Private)
	if err != nil {
		return nil, err
	}
	return open(path, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.FILE_SHARE_READ, windows.CREATE_NEW, openedNew, sa)
}

const renameTries = 100

// pause lets a moment pass between two of them. The tests do something in it.
var pause = func() { time.Sleep(20 * time.Millisecond) }

// Rename gives a file or directory another name, in place of a file of that name.
// SyncDir waits until that is on the disk: what MoveFileExW says of
// MOVEFILE_WRITE_THROUGH is about moves that copy and delete. Not ReplaceFileW,
// which keeps the DACL and the attributes of the file replaced.
//
// A virus scanner or an indexer looks at what was just written, and nothing that
// it has open can be renamed, nor the directory that the file is in. They are
// done in a moment.
func Rename(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := windows.MoveFileEx(f, t, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
		if err == nil {
			return nil
		}
		inUse := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !inUse || try == renameTries {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		pause()
	}
}

// Lock locks a directory for this process. A directory itself cannot be locked on
// Windows: LockFileEx takes files only, and one that is open without
// FILE_SHARE_WRITE lets nobody rename anything in it. So it is a file that nobody
// else can open, and that is gone when this process is.
func Lock(dir string) (*os.File, error) {
	sa, err := winacl.Attributes(false, Private)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := open(path, windows.GENERIC_READ|windows.GENERIC_WRITE|windows.DELETE, 0, windows.OPEN_ALWAYS, openedNew|windows.FILE_FLAG_DELETE_ON_CLOSE, sa)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		err = fmt.Errorf("cannot lock %s: %w", dir, ErrLocked)
	}
	return f, err
}

// SyncDir waits until the names in a directory are on the disk. FlushFileBuffers is
// documented for files, volumes and pipes; it takes a directory's handle as well,
// and an error is heeded. It wants the right to write, which for a directory is the
// right to make files in it.
func SyncDir(path string) error {
	d, err := open(path, writeDir, shareAll, windows.OPEN_EXISTING, dirsToo, nil)
	if err != nil {
		return err
	}
	err = windows.FlushFileBuffers(windows.Handle(d.Fd()))
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("cannot flush directory %s: %w", path, err)
	}
	return nil
}

func open(path string, access, share, disposition, flags uint32, sa *windows.SecurityAttributes) (*os.File, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(p, access, share, sa, disposition, flags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// check refuses what is not of the wanted type, and what others may change.
func check(f *os.File, dir bool, access Access) error {
	h := windows.Handle(f.Fd())
	if t, err := windows.GetFileType(h); t != windows.FILE_TYPE_DISK {
		return fmt.Errorf("%s is a device, not a file (%v): %w", f.Name(), err, ErrUntrusted)
	}
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if err := checkType(info.FileAttributes, info.NumberOfLinks, dir); err != nil {
		return fmt.Errorf("%s %w: %w", f.Name(), err, ErrUntrusted)
	}
	o, err := winacl.Of(f)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	err = o.Check(access)
	if err != nil && dir {
		err = o.Check(Private) // refuses more: what mends it makes it as EnsureDir does
	}
	if err != nil {
		return fmt.Errorf("%w, find out why before it is mended: %w", ErrUntrusted, err)
	}
	return nil
}

// checkType refuses what is not a directory, or not a regular file with one name.
func checkType(attributes, links uint32, dir bool) error {
	isDir := attributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0
	switch {
	case dir && !isDir:
		return errors.New("is a file, not a directory")
	case !dir && isDir:
		return errors.New("is a directory, not a file")
	case !dir && links != 1:
		return fmt.Errorf("has %d names (hard links), of which we know one", links)
	}
	return nil
}
