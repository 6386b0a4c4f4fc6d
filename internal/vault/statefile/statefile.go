// Package statefile opens and writes the files that the vault and the keychain
// keep, and trusts none of them on its name alone: each must be a regular file
// that belongs to us and that no one else can write, reached without following
// a symbolic link. What is written is on the disk, directory entry included,
// before a call returns.
package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// What can be wrong, for errors.Is.
var (
	// ErrUntrusted says that a file or directory could have been written by
	// someone else, or is not what its name says.
	ErrUntrusted = errors.New("not trusted")
	// ErrLocked says that another process has the lock.
	ErrLocked = errors.New("locked by another process")
)

// EnsureDir makes a directory that is for nobody else, and its parents so that
// others may read them, and checks it if it is there already.
func EnsureDir(path string) error {
	parent := filepath.Dir(path)
	if err := MkdirAll(parent); err != nil {
		return err
	}
	if err := checkParent(parent); err != nil {
		return err
	}
	err := CheckDir(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := CheckDir(path); err != nil {
		return err
	}
	return SyncDir(parent)
}

// Read returns the content of a file of at most limit bytes.
func Read(path string, limit int64, access Access) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY, access)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, nil
}

// Write puts data in place of whatever the file held, all or nothing: a crash
// leaves the old content or the new. Nobody else may read the file.
func Write(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := Create(tmp)
	if err != nil {
		return err
	}
	return replace(f, path, data, nil)
}

// Replace is Write for a file of the system's that others may read, on Unix, and that
// no lock of ours keeps for one process at a time.
func Replace(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	return replace(f, path, data, f.Chmod(mode))
}

// replace ends both of them; earlier is what has failed until then.
func replace(f *os.File, path string, data []byte, earlier error) error {
	_, err := f.Write(data)
	err = errors.Join(earlier, err, f.Sync(), f.Close())
	if err == nil {
		err = Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Remove removes a file, if it is there, and waits until that is on the disk.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Exists says whether anything has that name, be it a dangling link. Only a
// sure "no such file" counts as no.
func Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
