package launchd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Control has launchd start and stop the daemon, by the verbs that launchctl(1)
// documents. (kardianos/service uses load and unload, "legacy subcommands", which
// say nothing of a failure in their exit status.)
type Control struct {
	// Run runs a program and returns what it wrote to its standard output; an error
	// when it failed.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)

	pause func(ctx context.Context) error // nil: a short time
}

// launchd answers before it has done what it was told; so it is asked again for a
// while, which is longer than ExitTimeOut.
const (
	pauseTime = 200 * time.Millisecond
	pauses    = 75
)

const launchctl = "/bin/launchctl"

// State is what launchd knows of the daemon.
type State struct {
	Loaded bool   // launchd has read its file
	State  string // in launchd's words, such as "running"; empty: not known
	PID    string // of what runs
}

// Running says that a process is there, or starts.
func (s State) Running() bool { return s.State == "running" }

// The words of `launchctl print`. Its manual page says that they are no API: what
// is not found there is not known.
var (
	stateLine = regexp.MustCompile(`(?m)^\tstate = (.+)$`)
	pidLine   = regexp.MustCompile(`(?m)^\tpid = ([0-9]+)$`)
)

// State asks launchd.
func (c Control) State(ctx context.Context) State {
	out, err := c.Run(ctx, launchctl, "print", Target)
	if err != nil {
		return State{} // 113: it knows no such service
	}
	s := State{Loaded: true}
	if m := stateLine.FindSubmatch(out); m != nil {
		s.State = string(m[1])
	}
	if m := pidLine.FindSubmatch(out); m != nil && s.Running() {
		s.PID = string(m[1])
	}
	return s
}

// Disabled says whether somebody told launchd not to load the daemon, which it
// remembers over restarts: launchctl disable, or the switch of Login Items.
func (c Control) Disabled(ctx context.Context) (bool, error) {
	out, err := c.Run(ctx, launchctl, "print-disabled", "system")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " => "); ok && name == `"`+Label+`"` {
			return value == "disabled" || value == "true", nil // the latter before macOS 13
		}
	}
	return false, nil
}

// Start loads the daemon, where it is not, and starts it.
func (c Control) Start(ctx context.Context) error {
	if !c.State(ctx).Loaded {
		// What is disabled cannot be loaded: "Bootstrap failed: 5".
		if err := c.do(ctx, "enable", Target); err != nil {
			return err
		}
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	return c.do(ctx, "kickstart", Target)
}

// load has launchd read the file. Just behind a bootout it may say that it cannot.
func (c Control) load(ctx context.Context) error {
	const tries = 5
	for n := 1; ; n++ {
		err := c.do(ctx, "bootstrap", "system", Path)
		if err == nil || c.State(ctx).Loaded { // or somebody else was first
			return nil
		}
		if n == tries || c.rest(ctx) != nil {
			return err
		}
	}
}

// Stop unloads the daemon: KeepAlive would start it again. It is back after a
// restart of the computer, or by Start.
func (c Control) Stop(ctx context.Context) error {
	if !c.State(ctx).Loaded {
		return nil
	}
	// 36: it was told, and has not ended yet.
	if err := c.do(ctx, "bootout", Target); err != nil && !strings.Contains(err.Error(), "Operation now in progress") {
		return err
	}
	for range pauses {
		if !c.State(ctx).Loaded {
			return nil
		}
		if err := c.rest(ctx); err != nil {
			return err
		}
	}
	return errors.New("launchctl bootout " + Target + ": it is still there")
}

// Restart stops and starts it. (kickstart -k would be one step, but does not read the
// file again, which an upgrade may have replaced.)
func (c Control) Restart(ctx context.Context) error {
	if err := c.Stop(ctx); err != nil {
		return err
	}
	return c.Start(ctx)
}

func (c Control) rest(ctx context.Context) error {
	if c.pause != nil {
		return c.pause(ctx)
	}
	select {
	case <-time.After(pauseTime):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Do does start, stop, restart or status, and says what came of it.
func (c Control) Do(ctx context.Context, action string) (string, error) {
	switch action {
	case "status":
		return c.State(ctx).String(), nil
	case "start":
		return "start: done", c.Start(ctx)
	case "stop":
		return "stop: done; it is back after a restart of this computer", c.Stop(ctx)
	case "restart":
		return "restart: done", c.Restart(ctx)
	}
	return "", errors.New("launchd knows no " + action)
}

func (s State) String() string {
	switch {
	case !s.Loaded:
		return "not loaded"
	case s.PID != "":
		return s.State + ", pid " + s.PID
	case s.State == "":
		return "loaded"
	}
	return s.State
}

func (c Control) do(ctx context.Context, args ...string) error {
	if _, err := c.Run(ctx, launchctl, args...); err != nil {
		return fmt.Errorf("launchctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
