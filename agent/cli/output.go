package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/textout"
)

// The authority's commands write in the same way.
var (
	clean      = textout.Clean
	cleanLines = textout.CleanLines
	table      = textout.Table
	when       = textout.When
	howLong    = textout.HowLong
	plural     = textout.Plural
	quoteArg   = textout.QuoteArg
)

// writeJSON writes v as one line. What the commands print always marshals.
func writeJSON(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// result prints what a command found out: one object with --json, else text.
func (a *app) result(v any, text func(w io.Writer)) {
	if a.json {
		writeJSON(a.deps.Stdout, v)
		return
	}
	text(a.deps.Stdout)
}

// painter colours words, or not.
type painter struct{ on bool }

// paint says whether a stream gets colours: only a terminal does, and only when
// NO_COLOR is unset or empty (no-color.org) and the terminal is no dumb one.
func (a *app) paint(stream any) painter {
	return painter{a.deps.IsTTY(stream) && a.deps.Getenv("NO_COLOR") == "" && a.deps.Getenv("TERM") != "dumb"}
}

func (p painter) sgr(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) red(s string) string    { return p.sgr("31", s) }
func (p painter) green(s string) string  { return p.sgr("32", s) }
func (p painter) yellow(s string) string { return p.sgr("33", s) }
func (p painter) bold(s string) string   { return p.sgr("1", s) }

func stamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// stampJSON is nil, and so left out, when the time is not set.
func stampJSON(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	u := t.AsTime()
	return &u
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.0f KB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
}
