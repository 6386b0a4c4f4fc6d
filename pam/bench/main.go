//go:build linux

// Bench measures what a second factor costs at the login: pam_sallyport beside
// pam_google_authenticator and pam_oath, through libpam, in one run.
//
//	go run ./pam/bench [-dist DIR] [-logins N] [-peers-only]
//
// It runs as root in a sandbox of its own (internal/testkit/sandbox) and leaves
// the machine as it was. All state lies on the machine's disk (below /var/tmp,
// gone afterwards), so that a sync costs what it costs in life.
//
// The contenders take turns, login by login, so that what else the machine does
// falls on all of them alike. Each measured login uses a code that is still
// unused; preparing it, and flushing what others left to write, is outside the
// clock. The last lines say for each target of the design
//
//	target NAME MEASURED LIMIT ok|MISSED
//
// Exit status 0 whatever they say, 1 when it could not measure.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"sallyport/internal/testkit/sandbox"
)

// diskVariable tells the process in the sandbox where the disk is bound.
const diskVariable = "SALLYPORT_BENCH_DISK"

func main() {
	var o options
	flag.StringVar(&o.dist, "dist", filepath.Join("dist", "linux-"+runtime.GOARCH), "where sallyport and pam_sallyport.so are")
	flag.IntVar(&o.logins, "logins", 300, "measured logins of each contender in a warm process")
	flag.BoolVar(&o.peersOnly, "peers-only", false, "measure the peers alone")
	flag.Parse()
	status, err := start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		status = 1
	}
	os.Exit(status)
}

// options are what the command line says.
type options struct {
	dist      string
	logins    int
	peersOnly bool
}

func start(o options) (int, error) {
	if flag.NArg() > 0 || o.logins < 1 || o.logins > maxMeasured {
		return 0, fmt.Errorf("usage: bench [-dist DIR] [-logins 1..%d] [-peers-only]", maxMeasured)
	}
	if sandbox.Inside() && os.Getenv(diskVariable) != "" {
		return 0, runAll(o, os.Getenv(diskVariable))
	}
	if err := sandbox.Possible(); err != nil {
		return 0, fmt.Errorf("needs the sandbox: %w", err)
	}
	if !o.peersOnly {
		for _, name := range []string{"sallyport", "pam_sallyport.so"} {
			if _, err := os.Stat(filepath.Join(o.dist, name)); err != nil {
				return 0, fmt.Errorf("%w: run ./build.sh build first", err)
			}
		}
	}
	disk, err := os.MkdirTemp("/var/tmp", "sallyport-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(disk)
	if err := os.Setenv(diskVariable, disk); err != nil {
		return 0, err
	}
	return sandbox.Reexec(disk)
}

// runAll runs every part of the bench, in the sandbox.
func runAll(o options, disk string) (err error) {
	b, err := newBench(o, disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, part := range []func() error{b.prepare, b.warm, b.fresh, b.together, b.agents, b.rules} {
		if err := part(); err != nil {
			return err
		}
	}
	b.report(os.Stdout)
	return nil
}
