package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "write the manual pages into a directory",
		Args:  cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return failed("%v", err)
			}
			written := []string{}
			var pages func(c *cobra.Command) error
			pages = func(c *cobra.Command) error {
				if c.Hidden {
					return nil
				}
				file := filepath.Join(args[0], strings.ReplaceAll(c.CommandPath(), " ", "-")+".1")
				if err := os.WriteFile(file, []byte(manPage(c, a.deps.Version)), 0o644); err != nil {
					return failed("%v", err)
				}
				written = append(written, file)
				for _, child := range c.Commands() {
					if err := pages(child); err != nil {
						return err
					}
				}
				return nil
			}
			if err := pages(cmd.Root()); err != nil {
				return err
			}
			a.result(map[string][]string{"written": written}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s in %s\n", plural(len(written), "page", "pages"), clean(args[0]))
			})
			return nil
		}),
	}
}

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

// manPage is a command's page in section 1, made of the same texts as its help.
func manPage(c *cobra.Command, version string) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	verbatim := func(s string) { fmt.Fprintf(&b, ".nf\n%s\n.fi\n", roff(strings.TrimRight(s, "\n"))) }
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"sallyport %s\" \"Sallyport\"\n", strings.ToUpper(roff(name)), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
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
		verbatim(strings.TrimPrefix(exitTable(), "Exit status:\n"))
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(strings.ReplaceAll(c.Parent().CommandPath(), " ", "-")))
	}
	return b.String()
}
