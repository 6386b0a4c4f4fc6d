//go:build unix

package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestModesDoNotDependOnTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		top := t.TempDir()
		old := syscall.Umask(mask)
		err := EnsureDir(filepath.Join(top, "dir"))
		werr := Write(filepath.Join(top, "file"), []byte("x"))
		syscall.Umask(old)
		must(t, errors.Join(err, werr))
		for name, want := range map[string]fs.FileMode{"dir": fs.ModeDir | 0o700, "file": 0o600} {
			info, err := os.Stat(filepath.Join(top, name))
			must(t, err)
			if info.Mode() != want {
				t.Errorf("umask %04o: %s has mode %v", mask, name, info.Mode())
			}
		}
	}
}

func TestWriteReplacesALinkAndNotWhatItPointsTo(t *testing.T) {
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "file")
	must(t, os.WriteFile(target, []byte("precious"), 0o600))
	must(t, os.Symlink(target, path))
	must(t, os.Symlink(target, path+".new"))
	must(t, Write(path, []byte("x")))
	if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := Read(path, 1, Private); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := Read(path, 0, Private); err == nil {
		t.Error("read more than the limit")
	}
}

func TestWhatIsNotOursIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chmod(path, mode))
		return path
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(file("target", 0o600), link))
	fifo := filepath.Join(dir, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	for name, c := range map[string]struct {
		path   string
		access Access
		ok     bool
	}{
		"private":                     {file("private", 0o600), Private, true},
		"readable, but private":       {file("readable", 0o640), Private, false},
		"readable and only guarded":   {file("readable2", 0o644), Guarded, true},
		"writable by the group":       {file("writable", 0o620), Guarded, false},
		"writable by all":             {file("writable2", 0o602), Guarded, false},
		"a link":                      {link, Guarded, false},
		"a FIFO, which must not hang": {fifo, Guarded, false},
		"a directory":                 {dir, Guarded, false},
	} {
		f, err := Open(c.path, os.O_RDWR, c.access)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			must(t, f.Close())
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), os.O_RDWR|os.O_CREATE, Private); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening makes no file: %v", err)
	}
}

// TestReplaceLeavesOneWholeFile: of the system's, which others read meanwhile.
func TestReplaceLeavesOneWholeFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	defer syscall.Umask(syscall.Umask(0o077))
	for text, mode := range map[string]fs.FileMode{"old": 0o644, "newer": 0o444} {
		must(t, Replace(path, []byte(text), mode))
		b, err := os.ReadFile(path)
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		if string(b) != text || info.Mode() != mode {
			t.Errorf("%q, %v", b, info.Mode())
		}
	}
	if err := Replace(filepath.Join(dir, "nowhere", "x"), nil, 0o644); err == nil {
		t.Error("a place that is not there")
	}
	must(t, os.Mkdir(filepath.Join(dir, "taken"), 0o755))
	if err := Replace(filepath.Join(dir, "taken"), nil, 0o644); err == nil {
		t.Error("a directory is no file")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("something is left behind: %v, %v", list, err)
	}
}
