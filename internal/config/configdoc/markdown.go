package configdoc

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/config"
)

// SchemaName is the file name of a system's JSON Schema, in the directory schema of the
// documents.
func SchemaName(sys config.System) string { return "sallyport-" + string(sys) + ".schema.json" }

// Markdown returns the page of the documents: every setting of every system.
func Markdown() []byte {
	var b bytes.Buffer
	b.WriteString(head())
	section := "-"
	for _, on := range everywhere() {
		s := on.first()
		in, name := split(s.Key)
		if in != section {
			section = in
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| setting | on | type | may be | default | what it does |\n|---|---|---|---|---|---|\n", heading(in), managedAs(on))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", name, on.systems(), s.Kind,
			on.each(func(s config.Setting) string { return s.MayBe("true or false") }),
			on.each(func(s config.Setting) string { return "`" + written(s) + "`" }), s.Comment+where(s))
	}
	return b.Bytes()
}

// where says what cannot set a setting, if something cannot.
func where(s config.Setting) string {
	switch {
	case s.Only:
		return " (in the registry alone, not in files)"
	case !s.Managed:
		return " (in files alone)"
	}
	return ""
}

// one is a setting on those systems that have it.
type one map[config.System]config.Setting

// everywhere are the settings of all systems: what only one has comes behind what comes
// before it there.
func everywhere() []one {
	var list []one
	for _, sys := range Systems {
		next := 0
		for _, s := range config.Settings(sys) {
			i := slices.IndexFunc(list, func(o one) bool { return o.first().Key == s.Key })
			if i < 0 {
				i = next
				list = slices.Insert(list, i, one{})
			}
			list[i][sys] = s
			next = i + 1
		}
	}
	return list
}

// first is the setting on the first system that has it.
func (o one) first() config.Setting {
	for _, sys := range Systems {
		if s, ok := o[sys]; ok {
			return s
		}
	}
	panic("configdoc: a setting of no system") // everywhere makes none
}

// systems are those that have the setting.
func (o one) systems() string {
	if len(o) == len(Systems) {
		return "all"
	}
	var names []string
	for _, sys := range Systems {
		if _, ok := o[sys]; ok {
			names = append(names, sys.Name())
		}
	}
	return strings.Join(names, ", ")
}

// each is what is the same on all systems, or what it is on each.
func (o one) each(what func(config.Setting) string) string {
	var texts []string
	same := true
	for _, sys := range Systems {
		if s, ok := o[sys]; ok {
			same = same && what(s) == what(o.first())
			texts = append(texts, sys.Name()+": "+what(s))
		}
	}
	if same {
		return what(o.first())
	}
	return strings.Join(texts, "; ")
}

func heading(section string) string {
	if section == "" {
		return "At the top"
	}
	return "`[" + section + "]`"
}

// managedAs says where the settings of a section stand when they are managed.
func managedAs(o one) string {
	section, _ := split(o.first().Key)
	var parts []string
	if _, ok := o[config.MacOS]; ok {
		in := "the dictionary `" + section + "`"
		if section == "" {
			in = "the top"
		}
		parts = append(parts, "Managed preferences: "+in+" of `"+config.PreferencesDomain+"`")
	}
	if s, ok := o[config.Windows]; ok {
		key, _ := s.Registry()
		parts = append(parts, "Group Policy: `"+strings.TrimSuffix(config.PoliciesKey+`\`+key, `\`)+"`")
	}
	return strings.Join(parts, ". ") + "."
}

func head() string {
	return `# Settings

<!-- Made from the configuration's struct: go generate ./internal/config/configdoc -->

Every setting of the agent on every system. An agent without any setting has the defaults: only whoever is enrolled is asked.

- What the settings of ` + "`[policy]`" + ` mean: [policy.md](policy.md).
- Written for Group Policy, with types and value names: [windows-policies.md](windows-policies.md). For MDM: [macos-settings.md](macos-settings.md). The authority's own settings: [authority.md](authority.md).

## Where they come from

Later wins, value by value. A list replaces the earlier list as a whole.

| | Linux | macOS | Windows |
|---|---|---|---|
| 1. | the defaults | the defaults | the defaults |
| 2. | ` + "`/etc/sallyport/sallyport.toml` | `/Library/Application Support/Sallyport/sallyport.toml` | `C:\\ProgramData\\Sallyport\\sallyport.toml`" + ` |
| 3. | ` + "`config.d/*.toml` beside it | `config.d/*.toml` beside it | `config.d\\*.toml`" + ` beside it |
| 4. | | managed preferences | Group Policy |

    sallyport config check [FILE]    # what is wrong, with file and line; FILE may be a draft of yours
    sallyport config show [--json]   # what is in force, and of each value the file and line, registry key or preference it comes from
    sallyport config default         # a file with every setting of this system, commented out
    sallyport config schema          # the JSON Schema of such a file

Files, their directories and the registry keys have to belong to root or the system, and nobody else may be able to change them. An unknown key, a value of the wrong type or out of its bounds, or an empty main file makes all of it invalid: the agent keeps the
last good configuration, ` + "`status`" + ` says ` + "`config_broken`" + `, and an agent that starts with it refuses whoever would be asked. A change of a file counts from the next login on, a managed one within seconds, both without a restart, but for
` + "`state_dir`, `runtime_dir`, `keychain`, `tpm_device`, `log`, `events` and `admin_group`" + `.

## Drop-ins

A fleet's settings go into ` + "`/etc/sallyport/config.d/NN-NAME.toml`" + `, one file for each purpose, and the package's own file stays as it came. They are read in the order of their names, byte by byte: ` + "`10-` before `50-`, but `9-` after `50-`" + `; keep two digits.
Only names that end in ` + "`.toml`" + ` count. What one computer needs differently goes into a later one, such as ` + "`90-local.toml`" + `. Put a file there by writing it beside and renaming it: an editor's half-written file is refused, and counts when it is whole.

` + "```toml\n" + Example + "```" + `

## Rules in managed settings

` + "`policy.rules`" + ` is a list of lines whose order decides. It comes through every way as it was written, with quotes, commas and parentheses; nothing needs a second escape.

| way | order | how a line is written |
|---|---|---|
| file, drop-in | as written | TOML: single quotes around the line, so that it may have double ones in it; three of them around one with both |
| managed preferences | as in the array | a string |
| Group Policy, list | by number: the editor names the values 1, 2, 3 and so on; 10 comes after 9 | a line for each entry of the list |
| registry, by a script or Intune | REG_SZ values named by numbers, in a key; or one REG_MULTI_SZ | a text |

Managed settings hold lists of at most 1,000 entries and texts of at most ` + fmt.Sprint(config.MaxText) + ` characters, which is also the Group Policy editor's own bound; a rule has at most 1,000. All texts of one list together have at most 250,000 there, and the file of managed preferences 128 KB. More than that
belongs into the authority (` + "`sallyport-authority policy set`" + `). After a change look at ` + "`sallyport config show`" + `, which prints the list in the order that counts.

## Editors

[schema/](schema) has a JSON Schema (draft 2020-12) for each system, the same that ` + "`sallyport config schema [--system SYSTEM]`" + ` prints. Editors that know TOML (Taplo, and Even Better TOML for VS Code) complete, explain and check by it when the file begins with

    #:schema file:///usr/share/sallyport/` + SchemaName(config.Linux) + `

or wherever you put it. It knows keys, types and bounds; names, addresses and rules are checked by ` + "`sallyport config check`" + `. A duration is written as in "90s", "2m", "1m30s" or "1h".
`
}
