//go:build unix

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAHangupRightAfterTheStartEndsNoAgent: whoever hears that it is ready may send one.
func TestAHangupRightAfterTheStartEndsNoAgent(t *testing.T) {
	dir := t.TempDir()
	path, run := filepath.Join(dir, "sallyport.toml"), runtimeDir(dir)
	write(t, path, fmt.Sprintf("state_dir = %q\nruntime_dir = %q\n", filepath.Join(dir, "state"), run))
	a := startAt(t, path, run, func(s State) {
		if s != Ready {
			return
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil { // of this process, or all of it ends
			t.Error(err)
		}
	})
	a.expect("", "skip not_asked")
}

// TestTheSocketsDirectoryIsTheAgents: launchd gives the agent the umask 077, and
// /var/run on macOS belongs to a group, too.
func TestTheSocketsDirectoryIsTheAgents(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	base := t.TempDir()
	dir := filepath.Join(base, "var", "sallyport")
	for range 2 { // again, when the agent is started again
		if err := ownDirectory(dir); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v: hooks that are not root's cannot reach the socket", st.Mode(), err)
	}
	for name, c := range map[string]struct {
		spoil func(string) error
		says  string
	}{
		"group-writable": {func(p string) error { return os.Chmod(p, 0o775) }, "can be written by others"},
		"a link":         {func(p string) error { return os.Symlink(dir, p) }, "is not a directory"},
		"a file":         {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "is not a directory"},
		"somebody's":     {func(p string) error { return os.Chown(p, 4242, 4242) }, "belongs to uid 4242"},
	} {
		if name == "somebody's" && os.Geteuid() != 0 {
			t.Log("only root can give a directory away: that part is not run")
			continue
		}
		p := filepath.Join(base, name)
		if !strings.HasPrefix(name, "a ") {
			if err := os.Mkdir(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.spoil(p); err != nil {
			t.Fatal(err)
		}
		if err := ownDirectory(p); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
