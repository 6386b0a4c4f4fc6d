//go:build unix

package tomlfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func changedAt(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ctim.Nano()
}

// TestWhatAStampNotices: whatever may make a file be taken or refused, its content's
// time or not.
func TestWhatAStampNotices(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sallyport.toml")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(text string) { t.Helper(); must(os.WriteFile(file, []byte(text), 0o600)) }
	write("a = 1\n")
	long := time.Unix(1_600_000_000, 0)
	must(os.Chtimes(file, long, long))
	t.Cleanup(func() { accessList = func(string) error { return nil } })

	cases := []struct {
		what, path string
		change     func()
	}{
		{"the file's mode", file, func() { must(os.Chmod(file, 0o622)) }},
		{"the directory's mode", dir, func() { must(os.Chmod(dir, 0o777)) }},
		{"an access list alone", file, func() { accessList = func(string) error { return errors.New("gives rights") } }},
		{"a directory's access list alone", dir, func() { accessList = func(string) error { return nil } }},
		{"content of the same size and time", file, func() {
			// The file system's clock has ticks.
			probe := filepath.Join(t.TempDir(), "probe")
			for before := changedAt(t, file); ; {
				must(os.WriteFile(probe, nil, 0o600))
				must(os.Chmod(probe, 0o600))
				if changedAt(t, probe) > before {
					break
				}
			}
			write("a = 2\n")
			must(os.Chtimes(file, long, long))
		}},
		{"another file in its place", file, func() {
			other := filepath.Join(t.TempDir(), "other")
			must(os.WriteFile(other, []byte("a = 3\n"), 0o600))
			must(os.Rename(other, file))
		}},
		{"the file's end", file, func() { must(os.Remove(file)) }},
	}
	if os.Geteuid() == 0 {
		owner := cases[0]
		owner.what, owner.change = "the file's owner", func() { must(os.Chown(file, 12345, -1)) }
		cases = append(cases[:1:1], append([]struct {
			what, path string
			change     func()
		}{owner}, cases[1:]...)...)
	}
	for _, c := range cases {
		before := Stamp(c.path)
		if again := Stamp(c.path); again != before {
			t.Errorf("%s: %q, then %q, and nothing has changed", c.what, before, again)
		}
		if c.change(); Stamp(c.path) == before {
			t.Errorf("%s is not noticed: %q", c.what, before)
		}
	}
	if Stamp(file) != "" {
		t.Errorf("of no file: %q", Stamp(file))
	}
	// What is made in a directory is no change of it.
	before := Stamp(dir)
	must(os.WriteFile(filepath.Join(dir, "x"), nil, 0o600))
	if Stamp(dir) != before {
		t.Errorf("a new file beside it: %q, then %q", before, Stamp(dir))
	}
}
