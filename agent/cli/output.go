package cli

import (
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/command"
	"sallyport/internal/textout"
)

// The authority's commands write in the same way.
var (
	clean     = textout.Clean
	table     = textout.Table
	when      = textout.When
	howLong   = textout.HowLong
	plural    = textout.Plural
	quoteArg  = textout.QuoteArg
	writeJSON = command.WriteJSON
)

// result prints what a command found out: one object with --json, else text.
func (a *app) result(v any, text func(w io.Writer)) {
	if a.json {
		writeJSON(a.deps.Stdout, v)
		return
	}
	text(a.deps.Stdout)
}

// paint returns the command.Painter of a stream.
func (a *app) paint(stream any) command.Painter {
	return command.Paint(a.deps.IsTTY(stream) && colours(stream), a.deps.Getenv)
}

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
