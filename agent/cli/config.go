package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"sallyport/internal/config"
	"sallyport/internal/config/configdoc"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) configCommand() *cobra.Command {
	return group(&cobra.Command{Use: "config", Short: "check or show the configuration"},
		a.configCheckCommand(), a.configShowCommand(), a.configDefaultCommand(), a.configSchemaCommand())
}

func (a *app) configDefaultCommand() *cobra.Command {
	return a.generator(&cobra.Command{
		Use:   "default",
		Short: "print a configuration file with every setting commented out",
		Long: `Prints a configuration file in which every setting stands behind a "#", with its
default and what it does.`,
		Example: "  sallyport config default >draft.toml",
	}, func(sys config.System) []byte { return configdoc.DefaultFile(sys, "") })
}

func (a *app) configSchemaCommand() *cobra.Command {
	return a.generator(&cobra.Command{
		Use:   "schema",
		Short: "print the JSON Schema of a configuration file",
		Long: `Prints the JSON Schema (draft 2020-12) of a configuration file, for editors that
complete and check TOML by one, and for what makes such files. It knows keys, types
and bounds; "sallyport config check" knows all.`,
		Example: `  sallyport config schema >sallyport.schema.json
  sed -i '1i #:schema ./sallyport.schema.json' draft.toml`,
	}, configdoc.Schema)
}

// generator prints what is made of the settings of a system.
func (a *app) generator(c *cobra.Command, text func(config.System) []byte) *cobra.Command {
	var system string
	c.Args = cobra.NoArgs
	c.RunE = do(func(*cobra.Command, []string) error {
		sys := config.System(system)
		if !slices.Contains(configdoc.Systems, sys) {
			return badUsage("%q is no system; it must be linux, macos or windows", system)
		}
		if _, err := a.deps.Stdout.Write(text(sys)); err != nil {
			return failed("standard output: %v", err)
		}
		return nil
	})
	c.Flags().StringVar(&system, "system", string(config.Here), "of which `SYSTEM`: linux, macos or windows")
	_ = c.RegisterFlagCompletionFunc("system", cobra.FixedCompletions([]string{"linux", "macos", "windows"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "read a configuration file as the agent would, and say what is wrong",
		Long: `Reads the configuration (or FILE) as the agent would and says what is wrong with
it, where. Works with and without a running agent and changes nothing. FILE may
belong to you; the agent's own must not.`,
		Args: cobra.MaximumNArgs(1),
		RunE: do(func(_ *cobra.Command, args []string) error {
			file := a.config
			if len(args) == 1 {
				file = args[0]
			}
			if a.deps.CheckConfig == nil {
				return failed("this build cannot read configurations")
			}
			checked, err := a.deps.CheckConfig(file, len(args) == 1)
			if err != nil {
				return &Error{Exit: ExitFailed, Text: err.Error(), Remedy: "correct it; a running agent keeps the last good configuration until then"}
			}
			a.result(map[string]any{"file": file, "ok": true, "unknown": append([]string{}, checked.Unknown...)}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s: %s\n", clean(file), a.paint(w).Green("ok"))
				for _, note := range neverDecide(checked.Policy.Rules) {
					_, _ = fmt.Fprintf(w, "%s policy.rules: %s\n", a.paint(w).Yellow("note:"), clean(note))
				}
				for _, unknown := range checked.Unknown {
					_, _ = fmt.Fprintf(w, "%s %s; it is ignored\n", a.paint(w).Yellow("not known:"), clean(unknown))
				}
			})
			return nil
		}),
	}
}

// configView is `config show --json`.
type configView struct {
	Running bool          `json:"running"` // the values are those in force; else what the file says
	Values  []ConfigValue `json:"values"`
	Problem string        `json:"problem,omitempty"`
}

func (a *app) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "show each value in force and where it came from",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			v := configView{Running: true, Values: []ConfigValue{}}
			err := a.call(cmd.Context(), func(ctx context.Context, c *agent) error {
				answer, err := c.ShowConfig(ctx, &adminv1.ShowConfigRequest{})
				for _, value := range answer.GetValues() {
					v.Values = append(v.Values, ConfigValue{value.GetKey(), value.GetValue(), value.GetSource()})
				}
				v.Problem = answer.GetProblem()
				return err
			})
			if isDown(err) && a.deps.CheckConfig != nil {
				down := err
				checked, err := a.deps.CheckConfig(a.config, false)
				if err != nil {
					return &Error{Exit: ExitFailed, Text: err.Error(), Remedy: "the agent is not running either: " + down.Error()}
				}
				v = configView{Values: append(v.Values, checked.Values...), Problem: down.(*Error).Text}
			} else if err != nil {
				return err
			}
			a.result(v, func(w io.Writer) {
				p := a.paint(w)
				if !v.Running {
					_, _ = fmt.Fprintf(w, "# %s\n# this is what the file says\n", p.Yellow(clean(v.Problem)))
				} else if v.Problem != "" {
					_, _ = fmt.Fprintf(w, "# %s\n# the last good configuration stays in force\n", p.Red(clean(v.Problem)))
				}
				rows := make([][]string, len(v.Values))
				for i, value := range v.Values {
					rows[i] = []string{clean(value.Key) + " = " + clean(value.Value), "# " + clean(value.Source)}
				}
				table(w, rows)
			})
			if v.Running && v.Problem != "" {
				return errQuiet(ExitFailed)
			}
			return nil
		}),
	}
}
