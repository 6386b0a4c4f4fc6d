package eventsout

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/event"
)

var rewrite = flag.Bool("update", false, "write testdata/ocsf.jsonl anew")

// names are every name that was shipped, the computers' and the authority's own.
func names(t *testing.T) (list []event.Name) {
	t.Helper()
	for _, path := range []string{"../../internal/event/testdata/names.txt", "../enrol/testdata/events.txt"} {
		b, err := os.ReadFile(filepath.FromSlash(path))
		ok(t, err)
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				list = append(list, event.Name(line))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestEveryEventHasAPlaceInOCSF, or a reason why none is needed. A new name needs a
// line in kinds.
func TestEveryEventHasAPlaceInOCSF(t *testing.T) {
	all := names(t)
	for _, n := range all {
		_, mapped := kinds[n]
		if why, not := unmapped[n]; mapped == not || not && why == "" {
			t.Errorf("%s: give it a line in kinds, or in unmapped with the reason (in kinds: %v, in unmapped: %v)", n, mapped, not)
		}
	}
	for n := range kinds {
		if !slices.Contains(all, n) {
			t.Errorf("%s is mapped and no event", n)
		}
	}
	for n := range unmapped {
		if !slices.Contains(all, n) {
			t.Errorf("%s is not mapped and no event", n)
		}
	}
	if len(all) < 50 {
		t.Errorf("only %q were found", all)
	}
}

// golden are events of every name that is mapped, and logins of every kind.
func golden() (list []event.Event) {
	for _, e := range []event.Event{
		{Verdict: "allow", Reason: "code_accepted", Factor: "totp", Service: "sshd", Remote: "203.0.113.7", Scenario: "remote"},
		{Verdict: "allow", Reason: "push_approved", Factor: "push", Service: "sudo", Scenario: "elevate"},
		{Verdict: "allow", Reason: "code_accepted", Factor: "recovery", Service: "login", Scenario: "login"},
		{Verdict: "deny", Reason: "wrong_code", Service: "sshd", Remote: "bastion.example.com"},
		{Verdict: "deny", Reason: "push_reported", Factor: "push", Service: "sshd", Remote: "2001:db8::7"},
		{Verdict: "skip", Reason: "exempt", Service: "cron", Rule: "exempt.uids=0"},
	} {
		e.Name, e.User, e.Key, e.Hook = event.LoginAttempt, "maya", "uid:1000", "pam"
		list = append(list, e)
	}
	list = append(list, event.Event{Name: event.LoginAttempt, Verdict: "deny", Reason: "unknown_user", Service: "sshd"})
	for _, n := range slices.Sorted(func(yield func(event.Name) bool) {
		for n := range kinds {
			if !yield(n) {
				return
			}
		}
	}) {
		list = append(list, event.Event{Name: n, User: "maya", Key: "uid:1000", By: "uid:0", Text: "what happened"})
	}
	return append(list, event.Event{Name: "of_a_newer_agent", User: "maya"})
}

func TestOCSF(t *testing.T) {
	var b bytes.Buffer
	for i, e := range golden() {
		e.Seq = uint64(i + 1)
		text, err := json.Marshal(OCSF(record(t, e), "1.2.3"))
		ok(t, err)
		b.Write(append(text, '\n'))
	}
	path := filepath.Join("testdata", "ocsf.jsonl")
	if *rewrite {
		ok(t, os.WriteFile(path, b.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	ok(t, err)
	got, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(wanted)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(wanted) {
			w = wanted[i]
		}
		if g != w {
			t.Fatalf("line %d is\n%s\nwant\n%s\nIf that is meant: go test ./authority/eventsout -run TestOCSF -update", i+1, g, w)
		}
	}
}

// TestWhatOCSFRequiresIsThere: attributes that schema.ocsf.io/1.5.0 calls required, of
// the classes that occur, and the numbers that belong together.
func TestWhatOCSFRequiresIsThere(t *testing.T) {
	required := map[float64][]string{0: nil, 3001: {"user"}, 3002: {"user"}, 3004: {"entity"}, 3005: {"user", "privileges"}, 6002: {"app"}}
	activities := map[float64]float64{0: 0, 3001: 12, 3002: 7, 3004: 13, 3005: 4, 6002: 8} // the highest beside 99
	for i, e := range golden() {
		e.Seq = uint64(i + 1)
		b, err := json.Marshal(OCSF(record(t, e), "1.2.3"))
		ok(t, err)
		var o map[string]any
		ok(t, json.Unmarshal(b, &o))
		class := o["class_uid"].(float64)
		more, known := required[class]
		if !known {
			t.Fatalf("%s: the class %v", e.Name, class)
		}
		for _, key := range append([]string{"activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata"}, more...) {
			if o[key] == nil {
				t.Errorf("%s: no %s", e.Name, key)
			}
		}
		m := o["metadata"].(map[string]any)
		if m["version"] != "1.5.0" || m["product"] == nil || m["uid"] == "" {
			t.Errorf("%s: metadata %v", e.Name, m)
		}
		activity := o["activity_id"].(float64)
		if o["type_uid"] != class*100+activity || o["category_uid"] != float64(int(class)/1000) || activity != 99 && activity > activities[class] {
			t.Errorf("%s: class %v, activity %v, type %v, category %v", e.Name, class, activity, o["type_uid"], o["category_uid"])
		}
		if class == 3002 && o["service"] == nil && o["dst_endpoint"] == nil {
			t.Errorf("%s: neither service nor dst_endpoint", e.Name)
		}
		for _, key := range []string{"src_endpoint", "dst_endpoint", "user", "actor", "device"} {
			if v, is := o[key].(map[string]any); is && len(v) == 0 {
				t.Errorf("%s: %s is empty", e.Name, key)
			}
		}
	}
}
