//go:build linux

package store_test

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// written is an event with text fields, at so many minutes after noon.
func written(minute int, device, name, user, json string) store.Event {
	at := noon.Add(time.Duration(minute) * time.Minute)
	return store.Event{Device: device, VaultID: "v", Seq: uint64(minute + 1), Time: at, Kept: at, Name: name, User: user, JSON: []byte(json)}
}

// search reads a whole search in pages of n.
func search(t *testing.T, s store.Store, q store.EventQuery, n int) (list []store.Event) {
	t.Helper()
	q.Limit = n
	for range 10_000 {
		page := get(t, s, func(tx store.Tx) (store.EventPage, error) { return tx.SearchEvents(q) })
		if len(page.Events) > n {
			t.Fatalf("a page of %d has %d events", n, len(page.Events))
		}
		list = append(list, page.Events...)
		if q.Cursor = page.Next; q.Cursor == "" {
			return list
		}
	}
	t.Fatal("the search has no end")
	return nil
}

func minutes(list []store.Event) string {
	var b []string
	for _, e := range list {
		b = append(b, fmt.Sprint(int(e.Time.Sub(noon)/time.Minute)))
	}
	return strings.Join(b, " ")
}

func TestASearchFindsWhatMatches(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		// The last came from an outage: it is older than what is here.
		for _, e := range []store.Event{
			written(1, "d1", "login_attempt", "maya", `{"seq":2,"user":"maya","verdict":"allow","reason":"code_accepted","service":"sshd"}`),
			written(2, "d1", "login_attempt", "maya", `{"seq":3,"user":"maya","verdict":"deny","reason":"wrong_code","remote":"203.0.113.7"}`),
			written(3, "d1", "user_locked", "maya", `{"seq":4,"user":"maya"}`),
			written(4, "d2", "login_attempt", "noor", `{"seq":5,"user":"noor","verdict":"deny","reason":"wrong_code","text":"Ümläut \"quoted\" <b>"}`),
			written(5, "", "phone_enrolled", "noor", `{"user":"noor","by":"uid:0","text":"her \"verdict\":\"allow\""}`),
			written(0, "d2", "login_attempt", "noor", `{"seq":1,"user":"noor","verdict":"allow","reason":"push_approved"}`),
		} {
			update(t, s, func(tx store.Tx) error { return second(tx.AddEvents([]store.Event{e})) })
		}
		for _, c := range []struct {
			what string
			q    store.EventQuery
			want string
		}{
			{"all", store.EventQuery{}, "5 4 3 2 1 0"},
			{"oldest first", store.EventQuery{Oldest: true}, "0 1 2 3 4 5"},
			{"of a user", store.EventQuery{User: "maya"}, "3 2 1"},
			{"of a computer", store.EventQuery{Device: "d2", Oldest: true}, "0 4"},
			{"the authority's own", store.EventQuery{Own: true}, "5"},
			{"of a name", store.EventQuery{Names: []string{"user_locked"}}, "3"},
			{"of two names", store.EventQuery{Names: []string{"user_locked", "login_attempt"}}, "4 3 2 1 0"},
			{"of a name twice", store.EventQuery{Names: []string{"user_locked", "user_locked"}}, "3"},
			{"verdict", store.EventQuery{Verdict: "deny"}, "4 2"},
			{"a usual reason", store.EventQuery{Reason: "push_approved"}, "0"},
			{"a rare reason", store.EventQuery{Reason: "wrong_code", Oldest: true}, "2 4"},
			{"a usual name", store.EventQuery{Names: []string{"login_attempt"}}, "4 2 1 0"},
			{"a usual verdict", store.EventQuery{Verdict: "allow"}, "1 0"},
			{"verdict and user", store.EventQuery{Verdict: "deny", User: "noor"}, "4"},
			{"all at once", store.EventQuery{Names: []string{"login_attempt", "user_locked"}, User: "maya", Device: "d1", Verdict: "deny", Reason: "wrong_code", Text: "203.0"}, "2"},
			{"since", store.EventQuery{Since: noon.Add(3 * time.Minute)}, "5 4 3"},
			{"until", store.EventQuery{Until: noon.Add(3 * time.Minute), Oldest: true}, "0 1 2"},
			{"between, of a user", store.EventQuery{Since: noon.Add(2 * time.Minute), Until: noon.Add(3 * time.Minute), User: "maya"}, "2"},
			{"text", store.EventQuery{Text: "üMLÄUT"}, "4"},
			{"text that JSON escapes", store.EventQuery{Text: `"Quoted" <`}, "4"},
			{"text of a name of a field", store.EventQuery{Text: "seq"}, ""},
			{"nobody's", store.EventQuery{User: "mallory"}, ""},
			{"a percent sign is none of LIKE", store.EventQuery{Text: "%"}, ""},
			{"an injection", store.EventQuery{User: "' OR 1=1 --"}, ""},
		} {
			for _, n := range []int{1, 2, 1000} {
				list := search(t, s, c.q, n)
				same(t, fmt.Sprintf("%s, in pages of %d", c.what, n), minutes(list), c.want)
				for _, e := range list {
					if !c.q.Matches(e) {
						t.Errorf("%s: found, and does not match: %s", c.what, e.JSON)
					}
				}
			}
		}
		for what, q := range map[string]store.EventQuery{
			"a page of more":    {Limit: store.MaxEvents + 1},
			"a negative page":   {Limit: -1},
			"a cursor":          {Cursor: "1.2.3"},
			"a cursor of words": {Cursor: "x"},
			"a long text":       {Text: strings.Repeat("x", store.MaxText+1)},
			"no UTF-8":          {Text: "\xff"},
			"many names":        {Names: make([]string, store.MaxNames+1)},
			"own and another's": {Own: true, Device: "d1"},
		} {
			t.Run(what, func(t *testing.T) {
				want(t, s, store.ErrInvalid, func(tx store.Tx) error { return second(tx.SearchEvents(q)) })
			})
		}
	})
}

