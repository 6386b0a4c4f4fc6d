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
