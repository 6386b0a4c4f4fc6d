package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// scanner is one row.
type scanner interface{ Scan(to ...any) error }

// querier runs statements in one transaction. Parameters are $1, $2, ...
type querier interface {
	// exec returns how many rows it changed.
	exec(sql string, args ...any) (int64, error)
	// later is exec for whom the count does not matter: it may run only with the
	// next statement or the commit, and its error comes from there.
	later(sql string, args ...any) error
	// query calls row for each row.
	query(row func(scanner) error, sql string, args ...any) error
}

// maxValue bounds whatever is put into one field.
const maxValue = 1 << 20

var (
	// ErrInvalid: a value that the databases would not both take, or too long.
	ErrInvalid   = errors.New("store: the value cannot be stored")
	errViewWrite = errors.New("store: a write within View")
)

// guarded is a querier whose first error ends its transaction: PostgreSQL would
// refuse whatever comes after, and SQLite must not be laxer.
type guarded struct {
	ctx      context.Context
	q        querier
	readOnly bool
	err      error
}

func (g *guarded) check(write bool, args ...any) error {
	if g.err == nil {
		g.err = g.ctx.Err()
	}
	if g.err == nil && write && g.readOnly {
		g.err = errViewWrite
	}
	for _, a := range args {
		if g.err != nil {
			break
		}
		switch a := a.(type) {
		case string:
			if len(a) > maxValue || !utf8.ValidString(a) || strings.IndexByte(a, 0) >= 0 {
				g.err = fmt.Errorf("%w: a text that is too long, is not UTF-8, or holds a NUL", ErrInvalid)
			}
		case []byte:
			if len(a) > maxValue {
				g.err = fmt.Errorf("%w: %d bytes are over %d", ErrInvalid, len(a), maxValue)
			}
		}
	}
	return g.err
}

func (g *guarded) exec(sql string, args ...any) (n int64, err error) {
	if err := g.check(true, args...); err != nil {
		return 0, err
	}
	n, g.err = g.q.exec(sql, args...)
	return n, g.err
}

func (g *guarded) later(sql string, args ...any) error {
	if err := g.check(true, args...); err != nil {
		return err
	}
	g.err = g.q.later(sql, args...)
	return g.err
}

func (g *guarded) query(row func(scanner) error, sql string, args ...any) error {
	if err := g.check(false, args...); err != nil {
		return err
	}
	g.err = g.q.query(row, sql, args...)
	return g.err
}

// nano is how times are kept; the zero time is 0, and no other is.
func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if n := t.UnixNano(); n != 0 {
		return n
	}
	return 1
}

// when scans a time.
type when struct{ t *time.Time }

func (w when) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is a %T", v)
	}
	*w.t = time.Time{}
	if n != 0 {
		*w.t = time.Unix(0, n).UTC()
	}
	return nil
}

// blob is how bytes are kept: none are NULL.
func blob(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// text is v as JSON.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	return string(b)
}

// from scans JSON; NULL leaves to as it is.
type from struct{ to any }

func (f from) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		return json.Unmarshal(v, f.to)
	case string:
		return json.Unmarshal([]byte(v), f.to)
	}
	return fmt.Errorf("JSON is a %T", v)
}