// TestASearchForATextIsBounded: it looks at so many, and goes on where it was.
func TestASearchForATextIsBounded(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	store.Bound(s, 1000)
	for first := 0; first < 2250; first += 250 {
		var list []store.Event
		for i := first; i < first+250; i++ {
			text := "hay"
			if i == 3 {
				text = "needle"
			}
			list = append(list, written(i, "d1", "login_attempt", "", fmt.Sprintf(`{"text":%q}`, text)))
		}
		update(t, s, func(tx store.Tx) error { return second(tx.AddEvents(list)) })
	}
	q := store.EventQuery{Text: "needle"}
	pages := 0
	for {
		page := get(t, s, func(tx store.Tx) (store.EventPage, error) { return tx.SearchEvents(q) })
		if pages++; page.Next == "" {
			same(t, "what is found at last", minutes(page.Events), "3")
			break
		}
		if len(page.Events) != 0 {
			t.Errorf("found: %s", minutes(page.Events))
		}
		q.Cursor = page.Next
	}
	if pages != 3 {
		t.Errorf("%d pages", pages)
	}
}

// TestEventsAreOnlyEverAdded: neither this program's bug nor a hand at the database
// changes one by mistake.
func TestEventsAreOnlyEverAdded(t *testing.T) {
	url := storetest.Database(t)
	for kind, o := range map[string]store.Options{"sqlite": {SQLite: t.TempDir() + "/authority.db", Node: "a"}, "postgresql": {PostgreSQL: url, Node: "a"}} {
		t.Run(kind, func(t *testing.T) {
			s := storetest.Open(t, o)
			update(t, s, func(tx store.Tx) error { return second(tx.AddEvents([]store.Event{logged("d1", "v", "maya", 1)})) })
			for _, sql := range []string{`UPDATE events SET user_name = 'mallory'`, `UPDATE events SET json = NULL WHERE seq = 1`} {
				err := s.Update(t.Context(), func(tx store.Tx) error { return store.Exec(tx, sql) })
				if err == nil || !strings.Contains(err.Error(), "only ever added") {
					t.Errorf("%s: %v", sql, err)
				}
			}
			same(t, "the user", search(t, s, store.EventQuery{}, 10)[0].User, "maya")
		})
	}
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `TRUNCATE events`); err == nil || !strings.Contains(err.Error(), "only ever added") {
		t.Errorf("TRUNCATE: %v", err)
	}
}

