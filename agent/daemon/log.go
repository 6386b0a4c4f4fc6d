package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"sallyport/internal/event"
)

// logLines is how many lines may wait for a log that is slow.
const logLines = 1024

// sink is where the log's lines go. put has nowhere to say that it failed.
type sink interface {
	// timed: the sink notes the time itself.
	timed() bool
	put(logLine)
}

// newLog returns the agent's log: standard error, or what the system has
// (openSink). flush waits, for a while, until what was logged is written.
//
// A log that blocks must not stop a login: lines wait in a bounded queue, and
// what does not fit is dropped and counted.
func newLog(to string) (log *slog.Logger, flush func()) {
	out := &logOut{sink: newStderr(), lines: make(chan logLine, logLines), written: make(chan struct{})}
	if to != "stderr" {
		if s, err := openSink(to); err == nil {
			out.sink = s
		} else {
			defer func() { log.Error("there is no "+to+"; this is the log instead", "error", err) }()
		}
	}
	timed := out.sink.timed()
	h := slog.NewTextHandler(&out.line, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && timed {
			return slog.Attr{}
		}
		return a
	}})
	go out.write()
	return slog.New(&logHandler{h, out}), out.flush
}

// stderr is the log of a program in a terminal, or of a service whose standard
// error the journal reads: then with the priorities of sd-daemon(3).
type stderr struct {
	w       io.Writer
	journal bool
}

func newStderr() stderr { return stderr{os.Stderr, os.Getenv("JOURNAL_STREAM") != ""} }

func (s stderr) timed() bool { return s.journal }

func (s stderr) put(l logLine) {
	if s.journal {
		_, _ = fmt.Fprintf(s.w, "<%d>", priority(l.level))
	}
	_, _ = io.WriteString(s.w, l.text)
}

type logLine struct {
	level slog.Level
	name  event.Name // the event it is about, or any other message
	text  string
}

type logOut struct {
	sink
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
			o.put(logLine{level: slog.LevelWarn, text: fmt.Sprintf("level=WARN msg=\"the log was too slow\" lines_dropped=%d\n", dropped)})
		}
		o.put(l)
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
	case h.out.lines <- logLine{r.Level, event.Name(r.Message), h.out.line.String()}:
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
