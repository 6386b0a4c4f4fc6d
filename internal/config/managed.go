package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sallyport/internal/winreg"
)

// PoliciesKey holds the managed settings on Windows: Group Policy and MDM write
// them, and they win over the files.
const PoliciesKey = `HKLM\Software\Policies\Sallyport`

// ProviderKey holds what this computer alone sets for the credential provider.
// PoliciesKey wins over it, value by value.
const ProviderKey = `HKLM\Software\Sallyport\CredentialProvider`

// What managed settings may hold, besides the bounds of each.
const (
	MaxText    = 1023 // characters, which is also where the Group Policy editor ends
	maxEntries = 1000 // of a list
	// maxList is for the texts of a list together: policies that are in force have to
	// fit into the file in which they are kept for the next start.
	maxList = 250_000
)

// readKey reads a key of the registry; tests have one of their own.
var readKey = winreg.Read

// Registry returns the key below PoliciesKey where a setting stands, and the name
// of its value: Policy\Required and users for policy.required.users. A list may
// also be a key of that name, whose values, of any names, are its entries.
func (s *Setting) Registry() (key, value string) {
	parts := strings.Split(s.Key, ".")
	last := len(parts) - 1
	for i := range parts[:last] {
		parts[i] = camel(parts[i])
	}
	return strings.Join(parts[:last], `\`), parts[last]
}

// camel writes session_guard as SessionGuard.
func camel(section string) string {
	words := strings.Split(section, "_")
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// manage lays the managed settings over c, notes where each came from, and returns
// those that this version does not know.
func (c *Config) manage(p *Policies, sources map[string]string) (unknown []string, err error) {
	if err := c.lay(p.Local, ProviderKey, "CredentialProvider", sources, &unknown); err != nil {
		return nil, err
	}
	if err := c.lay(p.Managed, PoliciesKey, "", sources, &unknown); err != nil {
		return nil, err
	}
	return unknown, c.prefer(p.Preferences, preferencesPath, sources, &unknown)
}

// note notes what is not known, in a section that is, or is below, the one named
// top. The settings of the section policy decide who is asked: what is not known
// there may require a second factor, so it is an error; elsewhere, templates that are
// newer than the agent must not make it refuse everybody. A new setting that decides
// who is asked belongs into that section.
func note(text, top string, unknown *[]string) error {
	if strings.EqualFold(top, "policy") {
		return errors.New(text)
	}
	*unknown = append(*unknown, text)
	return nil
}

// set sets what stands at from.
func (c *Config) set(s *Setting, from string, value any, err error, sources map[string]string) error {
	switch {
	case !s.Managed:
		return fmt.Errorf("%s cannot be set by policy: it belongs into the configuration file", from)
	case err != nil:
		return fmt.Errorf("%s %w", from, err)
	case sources[s.Key] == from:
		return fmt.Errorf("%s is there twice, as a value and as a key", from)
	}
	sources[s.Key] = from
	reflect.ValueOf(c).Elem().FieldByIndex(s.index).Set(reflect.ValueOf(value))
	return nil
}

// lay lays one key over c. path is where it is, and section the key below
// PoliciesKey that it stands for.
func (c *Config) lay(k *winreg.Key, path, section string, sources map[string]string, unknown *[]string) error {
	if k == nil {
		return nil
	}
	all := Settings(Windows)
	find := func(name string) *Setting {
		for i := range all {
			if in, value := all[i].Registry(); strings.EqualFold(in, section) && strings.EqualFold(value, name) {
				return &all[i]
			}
		}
		return nil
	}
	top, _, _ := strings.Cut(section, `\`)
	for _, v := range k.Values {
		s := find(v.Name)
		if s == nil {
			if v.Name == "" && isBlank(v) {
				continue // tools leave it behind
			}
			if err := note(fmt.Sprintf("%s: %s is not a setting", path, cmp.Or(v.Name, "(Default)")), top, unknown); err != nil {
				return err
			}
			continue
		}
		_, name := s.Registry()
		value, err := s.read(v)
		if err := c.set(s, path+": "+name, value, err, sources); err != nil {
			return err
		}
	}
	for _, sub := range k.Keys {
		s, below := find(sub.Name), strings.TrimPrefix(section+`\`+sub.Name, `\`)
		switch {
		case len(sub.Key.Values) == 0 && len(sub.Key.Keys) == 0:
			continue // what is left of a policy that was taken back
		case s != nil && s.Kind == List:
			_, name := s.Registry()
			value, err := entries(&sub.Key)
			if err := c.set(s, path+": "+name, value, err, sources); err != nil {
				return err
			}
		case slices.ContainsFunc(all, func(s Setting) bool {
			in, _ := s.Registry()
			return strings.EqualFold(in, below) || len(in) > len(below) && in[len(below)] == '\\' && strings.EqualFold(in[:len(below)], below)
		}):
			if err := c.lay(&sub.Key, path+`\`+sub.Name, below, sources, unknown); err != nil {
				return err
			}
		default:
			if err := note(fmt.Sprintf(`%s\%s is neither a section nor a list of settings`, path, sub.Name), top, unknown); err != nil {
				return err
			}
		}
	}
	return nil
}

// isBlank says whether a value is there and says nothing.
func isBlank(v winreg.Value) bool {
	return !slices.ContainsFunc(v.Data, func(b byte) bool { return b != 0 })
}

// read decodes the value of a setting. The error goes behind its name.
func (s *Setting) read(v winreg.Value) (any, error) {
	switch s.Kind {
	case Bool:
		n, err := v.Number()
		if err == nil && n > 1 {
			err = fmt.Errorf("is %d; it must be 0 or 1", n)
		}
		return n == 1, err
	case Number:
		n, err := v.Number()
		return int(n), err
	case Time:
		text, err := v.Text()
		if err != nil {
			return nil, err
		}
		return duration(text)
	case Text:
		text, err := v.Text()
		return text, cmp.Or(err, tooLong(text))
	case List:
		list, err := v.Texts()
		return list, cmp.Or(err, tooLong(list...))
	}
	return nil, fmt.Errorf("is a %s, which no policy can be", s.Kind)
}

func duration(text string) (any, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		err = fmt.Errorf(`is %q; it must be a duration such as "90s"`, text)
	}
	return Duration(d), err
}

// entries are the values of a key that is a list. The editor numbers them from 1, and
// the rules of a policy count in that order: 10 is behind 9.
func entries(k *winreg.Key) ([]string, error) {
	if len(k.Keys) > 0 {
		return nil, fmt.Errorf("is a list and has the key %s below it", k.Keys[0].Name)
	}
	values := slices.SortedFunc(slices.Values(k.Values), func(a, b winreg.Value) int {
		m, n := significant(a.Name), significant(b.Name)
		return cmp.Or(cmp.Compare(len(m), len(n)), strings.Compare(m, n), strings.Compare(a.Name, b.Name))
	})
	var list []string
	for _, v := range values {
		text, err := v.Text()
		if err != nil {
			return nil, fmt.Errorf("has an entry %q that %w", v.Name, err)
		}
		list = append(list, text)
	}
	return list, tooLong(list...)
}

// significant is a number without the zeros in front of it, and any other name as it
// is: of two numbers the longer one is then the greater.
func significant(name string) string {
	if strings.Trim(name, "0123456789") != "" {
		return name
	}
	return strings.TrimLeft(name, "0")
}

func tooLong(list ...string) error {
	if len(list) > maxEntries {
		return fmt.Errorf("has %d entries; there is room for %d", len(list), maxEntries)
	}
	total := 0
	for _, text := range list {
		n := length(text)
		if n > MaxText {
			return fmt.Errorf("has a text of %d characters; there is room for %d", n, MaxText)
		}
		total += n
	}
	if total > maxList {
		return fmt.Errorf("has %d characters in all; there is room for %d", total, maxList)
	}
	return nil
}
