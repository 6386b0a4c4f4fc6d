// Package tomlfile reads configuration files: TOML into a struct, strictly, with
// the line of whatever is wrong, from files that nobody else can change.
package tomlfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// MaxSize bounds a configuration file.
const MaxSize = 1 << 20

// Duration is a time.Duration written as "90s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Value is one setting and where it came from.
type Value struct {
	Key    string
	Value  string // as TOML
	Source string // "default", "file:line", or the key of the registry or of the managed preferences
}

// Trust says whose files are taken.
type Trust int

// Who is trusted: the system and this process's own user; or, on Windows, the system
// alone, for whoever looks at a service's files and is not the service. (On Unix,
// where who administers is root, it is the same.)
const (
	Own Trust = iota
	System
)

// CheckDir refuses a directory in which others can add, swap or take away a
// file: they need no right to the files. One that is not there is none.
func CheckDir(dir string) error { return Own.CheckDir(dir) }

// ReadOwned reads a file that only its owner, the system or we ourselves, can
// change.
func ReadOwned(path string) ([]byte, error) { return Own.ReadOwned(path) }

// CheckDir is the function of that name.
func (t Trust) CheckDir(dir string) error {
	if err := checkDir(dir, t); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// ReadOwned is the function of that name.
func (t Trust) ReadOwned(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := checkFile(f, st, path, t); err != nil {
		return nil, err
	}
	if st.Size() > MaxSize {
		return nil, fmt.Errorf("%s is over %d bytes", path, MaxSize)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b.Bytes(), []byte("\xff\xfe")) {
		return nil, fmt.Errorf("%s is UTF-16: save it as UTF-8", path)
	}
	// Editors on Windows put a byte order mark in front.
	return bytes.TrimPrefix(b.Bytes(), []byte("\xef\xbb\xbf")), nil
}

// Decode lays text over cfg, a pointer to a struct. Lists and values that text does not name stay.
func Decode(text []byte, cfg any) error {
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(cfg)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		row, _ := unknown.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %q: it is misspelt, or of another version than this one", row, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, col := bad.Position()
		if m := mismatch.FindStringSubmatch(bad.Error()); m != nil {
			return fmt.Errorf("line %d: %s is of type %s; it must be %s", row, keyAt(text, row), m[1], cmp.Or(wanted[m[2]], "a table"))
		}
		return fmt.Errorf("line %d, column %d: %s", row, col, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	if err != nil {
		// Of a type's own UnmarshalText, where the value was no text: the decoder does not
		// say where. It is in the last line of what fails in the same way and is shorter.
		for _, row := range slices.Sorted(maps.Values(Lines(text))) {
			var short *toml.DecodeError
			part := bytes.Join(bytes.SplitAfterN(text, []byte("\n"), row+1)[:row], nil)
			if e := toml.Unmarshal(part, reflect.New(reflect.TypeOf(cfg).Elem()).Interface()); e != nil && !errors.As(e, &short) {
				return fmt.Errorf("line %d: %s: %w", row, keyAt(text, row), err)
			}
		}
	}
	return err
}

// mismatch is what the decoder says of a value that is not of its field's type.
var mismatch = regexp.MustCompile(`cannot decode TOML ([a-z ]+) into .*?(\S+)$`)

// wanted is a type in the words of whoever writes the file.
var wanted = map[string]string{"int": "a whole number", "uint32": "a whole number", "bool": "true or false", "string": "a text in quotes",
	"[]string": "a list of texts: [\"a\", \"b\"]", "[]uint32": "a list of numbers: [1, 2]", "tomlfile.Duration": `a duration in quotes, such as "90s"`}

// keyAt is the key whose value is on a line, or goes on there.
func keyAt(text []byte, row int) string {
	found, at := "", 0
	for key, line := range Lines(text) {
		if line <= row && (line > at || line == at && key < found) {
			found, at = key, line
		}
	}
	return found
}

// Lines finds the line of each key that text sets. Keys are in lower case:
// the decoder takes any.
func Lines(text []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, _ = keyParts(text, e)
		case unstable.KeyValue:
			addLines(lines, text, table, e)
		}
	}
	return lines
}

// addLines notes the line of one key, or of those in an inline table.
func addLines(lines map[string]int, text []byte, table []string, e *unstable.Node) {
	parts, line := keyParts(text, e)
	key := append(slices.Clone(table), parts...)
	if e.Value().Kind != unstable.InlineTable {
		lines[strings.ToLower(strings.Join(key, "."))] = line
		return
	}
	for c := e.Value().Children(); c.Next(); {
		addLines(lines, text, key, c.Node())
	}
}

func keyParts(text []byte, e *unstable.Node) (parts []string, line int) {
	for k := e.Key(); k.Next(); {
		if line == 0 {
			line = bytes.Count(text[:k.Node().Raw.Offset], []byte("\n")) + 1
		}
		parts = append(parts, string(k.Node().Data))
	}
	return parts, line
}

// Values lists every setting of cfg, a pointer to a struct, with its source.
func Values(cfg any, sources map[string]string) []Value {
	var list []Value
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			key := prefix + v.Type().Field(i).Tag.Get("toml")
			if f := v.Field(i); f.Kind() == reflect.Struct {
				walk(key+".", f)
			} else {
				list = append(list, Value{key, Text(f.Interface()), cmp.Or(sources[key], "default")})
			}
		}
	}
	walk("", reflect.ValueOf(cfg).Elem())
	return list
}

// Text is a value as TOML writes it, on one line.
func Text(v any) string {
	text, err := toml.Marshal(map[string]any{"x": v})
	if err != nil { // our own types: a programming error
		panic(fmt.Sprintf("tomlfile: a %T cannot be written as TOML: %v", v, err))
	}
	_, value, _ := strings.Cut(strings.TrimSpace(string(text)), "= ")
	return value
}
