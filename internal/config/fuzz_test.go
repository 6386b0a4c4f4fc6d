package config

import (
	"reflect"
	"strings"
	"testing"

	"sallyport/internal/tomlfile"
)

// FuzzDecode: no text panics, an error never comes with a policy that is laxer
// than it would be without, and whatever is accepted can be shown, with the line
// of every key that it sets.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		lines := tomlfile.Lines([]byte(text)) // also of a text that does not decode
		if err := tomlfile.Decode([]byte(text), &c); err != nil {
			if err.Error() == "" {
				t.Error("an error that says nothing")
			}
			return
		}
		if c.validate(system) != nil {
			return
		}
		last := strings.Count(text, "\n") + 1
		for key, line := range lines {
			if line < 1 || line > last {
				t.Errorf("%q is on line %d of %d", key, line, last)
			}
		}
		defaults := Default()
		fresh := map[string]string{}
		for _, v := range tomlfile.Values(&defaults, nil) {
			fresh[v.Key] = v.Value
		}
		sources := map[string]string{}
		for key := range lines {
			sources[key] = "text"
		}
		for _, v := range tomlfile.Values(&c, sources) {
			if v.Source == "default" && v.Value != fresh[v.Key] {
				t.Errorf("%s is %s and is said to be the default", v.Key, v.Value)
			}
		}
		again := Default()
		if err := tomlfile.Decode([]byte(text), &again); err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("decoded twice: %v", err)
		}
	})
}
