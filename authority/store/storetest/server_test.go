//go:build linux

package storetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheNewestServerIsTaken(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"9", "15", "16"} {
		bin := filepath.Join(dir, v, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, "initdb"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if bin, err := binaries(dir+"/*/bin/initdb", "/nonexistent/*"); err != nil || bin != filepath.Join(dir, "16", "bin") {
		t.Errorf("%s %v", bin, err)
	}
}

// TestWithoutAServerTheTestsSayWhatToDo, and do not pass.
func TestWithoutAServerTheTestsSayWhatToDo(t *testing.T) {
	if _, err := binaries("/nonexistent/*"); err == nil || !strings.Contains(err.Error(), "run ./build.sh deps") {
		t.Errorf("%v", err)
	}
}

// TestAServerEndsWithItsTest leaves neither a process nor a directory.
func TestAServerEndsWithItsTest(t *testing.T) {
	var s *Server
	t.Run("inside", func(t *testing.T) {
		s = PostgreSQL(t)
		if _, err := os.Stat(s.data()); err != nil {
			t.Error(err)
		}
	})
	<-s.ended
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); pause() { // its keeper is another process
		if _, err := os.Stat(s.dir); err != nil {
			return
		}
	}
	t.Errorf("%s is still there", s.dir)
}

// pause is between two looks at something of another process.
func pause() { time.Sleep(5 * time.Millisecond) }
