package tomlfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestALinkInTheDirectorysPlaceIsRefused(t *testing.T) {
	top := t.TempDir()
	dir, link, file := filepath.Join(top, "dir"), filepath.Join(top, "link"), filepath.Join(top, "file")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckDir(dir); err != nil {
		t.Error(err)
	}
	if err := CheckDir(filepath.Join(top, "none")); err != nil {
		t.Error(err)
	}
	if err := CheckDir(file); err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Errorf("a file: %v", err)
	}
	if out, err := exec.Command("cmd", "/c", "mklink", "/J", link, dir).CombinedOutput(); err != nil {
		t.Skipf("no junction can be made here: %v, %s", err, out)
	}
	if st, err := os.Lstat(link); err != nil || st.IsDir() {
		t.Skipf("this system says that it made a junction, and has none: %v, %v", st, err)
	}
	if err := CheckDir(link); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a junction: %v", err)
	}
}
