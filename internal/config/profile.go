package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"howett.net/plist"

	"sallyport/internal/tomlfile"
)

// Preferences turns what a configuration file for macOS sets into managed
// preferences, and holds it to what the agent there would take.
func Preferences(text []byte) (map[string]any, error) {
	want := defaults(MacOS, "/state")
	if err := tomlfile.Decode(text, &want); err != nil {
		return nil, err
	}
	root, all := map[string]any{}, Settings(MacOS)
	for key, line := range tomlfile.Lines(text) {
		if !isSetting(all, key) {
			return nil, fmt.Errorf("line %d: %s is no setting on macOS", line, key)
		}
	}
	for _, s := range all {
		line, ok := tomlfile.Lines(text)[s.Key]
		if !ok {
			continue
		}
		if !s.Managed {
			return nil, fmt.Errorf("line %d: %s cannot be managed: it belongs into the configuration file", line, s.Key)
		}
		at, parts := root, strings.Split(s.Key, ".")
		for _, part := range parts[:len(parts)-1] {
			if at[part] == nil {
				at[part] = map[string]any{}
			}
			at = at[part].(map[string]any)
		}
		value := reflect.ValueOf(want).FieldByIndex(s.index).Interface()
		if d, ok := value.(Duration); ok {
			value = time.Duration(d).String()
		}
		at[parts[len(parts)-1]] = value
	}
	// What was made is read as the agent reads it.
	list, err := plist.Marshal(root, plist.BinaryFormat)
	if err != nil {
		return nil, err
	}
	got, unknown, err := Preferred(list)
	if err == nil && (len(unknown) > 0 || !reflect.DeepEqual(got, want)) {
		err = fmt.Errorf("it cannot be said in managed preferences: %+v becomes %+v", want, got)
	}
	return root, err
}

// Preferred is what an agent on macOS without a file has by these managed
// preferences, a property list; and which of them it does not know.
func Preferred(list []byte) (Config, []string, error) {
	c, unknown := defaults(MacOS, "/state"), []string{}
	if err := c.prefer(list, PreferencesPath, map[string]string{}, &unknown); err != nil {
		return c, nil, err
	}
	return c, unknown, c.validate(MacOS)
}
