// Package command is what the command lines of the two programs have in common:
// the exit codes, the errors that carry them, JSON, colours, and the commands that
// every program has.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/textout"
)

// The exit codes. They are stable: scripts and monitoring match on them.
const (
	ExitOK         = 0
	ExitFailed     = 1
	ExitNotRunning = 2
	ExitDenied     = 3
	ExitNotFound   = 4
	ExitUsage      = 5
	ExitConflict   = 6

	exitCodes = 7
)

// names are the "code" of a JSON error, by exit code.
var names = [exitCodes]string{"ok", "failed", "not_running", "not_permitted", "not_found", "bad_usage", "conflict"}

// ExitName is the name of an exit code in a JSON error.
func ExitName(code int) string {
	if code < 0 || code >= exitCodes {
		return names[ExitFailed]
	}
	return names[code]
}

// ExitTexts say what each exit code of a program means, by code.
type ExitTexts [exitCodes]string

// Table is the list of them, for the help and the manual pages.
func (t ExitTexts) Table() string {
	var b strings.Builder
	for code, text := range t {
		fmt.Fprintf(&b, "  %d  %s\n", code, text)
	}
	return b.String()
}

// Error is what a command ends with when it fails: an exit code, what went wrong,
// and what to do about it.
type Error struct {
	Exit   int
	Text   string
	Remedy string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + "\n" + e.Remedy
}

// BadUsage is an error of whoever typed the command.
func BadUsage(format string, args ...any) *Error {
	return &Error{Exit: ExitUsage, Text: fmt.Sprintf(format, args...)}
}

// Quiet ends a command with an exit code when the output has said it all.
type Quiet int

func (q Quiet) Error() string { return ExitName(int(q)) }

// RunE is what cobra runs.
type RunE = func(cmd *cobra.Command, args []string) error

// Do adapts a command's function: what is not an Error yet becomes one by
// classify, so that only cobra's own errors count as bad usage.
func Do(classify func(error) *Error, f RunE) RunE {
	return func(cmd *cobra.Command, args []string) error {
		err := f(cmd, args)
		var e *Error
		var quiet Quiet
		if err == nil || errors.As(err, &e) || errors.As(err, &quiet) {
			return err
		}
		return classify(err)
	}
}

// Execute runs one command line. It returns the exit code and, unless that says
// all, the error to print.
func Execute(ctx context.Context, root *cobra.Command, args []string) (exit int, e *Error) {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var quiet Quiet
	switch {
	case err == nil:
		return ExitOK, nil
	case errors.As(err, &quiet):
		return int(quiet), nil
	case !errors.As(err, &e):
		// Only cobra's own errors are left: an unknown command or flag, a wrong number
		// of arguments.
		e = &Error{Exit: ExitUsage, Text: err.Error(), Remedy: "see: " + root.Name() + " help"}
	}
	return e.Exit, e
}

// WantsJSON says whether --json is among the arguments: where the flags did not
// parse, it may not have been reached.
func WantsJSON(args []string) bool {
	for _, s := range args {
		switch s {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

// Print writes the error of a program: an object with asJSON, else for people.
func (e *Error) Print(w io.Writer, program string, asJSON bool, p Painter) {
	if asJSON {
		type body struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Remedy  string `json:"remedy,omitempty"`
		}
		WriteJSON(w, map[string]body{"error": {ExitName(e.Exit), e.Text, e.Remedy}})
		return
	}
	_, _ = fmt.Fprintf(w, "%s %s\n", p.Red(program+":"), textout.CleanLines(e.Text))
	if e.Remedy != "" {
		_, _ = fmt.Fprintf(w, "  %s\n", textout.CleanLines(e.Remedy))
	}
}

// WriteJSON writes v as one line. What the commands print always marshals.
func WriteJSON(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// Painter colours words, or not.
type Painter struct{ on bool }

// Paint returns the painter of a stream: only a terminal gets colours, and only
// when NO_COLOR is unset or empty (no-color.org) and the terminal is no dumb one.
func Paint(terminal bool, getenv func(string) string) Painter {
	return Painter{terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

// SGR wraps s in a "select graphic rendition" sequence (ECMA-48).
func (p Painter) SGR(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Red is for what failed.
func (p Painter) Red(s string) string { return p.SGR("31", s) }

// Green is for what is well.
func (p Painter) Green(s string) string { return p.SGR("32", s) }

// Yellow is for what needs attention.
func (p Painter) Yellow(s string) string { return p.SGR("33", s) }

// Bold is for what to look at first.
func (p Painter) Bold(s string) string { return p.SGR("1", s) }

// Group makes c a command that only holds others.
func Group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.AddCommand(children...)
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		names := make([]string, len(children))
		for i, child := range children {
			names[i] = child.Name()
		}
		want := strings.Join(names, ", ")
		if len(args) > 0 {
			return BadUsage("%s: there is no %q, only: %s", cmd.CommandPath(), args[0], want)
		}
		return BadUsage("%s: say which: %s", cmd.CommandPath(), want)
	}
	return c
}

// Completion is the command that prints the completion script of a shell.
func Completion(program string) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "print the completion script of a shell",
		Example:   "  " + program + " completion bash > /etc/bash_completion.d/" + program,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			root, w := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				err = root.GenBashCompletionV2(w, true)
			case "zsh":
				err = root.GenZshCompletion(w)
			case "fish":
				err = root.GenFishCompletion(w, true)
			default:
				err = root.GenPowerShellCompletionWithDesc(w)
			}
			if err != nil {
				return &Error{Exit: ExitFailed, Text: err.Error()}
			}
			return nil
		},
	}
}

// Version is the command that says which version the program is; result prints,
// as JSON or as text.
func Version(program, version string, result func(v any, text func(w io.Writer))) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "say which version this program is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			result(map[string]string{"version": version, "go": runtime.Version(), "platform": platform}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s %s (%s, %s)\n", program, version, platform, runtime.Version())
			})
			return nil
		},
	}
}
