package daemon

import (
	"context"
	"log/slog"
	"log/syslog"
	"os"
)

// prepareRuntime makes the directory of the sockets.
func prepareRuntime(dir string) error { return os.MkdirAll(dir, 0o755) }

// watchConfig has the configuration read again on SIGHUP, until ctx ends.
func (d *daemon) watchConfig(ctx context.Context) { d.watchHangups(ctx) }

// openSink opens the system's log.
func openSink(string) (sink, error) {
	w, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_INFO, "sallyport")
	if err != nil {
		return nil, err
	}
	return syslogSink{w}, nil
}

type syslogSink struct{ w *syslog.Writer }

func (syslogSink) timed() bool { return true }

func (s syslogSink) put(l logLine) {
	switch {
	case l.level >= slog.LevelError:
		_ = s.w.Err(l.text)
	case l.level >= slog.LevelWarn:
		_ = s.w.Warning(l.text)
	default:
		_ = s.w.Info(l.text)
	}
}
