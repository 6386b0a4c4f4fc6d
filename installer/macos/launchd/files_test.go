//go:build unix

package launchd

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file is what matters of one.
type file struct {
	mode fs.FileMode
	uid  int
}

type tree map[string]*file

func (m tree) lstat(path string) (fs.FileMode, int, error) {
	if f := m[path]; f != nil {
		return f.mode, f.uid, nil
	}
	return 0, 0, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
}

func TestWhatRootRunsIsRoots(t *testing.T) {
	healthy := func() tree {
		return tree{"/": {fs.ModeDir | 0o755, 0}, "/Library": {fs.ModeDir | 0o755, 0}, "/Library/bin": {fs.ModeDir | 0o755, 0}, "/Library/bin/sallyport": {0o755, 0}}
	}
	if err := OnlyRoots("/Library/bin/sallyport", healthy().lstat); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		at   string
		is   *file
		says string
	}{
		"Homebrew's":         {"/Library/bin/sallyport", &file{0o755, 501}, "not to root"},
		"writable":           {"/Library/bin/sallyport", &file{0o775, 0}, "can be written"},
		"in a user's folder": {"/Library/bin", &file{fs.ModeDir | 0o755, 501}, "/Library/bin belongs to uid 501"},
		"in a shared folder": {"/Library", &file{fs.ModeDir | 0o777, 0}, "/Library can be written"},
		"a link":             {"/Library/bin/sallyport", &file{fs.ModeSymlink | 0o755, 0}, "symbolic link"},
		"not there":          {"/Library/bin/sallyport", nil, "not exist"},
	} {
		m := healthy()
		m[c.at] = c.is
		if err := OnlyRoots("/Library/bin/sallyport", m.lstat); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestALogOfCrashesIsBounded: launchd opens the file to append.
func TestALogOfCrashesIsBounded(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(n int) {
		if _, err := f.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	write(maxStderr)
	if err := Bound(f); err != nil || size() != maxStderr {
		t.Errorf("%v, %d bytes", err, size())
	}
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("a trace of a crash is for everybody: %v, %v", st.Mode(), err)
	}
	write(1)
	if err := Bound(f); err != nil || size() != 0 {
		t.Errorf("%v, %d bytes", err, size())
	}
	if write(3); size() != 3 {
		t.Errorf("%d bytes after that", size())
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := Bound(null); err != nil {
		t.Errorf("no file: %v", err)
	}
}
