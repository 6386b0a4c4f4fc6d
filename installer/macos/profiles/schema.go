package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/config"
)

// managed are the settings that MDM can set.
func managed() []config.Setting {
	return slices.DeleteFunc(config.Settings(config.MacOS), func(s config.Setting) bool { return !s.Managed })
}

// property is a part of a schema as Jamf Pro's form has it: JSON Schema, and what
// "JSON Schema Manifest Structure" in its documents adds.
type property struct {
	Title       string               `json:"title,omitempty"`
	Description string               `json:"description,omitempty"`
	Order       int                  `json:"property_order,omitempty"`
	Type        string               `json:"type,omitempty"`
	Enum        []string             `json:"enum,omitempty"`
	Minimum     *int64               `json:"minimum,omitempty"`
	Maximum     *int64               `json:"maximum,omitempty"`
	MaxLength   int                  `json:"maxLength,omitempty"`
	MaxItems    int                  `json:"maxItems,omitempty"`
	Pattern     string               `json:"pattern,omitempty"`
	Items       *property            `json:"items,omitempty"`
	Options     map[string]any       `json:"options,omitempty"`
	AnyOf       []*property          `json:"anyOf,omitempty"`
	Properties  map[string]*property `json:"properties,omitempty"`
}

// schema returns the custom schema for Jamf Pro. A setting that is not configured in
// the form is not in the profile.
func schema() []byte {
	empty := map[string]any{"remove_empty_properties": true}
	root := &property{Title: config.PreferencesDomain, Description: "Settings of the Sallyport login agent", Type: "object", Options: empty, Properties: map[string]*property{}}
	for n, s := range managed() {
		at, parts := root, strings.Split(s.Key, ".")
		last := len(parts) - 1
		for _, part := range parts[:last] {
			if at.Properties[part] == nil {
				at.Properties[part] = &property{Title: words(part), Type: "object", Order: n + 1, Options: empty, Properties: map[string]*property{}}
			}
			at = at.Properties[part]
		}
		value := valueOf(s)
		value.Title = "Configured"
		at.Properties[parts[last]] = &property{Title: words(parts[last]), Description: description(s), Order: n + 1,
			AnyOf: []*property{{Type: "null", Title: "Not Configured"}, value}}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil { // our own types: a programming error
		panic("profiles: " + err.Error())
	}
	return b.Bytes()
}

// valueOf is what a setting may be.
func valueOf(s config.Setting) *property {
	switch s.Kind {
	case config.Bool:
		return &property{Type: "boolean"}
	case config.Number:
		return &property{Type: "integer", Minimum: new(s.Bound.Min), Maximum: new(s.Bound.Max)}
	case config.Time:
		return &property{Type: "string", Pattern: "^([0-9]+[hms])+$"}
	case config.List:
		entry := &property{Type: "string", Enum: s.Bound.Values}
		if len(s.Bound.Values) == 0 {
			entry.MaxLength = cmp.Or(s.Bound.Length, config.MaxText)
		}
		return &property{Type: "array", Items: entry, MaxItems: s.Bound.Entries}
	case config.Numbers:
		return &property{Type: "array", Items: &property{Type: "integer", Minimum: new(int64(0)), Maximum: new(int64(1<<32 - 1))}}
	}
	if len(s.Bound.Values) > 0 {
		return &property{Type: "string", Enum: s.Bound.Values}
	}
	return &property{Type: "string", MaxLength: cmp.Or(s.Bound.Length, config.MaxText)}
}

// description is what the form shows beside a setting.
func description(s config.Setting) string {
	text := s.Key + ": " + s.Comment + "."
	if s.Kind == config.Time {
		text += ` Written as "90s", "2m" or "1h", ` + s.MayBe("true or false") + "."
	}
	if d := standard(s); d != "" {
		text += " Default: " + d + "."
	}
	return text
}

// markdown returns the table of the documents.
func markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Managed settings on macOS

<!-- Made from the configuration's struct: go generate ./installer/macos/profiles -->

Every setting that MDM can set on a Mac, in the preference domain %s. macOS writes them to
%s, and they win over the configuration file, value by value. A dictionary of the profile is a table of the file.

A value that is not of its type, or out of its bounds, makes the configuration invalid, with an error that names the key. So does an unknown key below %s; elsewhere
it is ignored, and %s names it. An array replaces the list in the file; an empty one is an empty list. A duration is a string such as "90s", "2m" or "1h".
Put all of them into one profile: what macOS makes of two for one domain is its own affair. %s cannot be managed.
`, "`"+config.PreferencesDomain+"`", "`"+config.PreferencesPath+"`", "`policy`", "`sallyport status`", "`"+strings.Join(unmanaged(), "` and `")+"`")
	section := "-"
	for _, s := range managed() {
		in, name := "", s.Key
		if i := strings.LastIndex(s.Key, "."); i >= 0 {
			in, name = s.Key[:i], s.Key[i+1:]
		}
		if in != section {
			section = in
			title := "At the top"
			if in != "" {
				title = "`" + in + "`"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| key | type | may be | default | meaning |\n|---|---|---|---|---|\n", title)
		}
		kind := map[config.Kind]string{config.Bool: "boolean", config.Number: "integer", config.List: "array of strings", config.Numbers: "array of integers"}[s.Kind]
		if kind == "" {
			kind = "string"
		}
		shown := standard(s)
		if shown != "" {
			shown = "`" + shown + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, kind, s.MayBe("true or false"), shown, s.Comment)
	}
	return b.Bytes()
}

// unmanaged are the settings that only a file can set.
func unmanaged() []string {
	var list []string
	for _, s := range config.Settings(config.MacOS) {
		if !s.Managed {
			list = append(list, s.Key)
		}
	}
	return list
}

// standard is the default as a person reads it.
func standard(s config.Setting) string {
	switch v := s.Default.(type) {
	case config.Duration:
		return config.Short(int64(time.Duration(v)))
	case []string:
		return strings.Join(v, ", ")
	case []uint32:
		return strings.Trim(fmt.Sprint(v), "[]")
	}
	return fmt.Sprint(s.Default)
}

// words is a key as a title.
func words(key string) string {
	return strings.ToUpper(key[:1]) + strings.ReplaceAll(key[1:], "_", " ")
}
