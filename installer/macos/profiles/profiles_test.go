package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"howett.net/plist"

	"sallyport/installer/macos/launchd"
	"sallyport/internal/config"
)

const team = "AB12CD34EF"

// acme is a file that sets one setting of each kind, and not to its default.
const acme = `issuer = "ACME & <co> – grüezi"
events = 500
[policy]
ask = "required"
[policy.required]
users = ["alice", "bob"]
uids = [501]
[limits]
prompt_time = "2m"
[push]
enabled = false
[authority]
accept = []
[authorization_plugin]
unlock = true
`

// made runs the command, and returns what it wrote.
func made(t *testing.T, settings, team string) (map[string][]byte, error) {
	t.Helper()
	dir, in := filepath.Join(t.TempDir(), "new", "out"), ""
	if settings != "" {
		in = filepath.Join(t.TempDir(), "acme.toml")
		if err := os.WriteFile(in, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := run(in, team, dir, "")
	files := map[string][]byte{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
	}
	return files, err
}

// decode reads a property list into what it must be.
func decode[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if format, err := plist.Unmarshal(b, &v); err != nil || format != plist.XMLFormat {
		t.Fatalf("format %d, %v", format, err)
	}
	return v
}

// in returns what is at a path of dictionaries, and of arrays of one.
func in(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, key := range path {
		if list, ok := v.([]any); ok && len(list) == 1 {
			v = list[0]
		}
		d, ok := v.(dict)
		if !ok || d[key] == nil {
			t.Fatalf("there is no %s in %v", key, v)
		}
		v = d[key]
	}
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	return v
}

// Keys as Apple documents them in "Device Management": TopLevel, CommonPayloadKeys,
// ManagedPreferences, PrivacyPreferencesPolicyControl and its Services.Identity,
// ServiceManagementManagedLoginItems.Rule. The first of those in brackets are required.
var (
	topLevel   = keys{"PayloadContent PayloadIdentifier PayloadType PayloadUUID PayloadVersion", "PayloadDescription PayloadDisplayName PayloadOrganization PayloadScope TargetDeviceType"}
	common     = "PayloadIdentifier PayloadType PayloadUUID PayloadVersion"
	optional   = "PayloadDescription PayloadDisplayName PayloadOrganization"
	preference = keys{common + " PayloadContent", optional}
	control    = keys{common + " Services", optional}
	identity   = keys{"Allowed CodeRequirement Identifier IdentifierType", "Comment StaticCode"}
	logins     = keys{common + " Rules", optional}
	rule       = keys{"RuleType RuleValue", "Comment TeamIdentifier"}
)

type keys struct{ required, optional string }

// check holds a dictionary to the keys that there are.
func (k keys) check(t *testing.T, v any) dict {
	t.Helper()
	d, ok := v.(dict)
	if !ok {
		t.Fatalf("%v is no dictionary", v)
	}
	for _, key := range strings.Fields(k.required) {
		if d[key] == nil {
			t.Errorf("there is no %s in %v", key, slices.Sorted(maps.Keys(d)))
		}
	}
	for key := range d {
		if !slices.Contains(strings.Fields(k.required+" "+k.optional), key) {
			t.Errorf("Apple knows no %s there", key)
		}
	}
	return d
}

func TestEveryProfileHasTheKeysThatAppleDocuments(t *testing.T) {
	files, err := made(t, acme, team)
	if err != nil {
		t.Fatal(err)
	}
	uuids, identifiers := map[any]bool{}, map[any]bool{}
	for name, c := range map[string]struct {
		payload string
		keys    keys
	}{
		"sallyport-settings.mobileconfig": {"com.apple.ManagedClient.preferences", preference},
		"sallyport-privacy.mobileconfig":  {"com.apple.TCC.configuration-profile-policy", control},
		"sallyport-service.mobileconfig":  {"com.apple.servicemanagement", logins},
	} {
		root := topLevel.check(t, decode[any](t, files[name]))
		if root["PayloadType"] != "Configuration" || root["PayloadScope"] != "System" || root["TargetDeviceType"] != uint64(5) || root["PayloadVersion"] != uint64(1) {
			t.Errorf("%s: %v", name, root)
		}
		inner := c.keys.check(t, in(t, root, "PayloadContent"))
		if inner["PayloadType"] != c.payload || inner["PayloadVersion"] != uint64(1) {
			t.Errorf("%s: %v", name, inner)
		}
		for _, d := range []dict{root, inner} {
			if id := d["PayloadUUID"].(string); uuids[id] || !regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-5[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`).MatchString(id) {
				t.Errorf("%s: the UUID %s", name, id)
			}
			if id := d["PayloadIdentifier"].(string); identifiers[id] || !strings.HasPrefix(id, "com.sallyport.agent.") {
				t.Errorf("%s: the identifier %s", name, id)
			}
			uuids[d["PayloadUUID"]], identifiers[d["PayloadIdentifier"]] = true, true
		}
	}
	if len(files) != 4 || len(uuids) != 6 {
		t.Errorf("%d files, %d UUIDs", len(files), len(uuids))
	}
}

func TestWhatTheProfilesSay(t *testing.T) {
	files, err := made(t, "", team)
	if err != nil {
		t.Fatal(err)
	}
	services := in(t, decode[any](t, files["sallyport-privacy.mobileconfig"]), "PayloadContent", "Services").(dict)
	if len(services) != 1 {
		t.Errorf("the program may more than it needs: %v", services)
	}
	who := identity.check(t, in(t, services, "SystemPolicySysAdminFiles"))
	if want := (dict{"Allowed": true, "Identifier": "/Library/Application Support/Sallyport/bin/sallyport", "IdentifierType": "path",
		"CodeRequirement": `identifier "com.sallyport.agent" and anchor apple generic and certificate 1[field.1.2.840.113635.100.6.2.6] exists and ` +
			`certificate leaf[field.1.2.840.113635.100.6.1.13] exists and certificate leaf[subject.OU] = "AB12CD34EF"`}); !reflect.DeepEqual(who, want) {
		t.Errorf("%v\nwant %v", who, want)
	}
	r := rule.check(t, in(t, decode[any](t, files["sallyport-service.mobileconfig"]), "PayloadContent", "Rules"))
	if r["RuleType"] != "Label" || r["RuleValue"] != "com.sallyport.agent" || r["TeamIdentifier"] != team {
		t.Errorf("%v", r)
	}
	if launchd.Label != config.PreferencesDomain || config.PreferencesPath != "/Library/Managed Preferences/com.sallyport.agent.plist" {
		t.Errorf("%s, %s, %s", launchd.Label, config.PreferencesDomain, config.PreferencesPath)
	}
	if _, ok := files["sallyport-settings.mobileconfig"]; ok {
		t.Error("there are settings, and nobody gave any")
	}
}

// TestTheAgentReadsWhatTheFileSaid: from the file to the profile, and from what
// macOS makes of that to the agent's configuration.
func TestTheAgentReadsWhatTheFileSaid(t *testing.T) {
	files, err := made(t, acme, "")
	if err != nil {
		t.Fatal(err)
	}
	domains := in(t, decode[any](t, files["sallyport-settings.mobileconfig"]), "PayloadContent", "PayloadContent").(dict)
	forced := in(t, domains, "com.sallyport.agent", "Forced", "mcx_preference_settings")
	if len(domains) != 1 {
		t.Errorf("%v", domains)
	}
	for _, format := range []int{plist.XMLFormat, plist.BinaryFormat} {
		text, err := plist.Marshal(forced, format)
		if err != nil {
			t.Fatal(err)
		}
		got, unknown, err := config.Preferred(text)
		if err != nil || len(unknown) > 0 {
			t.Fatalf("%q, %v", unknown, err)
		}
		want, _, err := config.Preferred([]byte(`<plist version="1.0"><dict/></plist>`)) // the defaults
		if err != nil {
			t.Fatal(err)
		}
		want.Issuer, want.Events, want.Policy.Ask = "ACME & <co> – grüezi", 500, "required"
		want.Policy.Required.Users, want.Policy.Required.UIDs = []string{"alice", "bob"}, []uint32{501}
		want.Limits.PromptTime, want.Push.Enabled = config.Duration(2*time.Minute), false
		want.Authority.Accept, want.AuthorizationPlugin.Unlock = []string{}, true
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
}

func TestNothingIsWrittenOfWhatIsRefused(t *testing.T) {
	for _, c := range []struct{ settings, team, says string }{
		{"", "AB12CD34E", "is no Team ID"},
		{"", "ab12cd34ef", "is no Team ID"},
		{"", "AB12CD34EF ", "is no Team ID"},
		{"", "AB12CD34EF\n", "is no Team ID"},
		{"", `A" or "B12`, "is no Team ID"},
		{"", "ÄB12CD34E", "is no Team ID"},
		{"# nothing\n", team, "it sets nothing"},
		{"events = 1\n", team, "events is 1; it must be 100 to 1000000"},
		{"isuer = 'x'\n", team, `line 1: unknown key "isuer"`},
		{"state_dir = '/x'\n", team, "line 1: state_dir cannot be managed"},
		{"[session_guard]\naction = 'off'\n", team, "line 2: session_guard.action is no setting on macOS"},
		{"[policy.exempt]\nremote = ['office']\n", team, `"office" is not an address`},
		{"issuer = \n", team, "line 1"},
	} {
		if files, err := made(t, c.settings, c.team); err == nil || !strings.Contains(err.Error(), c.says) || len(files) > 0 {
			t.Errorf("%q, %q: %d files, %v", c.settings, c.team, len(files), err)
		}
	}
	if err := run(filepath.Join(t.TempDir(), "none"), "", t.TempDir(), ""); err == nil {
		t.Error("there is no such file")
	}
}

// TestTwoBuildsAreTheSame: to the byte, and with the UUIDs of the next version, so
// that a profile replaces the one that is there.
func TestTwoBuildsAreTheSame(t *testing.T) {
	one, err := made(t, acme, team)
	two, err2 := made(t, acme, team)
	if err != nil || err2 != nil || !reflect.DeepEqual(one, two) {
		t.Errorf("they differ: %v, %v", err, err2)
	}
	// RFC 9562, A.4.
	if got := uuidOf("www.example.com"); got != "2ED6657D-E927-568B-95E1-2665A8AEA6A2" {
		t.Error(got)
	}
}

// TestTheTableIsCurrent: whoever changes a setting runs go generate.
func TestTheTableIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../../docs/macos-settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, markdown()) {
		t.Error("docs/macos-settings.md is not what the configuration's struct says now: go generate ./installer/macos/profiles")
	}
	for _, s := range managed() {
		section, name := "At the top", s.Key
		if i := strings.LastIndex(s.Key, "."); i >= 0 {
			section, name = "`"+s.Key[:i]+"`", s.Key[i+1:]
		}
		_, rows, ok := strings.Cut(string(got), "## "+section+"\n")
		rows, _, _ = strings.Cut(rows, "\n## ")
		if !ok || strings.Count(rows, "\n| `"+name+"` |") != 1 {
			t.Errorf("%s is not in the table once", s.Key)
		}
	}
}

// TestTheSchemaHasEverySettingOnce: each is left alone unless it is configured, of
// its type and in its bounds; and its default is something that can be entered.
func TestTheSchemaHasEverySettingOnce(t *testing.T) {
	d := json.NewDecoder(bytes.NewReader(schema()))
	d.DisallowUnknownFields()
	var root property
	if err := d.Decode(&root); err != nil {
		t.Fatal(err)
	}
	if root.Type != "object" || root.Title != "com.sallyport.agent" {
		t.Errorf("%s, %s", root.Type, root.Title)
	}
	found, orders := map[string]*property{}, map[int]bool{}
	var walk func(prefix string, p *property)
	walk = func(prefix string, p *property) {
		if p.Type != "object" || p.Options["remove_empty_properties"] != true {
			t.Errorf("%s leaves something behind where nothing is set", prefix)
		}
		for name, below := range p.Properties {
			if below.Order == 0 || below.Title == "" {
				t.Errorf("%s%s: %+v", prefix, name, below)
			}
			if below.Type == "object" {
				walk(prefix+name+".", below)
				continue
			}
			if orders[below.Order] || len(below.AnyOf) != 2 || below.AnyOf[0].Type != "null" || below.Type != "" || !strings.HasPrefix(below.Description, prefix+name+": ") {
				t.Errorf("%s%s: %+v", prefix, name, below)
				continue
			}
			orders[below.Order], found[prefix+name] = true, below.AnyOf[1]
		}
	}
	walk("", &root)
	for _, s := range managed() {
		p := found[s.Key]
		if p == nil {
			t.Errorf("%s is not in the schema", s.Key)
			continue
		}
		delete(found, s.Key)
		ok := false
		switch v := s.Default.(type) {
		case bool:
			ok = p.Type == "boolean"
		case int:
			ok = p.Type == "integer" && *p.Minimum == s.Bound.Min && *p.Maximum == s.Bound.Max && int64(v) >= *p.Minimum && int64(v) <= *p.Maximum
		case config.Duration:
			pattern := regexp.MustCompile(p.Pattern)
			ok = p.Type == "string" && pattern.MatchString(standard(s)) && pattern.MatchString("90s") && !pattern.MatchString("") && !pattern.MatchString("90")
		case string:
			ok = p.Type == "string" && slices.Equal(p.Enum, s.Bound.Values) && (len(p.Enum) > 0 && slices.Contains(p.Enum, v) || p.MaxLength == config.MaxText)
		case []string:
			ok = p.Type == "array" && p.Items.Type == "string" && slices.Equal(p.Items.Enum, s.Bound.Values)
		case []uint32:
			ok = p.Type == "array" && p.Items.Type == "integer" && *p.Items.Minimum == 0 && *p.Items.Maximum == 1<<32-1
		}
		if !ok {
			t.Errorf("%s, by default %v: %+v", s.Key, s.Default, p)
		}
	}
	for key := range found {
		t.Errorf("%s is in the schema, and cannot be managed", key)
	}
}
