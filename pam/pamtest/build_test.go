package pamtest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestModuleFile: what is loaded into sshd exports only what PAM calls, needs
// libc, libpam and libnghttp2, and stays small (check.sh).
func TestModuleFile(t *testing.T) {
	text, err := runMake(out, "check")
	if err != nil {
		t.Fatalf("make check: %v\n%s", err, text)
	}
	t.Log(text)
}

// TestCompilers: gcc and clang both build it, without a warning.
func TestCompilers(t *testing.T) {
	for _, cc := range []string{"gcc", "clang"} {
		t.Run(cc, func(t *testing.T) {
			if _, err := exec.LookPath(cc); err != nil {
				t.Skipf("%s is not installed", cc)
			}
			dir := filepath.Join(t.TempDir(), "out")
			if text, err := runMake(dir, "CC="+cc, "check"); err != nil {
				t.Errorf("make CC=%s: %v\n%s", cc, err, text)
			}
		})
	}
}
