package daemon

import (
	"context"

	"sallyport/internal/oslog"
)

// prepareRuntime makes the directory of the sockets: macOS empties /var/run when it
// starts, and launchd makes none.
func prepareRuntime(dir string) error { return ownDirectory(dir) }

// watchConfig takes managed preferences when they changed, and reads the
// configuration again on SIGHUP, until ctx ends.
func (d *daemon) watchConfig(ctx context.Context) {
	go d.watchPolicies(ctx)
	d.watchHangups(ctx)
}

// logCategory is the agent's, of the log's subsystem.
const logCategory = "agent"

// openSink opens the system's log, os_log(3).
func openSink(string) (sink, error) {
	l, err := oslog.New(logCategory)
	if err != nil {
		return nil, err
	}
	return osLog{l}, nil
}

type osLog struct{ log *oslog.Log }

func (osLog) timed() bool { return true }

func (o osLog) put(l logLine) { o.log.Put(l.level, l.text) }
