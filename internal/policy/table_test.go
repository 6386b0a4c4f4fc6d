package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sallyport/internal/policy"
)

// TestTheTables runs every table in testdata/tables, as `sallyport policy test` does.
// The agent's own tests take the same cases through real logins.
func TestTheTables(t *testing.T) {
	files, err := filepath.Glob("testdata/tables/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	cases, effects := 0, map[policy.Effect]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		table, err := policy.ReadTable(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		p, err := table.Compile(policy.Rules{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		results, err := table.Run(policy.Rules{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, r := range results {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".toml")+"/"+r.Case.Name, func(t *testing.T) {
				for _, wrong := range r.Wrong {
					t.Error(wrong)
				}
				if d := p.Decide(r.Case.Subject(), r.Case.Resolver()); !reflect.DeepEqual(d, r.Explanation.Decision) {
					t.Errorf("decided %+v, explained %+v", d, r.Explanation.Decision)
				}
				explained(t, r.Explanation)
				if t.Failed() {
					t.Log(transcript(r.Explanation))
				}
			})
			cases++
			effects[r.Explanation.Effect]++
		}
	}
	if cases < 60 || len(effects) != 4 {
		t.Errorf("%d cases, %v", cases, effects)
	}
}

// explained checks that the steps of an explanation lead to its decision.
func explained(t *testing.T, e policy.Explanation) {
	t.Helper()
	if len(e.Steps) == 0 || !strings.HasSuffix(e.Why, ", by "+e.Rule) {
		t.Errorf("%d steps, %q", len(e.Steps), e.Why)
	}
	decided := map[string]bool{}
	named := false
	for _, s := range e.Steps {
		switch {
		case s.Outcome != policy.Decides && s.Outcome != policy.No && s.Text == "":
			t.Errorf("%s %s, and not why", s.Rule, s.Outcome)
		case decided[s.Source]:
			t.Errorf("%s is looked at after the %s has decided", s.Rule, s.Source)
		}
		decided[s.Source] = decided[s.Source] || s.Outcome == policy.Decides
		named = named || (s.Outcome == policy.Decides || s.Outcome == policy.CannotTell) && strings.HasPrefix(strings.ReplaceAll(e.Rule, " (organisation)", ""), strings.TrimSuffix(s.Rule, " (organisation)"))
	}
	if !named || !decided[policy.Computer] {
		t.Errorf("no step leads to %s", e.Rule)
	}
}

func transcript(e policy.Explanation) string {
	var b strings.Builder
	fmt.Fprintln(&b, e.Why)
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "  %-12s %-50s %-11s %s\n", s.Source, s.Rule, s.Outcome, s.Text)
	}
	for _, f := range e.Facts {
		fmt.Fprintf(&b, "  %s = %s %s\n", f.Name, f.Value, f.Text)
	}
	return b.String()
}
