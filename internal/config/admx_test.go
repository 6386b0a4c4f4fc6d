package config

import (
	"encoding/xml"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/winreg"
)

// template is as much of an ADMX file as the Group Policy editor needs to write
// the registry: "ADMX Syntax".
type template struct {
	Policies []templatePolicy `xml:"policies>policy"`
}

type templatePolicy struct {
	Name      string   `xml:"name,attr"`
	Key       string   `xml:"key,attr"`
	ValueName string   `xml:"valueName,attr"`
	Enabled   *decimal `xml:"enabledValue>decimal"`
	Disabled  *decimal `xml:"disabledValue>decimal"`
	Elements  struct {
		Decimal *struct {
			ValueName string `xml:"valueName,attr"`
			Min       int64  `xml:"minValue,attr"`
			Max       int64  `xml:"maxValue,attr"`
		} `xml:"decimal"`
		Text *struct {
			ValueName string `xml:"valueName,attr"`
			MaxLength int    `xml:"maxLength,attr"`
		} `xml:"text"`
		Enum *struct {
			ValueName string   `xml:"valueName,attr"`
			Values    []string `xml:"item>value>string"`
		} `xml:"enum"`
		List *struct {
			Key    string  `xml:"key,attr"`
			Prefix *string `xml:"valuePrefix,attr"`
		} `xml:"list"`
	} `xml:"elements"`
}

type decimal struct {
	Value uint32 `xml:"value,attr"`
}

// write puts a value into the tree below PoliciesKey, at the key as a template
// names it.
func write(t *testing.T, root *winreg.Key, path string, v winreg.Value) {
	t.Helper()
	below, ok := strings.CutPrefix(`HKLM\`+path+`\`, PoliciesKey+`\`)
	if !ok {
		t.Fatalf("%s is not below %s", path, PoliciesKey)
	}
	at := root
	for name := range strings.SplitSeq(strings.TrimSuffix(below, `\`), `\`) {
		if name == "" {
			continue
		}
		i := slices.IndexFunc(at.Keys, func(s winreg.Subkey) bool { return s.Name == name })
		if i < 0 {
			i, at.Keys = len(at.Keys), append(at.Keys, winreg.Subkey{Name: name})
		}
		at = &at.Keys[i].Key
	}
	at.Values = append(at.Values, v)
}

// TestTheTemplatesWriteWhatIsRead: each policy is set as the editor would set it
// by the template that is shipped, and what is read is what was meant.
func TestTheTemplatesWriteWhatIsRead(t *testing.T) {
	text, err := os.ReadFile("../../installer/windows/admx/Sallyport.admx")
	if err != nil {
		t.Fatal(err)
	}
	var file template
	if err := xml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	want := defaults(Windows, `C:\state`)
	if err := want.lay(everyPolicy(), PoliciesKey, "", map[string]string{}, new([]string)); err != nil {
		t.Fatal(err)
	}
	root, n := &winreg.Key{}, 0
	for _, s := range Settings(Windows) {
		if !s.Managed {
			continue
		}
		n++
		i := slices.IndexFunc(file.Policies, func(p templatePolicy) bool { return p.Name == strings.ReplaceAll(s.Key, ".", "_") })
		if i < 0 {
			t.Errorf("%s is no policy", s.Key)
			continue
		}
		p := file.Policies[i]
		e := p.Elements
		switch v := reflect.ValueOf(want).FieldByIndex(s.index).Interface().(type) {
		case bool:
			if p.Enabled == nil || p.Disabled == nil {
				t.Fatalf("%s cannot be switched", s.Key)
			}
			state := p.Disabled.Value
			if v {
				state = p.Enabled.Value
			}
			write(t, root, p.Key, dword(p.ValueName, state))
		case int:
			if e.Decimal == nil || e.Decimal.Min != s.Bound.Min || e.Decimal.Max != s.Bound.Max {
				t.Fatalf("%s is %+v in the template, with the bounds %s", s.Key, e.Decimal, s.Bound)
			}
			write(t, root, p.Key, dword(e.Decimal.ValueName, uint32(v)))
		case Duration:
			if e.Text == nil {
				t.Fatalf("%s is no text", s.Key)
			}
			write(t, root, p.Key, sz(e.Text.ValueName, time.Duration(v).String()))
		case string:
			switch {
			case e.Enum != nil && slices.Equal(e.Enum.Values, s.Bound.Values):
				write(t, root, p.Key, sz(e.Enum.ValueName, v))
			case e.Text != nil && len(s.Bound.Values) == 0 && e.Text.MaxLength >= len([]rune(v)):
				write(t, root, p.Key, sz(e.Text.ValueName, v))
			default:
				t.Fatalf("%s is %+v in the template", s.Key, e)
			}
		case []string:
			if e.List == nil || e.List.Prefix == nil {
				t.Fatalf("%s is no list", s.Key)
			}
			for i, entry := range v {
				write(t, root, e.List.Key, sz(*e.List.Prefix+strconv.Itoa(i+1), entry))
			}
		default:
			t.Fatalf("%s is a %T", s.Key, v)
		}
	}
	if n != len(file.Policies) {
		t.Errorf("%d settings, %d policies", n, len(file.Policies))
	}
	got := defaults(Windows, `C:\state`)
	if err := got.lay(root, PoliciesKey, "", map[string]string{}, new([]string)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}
