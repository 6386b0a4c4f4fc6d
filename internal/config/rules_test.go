package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/tomlfile"
	"sallyport/internal/winreg"
)

// manyRules are rules whose order decides, with all that a format could stumble over.
func manyRules() []string {
	list := []string{
		`contractors at night: deny when "contractors" in groups && (hour < 6 || hour >= 22)`,
		`admins, and "who helps": push or totp, number 3 when "admins" in groups`,
		`sudo again: any, remember 15m when service == "sudo"`,
		`büro – zürich 東京 🔑: skip when remote.within("192.0.2.0/24", "2001:db8::/32") && online`,
		`it's hers: any when user == "o'brien" || user == 'dot\\maya'`,
		`<b>&amp; ; # % $x {} [] |: any when user == "a;b#c%d$e=f" && !(hour != 3)`,
	}
	for i := len(list); i < 120; i++ {
		list = append(list, fmt.Sprintf(`rule %d: any when user == "user%d"`, i, i))
	}
	return append(list, "everybody else: any")
}

// inOrder checks the rules and what 'config show' prints of them.
func inOrder(t *testing.T, way string, sys System, c *Config) {
	t.Helper()
	if want := manyRules(); !reflect.DeepEqual(c.Policy.Rules, want) {
		t.Errorf("%s:\n%s\nwant\n%s", way, strings.Join(c.Policy.Rules, "\n"), strings.Join(want, "\n"))
	}
	if err := c.validate(sys); err != nil {
		t.Errorf("%s: %v", way, err)
	}
}

// TestRulesComeThroughEveryWayInOrder: the first rule that matches decides, so a list
// sorted by the text of its numbers (1, 10, 11, 2) would be another policy.
func TestRulesComeThroughEveryWayInOrder(t *testing.T) {
	rules := manyRules()

	text := "[policy]\nrules = " + tomlfile.Text(rules) + "\n"
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "[policy]\nrules = ['none: deny']\n")
	put(t, dir, "config.d/50-rules.toml", text)
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	inOrder(t, "a drop-in", system, &l.Config)
	if shown, from := source(t, l, "policy.rules"); shown != tomlfile.Text(rules) || !strings.HasSuffix(from, "50-rules.toml:2") {
		t.Errorf("%s from %s", shown, from)
	}

	root, err := Preferences([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for form, list := range map[string][]byte{"preferences in XML": inXML(t, root), "preferences in binary": inBinary(t, root)} {
		c, unknown, err := Preferred(list)
		if err != nil || len(unknown) > 0 {
			t.Fatalf("%s: %q, %v", form, unknown, err)
		}
		inOrder(t, form, MacOS, &c)
	}

	// The registry returns values in any order; here, by the text of their names.
	named := func(format string) *winreg.Key {
		k := &winreg.Key{}
		for _, n := range []string{"9", "1", "2", "3", "4", "5", "6", "7", "8", ""} {
			for i := range rules {
				if number := fmt.Sprint(i + 1); n != "" && strings.HasPrefix(number, n) {
					k.Values = append(k.Values, sz(fmt.Sprintf(format, i+1), rules[i]))
				}
			}
		}
		return key(sub("Policy", winreg.Subkey{Name: "rules", Key: *k}))
	}
	for way, k := range map[string]*winreg.Key{
		"the editor's list": named("%d"), "zeros in front": named("%05d"), "a prefix": named("rule%d"),
		"REG_MULTI_SZ": key(sub("Policy", multi("rules", rules...))),
	} {
		c, sources := defaults(Windows, `C:\state`), map[string]string{}
		if err := c.lay(k, PoliciesKey, "", sources, new([]string)); err != nil {
			t.Fatal(err)
		}
		inOrder(t, way, Windows, &c)
		if from := sources["policy.rules"]; from != PoliciesKey+`\Policy: rules` {
			t.Errorf("%s: from %s", way, from)
		}
		// As they are kept for the next start.
		var again Policies
		if b, err := json.Marshal(&Policies{Managed: k}); err != nil || json.Unmarshal(b, &again) != nil {
			t.Fatal(err)
		}
		c = defaults(Windows, `C:\state`)
		if err := c.lay(again.Managed, PoliciesKey, "", map[string]string{}, new([]string)); err != nil {
			t.Fatal(err)
		}
		inOrder(t, way+", kept", Windows, &c)
	}
}

// TestNumbersOfAListAreNumbers, mixed as a script may write them.
func TestNumbersOfAListAreNumbers(t *testing.T) {
	k := key(sz("10", "j"), sz("2", "b"), sz("001", "a"), sz("9", "i"), sz("03", "c"))
	got, err := entries(k)
	if want := []string{"a", "b", "c", "i", "j"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestARuleThatIsTooLong is refused in every way, with its key.
func TestARuleThatIsTooLong(t *testing.T) {
	long := "x: any when user == \"" + strings.Repeat("a", 1000) + "\""
	for text, says := range map[string]string{
		"[policy]\nrules = " + tomlfile.Text([]string{long}) + "\n":                                      "sallyport.toml:2: policy.rules: an entry has 1022 characters; there is room for 1000",
		"[policy]\nrules = " + tomlfile.Text(append([]string{"a: any"}, make([]string, 1000)...)) + "\n": "sallyport.toml:2: policy.rules has 1001 entries; there is room for 1000",
	} {
		if _, err := Load(put(t, t.TempDir(), "sallyport.toml", text)); err == nil || !strings.HasSuffix(err.Error(), says) {
			t.Errorf("%v\nwant %s", err, says)
		}
	}
	c := defaults(Windows, `C:\state`)
	if err := c.lay(key(sub("Policy", multi("rules", long+"xx"))), PoliciesKey, "", map[string]string{}, new([]string)); err == nil || !strings.Contains(err.Error(), "rules has a text of 1024 characters") {
		t.Error(err)
	}
	// So many that they could not be kept for the next start.
	full := slices.Repeat([]string{strings.Repeat("x", 1000)}, 251)
	if err := c.lay(key(sub("Policy", multi("rules", full...))), PoliciesKey, "", map[string]string{}, new([]string)); err == nil || !strings.Contains(err.Error(), "rules has 251000 characters in all") {
		t.Error(err)
	}
	k := key(sub("Policy", multi("rules", full[:250]...)))
	if err := c.lay(k, PoliciesKey, "", map[string]string{}, new([]string)); err != nil {
		t.Error(err)
	}
	if n := len((&Policies{Managed: k}).text()); n > tomlfile.MaxSize {
		t.Errorf("%d bytes are kept; %d can be read", n, tomlfile.MaxSize)
	}
}
