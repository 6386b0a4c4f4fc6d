package config

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"howett.net/plist"

	"sallyport/internal/tomlfile"
)

// PreferencesDomain is that of the managed preferences on macOS, and the label of
// the agent's service.
const PreferencesDomain = "com.sallyport.agent"

// PreferencesPath holds the managed settings on macOS: MDM has them written there,
// and they win over the files. The file is read, and not CFPreferences: that asks
// cfprefsd, which answers from a cache, and needs cgo.
const PreferencesPath = "/Library/Managed Preferences/" + PreferencesDomain + ".plist"

// maxPreferences bounds the file. The lists of a big organisation take a tenth.
const maxPreferences = 128 << 10

// readPreferences reads the file of managed preferences; nil: there is none. What
// it returns is a property list, and a dictionary.
func readPreferences(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	if err := tomlfile.CheckDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if !exists(path) {
		return nil, nil
	}
	text, err := tomlfile.ReadOwned(path)
	if err != nil {
		return nil, err
	}
	if _, err := parse(text); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return text, nil
}

// item is a value of a property list. It is decoded when it is known what it has to
// be: in a binary list one array can stand in many places, and all of it spelt out
// would be without bound.
type item struct{ decode func(any) error }

// UnmarshalPlist implements plist.Unmarshaler.
func (i *item) UnmarshalPlist(decode func(any) error) error {
	i.decode = decode
	return nil
}

// parse reads a property list that is a dictionary. The error goes behind its name.
func parse(text []byte) (d map[string]item, err error) {
	switch {
	case len(text) == 0:
		return nil, errors.New("is empty: it is being written, or the disk was full")
	case len(text) > maxPreferences:
		return nil, fmt.Errorf("is over %d bytes", maxPreferences)
	case strings.HasPrefix(string(text), "bplist") && !sound(text):
		return nil, errors.New("is no property list: its binary form is damaged")
	}
	// The library indexes first and asks later.
	defer func() {
		if r := recover(); r != nil {
			d, err = nil, fmt.Errorf("is no property list: %v", r)
		}
	}()
	var root item
	format, err := plist.Unmarshal(text, &root)
	switch {
	case err != nil:
		return nil, fmt.Errorf("is no property list: %w", err)
	case format != plist.XMLFormat && format != plist.BinaryFormat: // any text is one of OpenStep's
		return nil, errors.New("is no property list: it is neither XML nor binary")
	}
	err = root.into(&d, "a dictionary")
	return d, err
}

// sound says whether the objects of a binary property list lie one behind the
// other, each within its bounds, as every writer lays them out (CFBinaryPList.c).
// The library adds up lengths without asking for that: it would make strings of
// memory that is not the list's, and read one array again and again.
func sound(b []byte) bool {
	const header, trailer = 8, 32
	if len(b) < header+trailer {
		return false
	}
	end := uint64(len(b) - trailer)
	size, ref := uint64(b[end+6]), uint64(b[end+7])
	n, table := binary.BigEndian.Uint64(b[end+8:]), binary.BigEndian.Uint64(b[end+24:])
	if size == 0 || size > 8 || ref == 0 || ref > 8 || n == 0 || n > end || table > end || n*size != end-table {
		return false
	}
	offset := func(i uint64) (at uint64) {
		if i == n {
			return table
		}
		for _, x := range b[table+i*size : table+(i+1)*size] {
			at = at<<8 | uint64(x)
		}
		return at
	}
	last := uint64(header)
	for i := range n {
		at, next := offset(i), offset(i+1)
		if at < last || at >= next || next > table {
			return false
		}
		last = next
		length := map[byte]uint64{0x40: 1, 0x50: 1, 0x60: 2, 0xA0: ref, 0xD0: 2 * ref}[b[at]&0xF0] // of each that is counted
		count, from := uint64(b[at]&0xF), at+1
		if length != 0 && count == 0xF { // a number follows, of 1, 2 or 4 bytes
			if from >= next || b[from] < 0x10 || b[from] > 0x12 {
				return false
			}
			width := uint64(1) << (b[from] & 0xF)
			if from += 1 + width; from > next {
				return false
			}
			count = 0
			for _, x := range b[from-width : from] {
				count = count<<8 | uint64(x)
			}
		}
		if from+count*length > next && length != 0 {
			return false
		}
	}
	return true
}

