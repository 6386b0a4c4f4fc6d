package configdoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sallyport/installer/windows/admx"
	"sallyport/internal/config"
	"sallyport/internal/tomlfile"
)

// compiled is the schema of a system, itself valid by the draft's own.
func compiled(t *testing.T, sys config.System) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema(sys)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sallyport.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sallyport.json")
	if err != nil {
		t.Fatalf("%s: %v", sys, err)
	}
	return s
}

// valid is what an editor says of a file that is TOML.
func valid(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v map[string]any
	if err := toml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// load has the agent on this system read a file.
func load(t *testing.T, text string) (*config.Loaded, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sallyport.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Files(path)
}

var commentedOut = regexp.MustCompile(`(?m)^#([a-z_]+ = )`)

// TestTheFileOfTheDefaults: as it is it sets nothing; and with every "#" taken away it
// sets every setting to what it is anyway.
func TestTheFileOfTheDefaults(t *testing.T) {
	for _, sys := range Systems {
		file := DefaultFile(sys, "file:///x.json")
		if !bytes.HasPrefix(file, []byte("#:schema file:///x.json\n")) || len(tomlfile.Lines(file)) != 0 || len(DefaultFile(sys, "")) >= len(file) {
			t.Errorf("%s: it sets something, or names no schema:\n%s", sys, file)
		}
		all := commentedOut.ReplaceAllString(string(file), "$1")
		lines := tomlfile.Lines([]byte(all))
		if n := len(inFiles(sys)); len(lines) != n || n < 20 {
			t.Errorf("%s: %d of %d settings", sys, len(lines), n)
		}
		if err := valid(t, compiled(t, sys), all); err != nil {
			t.Errorf("%s: the defaults: %v", sys, err)
		}
		if err := valid(t, compiled(t, sys), string(file)); err != nil {
			t.Errorf("%s: %v", sys, err)
		}
	}
	plain, err := load(t, string(DefaultFile(config.Here, "")))
	if err != nil {
		t.Fatal(err)
	}
	all, err := load(t, commentedOut.ReplaceAllString(string(DefaultFile(config.Here, "")), "$1"))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range plain.Values {
		if v.Source != "default" || v.Value != all.Values[i].Value {
			t.Errorf("%s is %s by default, from %s; the file says %s", v.Key, v.Value, v.Source, all.Values[i].Value)
		}
	}
}

// TestTheExampleOfTheDocuments is a drop-in that the agent takes, on every system.
func TestTheExampleOfTheDocuments(t *testing.T) {
	for _, sys := range Systems {
		if err := valid(t, compiled(t, sys), Example); err != nil {
			t.Errorf("%s: %v", sys, err)
		}
	}
	dir := t.TempDir()
	main, dropin := filepath.Join(dir, "sallyport.toml"), filepath.Join(dir, "config.d", "50-servers.toml")
	if err := os.Mkdir(filepath.Dir(dropin), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{main: string(DefaultFile(config.Here, "")), dropin: Example,
		filepath.Join(dir, "config.d", "90-local.toml"): "[limits]\nprompt_time = \"2m\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := config.Files(main)
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.Policy.Ask != "required" || l.Config.AdminGroup != "helpdesk" || time.Duration(l.Config.Limits.PromptTime) != 2*time.Minute {
		t.Errorf("%+v", l.Config)
	}
	for _, v := range l.Values {
		if v.Key == "policy.ask" && v.Source != dropin+":5" {
			t.Errorf("policy.ask comes from %s", v.Source)
		}
	}
}

// wrong are values that a setting cannot have, and right some that it can.
func wrong(s config.Setting) (wrong, right []any) {
	b := s.Bound
	switch s.Kind {
	case config.Bool:
		return []any{"yes", 1, []string{}}, []any{true, false}
	case config.Number:
		return []any{b.Min - 1, b.Max + 1, "5", 5.5, true, -1}, []any{b.Min, b.Max}
	case config.Time:
		lo, hi := time.Duration(b.Min), time.Duration(b.Max)
		return []any{config.Short(int64(lo - time.Second)), config.Short(int64(hi + time.Second)), (hi + time.Second).String(), "0s", "-1m", "", "90", "soon", "1d", "5 s", 90, true},
			[]any{config.Short(b.Min), config.Short(b.Max), lo.String(), hi.String(), fmt.Sprintf("%ds", int(hi.Seconds()))}
	case config.List:
		wrong, right = []any{"x", 5, []int{5}, []any{true}}, []any{[]string{}}
		if len(b.Values) > 0 {
			wrong, right = append(wrong, []string{b.Values[0], "bogus"}), append(right, b.Values)
		}
		if b.Entries > 0 {
			wrong = append(wrong, slices.Repeat([]string{"x: any"}, b.Entries+1))
		}
		if b.Length > 0 {
			wrong = append(wrong, []string{strings.Repeat("x", b.Length+1)})
		}
		return wrong, right
	case config.Numbers:
		return []any{5, "5", []string{"5"}, []int{-1}, []int64{1 << 32}}, []any{[]int{}, []int64{0, 1<<32 - 1}}
	}
	wrong = []any{5, true, []string{"x"}}
	for _, v := range b.Values {
		right = append(right, v)
	}
	if len(b.Values) > 0 {
		wrong = append(wrong, "bogus", "")
	}
	return wrong, right
}

// TestTheSchemaRefusesWhatTheAgentRefuses, of every setting: what has not its type or is
// out of its bounds; and takes what the agent takes.
func TestTheSchemaRefusesWhatTheAgentRefuses(t *testing.T) {
	s, n := compiled(t, config.Here), 0
	for _, setting := range inFiles(config.Here) {
		bad, good := wrong(setting)
		for _, v := range bad {
			text := setting.Key + " = " + tomlfile.Text(v) + "\n"
			_, err := load(t, text)
			if err == nil || !strings.Contains(err.Error(), setting.Key+" ") && !strings.Contains(err.Error(), "line 1") && !strings.Contains(err.Error(), "toml:1") {
				t.Errorf("the agent on %s: %v", text, err)
			}
			if valid(t, s, text) == nil {
				t.Errorf("the schema takes %s", text)
			}
			n++
		}
		for _, v := range good {
			text := setting.Key + " = " + tomlfile.Text(v) + "\n"
			// life and gap bound each other.
			if _, err := load(t, text); err != nil && !strings.Contains(err.Error(), "push.life is") {
				t.Errorf("the agent on %s: %v", text, err)
			}
			if err := valid(t, s, text); err != nil {
				t.Errorf("the schema on %s: %v", text, err)
			}
			n++
		}
	}
	if n < 150 {
		t.Errorf("%d values", n)
	}
	for _, text := range []string{"isuer = 'x'\n", "[polcy]\nask = 'required'\n", "[policy]\nasks = 'required'\n", "[policy.required]\nuser = ['x']\n", "policy = 'x'\n", "issuer = { x = 1 }\n",
		"[credential_provider]\nenabled = false\n"} {
		if _, err := load(t, text); err == nil {
			t.Errorf("the agent takes %s", text)
		}
		if valid(t, s, text) == nil {
			t.Errorf("the schema takes %s", text)
		}
	}
}

// TestDurations: of every second up to past the bound, in the ways in which people write
// it, the pattern takes those in the bounds.
func TestDurations(t *testing.T) {
	n, seen := 0, map[string]bool{}
	for _, sys := range Systems {
		for _, s := range inFiles(sys) {
			if s.Kind != config.Time || seen[valueOf(s).Pattern] {
				continue
			}
			seen[valueOf(s).Pattern] = true
			pattern := regexp.MustCompile(valueOf(s).Pattern)
			for d := time.Duration(0); d <= time.Duration(s.Bound.Max)+2*time.Minute; d += time.Second {
				want := int64(d) >= s.Bound.Min && int64(d) <= s.Bound.Max
				forms := []string{d.String(), config.Short(int64(d)), fmt.Sprintf("%ds", int(d.Seconds()))}
				if d%time.Minute == 0 {
					forms = append(forms, fmt.Sprintf("%dm", int(d.Minutes())))
				}
				for _, text := range forms {
					if pattern.MatchString(text) != want {
						t.Fatalf("%s: %q, want %v: %s", s.Key, text, want, pattern)
					}
				}
				n++
			}
		}
	}
	if n < 80_000 {
		t.Errorf("%d durations", n)
	}
}

// TestEverySettingIsEverywhere: a field of the struct that one of the generated things
// leaves out would be a setting that exists on paper only, or one that nobody knows of.
func TestEverySettingIsEverywhere(t *testing.T) {
	page, err := os.ReadFile("../../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := func(path string) string {
		text, err := os.ReadFile("../../../docs/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	windows, macos := tables("windows-policies.md"), tables("macos-settings.md")
	// inTable says whether a section's table has the name once.
	inTable := func(text, heading, name string) bool {
		_, rows, ok := strings.Cut(text, "\n## "+heading+"\n")
		rows, _, _ = strings.Cut(rows, "\n## ")
		return ok && strings.Count(rows, "\n| `"+name+"` |") == 1
	}
	for _, sys := range Systems {
		schema := Schema(sys)
		var root property
		if err := json.Unmarshal(schema, &root); err != nil {
			t.Fatal(err)
		}
		lines := tomlfile.Lines([]byte(commentedOut.ReplaceAllString(string(DefaultFile(sys, "")), "$1")))
		seen := 0
		for _, s := range config.Settings(sys) {
			seen++
			section, name := split(s.Key)
			at := &root
			for part := range strings.SplitSeq(s.Key, ".") {
				if at = at.Properties[part]; at == nil {
					break
				}
			}
			switch {
			case s.Comment == "":
				t.Errorf("%s has no comment", s.Key)
			case (s.Kind == config.Number || s.Kind == config.Time) && s.Bound.Max == 0:
				t.Errorf("%s has no bound", s.Key)
			case (lines[s.Key] == 0) != s.Only:
				t.Errorf("%s: the file of the defaults, on %s", s.Key, sys)
			case (at == nil || at.Type == "" || at.Description == "") != s.Only:
				t.Errorf("%s: the JSON Schema, on %s", s.Key, sys)
			case !inTable(string(page), heading(section), name):
				t.Errorf("%s: docs/settings.md", s.Key)
			}
			if !s.Managed {
				continue
			}
			key, value := s.Registry()
			switch sys {
			case config.Windows:
				full := strings.TrimSuffix(config.PoliciesKey+`\`+key, `\`)
				if !inTable(windows, "`"+full+"`", value) {
					t.Errorf("%s: docs/windows-policies.md", s.Key)
				}
				id := `name="` + strings.ReplaceAll(s.Key, ".", "_") + `"`
				if bytes.Count(admx.ADMX(), []byte("<policy "+id)) != 1 || !bytes.Contains(admx.ADML(), []byte("("+s.Key+")</string>")) {
					t.Errorf("%s: the ADMX, or its texts", s.Key)
				}
			case config.MacOS:
				in := "At the top"
				if section != "" {
					in = "`" + section + "`"
				}
				if !inTable(macos, in, name) {
					t.Errorf("%s: docs/macos-settings.md", s.Key)
				}
				if _, err := config.Preferences([]byte(s.Key + " = " + written(s) + "\n")); err != nil {
					t.Errorf("%s: the profile: %v", s.Key, err)
				}
			}
		}
		if seen < 25 {
			t.Errorf("%s has %d settings", sys, seen)
		}
	}
}

// TestWhatIsCommittedIsCurrent: whoever changes a setting runs go generate.
func TestWhatIsCommittedIsCurrent(t *testing.T) {
	want := map[string][]byte{"settings.md": Markdown()}
	for _, sys := range Systems {
		want["schema/"+SchemaName(sys)] = Schema(sys)
	}
	for name, want := range want {
		if got, err := os.ReadFile("../../../docs/" + name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what the configuration's struct says now: go generate ./internal/config/configdoc (%v)", name, err)
		}
	}
}
