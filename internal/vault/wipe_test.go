package vault

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWipeDestroysTheKeys(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	put(t, v, "uid:1000", user{"alice", 1})
	fails(t, ErrBusy, Wipe(o))
	mustClose(t, v)
	v, err := Init(o) // the first one is moved aside, with its key
	must(t, err)
	mustClose(t, v)
	copied := snapshot(t, o.Dir)

	must(t, Wipe(o))
	must(t, filepath.WalkDir(o.Dir, func(path string, d os.DirEntry, err error) error {
		if name := d.Name(); name == "key" || name == "record.json" {
			t.Errorf("%s is left", path)
		}
		return err
	}))
	mustDeny(t, o, ErrKeyMissing)
	must(t, Wipe(o)) // again, and of nothing
	must(t, os.RemoveAll(o.Dir))
	must(t, Wipe(o))
	if _, err := os.Stat(o.Dir); err == nil {
		t.Error("a directory was made")
	}

	// What cannot be read is not passed over.
	restore(t, copied, o.Dir)
	writeFile(t, filepath.Join(o.Dir, "keychain", "record.json"), []byte("?"))
	fails(t, ErrCorrupt, Wipe(o))
}

func fails(t *testing.T, want, err error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v; want %v", err, want)
	}
}
