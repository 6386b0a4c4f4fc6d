package admx

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport/internal/config"
)

// TestTheCommittedFilesAreCurrent: whoever changes a setting runs go generate.
func TestTheCommittedFilesAreCurrent(t *testing.T) {
	for name, want := range map[string][]byte{Template: ADMX(), English: ADML(), "../../../docs/windows-policies.md": Markdown()} {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the configuration's struct says now: go generate ./installer/windows/admx", name)
		}
	}
}

// node is an element as anybody's XML parser sees it.
type node struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Nodes   []node     `xml:",any"`
	Text    string     `xml:",chardata"`
}

func (n node) attr(name string) string {
	i := slices.IndexFunc(n.Attrs, func(a xml.Attr) bool { return a.Name.Local == name })
	if i < 0 {
		return ""
	}
	return n.Attrs[i].Value
}

// all returns the elements of a name, at any depth.
func (n node) all(name string) []node {
	var list []node
	for _, c := range n.Nodes {
		if c.XMLName.Local == name {
			list = append(list, c)
		}
		list = append(list, c.all(name)...)
	}
	return list
}

func parse(t *testing.T, text []byte, root string) node {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(text))
	var n node
	if err := d.Decode(&n); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(); err != io.EOF && err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(text) || n.XMLName.Local != root || n.XMLName.Space != namespace {
		t.Fatalf("the root is %v", n.XMLName)
	}
	return n
}

func TestEveryReferenceResolves(t *testing.T) {
	admx, adml := parse(t, ADMX(), "policyDefinitions"), parse(t, ADML(), "policyDefinitionResources")
	texts, used := map[string]bool{}, map[string]bool{}
	for _, s := range adml.all("stringTable")[0].Nodes {
		if id := s.attr("id"); texts[id] || s.Text == "" {
			t.Errorf("the text %s is there twice, or empty", id)
		}
		texts[s.attr("id")] = true
	}
	categories := map[string]bool{}
	for _, c := range admx.all("category") {
		if p := c.all("parentCategory"); len(p) > 0 && !categories[p[0].attr("ref")] {
			t.Errorf("%s is in %s, which is not there", c.attr("name"), p[0].attr("ref"))
		}
		if categories[c.attr("name")] {
			t.Errorf("the category %s is there twice", c.attr("name"))
		}
		categories[c.attr("name")] = true
	}
	reference := regexp.MustCompile(`^\$\(string\.([A-Za-z0-9_]+)\)$`)
	for _, m := range regexp.MustCompile(`"(\$\(string[^"]*)"`).FindAllSubmatch(ADMX(), -1) {
		id := reference.FindSubmatch(m[1])
		if id == nil || !texts[string(id[1])] {
			t.Errorf("there is no text for %s", m[1])
			continue
		}
		used[string(id[1])] = true
	}
	for id := range texts {
		if !used[id] {
			t.Errorf("nothing shows the text %s", id)
		}
	}
	presentations := map[string]node{}
	for _, p := range adml.all("presentation") {
		presentations[p.attr("id")] = p
	}
	// What the schema calls a box for each kind of element.
	boxes := map[string]string{"decimal": "decimalTextBox", "text": "textBox", "enum": "dropdownList", "list": "listBox"}
	for _, p := range admx.all("policy") {
		if ref := p.all("parentCategory"); len(ref) != 1 || !categories[ref[0].attr("ref")] {
			t.Errorf("%s is in no category", p.attr("name"))
		}
		if ref := p.all("supportedOn"); len(ref) != 1 || ref[0].attr("ref") != admx.all("definition")[0].attr("name") {
			t.Errorf("%s is not said to be supported on anything", p.attr("name"))
		}
		if p.attr("class") != "Machine" {
			t.Errorf("%s is for %s", p.attr("name"), p.attr("class"))
		}
		e := p.all("elements")
		if len(e) == 0 {
			if p.attr("presentation") != "" || p.attr("valueName") == "" {
				t.Errorf("%s sets nothing, or is presented without elements", p.attr("name"))
			}
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(p.attr("presentation"), "$(presentation."), ")")
		shown, ok := presentations[name]
		delete(presentations, name)
		if !ok || len(e[0].Nodes) != 1 || len(shown.Nodes) != 1 {
			t.Errorf("%s: %d elements, %d presented", p.attr("name"), len(e[0].Nodes), len(shown.Nodes))
			continue
		}
		element, box := e[0].Nodes[0], shown.Nodes[0]
		if box.attr("refId") != element.attr("id") || element.attr("id") == "" || box.XMLName.Local != boxes[element.XMLName.Local] {
			t.Errorf("%s: the %s %s presents the %s %s", p.attr("name"), box.XMLName.Local, box.attr("refId"), element.XMLName.Local, element.attr("id"))
		}
	}
	for id := range presentations {
		t.Errorf("nothing is presented as %s", id)
	}
}

// TestEverySettingIsAPolicyOnce: all of Windows, but for those two that say where
// the agent itself is found.
func TestEverySettingIsAPolicyOnce(t *testing.T) {
	admx := parse(t, ADMX(), "policyDefinitions")
	var names, want, without []string
	for _, p := range admx.all("policy") {
		names = append(names, p.attr("name"))
	}
	for _, s := range config.Settings(config.Windows) {
		if s.Managed {
			want = append(want, strings.ReplaceAll(s.Key, ".", "_"))
		} else {
			without = append(without, s.Key)
		}
	}
	if !slices.Equal(names, want) || len(names) < 40 {
		t.Errorf("%d policies, %d settings:\n%s\n%s", len(names), len(want), names, want)
	}
	if !slices.Equal(without, []string{"state_dir", "runtime_dir"}) {
		t.Errorf("no policy can set %s", without)
	}
	table := string(Markdown())
	for _, s := range Policies() {
		key, value := s.Registry()
		section := strings.TrimSuffix(config.PoliciesKey+`\`+key, `\`)
		_, rows, ok := strings.Cut(table, "## `"+section+"`\n")
		rows, _, _ = strings.Cut(rows, "\n## ")
		if !ok || strings.Count(rows, "\n| `"+value+"` |") != 1 {
			t.Errorf("%s is not in the table once", s.Key)
		}
	}
}
