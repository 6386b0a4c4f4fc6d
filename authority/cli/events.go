package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/eventsout"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/textout"
)

// followEvery is how often the database is looked at.
const followEvery = time.Second

// The formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatJSONL = "jsonl"
	formatCSV   = "csv"
	formatOCSF  = "ocsf"
)

// selection is what the flags say of which events.
type selection struct {
	since, until, user, device, verdict, reason, text string
	names                                             []string
	own                                               bool
}

func (s *selection) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.since, "since", "", "only from then on: a `TIME` such as 2026-11-22, \"2026-11-22 14:00\", or 24h, 7d ago")
	f.StringVar(&s.until, "until", "", "only before that `TIME`")
	f.StringSliceVar(&s.names, "event", nil, "only of this `NAME`; of any, where given more than once")
	f.StringVar(&s.user, "user", "", "only of this `USER`")
	f.StringVar(&s.device, "device", "", "only of this `DEVICE`")
	f.BoolVar(&s.own, "own", false, "only the authority's own")
	f.StringVar(&s.verdict, "verdict", "", "only with this `VERDICT`: allow, deny or skip")
	f.StringVar(&s.reason, "reason", "", "only with this `REASON`")
	f.StringVar(&s.text, "text", "", "only with this `TEXT` in any field")
}

// query looks up what the flags name.
func (s *selection) query(ctx context.Context, au *server.Authority, now time.Time) (q store.EventQuery, err error) {
	q = store.EventQuery{Names: s.names, User: s.user, Own: s.own, Verdict: s.verdict, Reason: s.reason, Text: s.text}
	switch {
	case len(s.names) > store.MaxNames:
		return q, badUsage("--event: at most %d names", store.MaxNames)
	case len(s.text) > store.MaxText:
		return q, badUsage("--text: at most %d bytes", store.MaxText)
	case s.own && s.device != "":
		return q, badUsage("--own and --device: choose one")
	}
	if q.Since, err = moment(s.since, now); err != nil {
		return q, badUsage("--since %s: %v", s.since, err)
	}
	if q.Until, err = moment(s.until, now); err != nil {
		return q, badUsage("--until %s: %v", s.until, err)
	}
	if s.device != "" {
		d, err := findDevice(ctx, au.Store, s.device)
		if err != nil {
			return q, err
		}
		q.Device = d.ID
	}
	return q, nil
}

// moment reads a time, in this computer's zone where it names none, or how long ago.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	days, ok := strings.CutSuffix(s, "d")
	if n, err := strconv.Atoi(days); ok && err == nil && n >= 0 && n <= 36500 {
		return now.AddDate(0, 0, -n), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("it is neither a time, such as 2026-11-22 or \"2026-11-22 14:00\", nor how long ago, such as 24h or 7d")
}

