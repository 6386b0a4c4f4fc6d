package dryload

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// library builds a shared library out of C.
func library(t *testing.T, source string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("there is no C compiler")
	}
	dir := t.TempDir()
	c, so := filepath.Join(dir, "x.c"), filepath.Join(dir, "x.so")
	if err := os.WriteFile(c, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return so
}

// On Linux it is the same dlopen(3), of another format.
func TestLoad(t *testing.T) {
	if strings.Contains(Load("").Error(), "without cgo") {
		t.Skip("this build is without cgo")
	}
	for _, c := range []struct{ what, source, want string }{
		{"a plug-in", "int AuthorizationPluginCreate(void) { return 0; }", ""},
		{"code without the entry point", "int OtherPluginCreate(void) { return 0; }", "AuthorizationPluginCreate"},
		{"code that needs what is not there", "int nowhere_to_be_found(void);\nint AuthorizationPluginCreate(void) { return nowhere_to_be_found(); }", "nowhere_to_be_found"},
	} {
		err := Load(library(t, c.source))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	text := filepath.Join(t.TempDir(), "x.so")
	if err := os.WriteFile(text, []byte("no code"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{text, filepath.Join(t.TempDir(), "missing")} {
		if Load(path) == nil {
			t.Errorf("%s loads", path)
		}
	}
}
