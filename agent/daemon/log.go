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
	"time"
)

// logLines is how many lines may wait for a log that is slow.
const logLines = 1024

// newLog returns the agent's log: standard error, with syslog(3) priorities
// when the journal reads it (sd-daemon(3)), or syslog itself. flush waits, for a
// while, until what was logged is written.
//
// A log that blocks must not stop a login: lines wait in a bounded queue, and
// what does not fit is dropped and counted.
func newLog(to string) (log *slog.Logger, flush func()) {
	out := &logOut{lines: make(chan logLine, logLines), written: make(chan struct{})}
	if to == "syslog" {
		w, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_INFO, "sallyport")
		if out.syslog = w; err != nil {
			out.syslog = nil
			defer func() { log.Error("there is no syslog; this is the log instead", "error", err) }()
		}
	}
	// Both the journal and syslog note the time themselves.
	journal := os.Getenv("JOURNAL_STREAM") != ""
	out.prefix = journal && out.syslog == nil
	h := slog.NewTextHandler(&out.line, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && (journal || out.syslog != nil) {
			return slog.Attr{}
		}
		return a
	}})
	go out.write()
	return slog.New(&logHandler{h, out}), out.flush
}

type logLine struct {
	level slog.Level
	text  string
}

type logOut struct {
	syslog  *syslog.Writer
	prefix  bool
	lines   chan logLine
	written chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	line    bytes.Buffer // of the handler, one at a time
	dropped int
	closed  bool
}

// write takes the lines to where they go. It ends when the log is closed.
func (o *logOut) write() {
	defer close(o.written)
	for l := range o.lines {
		o.mu.Lock()
		dropped := o.dropped
		o.dropped = 0
		o.mu.Unlock()
		if dropped > 0 {
			o.put(logLine{slog.LevelWarn, fmt.Sprintf("level=WARN msg=\"the log was too slow\" lines_dropped=%d\n", dropped)})
		}
		o.put(l)
	}
}

// put writes one line. That it cannot be written has nowhere to be said.
func (o *logOut) put(l logLine) {
	switch {
	case o.syslog != nil && l.level >= slog.LevelError:
		_ = o.syslog.Err(l.text)
	case o.syslog != nil && l.level >= slog.LevelWarn:
		_ = o.syslog.Warning(l.text)
	case o.syslog != nil:
		_ = o.syslog.Info(l.text)
	case o.prefix:
		_, _ = fmt.Fprintf(os.Stderr, "<%d>%s", priority(l.level), l.text)
	default:
		_, _ = io.WriteString(os.Stderr, l.text)
	}
}

// flush ends the log. What is logged afterwards is lost.
func (o *logOut) flush() {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.lines)
	}
	o.mu.Unlock()
	select {
	case <-o.written:
	case <-time.After(time.Second):
	}
}

type logHandler struct {
	slog.Handler
	out *logOut
}

// Handle queues one line.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.line.Reset()
	if err := h.Handler.Handle(ctx, r); err != nil || h.out.closed {
		return err
	}
	select {
	case h.out.lines <- logLine{r.Level, h.out.line.String()}:
	default:
		h.out.dropped++
	}
	return nil
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