// TestASearchReadsNoMoreThanItFinds: each of the usual ones goes by an index that has
// the order as well, though SQLite knows nothing of the rows. PostgreSQL counts them and
// chooses by itself; BenchmarkSearch shows what comes of it.
func TestASearchReadsNoMoreThanItFinds(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	for _, c := range []struct {
		index string
		q     store.EventQuery
	}{
		{"events_at", store.EventQuery{}},
		{"events_at", store.EventQuery{Since: noon, Until: noon.Add(time.Hour)}},
		{"events_user", store.EventQuery{User: "maya"}},
		{"events_user", store.EventQuery{User: "maya", Names: []string{"login_attempt"}, Verdict: "deny", Since: noon}},
		{"events_device", store.EventQuery{Device: "d1", Names: []string{"login_attempt"}}},
		{"events_device", store.EventQuery{Own: true}},
		{"events_reason", store.EventQuery{Reason: "wrong_code", Names: []string{"login_attempt"}}},
		{"events_name", store.EventQuery{Names: []string{"user_locked"}, Oldest: true}},
		{"events_denied", store.EventQuery{Verdict: "deny"}},
		{"events_at", store.EventQuery{Verdict: "allow"}},
		{"events_at", store.EventQuery{Names: []string{"login_attempt"}, Reason: "code_accepted"}},
		{"events_denied", store.EventQuery{Names: []string{"login_attempt"}, Verdict: "deny"}},
	} {
		for _, cursor := range []string{"", "1.2"} {
			c.q.Cursor = cursor
			plan := get(t, s, func(tx store.Tx) (string, error) { return store.Plan(tx, c.q) })
			if !strings.Contains(plan+" ", "USING INDEX "+c.index+" ") || strings.Contains(plan, "TEMP B-TREE") {
				t.Errorf("%+v: not by %s in its order:\n%s", c.q, c.index, plan)
			}
		}
	}
}

// BenchmarkSearch searches a million events, or as many as EVENTS says.
func BenchmarkSearch(b *testing.B) {
	total, err := strconv.Atoi(cmp.Or(os.Getenv("EVENTS"), "1000000"))
	if err != nil {
		b.Fatal(err)
	}
	for kind, o := range map[string]store.Options{"sqlite": {SQLite: b.TempDir() + "/authority.db", Node: "a"}, "postgresql": {PostgreSQL: storetest.Database(b), Node: "a"}} {
		s := storetest.Open(b, o)
		for first := 0; first < total; first += store.MaxEvents {
			device := fmt.Sprint("d", first/store.MaxEvents%500)
			list := make([]store.Event, store.MaxEvents)
			for i := range list {
				n := first + i
				json := `{"verdict":"allow","reason":"code_accepted","service":"sshd","remote":"203.0.113.7"}`
				name := "login_attempt"
				switch {
				case n%100_000 == 7:
					name, json = "user_locked", `{"verdict":"deny","reason":"locked"}`
				case n%20 == 0:
					json = `{"verdict":"deny","reason":"wrong_code","service":"sshd"}`
				}
				list[i] = written(n, device, name, fmt.Sprint("user", n%2000), json)
			}
			if err := s.Change(b.Context(), func(tx store.Tx) error { return second(tx.AddEvents(list)) }); err != nil {
				b.Fatal(err)
			}
		}
		if kind == "postgresql" { // as autovacuum does
			update(b, s, func(tx store.Tx) error { return store.Exec(tx, `ANALYZE events`) })
		}
		middle := noon.Add(time.Duration(total/2) * time.Minute)
		for _, c := range []struct {
			what string
			q    store.EventQuery
		}{
			{"newest", store.EventQuery{}},
			{"of an hour", store.EventQuery{Since: middle, Until: middle.Add(time.Hour)}},
			{"of a user", store.EventQuery{User: "user7"}},
			{"denied to a user", store.EventQuery{User: "user20", Verdict: "deny"}},
			{"of a computer", store.EventQuery{Device: "d7", Oldest: true}},
			{"denied", store.EventQuery{Verdict: "deny"}},
			{"of a rare name", store.EventQuery{Names: []string{"user_locked"}}},
			{"of a name that never was", store.EventQuery{Names: []string{"vault_accepted", "user_locked"}}},
			{"of a rare reason", store.EventQuery{Reason: "locked"}},
			{"in the middle", store.EventQuery{Cursor: fmt.Sprintf("%d.1", middle.UnixNano())}},
			{"of a text that is nowhere", store.EventQuery{Text: "needle"}},
		} {
			b.Run(kind+"/"+c.what, func(b *testing.B) {
				for b.Loop() {
					if err := s.View(b.Context(), func(tx store.Tx) error { return second(tx.SearchEvents(c.q)) }); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
