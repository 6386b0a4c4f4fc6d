package archtest

import (
	"io/fs"
	"os"
	"regexp"
	"testing"
)

// device is a name that Windows keeps for a device in every directory, with any
// extension (Microsoft: Naming Files, Paths, and Namespaces).
var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$`)

// unspeakable is what no file name has on Windows.
var unspeakable = regexp.MustCompile(`[<>:"\\|?*\x00-\x1f]|[ .]$`)

func onWindows(base string) bool {
	return !device.MatchString(base) && !unspeakable.MatchString(base)
}

func TestEveryFileCanBeOnWindows(t *testing.T) {
	err := fs.WalkDir(os.DirFS(root(t)), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == ".git" || name == ".cache" || name == "dist" {
			return fs.SkipDir
		}
		if name != "." && !onWindows(d.Name()) {
			t.Errorf("%s cannot be checked out on Windows: give it another name", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnWindows(t *testing.T) {
	for base, want := range map[string]bool{
		"nul": false, "NUL.txt": false, "com1": false, "Con": false, "a:b": false, "what?": false, "end.": false, "end ": false,
		"nul-byte": true, "console": true, "com10": true, ".gitignore": true, "a b.c": true,
	} {
		if onWindows(base) != want {
			t.Errorf("%q: got %v", base, !want)
		}
	}
}
