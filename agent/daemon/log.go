package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"sync"
)

// newLog returns the agent's log: standard error, with syslog(3) priorities
// when the journal reads it (sd-daemon(3)), or syslog itself.
func newLog(to string) (*slog.Logger, error) {
	h := &logHandler{out: &logOut{}}
	if to == "syslog" {
		w, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_INFO, "sallyport")
		if err != nil {
			return nil, fmt.Errorf("log = \"syslog\": %w", err)
		}
		h.out.syslog = w
	}
	// Both the journal and syslog note the time themselves.
	journal := os.Getenv("JOURNAL_STREAM") != ""
	h.out.prefix = journal && to != "syslog"
	h.Handler = slog.NewTextHandler(&h.out.line, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && (journal || to == "syslog") {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), nil
}

type logOut struct {
	mu     sync.Mutex
	line   bytes.Buffer
	syslog *syslog.Writer
	prefix bool
}

type logHandler struct {
	slog.Handler
	out *logOut
}

// Handle writes one line. A log that cannot be written must not stop a login.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	line := h.out.line.String()
	if w := h.out.syslog; w != nil {
		switch {
		case r.Level >= slog.LevelError:
			return w.Err(line)
		case r.Level >= slog.LevelWarn:
			return w.Warning(line)
		default:
			return w.Info(line)
		}
	}
	if h.out.prefix {
		line = fmt.Sprintf("<%d>", priority(r.Level)) + line
	}
	_, err := io.WriteString(os.Stderr, line)
	return err
}

func (h *logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(a), h.out}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.out}
}

// priority is a level as syslog(3) counts them.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	default:
		return 7
	}
}
