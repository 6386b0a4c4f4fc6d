// Package manpage writes the manual pages of a program made with cobra, from the
// same texts as its help, so that there is one text to keep right.
package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Write writes the pages of root and of every command below it that is not hidden
// into dir, and returns the files. exits are the lines of the exit codes' table.
func Write(root *cobra.Command, dir, version, exits string) (written []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var pages func(c *cobra.Command) error
	pages = func(c *cobra.Command) error {
		if c.Hidden {
			return nil
		}
		file := filepath.Join(dir, name(c)+".1")
		if err := os.WriteFile(file, []byte(page(c, version, exits)), 0o644); err != nil {
			return err
		}
		written = append(written, file)
		for _, child := range c.Commands() {
			if err := pages(child); err != nil {
				return err
			}
		}
		return nil
	}
	return written, pages(root)
}

func name(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// roff writes text so that nothing in it is taken for a request: groff_man(7).
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", "\\(ga").Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// page is a command's page in section 1.
func page(c *cobra.Command, version, exits string) string {
	var b strings.Builder
	verbatim := func(s string) { fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(strings.TrimRight(s, "\n"))) }
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"sallyport %s\" \"Sallyport\"\n", strings.ToUpper(roff(name(c))), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	text := c.Long
	if text == "" {
		text = strings.ToUpper(c.Short[:1]) + c.Short[1:] + "."
	}
	verbatim(text)
	if children := c.Commands(); len(children) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, child := range children {
			if !child.Hidden {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(child.CommandPath()), roff(child.Short))
			}
		}
	}
	options := func(title string, flags *pflag.FlagSet) {
		if !flags.HasAvailableFlags() {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n", title)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			arg, usage := pflag.UnquoteUsage(f)
			short := ""
			if f.Shorthand != "" {
				short = "-" + f.Shorthand + ", "
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(short+"--"+f.Name+" "+arg)), roff(usage))
		})
	}
	options("OPTIONS", c.NonInheritedFlags())
	options("GLOBAL OPTIONS", c.InheritedFlags())
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n")
		verbatim(c.Example)
	}
	if c.HasParent() {
		b.WriteString(".SH EXIT STATUS\n")
		verbatim(exits)
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(name(c.Parent())))
	}
	return b.String()
}
