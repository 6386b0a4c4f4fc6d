// Package configdoc writes down what the configuration's struct says of the settings:
// as a JSON Schema for editors, as a file of the defaults for packages, and as the page
// of the documents. What is committed is compared with it by a test.
package configdoc

//go:generate go run ./gen -docs ../../../docs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/textout"
	"sallyport/internal/tomlfile"
)

// Systems are those that have settings, in the order of the documents.
var Systems = []config.System{config.Linux, config.MacOS, config.Windows}

// inFiles are the settings that a file can set.
func inFiles(sys config.System) []config.Setting {
	return slices.DeleteFunc(config.Settings(sys), func(s config.Setting) bool { return s.Only })
}

// describe is what a setting does and may be.
func describe(s config.Setting) string {
	if may := s.MayBe(""); may != "" {
		return s.Comment + "; may be " + may
	}
	return s.Comment
}

// written is a value as it is written in a file.
func written(s config.Setting) string {
	if d, ok := s.Default.(config.Duration); ok {
		return `"` + config.Short(int64(time.Duration(d))) + `"`
	}
	return tomlfile.Text(s.Default)
}

// DefaultFile returns a configuration file in which every setting stands behind a "#"
// with its default: it sets nothing. schema is where an editor finds the JSON Schema,
// "" for nowhere.
func DefaultFile(sys config.System, schema string) []byte {
	var b bytes.Buffer
	if schema != "" {
		fmt.Fprintf(&b, "#:schema %s\n", schema)
	}
	say := func(text string) {
		for line := range strings.SplitSeq(textout.Fold(text, 98, 0), "\n") {
			fmt.Fprintf(&b, "# %s\n", line)
		}
	}
	say("The settings of Sallyport on " + sys.Name() + ", with their defaults. To change one, take away the \"#\" in front of it; better still, " +
		"leave this file as it came and put a file of your own into config.d beside it: config.d/50-example.toml. Those win, in the order of their names.")
	say("This file must not be empty, belongs to " + owner(sys) + " and can be changed by nobody else.")
	b.WriteString("#\n")
	say("sallyport config check says what is wrong, with file and line; sallyport config show what is in force, and where it comes from.")
	section := ""
	for _, s := range inFiles(sys) {
		in, name := split(s.Key)
		if in != section {
			section = in
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		b.WriteByte('\n')
		say(describe(s))
		fmt.Fprintf(&b, "#%s = %s\n", name, written(s))
	}
	return b.Bytes()
}

func owner(sys config.System) string {
	if sys == config.Windows {
		return "SYSTEM or the Administrators"
	}
	return "root"
}

// split parts a key into its section and its name.
func split(key string) (section, name string) {
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

// Example is a drop-in as the documents show it.
const Example = `# /etc/sallyport/config.d/50-servers.toml
admin_group = "helpdesk"          # may run status, users and events

[policy]
ask = "required"                  # everybody, but for whom exempt names

[policy.exempt]
users = ["backup"]
remote = ["192.0.2.10"]           # the monitoring

[limits]
prompt_time = "1m"
`
