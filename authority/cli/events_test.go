package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/authority/store"
)

// database opens the authority's database beside it.
func (s *shell) database() store.Store {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), store.Options{SQLite: filepath.Join(s.dir, "state", "authority.db"), Node: "test"})
	ok(s.t, err)
	s.t.Cleanup(func() { ok(s.t, db.Close()) })
	return db
}

// log keeps an event of a computer, so many minutes before now.
func (s *shell) log(db store.Store, seq uint64, minutesAgo int, name, user, more string) {
	s.t.Helper()
	at := time.Now().Add(-time.Duration(minutesAgo) * time.Minute).UTC()
	e := store.Event{Device: "d1", VaultID: "v1", Seq: seq, Time: at, Kept: at, Name: name, User: user,
		JSON: fmt.Appendf(nil, `{"seq":%d,"time":%q,"event":%q,"user":%q%s}`, seq, at.Format(time.RFC3339Nano), name, user, more)}
	ok(s.t, db.Update(s.t.Context(), func(tx store.Tx) error { _, err := tx.AddEvents([]store.Event{e}); return err }))
}

func TestEventsAreSearched(t *testing.T) {
	s := newShell(t)
	s.init()
	db := s.database()
	ok(t, db.Update(t.Context(), func(tx store.Tx) error {
		return tx.PutDevice(store.Device{ID: "d1", Name: "laptop-17", Created: time.Now()})
	}))
	s.log(db, 1, 3000, "login_attempt", "maya", `,"verdict":"deny","reason":"wrong_code"`)
	s.log(db, 2, 50, "login_attempt", "maya", `,"verdict":"deny","reason":"wrong_code","remote":"203.0.113.7"`)
	s.log(db, 3, 40, "user_locked", "maya", ``)
	s.log(db, 4, 30, "login_attempt", "noor", `,"verdict":"allow","reason":"push_approved"`)
	s.log(db, 5, 4000, "login_attempt", "noor", `,"verdict":"deny","reason":"cancelled"`) // it came late
	s.ok("user", "add", "zoe")
	seqs := func(args ...string) string {
		t.Helper()
		var b []string
		for line := range strings.Lines(s.ok(append([]string{"events", "--format", "json"}, args...)...)) {
			var v struct {
				Device string
				Event  struct {
					Seq   int
					Event string
				}
			}
			ok(t, json.Unmarshal([]byte(line), &v))
			if v.Device == "" {
				b = append(b, v.Event.Event)
			} else {
				b = append(b, fmt.Sprint(v.Event.Seq))
			}
		}
		return strings.Join(b, " ")
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--device", "laptop-17"}, "5 1 2 3 4"},
		{[]string{"--last", "2", "--device", "laptop-17"}, "3 4"},
		{[]string{"--since", "1d", "--device", "laptop-17"}, "2 3 4"},
		{[]string{"--since", "2h", "--until", "45m", "--user", "maya"}, "2"},
		{[]string{"--event", "user_locked"}, "3"},
		{[]string{"--event", "user_locked", "--event", "user_added"}, "3 user_added"},
		{[]string{"--verdict", "deny", "--since", time.Now().Add(-2 * time.Hour).Format("2006-01-02 15:04")}, "2"},
		{[]string{"--reason", "push_approved"}, "4"},
		{[]string{"--text", "203.0.113"}, "2"},
		{[]string{"--own", "--event", "user_added,user_locked"}, "user_added"},
		{[]string{"--user", "nobody"}, ""},
	} {
		if got := seqs(c.args...); got != c.want {
			t.Errorf("events %s: %q, want %q", strings.Join(c.args, " "), got, c.want)
		}
	}
	out := s.ok("events", "--format", "csv", "--user", "maya")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 4 || rows[0][0] != "id" || rows[2][0] != "d1/v1/2" || rows[2][4] != "laptop-17" {
		t.Errorf("%v: %q", err, rows)
	}
	if out := s.ok("events", "--format", "ocsf", "--user", "maya", "--last", "1"); !strings.Contains(out, `"class_uid":3001,`) || !strings.Contains(out, `"activity_id":9,`) {
		t.Errorf("%s", out)
	}
	if out := s.ok("events", "--user", "maya", "--last", "1"); !strings.Contains(out, "laptop-17") || !strings.Contains(out, "user_locked") {
		t.Errorf("%s", out)
	}
	for says, args := range map[string][]string{
		"neither a time":        {"--since", "yesterday"},
		"--until -1h":           {"--until", "-1h"},
		"--format xml":          {"--format", "xml"},
		"at most 200 bytes":     {"--text", strings.Repeat("x", 201)},
		"at most 16 names":      {"--event", strings.Repeat("x,", 16) + "x"},
		"--own and --device":    {"--own", "--device", "laptop-17"},
		"--format table: jsonl": {"export", "--format", "table"},
	} {
		s.fails(ExitUsage, says, append([]string{"events"}, args...)...)
	}
	s.fails(ExitNotFound, "laptop-99", "events", "--device", "laptop-99")
}

