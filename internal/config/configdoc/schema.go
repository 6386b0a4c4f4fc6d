package configdoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport/internal/config"
)

// property is a part of a JSON Schema, draft 2020-12. It uses only what editors know
// that stopped at an older draft.
type property struct {
	Schema      string               `json:"$schema,omitempty"`
	Title       string               `json:"title,omitempty"`
	Description string               `json:"description,omitempty"`
	Type        string               `json:"type"`
	Default     any                  `json:"default,omitempty"`
	Enum        []string             `json:"enum,omitempty"`
	Minimum     *int64               `json:"minimum,omitempty"`
	Maximum     *int64               `json:"maximum,omitempty"`
	MaxLength   int                  `json:"maxLength,omitempty"`
	Pattern     string               `json:"pattern,omitempty"`
	MaxItems    int                  `json:"maxItems,omitempty"`
	Items       *property            `json:"items,omitempty"`
	Closed      *bool                `json:"additionalProperties,omitempty"`
	Properties  map[string]*property `json:"properties,omitempty"`
}

// Schema returns the JSON Schema of a configuration file on one system: for editors,
// and for whatever makes such files. It knows the keys, types and bounds; only
// 'sallyport config check' knows all.
func Schema(sys config.System) []byte {
	table := func(title string) *property {
		return &property{Title: title, Type: "object", Closed: new(false), Properties: map[string]*property{}}
	}
	root := table("Sallyport's configuration on " + sys.Name())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	for _, s := range inFiles(sys) {
		at, parts := root, strings.Split(s.Key, ".")
		last := len(parts) - 1
		for i, part := range parts[:last] {
			if at.Properties[part] == nil {
				at.Properties[part] = table(strings.Join(parts[:i+1], "."))
			}
			at = at.Properties[part]
		}
		at.Properties[parts[last]] = valueOf(s)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil { // our own types: a programming error
		panic("configdoc: " + err.Error())
	}
	return b.Bytes()
}

// valueOf is what a setting may be.
func valueOf(s config.Setting) *property {
	p := &property{Description: describe(s), Default: s.Default}
	text := func(q *property) *property {
		q.Type, q.Enum, q.MaxLength = "string", s.Bound.Values, s.Bound.Length
		return q
	}
	switch s.Kind {
	case config.Bool:
		p.Type = "boolean"
	case config.Number:
		p.Type, p.Minimum, p.Maximum = "integer", new(s.Bound.Min), new(s.Bound.Max)
	case config.Time:
		p.Type, p.Pattern, p.Default = "string", durations(time.Duration(s.Bound.Min), time.Duration(s.Bound.Max)), config.Short(int64(s.Default.(config.Duration)))
	case config.List:
		p.Type, p.MaxItems, p.Items = "array", s.Bound.Entries, text(&property{})
		p.Default = append([]string{}, s.Default.([]string)...)
	case config.Numbers:
		p.Type, p.Items = "array", &property{Type: "integer", Minimum: new(int64(0)), Maximum: new(int64(1<<32 - 1))}
		p.Default = append([]uint32{}, s.Default.([]uint32)...)
	default:
		text(p)
	}
	return p
}

// durations is a pattern of those from lo to hi, as people write them: 90s, 2m, 1m30s,
// 1h. Others that the agent takes, such as 0.5h, are not for a file that others read.
// A bound is whole in its unit, and lo at most a minute, or the smallest.
func durations(lo, hi time.Duration) string {
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	if lo%time.Second != 0 || lo > time.Minute || hi < time.Minute || hi > time.Hour && hi%time.Hour != 0 || hi%time.Minute != 0 {
		panic(fmt.Sprintf("configdoc: no pattern for %s to %s", lo, hi)) // our own bounds: a programming error
	}
	const sixty = "[1-5]?[0-9]"
	minute, hour := seconds(hi)/60, seconds(hi)/3600
	forms := []string{integers(seconds(lo), seconds(hi)) + "s", integers((seconds(lo)+59)/60, minute) + "m(0s)?"}
	if minute > 1 {
		forms = append(forms, integers(1, minute-1)+"m"+sixty+"s")
	}
	if hour >= 1 && hi%time.Hour == 0 {
		forms = append(forms, integers(1, hour)+"h(0m)?(0s)?")
	}
	if hour > 1 {
		forms = append(forms, integers(1, hour-1)+"h"+sixty+"m("+sixty+"s)?")
	}
	return "^(" + strings.Join(forms, "|") + ")$"
}

// integers is a pattern of the numbers from lo to hi, without zeros in front.
func integers(lo, hi int) string {
	var forms []string
	for from := lo; from <= hi; {
		to := min(hi, pow10(len(strconv.Itoa(from)))-1) // of as many digits
		forms = append(forms, digits(strconv.Itoa(from), strconv.Itoa(to)))
		from = to + 1
	}
	return "(" + strings.Join(forms, "|") + ")"
}

// digits is a pattern of the numbers between two of as many digits.
func digits(lo, hi string) string {
	n := len(lo)
	switch {
	case n == 0:
		return ""
	case n == 1 && lo != hi:
		return "[" + lo + "-" + hi + "]"
	case strings.Trim(lo, "0") == "" && strings.Trim(hi, "9") == "":
		return strings.Repeat("[0-9]", n)
	case lo[0] == hi[0]:
		return lo[:1] + digits(lo[1:], hi[1:])
	}
	forms := []string{lo[:1] + digits(lo[1:], strings.Repeat("9", n-1))}
	if a, b := lo[0]+1, hi[0]-1; a <= b {
		forms = append(forms, fmt.Sprintf("[%c-%c]", a, b)+strings.Repeat("[0-9]", n-1))
	}
	forms = append(forms, hi[:1]+digits(strings.Repeat("0", n-1), hi[1:]))
	return "(" + strings.Join(forms, "|") + ")"
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}
