package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxGoogleFile bounds a ~/.google_authenticator; a real one has under 1 KB.
const maxGoogleFile = 64 << 10

// ownedFile is a file that was read, and whose it is.
type ownedFile struct {
	data []byte
	uid  int
}

// openNoLinks opens a file that somebody else may control the way to: no
// symbolic link is followed anywhere below dir (everywhere when dir is empty),
// and the way never leaves dir. openat2(2); where the kernel has none (before
// 5.6), or a sandbox forbids it, one component at a time with O_NOFOLLOW.
func openNoLinks(dir, path string) (*os.File, error) {
	at := unix.AT_FDCWD
	resolve := uint64(unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS)
	if dir != "" {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		defer func() { _ = unix.Close(fd) }()
		at = fd
		resolve |= unix.RESOLVE_BENEATH
	}
	// O_NONBLOCK: a FIFO in the file's place must not hold us up.
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	fd, err := unix.Openat2(at, path, &unix.OpenHow{Flags: flags, Resolve: resolve})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		fd, err = openStepwise(at, path, flags)
	}
	if err != nil {
		if errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("%s: there is a symbolic link on the way, which is not followed: give the real path", path)
		}
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openStepwise is openat2 with RESOLVE_NO_SYMLINKS in small steps.
func openStepwise(at int, path string, flags int) (int, error) {
	if strings.HasPrefix(path, "/") {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer func() { _ = unix.Close(fd) }()
		at = fd
	}
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name == ".." {
			return -1, unix.EXDEV
		}
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return -1, unix.EISDIR
	}
	for _, name := range names[:len(names)-1] {
		// O_PATH with O_NOFOLLOW would open the link itself; O_DIRECTORY refuses it.
		fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOTDIR) {
			var st unix.Stat_t
			if unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
				err = unix.ELOOP
			}
		}
		if err != nil {
			return -1, err
		}
		defer func() { _ = unix.Close(fd) }()
		at = fd
	}
	return unix.Openat(at, names[len(names)-1], flags, 0)
}

// readOwned reads a small regular file of one owner.
func readOwned(dir, path string) (ownedFile, error) {
	f, err := openNoLinks(dir, path)
	if err != nil {
		return ownedFile{}, err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return ownedFile{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return ownedFile{}, fmt.Errorf("%s is not a regular file", path)
	case st.Nlink != 1:
		// A hard link in somebody's home may be somebody else's file.
		return ownedFile{}, fmt.Errorf("%s has %d names (hard links): not taken", path, st.Nlink)
	case st.Size > maxGoogleFile:
		return ownedFile{}, fmt.Errorf("%s has %d bytes; %d at most", path, st.Size, maxGoogleFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxGoogleFile+1))
	if err != nil {
		return ownedFile{}, err
	}
	if len(data) > maxGoogleFile {
		clear(data)
		return ownedFile{}, fmt.Errorf("%s grew above %d bytes while it was read", path, maxGoogleFile)
	}
	return ownedFile{data, int(st.Uid)}, nil
}

// ownerOf is who owns a directory.
func ownerOf(path string) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return int(st.Uid), nil
}

func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }
