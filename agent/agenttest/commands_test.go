//go:build linux

package agenttest

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"testing"
	"time"

	"sallyport/internal/event"
)

// follower is a running `sallyport events --follow`.
type follower struct {
	t      *testing.T
	events chan event.Event
	done   chan error
}

func (a *agent) follow(ctx context.Context, args ...string) *follower {
	a.t.Helper()
	cmd := exec.CommandContext(ctx, a.program, append([]string{"events", "--follow", "--json", "--config", a.config}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	f := &follower{a.t, make(chan event.Event, 1000), make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e event.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				a.t.Errorf("events --json: %v in %q", err, lines.Text())
			}
			f.events <- e
		}
		f.done <- cmd.Wait()
	}()
	return f
}

// want waits for an event of that name.
func (f *follower) want(name event.Name) event.Event {
	f.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-f.events:
			if e.Name == name {
				return e
			}
		case <-timeout:
			f.t.Fatalf("no event %s came", name)
		}
	}
}
