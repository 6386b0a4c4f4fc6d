// Package admx makes the policy templates for Windows, Sallyport.admx and its
// English texts, and the table of the policies in the documents. All three come
// from the one struct of the configuration; what is committed is compared with it
// by a test.
package admx

//go:generate go run ./gen . ../../../docs/windows-policies.md

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/config"
)

// The names of the files, below the directory PolicyDefinitions of Windows or of
// the domain's central store.
const (
	Template = "Sallyport.admx"
	English  = "en-US/Sallyport.adml"
)

const (
	namespace = "http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions"
	supported = "SUPPORTED_Sallyport"
)

// Policies are the settings that a policy can set.
func Policies() []config.Setting {
	return slices.DeleteFunc(config.Settings(config.Windows), func(s config.Setting) bool { return !s.Managed })
}

// ADMX returns the template: what is written where.
func ADMX() []byte {
	f := definitions{Xmlns: namespace, Revision: "1.0", Schema: "1.0", Target: target{"sallyport", "Sallyport.Policies"}, Resources: revision{"1.0"},
		Supported: definition{supported, stringRef(supported)}}
	for _, c := range categories() {
		x := category{Name: c.id, Display: stringRef(c.id)}
		if c.parent != "" {
			x.Parent = &ref{c.parent}
		}
		f.Categories = append(f.Categories, x)
	}
	for _, s := range Policies() {
		f.Policies = append(f.Policies, policyOf(s))
	}
	return encode(f)
}

