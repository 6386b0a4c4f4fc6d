package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// put writes a file below dir, as its owner would keep it, and returns its path.
func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// Whatever the umask of whoever runs the test.
	for p, mode := range map[string]fs.FileMode{path: 0o644, filepath.Dir(path): 0o755} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// refused loads a file that is to be refused and returns why.
func refused(t *testing.T, path string) string {
	t.Helper()
	l, err := Load(path)
	if err == nil || l != nil {
		t.Fatalf("%s is accepted", path)
	}
	return err.Error()
}

func source(t *testing.T, l *Loaded, key string) (value, from string) {
	t.Helper()
	for _, v := range l.Values {
		if v.Key == key {
			return v.Value, v.Source
		}
	}
	t.Fatalf("there is no %s among the values", key)
	return "", ""
}

func TestDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("90s")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.MarshalText(); err != nil || string(b) != "1m30s" {
		t.Errorf("%s, %v", b, err)
	}
}

// change is something that happens to the configuration's files.
type change struct {
	what string
	do   func() error
}

func TestChanged(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "events = 500\n")
	dropin := put(t, dir, "config.d/a.toml", "# nothing\n")
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if l.Changed(path) {
		t.Fatal("changed at once")
	}
	changes := []change{
		{"a drop-in is written", func() error { put(t, dir, "config.d/b.toml", "# nothing\n"); return nil }},
		{"a drop-in is taken away", func() error { return os.Remove(dropin) }},
		{"the file is longer", func() error { put(t, dir, "sallyport.toml", "events = 5000\n"); return nil }},
		{"the file is replaced by another of the same size and time", func() error {
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			other := put(t, dir, "new", "events = 5001\n")
			if err := os.Chtimes(other, st.ModTime(), st.ModTime()); err != nil {
				return err
			}
			return os.Rename(other, path)
		}},
	}
	changes = append(changes, othersMay(path)...)
	changes = append(changes, change{"the file is gone", func() error { return os.Remove(path) }})
	for _, c := range changes {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if !l.Changed(path) {
			t.Errorf("%s, and nothing has changed", c.what)
		}
		_, _ = l.Reload(path, nil)
		if l.Changed(path) {
			t.Errorf("%s: seen, and changed again", c.what)
		}
	}
}
