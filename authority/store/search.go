package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/internal/event"
)

// Bounds of a search.
const (
	// MaxNames is how many names may be searched for at once, MaxText how long a text.
	MaxNames = 16
	MaxText  = 200
	// maxLooked is how many events one search for a text looks at: it goes on where it
	// was, by the page's cursor.
	maxLooked   = 20_000
	defaultPage = 50
)

// EventQuery selects events; the zero value is all of them, the newest first.
type EventQuery struct {
	// Since and Until are of the event, as its computer's clock had it. Until is not
	// included; zero: no bound.
	Since, Until time.Time
	Names        []string // any of these; none: all
	User         string   // "" = all
	Device       string   // its id; "" = all
	Own          bool     // only the authority's own
	Verdict      string
	Reason       string
	Text         string // in any field, upper and lower case alike
	Oldest       bool   // the oldest first
	Cursor       string // EventPage.Next of the page before
	Limit        int    // 1 to MaxEvents; 0: 50
}

// EventPage is what a search found. Next is "" when there is no more. A page of a
// search for a text may be short, even empty, though there is more.
type EventPage struct {
	Events []Event
	Next   string
}

// place is where an event lies in the order of a search.
type place struct {
	at  int64
	pos uint64
}

func (p place) String() string { return fmt.Sprintf("%d.%d", p.at, p.pos) }

func parsePlace(s string) (p place, err error) {
	if _, err := fmt.Sscanf(s, "%d.%d", &p.at, &p.pos); err != nil || p.String() != s {
		return place{}, fmt.Errorf("%w: %.64q is no cursor of a search", ErrInvalid, s)
	}
	return p, nil
}

// found is an event with its time as it is kept.
type found struct {
	Event
	at int64
}

// SearchEvents implements Tx.
func (t *tx) SearchEvents(q EventQuery) (page EventPage, err error) {
	limit := cmp.Or(q.Limit, defaultPage)
	switch {
	case limit < 1 || limit > MaxEvents:
		return page, fmt.Errorf("%w: a page of %d events; 1 to %d are allowed", ErrInvalid, limit, MaxEvents)
	case len(q.Names) > MaxNames:
		return page, fmt.Errorf("%w: a search for %d names; at most %d are allowed", ErrInvalid, len(q.Names), MaxNames)
	case len(q.Text) > MaxText || !utf8.ValidString(q.Text):
		return page, fmt.Errorf("%w: a search for a text that is over %d bytes, or not UTF-8", ErrInvalid, MaxText)
	case q.Own && q.Device != "":
		return page, fmt.Errorf("%w: a computer's events and only the authority's own", ErrInvalid)
	}
	var at *place
	if q.Cursor != "" {
		p, err := parsePlace(q.Cursor)
		if err != nil {
			return page, err
		}
		at = &p
	}
	text := strings.ToLower(q.Text)
	chunk := limit + 1
	if text != "" {
		chunk = MaxEvents
	}
	for looked := 0; ; {
		list, err := t.searchChunk(q, at, chunk)
		if err != nil {
			return EventPage{}, err
		}
		for _, f := range list {
			if len(page.Events) == limit || looked == t.maxLooked {
				page.Next = at.String()
				return page, nil
			}
			looked, at = looked+1, &place{f.at, f.Pos}
			if text == "" || f.holds(text) {
				page.Events = append(page.Events, f.Event)
			}
		}
		if len(list) < chunk {
			return page, nil
		}
	}
}

// holds says whether a field holds a text in lower case.
func (e Event) holds(text string) bool {
	var v event.Event
	if json.Unmarshal(e.JSON, &v) != nil {
		return strings.Contains(strings.ToLower(string(e.JSON)), text)
	}
	for _, a := range v.LogValue().Group() {
		if strings.Contains(strings.ToLower(a.Value.String()), text) {
			return true
		}
	}
	return false
}

