package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/event"
)

// TestTheNamesAreStable compares the constants with the list that was shipped.
func TestTheNamesAreStable(t *testing.T) {
	b, err := os.ReadFile("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	var shipped []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			shipped = append(shipped, line)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, v := range spec.Values {
			if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				name, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
		}
		return true
	})
	for _, name := range shipped {
		if !slices.Contains(names, name) {
			t.Errorf("%s was shipped and is gone", name)
		}
	}
	docs, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	numbered := map[uint32]bool{}
	for _, name := range names {
		if !strings.Contains(string(docs), "`"+name+"`") {
			t.Errorf("%s is not in docs/events.md", name)
		}
		if id := event.Name(name).ID(); id < 100 || id > 1000 || numbered[id] {
			t.Errorf("%s has the number %d in the Event Log: it must be its own, 100 to 1000", name, id)
		} else {
			numbered[id] = true
			if !strings.Contains(string(docs), fmt.Sprintf("| %d |", id)) {
				t.Errorf("%s: its number %d is not in docs/events.md", name, id)
			}
		}
		if !slices.Contains(shipped, name) {
			t.Errorf("%s is new: add it to testdata/names.txt", name)
		}
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%s is not in lower case and underscores", name)
		}
	}
	if len(names) == 0 || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("a name is there twice, or none is: %q", names)
	}
}

// full has every field set to its own name.
func full(t *testing.T) event.Event {
	e := event.Event{Seq: 7, Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			f.SetString(v.Type().Field(i).Name)
		} else if f.IsZero() {
			t.Fatalf("%s is of a kind this test does not know", v.Type().Field(i).Name)
		}
	}
	return e
}

func TestTheObjectIsStable(t *testing.T) {
	b, err := json.Marshal(full(t))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":7,"time":"2026-11-22T12:00:00Z","event":"Name","user":"User","key":"Key","hook":"Hook","service":"Service",` +
		`"scenario":"Scenario","remote":"Remote","session":"Session","verdict":"Verdict","reason":"Reason","factor":"Factor",` +
		`"rule":"Rule","by":"By","text":"Text"}`
	if string(b) != want {
		t.Errorf("%s\nwant\n%s", b, want)
	}
	var back event.Event
	if err := json.Unmarshal(b, &back); err != nil || back != full(t) {
		t.Errorf("%+v came back, %v", back, err)
	}
	// What an event does not know it does not say.
	b, err = json.Marshal(event.Event{Name: event.AgentStarted})
	if err != nil || string(b) != `{"seq":0,"time":"0001-01-01T00:00:00Z","event":"agent_started"}` {
		t.Errorf("%s, %v", b, err)
	}
}

// TestTheLogHasTheNamesOfTheFile: whoever reads one can read the other.
func TestTheLogHasTheNamesOfTheFile(t *testing.T) {
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("login_attempt", slog.Any("", full(t)))
	var logged, filed map[string]any
	if err := json.Unmarshal(out.Bytes(), &logged); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(full(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &filed); err != nil {
		t.Fatal(err)
	}
	for key, value := range filed {
		if key == "seq" || key == "time" { // the log has its own
			continue
		}
		if logged[key] != value {
			t.Errorf("%s is %v in the log and %v in the file", key, logged[key], value)
		}
	}

	out.Reset()
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", slog.Any("", event.Event{Name: event.LoginAttempt, User: "alice", Verdict: "deny", Text: "a\nb"}))
	if line := out.String(); !strings.HasSuffix(line, " event=login_attempt user=alice verdict=deny text=\"a\\nb\"\n") || strings.Count(line, "\n") != 1 {
		t.Errorf("%q", line)
	}
}
