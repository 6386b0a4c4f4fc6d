package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestThisGoCanBeDelayed: two goroutines that hand something to and fro take long.
func TestThisGoCanBeDelayed(t *testing.T) {
	dir := t.TempDir()
	overlay, err := write(filepath.Join(dir, "runtime"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "main.go")
	if err := os.WriteFile(program, []byte(`package main

import (
	"fmt"
	"time"
)

func main() {
	to, fro := make(chan bool), make(chan bool)
	go func() {
		for range to {
			fro <- true
		}
	}()
	longest := time.Duration(0)
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		before := time.Now()
		to <- true
		<-fro
		longest = max(longest, time.Since(before))
	}
	fmt.Println(longest)
}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	run := exec.Command("go", "run", "-overlay", overlay, program)
	run.Dir = dir
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if longest, err := time.ParseDuration(strings.TrimSpace(string(out))); err != nil || longest < 20*time.Millisecond {
		t.Errorf("nothing took longer than %s", out)
	}
}

func TestAnotherScheduler(t *testing.T) {
	for _, text := range []string{"", "func execute(gp *g) {\n", where + where} {
		if _, err := patch(text); err == nil {
			t.Errorf("%q", text)
		}
	}
}
