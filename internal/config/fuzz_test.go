package config

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/internal/tomlfile"
	"sallyport/internal/winreg"
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

// FuzzRegistry: whatever stands in the registry, nothing panics, an error says
// where, and what is accepted is shown with the key that it came from. A line of
// the input is a value: KEY|NAME|TYPE|data in hexadecimal.
func FuzzRegistry(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		root := &winreg.Key{}
		for line := range strings.Lines(text) {
			parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", 4)
			if len(parts) < 4 {
				continue
			}
			kind, _ := strconv.ParseUint(parts[2], 10, 32)
			data, _ := hex.DecodeString(parts[3])
			at := root
			for name := range strings.SplitSeq(parts[0], `\`) {
				if name == "" {
					continue
				}
				i := slices.IndexFunc(at.Keys, func(s winreg.Subkey) bool { return s.Name == name })
				if i < 0 {
					i, at.Keys = len(at.Keys), append(at.Keys, winreg.Subkey{Name: name})
				}
				at = &at.Keys[i].Key
			}
			at.Values = append(at.Values, winreg.Value{Name: parts[1], Type: uint32(kind), Data: data})
		}
		c, sources := defaults(Windows, `C:\state`), map[string]string{}
		var unknown []string
		err := c.lay(root, PoliciesKey, "", sources, &unknown)
		if err != nil {
			if !strings.HasPrefix(err.Error(), PoliciesKey) {
				t.Errorf("it says %q", err)
			}
			return
		}
		for _, text := range unknown {
			if !strings.HasPrefix(text, PoliciesKey) {
				t.Errorf("it goes on without %q", text)
			}
		}
		if c.StateDir != `C:\state` || c.RuntimeDir != defaults(Windows, "").RuntimeDir || c.TPMDevice != Default().TPMDevice {
			t.Errorf("what no policy can set is set: %+v", c)
		}
		fresh := map[string]string{}
		untouched := defaults(Windows, `C:\state`)
		for _, v := range tomlfile.Values(&untouched, nil) {
			fresh[v.Key] = v.Value
		}
		for _, v := range tomlfile.Values(&c, sources) {
			if v.Source == "default" && v.Value != fresh[v.Key] {
				t.Errorf("%s is %s and is said to be the default", v.Key, v.Value)
			}
			if v.Source != "default" && !strings.HasPrefix(v.Source, PoliciesKey) {
				t.Errorf("%s comes from %s", v.Key, v.Source)
			}
		}
		if c.validate(Windows) == nil && (len(c.CredentialProvider.Message) > 4*200 || c.Events < 100 || c.Push.Life > c.Push.Gap) {
			t.Errorf("%+v is valid", c)
		}
	})
}
