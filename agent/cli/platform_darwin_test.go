package cli

import (
	"os"
	"strings"
	"testing"
)

// What status says where nothing is set up.
const noHook = "cannot be told"

// runtimeDir is a temporary directory whose path leaves room for a socket's name:
// t.TempDir holds the test's name, and sun_path has 104 bytes.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// listened has nothing to do: the socket answers.
func listened(*testing.T, string) {}

func TestWhatMacOSHasNot(t *testing.T) {
	newSession(t, newFake()).run("try", "alice").wantExit(5).wantErr("only the login window runs authorization plug-ins")
	newSession(t, newFake()).run("import", "google-authenticator").wantExit(5).wantErr("on Linux only")
}

// TestRemediesAreMacOSs: nobody is sent to a program that is not there.
func TestRemediesAreMacOSs(t *testing.T) {
	for _, remedy := range []string{remedyNotRunning, remedyHung, remedyRights, restartAgent, whereLog} {
		if strings.Contains(remedy, "systemctl") || strings.Contains(remedy, "journalctl") {
			t.Error(remedy)
		}
	}
}