// searchChunk returns the next events that are not only looked for by a text. Of
// several names each is read by itself, in order, from the index.
func (t *tx) searchChunk(q EventQuery, at *place, n int) ([]found, error) {
	if len(q.Names) < 2 {
		return t.searchName(q, strings.Join(q.Names, ""), at, n)
	}
	var all []found
	for _, name := range slices.Compact(slices.Sorted(slices.Values(q.Names))) {
		list, err := t.searchName(q, name, at, n)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b found) int {
		c := cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.Pos, b.Pos))
		if !q.Oldest {
			c = -c
		}
		return c
	})
	return all[:min(n, len(all))], nil
}

// searchName reads by the index of what most likely is the rarest: planners that
// know nothing of the rows could choose another.
func (t *tx) searchName(q EventQuery, name string, at *place, n int) ([]found, error) {
	text, args := searchSQL(q, name, at, n)
	return all(t, func(f *found) []any {
		return []any{&f.at, &f.Pos, &f.Device, &f.VaultID, &f.Seq, when{&f.Time}, when{&f.Kept}, &f.Name, &f.User, &f.JSON}
	}, text, args...)
}

// butUsual are the reasons that most events have: no index has them.
const butUsual = ` AND reason <> 'code_accepted' AND reason <> 'push_approved' AND reason <> 'exempt' AND reason <> 'not_asked'`

func searchSQL(q EventQuery, name string, at *place, n int) (string, []any) {
	var where []string
	var args []any
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, condition)
	}
	indexed := false
	for _, f := range []struct {
		column, value string
		is            bool
		as            string // with what its index is only of
	}{
		{"user_name", q.User, q.User != "", `user_name = ?`},
		{"device", q.Device, q.Device != "" || q.Own, `device = ?`},
		{"reason", q.Reason, q.Reason != "", `reason = ? AND reason <> ''` + butUsual},
		{"name", name, name != "", `name = ? AND name <> 'login_attempt'`},
		{"verdict", q.Verdict, q.Verdict != "", ``},
	} {
		usual := f.value == "login_attempt" || f.column == "reason" && strings.Contains(butUsual, "'"+f.value+"'")
		switch {
		case !f.is:
		case f.column == "verdict" && f.value == "deny" && !indexed:
			add(`verdict = 'deny'`)
		case f.as != "" && !usual && !indexed:
			add(f.as, f.value)
			indexed = true
		default:
			add("("+f.column+" || '') = ?", f.value) // by no index
		}
	}
	if !q.Since.IsZero() {
		add("at >= ?", nano(q.Since))
	}
	if !q.Until.IsZero() {
		add("at < ?", nano(q.Until))
	}
	order, beyond := " DESC", "<"
	if q.Oldest {
		order, beyond = "", ">"
	}
	if at != nil {
		add("(at, pos) "+beyond+" (?, ?)", at.at, at.pos)
	}
	if len(where) == 0 {
		where = []string{"TRUE"}
	}
	args = append(args, int64(n))
	return `SELECT at, pos, device, vault_id, seq, at, kept, name, user_name, json FROM events WHERE ` + strings.Join(where, " AND ") +
		fmt.Sprintf(` ORDER BY at%s, pos%s LIMIT $%d`, order, order, len(args)), args
}

// Matches says whether an event is one that the query selects, wherever in its order.
func (q EventQuery) Matches(e Event) bool {
	verdict, reason := verdictOf(e.JSON)
	return (q.Since.IsZero() || !e.Time.Before(q.Since)) && (q.Until.IsZero() || e.Time.Before(q.Until)) &&
		(len(q.Names) == 0 || slices.Contains(q.Names, e.Name)) && (q.User == "" || q.User == e.User) &&
		(q.Device == "" || q.Device == e.Device) && (!q.Own || e.Device == "") &&
		(q.Verdict == "" || q.Verdict == verdict) && (q.Reason == "" || q.Reason == reason) &&
		(q.Text == "" || e.holds(strings.ToLower(q.Text)))
}
