package eventsout

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
)

// columns of CSV. Stable: new ones are added at the end.
var columns = []string{"id", "time", "kept", "device", "device_name", "vault_id", "seq", "event", "user", "key", "hook", "service", "scenario", "remote",
	"session", "verdict", "reason", "factor", "rule", "by", "text"}

// CSV writes records as RFC 4180 has it, safe to open in a spreadsheet.
type CSV struct{ w *csv.Writer }

// NewCSV returns a CSV.
func NewCSV(w io.Writer) *CSV {
	c := &CSV{csv.NewWriter(w)}
	c.w.UseCRLF = true
	return c
}

// Header writes the names of the columns.
func (c *CSV) Header() error { return c.w.Write(columns) }

// Write writes one record.
func (c *CSV) Write(r Record) error {
	e := r.event
	row := []string{r.ID, e.Time.UTC().Format(time.RFC3339Nano), r.Kept.UTC().Format(time.RFC3339Nano), r.Device, r.Name, r.VaultID,
		strconv.FormatUint(e.Seq, 10), string(e.Name), e.User, e.Key, e.Hook, e.Service, e.Scenario, e.Remote, e.Session, e.Verdict, e.Reason,
		e.Factor, e.Rule, e.By, e.Text}
	for i, s := range row {
		row[i] = harmless(s)
	}
	return c.w.Write(row)
}

// Flush has everything written.
func (c *CSV) Flush() error {
	c.w.Flush()
	return c.w.Error()
}

// harmless keeps a spreadsheet from taking a text that somebody else chose for a
// formula (CWE-1236): such a one gets an apostrophe before it, also behind what
// spreadsheets skip.
func harmless(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == '\t' || r == 0 {
			return ' '
		}
		return r
	}, s)
	if strings.HasPrefix(s, "'") || strings.IndexAny(strings.TrimLeft(s, " \u00a0\ufeff"), "=+-@\uff1d\uff0b\uff0d\uff20") == 0 {
		return "'" + s
	}
	return s
}
