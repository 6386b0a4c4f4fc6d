package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	lockPatience = 100 * time.Millisecond
	os.Exit(m.Run())
}

// empty makes a directory look as when its file system is not mounted.
func empty(t testing.TB, dir string) {
	t.Helper()
	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, b, 0o600))
	private(t, path)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stepping has fn called behind each step of a rekey or an init.
func stepping(t testing.TB, fn func(step string)) {
	onStep = fn
	t.Cleanup(func() { onStep = func(string) {} })
}

// copyTree copies a file or a directory, with the modes that the vault gives.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if isLock(d) {
			return nil
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		writeFile(t, filepath.Join(to, rel), readFile(t, path))
		return nil
	}))
}

// isLock says whether it is the lock, which on Windows is a file while it is held.
func isLock(d fs.DirEntry) bool { return d.Name() == "lock" }

// snapshot copies a directory.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	copyTree(t, dir, to)
	return to
}

// restore puts a snapshot, or a part of it, back in place.
func restore(t testing.TB, from, dir string, names ...string) {
	t.Helper()
	if len(names) == 0 {
		names = []string{""}
	}
	for _, n := range names {
		must(t, os.RemoveAll(filepath.Join(dir, n)))
		copyTree(t, filepath.Join(from, n), filepath.Join(dir, n))
	}
}

// mustDeny opens the vault, wants that refused for the given reason, and wants
// nothing changed by the attempt.
func mustDeny(t *testing.T, o Options, want error) {
	t.Helper()
	before := listing(t, o.Dir)
	v, err := Open(o)
	if err == nil {
		_ = v.Close()
		t.Fatalf("opened; want %q", want)
	}
	if !errors.Is(err, want) {
		t.Fatalf("got %q; want %q", err, want)
	}
	if after := listing(t, o.Dir); after != before {
		t.Errorf("the refused attempt changed the directory from\n%sto\n%s", before, after)
	}
	t.Logf("%v", err)
}

// listing names every file with its content.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b bytes.Buffer
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if isLock(d) {
			return nil
		}
		b.WriteString(path + " " + d.Type().String())
		if d.Type().IsRegular() {
			b.WriteString(" " + sum(readFile(t, path)))
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}