func (a *app) eventsCommand() *cobra.Command {
	var s selection
	var follow bool
	var n int
	format := formatTable
	c := &cobra.Command{
		Use:   "events",
		Short: "show what happened, on the computers and here",
		Long: `Shows the newest events that match, the oldest of them first. The time that --since and
--until mean is the event's own, by its computer's clock.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if n < 1 || n > 10000 {
				return badUsage("--last %d: 1 to 10000", n)
			}
			if a.json {
				format = formatJSON
			}
			if !slices.Contains([]string{formatTable, formatJSON, formatJSONL, formatCSV, formatOCSF}, format) {
				return badUsage("--format %s: table, json, csv or ocsf", format)
			}
			return a.with(cmd.Context(), func(au *server.Authority) error {
				q, err := s.query(cmd.Context(), au, a.deps.Now())
				if err != nil {
					return err
				}
				return a.events(cmd.Context(), au, a.writer(a.deps.Stdout, format), q, n, follow)
			})
		}),
	}
	s.flags(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as more happens")
	c.Flags().IntVarP(&n, "last", "n", 50, "how many of the last")
	c.Flags().StringVar(&format, "format", format, "`FORMAT`: table, json (one object on each line), csv or ocsf")
	c.AddCommand(a.exportCommand())
	return c
}

// writer writes events in a format.
type writer struct {
	a      *app
	w      io.Writer
	format string
	csv    *eventsout.CSV
	names  map[string]string
}

func (a *app) writer(w io.Writer, format string) *writer {
	x := &writer{a: a, w: w, format: format, names: map[string]string{}}
	if format == formatCSV {
		x.csv = eventsout.NewCSV(w)
	}
	return x
}

// header is what comes before the first event.
func (x *writer) header() error {
	if x.csv == nil {
		return nil
	}
	return errors.Join(x.csv.Header(), x.csv.Flush())
}

// learn looks up the names of computers.
func (x *writer) learn(tx store.Tx, list []store.Event) error {
	for _, e := range list {
		if _, ok := x.names[e.Device]; ok || e.Device == "" {
			continue
		}
		d, err := tx.Device(e.Device)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		x.names[e.Device] = d.Name
	}
	return nil
}

func (x *writer) write(list []store.Event) (err error) {
	for _, e := range list {
		r := eventsout.NewRecord(e, x.names[e.Device])
		switch x.format {
		case formatTable:
			x.a.printEvent(x.w, e, x.names[e.Device])
		case formatCSV:
			err = x.csv.Write(r)
		case formatOCSF:
			err = line(x.w, eventsout.OCSF(r, x.a.deps.Version))
		default:
			err = line(x.w, r)
		}
		if err != nil {
			return err
		}
	}
	if x.csv != nil {
		return x.csv.Flush()
	}
	return nil
}

// line writes a value as JSON on a line of its own.
func line(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

func (a *app) events(ctx context.Context, au *server.Authority, x *writer, q store.EventQuery, n int, follow bool) error {
	var list []store.Event
	var at uint64
	for more := true; more; {
		err := au.Store.View(ctx, func(tx store.Tx) (err error) {
			if q.Cursor == "" { // what comes later is followed
				if at, err = tx.LastEvent(); err != nil {
					return err
				}
			}
			q.Limit = min(n-len(list), store.MaxEvents)
			page, err := tx.SearchEvents(q)
			if err != nil {
				return err
			}
			list, q.Cursor = append(list, page.Events...), page.Next
			more = page.Next != "" && len(list) < n
			return x.learn(tx, page.Events)
		})
		if err != nil {
			return err
		}
	}
	slices.Reverse(list)
	if err := errors.Join(x.header(), x.write(list)); err != nil || !follow {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_, err := a.pass(ctx, au, x, q, &at)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// pass writes what matches of the events after a cursor, in the order in which they
// came, and moves the cursor.
func (a *app) pass(ctx context.Context, au *server.Authority, x *writer, q store.EventQuery, at *uint64) (n int, err error) {
	for {
		var read int
		var list []store.Event
		next := *at
		err := au.Store.View(ctx, func(tx store.Tx) error {
			some, to, err := tx.Events(*at, "", "", store.MaxEvents)
			read, next = len(some), to
			list = slices.DeleteFunc(some, func(e store.Event) bool { return !q.Matches(e) })
			return errors.Join(err, x.learn(tx, list))
		})
		if err == nil && read > 0 {
			err = x.write(list)
		}
		if err != nil || read == 0 {
			return n, err
		}
		n, *at = n+len(list), next
	}
}

func (a *app) exportCommand() *cobra.Command {
	var s selection
	var out string
	var after uint64
	format := formatJSONL
	c := &cobra.Command{
		Use:   "export",
		Short: "write all events that match to a file",
		Long: `Writes all events that match, in the order in which the authority got them. At the end it
says a cursor: with --after it goes on there another time, and passes by none, also of
those that a computer sends late.

With --out the file is there only when it is whole.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{formatJSONL, formatCSV, formatOCSF}, format) {
				return badUsage("--format %s: jsonl, csv or ocsf", format)
			}
			return a.with(cmd.Context(), func(au *server.Authority) error {
				q, err := s.query(cmd.Context(), au, a.deps.Now())
				if err != nil {
					return err
				}
				return a.export(cmd.Context(), au, q, format, out, after)
			})
		}),
	}
	s.flags(c)
	c.Flags().StringVar(&format, "format", format, "`FORMAT`: jsonl (one object on each line), csv or ocsf")
	c.Flags().StringVar(&out, "out", "", "to this `FILE`, which must not be there; without it to standard output")
	c.Flags().Uint64Var(&after, "after", 0, "only what came after this `CURSOR`")
	_ = c.MarkFlagFilename("out")
	return c
}

func (a *app) export(ctx context.Context, au *server.Authority, q store.EventQuery, format, out string, at uint64) (err error) {
	to := a.deps.Stdout
	finish := func() error { return nil }
	if out != "" {
		f, err := newFile(out)
		if err != nil {
			return err
		}
		defer f.drop()
		to, finish = f, f.finish
	}
	x := a.writer(to, format)
	if err := x.header(); err != nil {
		return err
	}
	n, err := a.pass(ctx, au, x, q, &at)
	if err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	v := struct {
		Events int    `json:"events"`
		Cursor uint64 `json:"cursor"`
		File   string `json:"file,omitempty"`
	}{n, at, out}
	if a.json {
		w := a.deps.Stdout
		if out == "" { // the events are there
			w = a.deps.Stderr
		}
		writeJSON(w, v)
		return nil
	}
	printf(a.deps.Stderr, "%s; to go on from here another time: --after %s\n", textout.Plural(n, "event", "events"), strconv.FormatUint(at, 10))
	return nil
}

// file gets its name when it is whole.
type file struct {
	*os.File
	path string
}

func newFile(path string) (*file, error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = os.ErrExist
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*") // 0600
	if err != nil {
		return nil, err
	}
	return &file{f, path}, nil
}

func (f *file) finish() error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), f.path) // never over another file
}

func (f *file) drop() {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