// policyOf describes one setting. Disabled, a policy without elements writes 0;
// any other takes back what it wrote.
func policyOf(s config.Setting) policy {
	section, value := s.Registry()
	id := ident(s.Key)
	key := strings.TrimSuffix(strings.TrimPrefix(config.PoliciesKey, `HKLM\`)+`\`+section, `\`)
	p := policy{Name: id, Class: "Machine", Display: stringRef(id), Explain: stringRef(id + "_help"), Key: key,
		Parent: ref{categoryID(section)}, Supported: ref{supported}}
	if s.Kind == config.Bool {
		p.ValueName, p.Enabled, p.Disabled = value, &number{decimal{1}}, &number{decimal{0}}
		return p
	}
	p.Presentation, p.Elements = "$(presentation."+id+")", &elements{}
	e := element{ID: id, ValueName: value, Required: true}
	switch {
	case s.Kind == config.Number:
		e.Min, e.Max = new(s.Bound.Min), new(s.Bound.Max)
		p.Elements.Decimal = &e
	case s.Kind == config.List:
		// Named 1, 2, 3: the reader takes any names.
		p.Elements.List = &list{ID: id, Key: key + `\` + value}
	case len(s.Bound.Values) > 0:
		for _, v := range s.Bound.Values {
			e.Items = append(e.Items, item{stringRef(id + "_" + ident(v)), v})
		}
		p.Elements.Enum = &e
	default:
		e.MaxLength = config.MaxText
		if s.Bound.Length > 0 {
			e.MaxLength = s.Bound.Length
		}
		p.Elements.Text = &e
	}
	return p
}

// ADML returns the texts of the template, and how each policy is presented.
func ADML() []byte {
	f := resources{Xmlns: namespace, Revision: "1.0", Schema: "1.0", Display: "Sallyport", Description: "Settings of the Sallyport login agent"}
	add := func(id, text string) { f.Strings = append(f.Strings, localized{id, text}) }
	add(supported, "Windows 10, Windows Server 2016 or later")
	for _, c := range categories() {
		add(c.id, c.title)
	}
	for _, s := range Policies() {
		id := ident(s.Key)
		add(id, title(s))
		add(id+"_help", help(s))
		p := presentation{ID: id}
		switch {
		case s.Kind == config.Bool:
			continue
		case s.Kind == config.Number:
			p.Decimal = &decimalBox{RefID: id, Default: s.Default.(int), Label: label(s)}
		case s.Kind == config.List:
			p.List = &labelled{RefID: id, Label: label(s)}
		case len(s.Bound.Values) > 0:
			for _, v := range s.Bound.Values {
				add(id+"_"+ident(v), v)
			}
			p.Dropdown = &dropdown{RefID: id, NoSort: true, Default: slices.Index(s.Bound.Values, s.Default.(string)), Label: label(s)}
		default:
			p.Text = &textBox{RefID: id, Label: label(s), Default: plain(s)}
		}
		f.Presentations = append(f.Presentations, p)
	}
	return encode(f)
}

// Markdown returns the table of the documents.
func Markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Policies on Windows

<!-- Made from the configuration's struct: go generate ./installer/windows/admx -->

Every policy of %s, and where it stands in the registry below %s. A policy wins over the configuration file. A value that is not
in this table, or is not of its type, is an error that names the key, as an unknown key in the file is.

A list is a key of the name given, whose REG_SZ values, of any names, are the entries; or a REG_MULTI_SZ of that name. It replaces the list in the file. A key
without values sets nothing; a REG_MULTI_SZ without texts sets an empty list. A duration is written as in "90s", "2m" or "1h".
`, "`"+Template+"`", "`"+config.PoliciesKey+"`")
	section := "-"
	for _, s := range Policies() {
		key, value := s.Registry()
		if key != section {
			section = key
			fmt.Fprintf(&b, "\n## %s\n\n| value | type | may be | default | meaning |\n|---|---|---|---|---|\n", strings.TrimSuffix("`"+config.PoliciesKey+`\`+key, `\`)+"`")
		}
		kind := map[config.Kind]string{config.Bool: "REG_DWORD", config.Number: "REG_DWORD", config.List: "list"}[s.Kind]
		if kind == "" {
			kind = "REG_SZ"
		}
		shown := plain(s)
		if shown != "" {
			shown = "`" + shown + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", value, kind, s.MayBe("0 or 1"), shown, s.Comment)
	}
	return b.Bytes()
}

// plain is the default as it is written in the registry.
func plain(s config.Setting) string {
	switch v := s.Default.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	case int:
		return fmt.Sprint(v)
	case config.Duration:
		return config.Short(int64(time.Duration(v)))
	case string:
		return v
	case []string:
		return strings.Join(v, ", ")
	}
	panic(fmt.Sprintf("admx: %s has a default of type %T", s.Key, s.Default)) // our own struct: a programming error
}

func title(s config.Setting) string {
	_, value := s.Registry()
	return sentence(strings.ReplaceAll(value, "_", " ")) + " (" + s.Key + ")"
}

func label(s config.Setting) string {
	_, value := s.Registry()
	return sentence(strings.ReplaceAll(value, "_", " ")) + ":"
}

// help is what the editor shows beside a policy.
func help(s config.Setting) string {
	lines := []string{sentence(s.Comment) + "."}
	if may := s.MayBe("0 or 1"); may != "" && s.Kind != config.Bool {
		lines = append(lines, "It may be "+may+".")
	}
	if s.Kind == config.Time {
		lines = append(lines, `Written as "90s", "2m" or "1h".`)
	}
	if s.Kind == config.List {
		lines = append(lines, "The list replaces the one in the configuration file as a whole.")
	}
	standard := plain(s)
	switch {
	case s.Kind == config.Bool && standard == "1":
		standard = "enabled"
	case s.Kind == config.Bool:
		standard = "disabled"
	case standard == "":
		standard = "none"
	}
	otherwise := "the configuration file decides, or else the default: "
	if s.Only {
		otherwise = "the computer's own registry decides, or else the default: "
	}
	state := "Disabled or not configured"
	if s.Kind == config.Bool {
		state = "Not configured"
	}
	return strings.Join(append(lines, state+", "+otherwise+standard+"."), "\n\n")
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// section is a category of the editor's tree.
type section struct{ id, parent, title string }

// categories are those of all policies, each behind the one that it is in.
func categories() []section {
	list := []section{{categoryID(""), "", "Sallyport"}}
	for _, s := range Policies() {
		key, _ := s.Registry()
		parent := ""
		for part := range strings.SplitSeq(key, `\`) {
			id := strings.TrimPrefix(parent+`\`+part, `\`)
			if part != "" && !slices.ContainsFunc(list, func(c section) bool { return c.id == categoryID(id) }) {
				list = append(list, section{categoryID(id), categoryID(parent), part})
			}
			parent = id
		}
	}
	return list
}

func categoryID(key string) string { return strings.TrimSuffix("Sallyport_"+ident(key), "_") }

// ident makes an id of a key: of letters, digits and underscores.
func ident(s string) string { return strings.NewReplacer(".", "_", "-", "_", `\`, "_").Replace(s) }

func stringRef(id string) string { return "$(string." + id + ")" }

func encode(v any) []byte {
	b, err := xml.MarshalIndent(v, "", "  ")
	if err != nil { // our own types: a programming error
		panic("admx: " + err.Error())
	}
	return append([]byte(xml.Header), append(b, '\n')...)
}
