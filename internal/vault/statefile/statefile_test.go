package statefile

import (
	"os"
	"path/filepath"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriteReplacesAllOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"old", "the new one", ""} {
		must(t, Write(path, []byte(content)))
		if b, err := Read(path, 20, Private); err != nil || string(b) != content {
			t.Errorf("%q %v", b, err)
		}
	}
	must(t, Write(path, []byte("kept")))
	if _, err := Read(path, 3, Private); err == nil {
		t.Error("read more than the limit")
	}
	must(t, os.Mkdir(path+".new", 0o700))
	must(t, os.WriteFile(filepath.Join(path+".new", "x"), nil, 0o600))
	if err := Write(path, []byte("lost")); err == nil {
		t.Error("wrote without a temporary file")
	}
	if b, err := Read(path, 20, Private); err != nil || string(b) != "kept" {
		t.Errorf("%q %v", b, err)
	}
	must(t, Remove(path))
	must(t, Remove(path)) // is gone already
	if there, err := Exists(path); there || err != nil {
		t.Errorf("%v %v", there, err)
	}
}