// into decodes a value that has to be what is wanted. The error goes behind its name.
func (i item) into(v any, want string) error {
	if i.decode != nil && i.decode(v) == nil {
		return nil
	}
	return fmt.Errorf("is %s; it must be %s", i.kind(), want)
}

// kind is what a value is.
func (i item) kind() string {
	for _, is := range []struct {
		name string
		v    any
	}{{"a string", new(string)}, {"a boolean", new(bool)}, {"an integer", new(int64)}, {"a real", new(float64)}, {"an array", new([]item)},
		{"a dictionary", new(map[string]item)}} {
		if i.decode != nil && i.decode(is.v) == nil {
			return is.name
		}
	}
	return "neither of use nor known"
}

// prefer lays the managed preferences over c. Keys are those of the settings, in
// dictionaries as in the file's tables.
func (c *Config) prefer(text []byte, path string, sources map[string]string, unknown *[]string) error {
	if text == nil {
		return nil
	}
	d, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	return c.preferIn(d, path, "", Settings(MacOS), sources, unknown)
}

// preferIn lays one dictionary over c: that of a section, or the root for "".
func (c *Config) preferIn(d map[string]item, path, section string, all []Setting, sources map[string]string, unknown *[]string) error {
	for _, name := range slices.Sorted(maps.Keys(d)) {
		key := section + name
		from := path + ": " + key
		i := slices.IndexFunc(all, func(s Setting) bool { return s.Key == key && !strings.Contains(name, ".") })
		switch {
		case i >= 0:
			value, err := all[i].decode(d[name])
			if err := c.set(&all[i], from, value, err, sources); err != nil {
				return err
			}
		case slices.ContainsFunc(all, func(s Setting) bool { return strings.HasPrefix(s.Key, key+".") }):
			var below map[string]item
			if err := d[name].into(&below, "a dictionary"); err != nil {
				return fmt.Errorf("%s %w", from, err)
			}
			if err := c.preferIn(below, path, key+".", all, sources, unknown); err != nil {
				return err
			}
		default:
			top, _, _ := strings.Cut(key, ".")
			if err := note(from+" is not a setting", top, unknown); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode decodes the value of a setting. The error goes behind its name.
func (s *Setting) decode(i item) (any, error) {
	switch s.Kind {
	case Bool:
		var v bool
		err := i.into(&v, "a boolean")
		return v, err
	case Number:
		var v int64
		err := i.into(&v, "an integer")
		return int(v), err
	case Time:
		var v string
		if err := i.into(&v, `a string such as "90s"`); err != nil {
			return nil, err
		}
		return duration(v)
	case Text:
		var v string
		err := i.into(&v, "a string")
		return v, cmp.Or(err, tooLong(v))
	case List:
		var v []string
		err := i.into(&v, "an array of strings")
		return v, cmp.Or(err, tooLong(v...))
	case Numbers:
		var v []int64
		if err := i.into(&v, "an array of integers"); err != nil {
			return nil, err
		}
		if len(v) > maxEntries {
			return nil, fmt.Errorf("has %d entries; there is room for %d", len(v), maxEntries)
		}
		list := make([]uint32, len(v))
		for i, n := range v {
			if n < 0 || n > math.MaxUint32 {
				return nil, fmt.Errorf("has an entry %d; it must be 0 to %d", n, uint32(math.MaxUint32))
			}
			list[i] = uint32(n)
		}
		return list, nil
	}
	panic("config: no preference can be a " + string(s.Kind)) // our own kinds: a programming error
}
