//go:build linux

// Bench measures the authority as it is shipped: what a login by push takes, how
// many there can be, and what ten thousand computers that are connected cost.
//
//	go run ./authority/bench [-dist DIR] [-quick]
//
// The authority (and, for logins, the agent) are the programs of DIR, each a
// process of its own, over loopback. The database is SQLite, and PostgreSQL as the
// system's package installs it; both flush to the machine's disk, below /var/tmp,
// as in production. Computers and phones are simulated in the bench's own process:
// computers speak the device's wire and verify each answer as an agent does, phones
// sign with passkeys in software. All of it shares the machine's processors, so a
// server of its own does better.
//
// The last lines say for each target of the design
//
//	target NAME MEASURED LIMIT ok|MISSED
//
// Exit status 0 whatever they say, 1 when it could not measure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.dist, "dist", filepath.Join("dist", "linux-"+runtime.GOARCH), "where sallyport and sallyport-authority are")
	flag.BoolVar(&o.quick, "quick", false, "a small run, within 40 s: shows that the bench works, not how fast the authority is")
	flag.Parse()
	if err := start(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	dist  string
	quick bool
}

// size is how much is measured.
type size struct {
	logins     int           // by the shipped agent, on each database
	people     int           // who push, with a phone each
	computers  [2]int        // that push at once: few, many
	warmUp     time.Duration // of pushing
	pushing    time.Duration
	streams    int           // of computers that do nothing
	idle       time.Duration // that they are watched for
	firstDelay time.Duration // of a reconnection after the server stopped: any time up to it
	limit      time.Duration // of the whole bench
}

var (
	fullSize = size{logins: 200, people: 2500, computers: [2]int{20, 500}, warmUp: 2 * time.Second, pushing: 10 * time.Second,
		streams: 10000, idle: 60 * time.Second, firstDelay: firstWindow << crowdFailures, limit: 6 * time.Minute}
	quickSize = size{logins: 20, people: 500, computers: [2]int{5, 50}, warmUp: 300 * time.Millisecond, pushing: time.Second,
		streams: 500, idle: 2 * time.Second, firstDelay: firstWindow, limit: 8 * time.Minute}
)

func start(o options) (err error) {
	if flag.NArg() > 0 {
		return errors.New("usage: bench [-dist DIR] [-quick]")
	}
	if os.Geteuid() != 0 {
		// The agent rings phones for root's hooks only.
		return errors.New("needs root: sudo ./build.sh bench authority")
	}
	for _, name := range []string{"sallyport", "sallyport-authority"} {
		if _, err := os.Stat(filepath.Join(o.dist, name)); err != nil {
			return fmt.Errorf("%w: run ./build.sh build first", err)
		}
	}
	s := fullSize
	if o.quick {
		s = quickSize
	}
	disk, err := os.MkdirTemp("/var/tmp", "sallyport-bench-")
	if err != nil {
		return err
	}
	// PostgreSQL, which refuses to be root, has its files below.
	if err := os.Chmod(disk, 0o711); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(disk)) }()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, cancel = context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("it was not done after %v", s.limit))
	defer cancel()
	b := &bench{options: o, size: s, disk: disk}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.measure(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return err
	}
	b.report(os.Stdout)
	return nil
}
