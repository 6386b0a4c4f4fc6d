// Command delays writes a Go runtime that now and then waits before it runs a goroutine
// that was woken. Tests that pass only because one goroutine is faster than another fail
// under it within minutes; on a busy CI they do once in hundreds of runs. Processors kept
// busy do not show them: they slow all goroutines alike.
//
// It takes a directory, and prints the file there that 'go build -overlay' wants.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// where is the runtime's function through which every goroutine comes that is about
// to run (runtime/proc.go of Go 1.26).
const where = "func execute(gp *g, inheritTime bool) {\n"

// delay waits for no more than half of the time since the start in all.
const delay = `
var delaysSince, delaysTaken int64

func delayNowAndThen() {
	if cheaprandn(100) >= 6 {
		return
	}
	now := nanotime()
	since := atomic.Loadint64(&delaysSince)
	if since == 0 {
		atomic.Casint64(&delaysSince, 0, now)
		return
	}
	if now-since < 200_000_000 || atomic.Loadint64(&delaysTaken)*2 > now-since {
		return
	}
	var us uint32
	switch r := cheaprandn(1000); {
	case r < 700:
		us = cheaprandn(10_000)
	case r < 970:
		us = cheaprandn(60_000)
	case r < 998:
		us = cheaprandn(300_000)
	default:
		us = cheaprandn(800_000)
	}
	atomic.Xaddint64(&delaysTaken, int64(us)*1000)
	usleep(us)
}
`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: delays DIRECTORY")
		os.Exit(2)
	}
	overlay, err := write(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "delays: %v\n", err)
		os.Exit(1)
	}
	fmt.Println(overlay)
}

// write makes the overlay in a directory.
func write(dir string) (overlay string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src/runtime/proc.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	delayed, err := patch(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", original, err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	patched := filepath.Join(dir, "proc.go")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: patched}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(patched, []byte(delayed), 0o644), os.WriteFile(overlay, replace, 0o644))
}

// patch adds the delays to the scheduler.
func patch(text string) (string, error) {
	if n := strings.Count(text, where); n != 1 {
		return "", fmt.Errorf("%q is there %d times: this Go's scheduler is another", strings.TrimSpace(where), n)
	}
	return strings.Replace(text, where, where+"\tdelayNowAndThen()\n", 1) + delay, nil
}