// TestAnExportGoesOnWhereItWas, and passes by none that came late; its file is whole or
// not there.
func TestAnExportGoesOnWhereItWas(t *testing.T) {
	s := newShell(t)
	s.init()
	db := s.database()
	for n := range uint64(2500) {
		s.log(db, n+1, 100, "login_attempt", "=cmd()", "")
	}
	file := func(name string) string { return filepath.Join(s.dir, name) }
	var v struct {
		Events int
		Cursor uint64
		File   string
	}
	s.json(&v, "events", "export", "--event", "login_attempt", "--out", file("one.jsonl"))
	lines := func(name string) int {
		b, err := os.ReadFile(file(name))
		ok(t, err)
		return bytes.Count(b, []byte("\n"))
	}
	if v.Events != 2500 || lines("one.jsonl") != 2500 || v.File != file("one.jsonl") {
		t.Errorf("%+v, %d lines", v, lines("one.jsonl"))
	}
	st, err := os.Stat(file("one.jsonl"))
	ok(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	s.log(db, 2501, 9999, "login_attempt", "late", "")
	out := s.ok("events", "export", "--after", fmt.Sprint(v.Cursor), "--format", "csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][8] != "late" {
		t.Errorf("%v %q", err, rows)
	}
	s.ok("events", "export", "--format", "csv", "--out", file("two.csv"))
	if b, err := os.ReadFile(file("two.csv")); err != nil || !bytes.Contains(b, []byte(",'=cmd(),")) || bytes.Contains(b, []byte(",=cmd(),")) {
		t.Errorf("%v: %.500s", err, b)
	}
	s.ok("events", "export", "--format", "ocsf", "--out", file("three.jsonl"))
	s.fails(ExitConflict, "exists", "events", "export", "--out", file("two.csv"))
	s.fails(ExitNotFound, "no such file", "events", "export", "--out", file("nowhere/x"))
	// Nothing half-made stays.
	entries, err := os.ReadDir(s.dir)
	ok(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".export-") {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// TestAFollowedSearchShowsWhatMatches of what comes.
func TestAFollowedSearchShowsWhatMatches(t *testing.T) {
	s := newShell(t)
	s.init()
	db := s.database()
	s.log(db, 1, 10, "login_attempt", "maya", "")
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := new(buffer), make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"events", "--follow", "--user", "maya", "--format", "json", "--config", s.config}, s.deps(out, io.Discard))
	}()
	wait := func(what string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), what); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("no %s in %s", what, out)
			}
		}
	}
	wait("d1/v1/1")
	s.log(db, 2, 5, "login_attempt", "noor", "")
	s.log(db, 3, 5000, "login_attempt", "maya", "") // late, and it came now
	wait("d1/v1/3")
	cancel()
	if exit := <-ended; exit != ExitOK {
		t.Errorf("exit %d", exit)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%s", out)
	}
}

// TestStatusSaysHowFarOutletsAre: what waits, why it fails, and what was missed.
func TestStatusSaysHowFarOutletsAre(t *testing.T) {
	s := newShell(t)
	s.init()
	text, err := os.ReadFile(s.config)
	ok(t, err)
	ok(t, os.WriteFile(s.config, append(text, "\n[events_out.syslog]\naddress = \"127.0.0.1:1\"\n[events_out.webhook]\nurl = \"https://127.0.0.1:1/canary\"\nsecret_file = \"/nonexistent\"\n"...), 0o600))
	db := s.database()
	s.log(db, 1, 40, "login_attempt", "maya", "")
	s.log(db, 2, 0, "login_attempt", "maya", "")
	type status struct {
		Outlets []struct {
			Name                  string
			Waiting, Sent, Missed int
			Error                 string
		}
		Problems []struct{ Code, Text, Remedy string }
	}
	look := func() (v status) {
		t.Helper()
		_, out, _ := s.run("status", "--json")
		ok(t, json.Unmarshal([]byte(out), &v))
		return v
	}
	a := s.serve()
	wait := func(is func(status) bool) (v status) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(time.Minute); !is(v); <-tick.C {
			if v = look(); time.Now().After(deadline) {
				t.Fatalf("%+v", v)
			}
		}
		return v
	}
	v := wait(func(v status) bool {
		return len(v.Outlets) == 2 && v.Outlets[0].Error != "" && v.Outlets[1].Error != ""
	})
	if v.Outlets[0].Name != "syslog" || v.Outlets[0].Waiting < 1 || v.Outlets[0].Sent != 0 || !strings.Contains(v.Outlets[1].Error, "secret_file") || strings.Contains(fmt.Sprint(v), "canary") {
		t.Errorf("%+v", v.Outlets)
	}
	problems := fmt.Sprint(v.Problems)
	if !strings.Contains(problems, "outlet_syslog") || !strings.Contains(problems, "refused") || !strings.Contains(problems, "outlet_webhook") {
		t.Errorf("%s", problems)
	}
	_, page := a.get(t, "/metrics")
	for _, want := range []string{`sallyport_events_out_failing{outlet="syslog"} 1`, `sallyport_events_out_waiting{outlet="webhook"}`, `sallyport_events_out_missed_total{outlet="syslog"} 0`,
		`sallyport_events_out_sent_total{outlet="syslog"} 0`} {
		if !strings.Contains(page, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	ok(t, db.Update(t.Context(), func(tx store.Tx) error { return tx.SweepEvents(time.Now().Add(-time.Minute)) }))
	v = look()
	if v.Outlets[0].Missed < 1 || !strings.Contains(fmt.Sprint(v.Problems), "outlet_syslog_missed") {
		t.Errorf("%+v", v)
	}
	_, out, _ := s.run("status")
	if !strings.Contains(out, "syslog") || !strings.Contains(out, "missed") {
		t.Errorf("%s", out)
	}
}
