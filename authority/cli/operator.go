package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/console"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/textout"
)

// withOperators opens the authority for a command that changes who uses the console.
func (a *app) withOperators(ctx context.Context, f func(o console.Operators) error) error {
	return a.with(ctx, func(au *server.Authority) error {
		if au.Config.Console.Origin == "" {
			return &Error{Exit: ExitFailed, Text: "there is no console: console.origin is not set", Remedy: "set [console] origin in " + a.config + ", and restart the authority"}
		}
		return f(console.Operators{Store: au.Store, Origin: au.Config.Console.Origin, Now: a.deps.Now})
	})
}

// invited prints an invitation to the console, this once.
func (a *app) invited(name string, i *console.Invitation) {
	// Revealed to whoever gave the command, and to nobody else.
	link := i.URL.Reveal()
	a.result(map[string]any{"operator": name, "url": link, "expires": i.Expires.UTC()}, func(w io.Writer) {
		printf(w, "%s\n\n", link)
		printf(w, "Good once, until %s. Give it to %s and to nobody else: whoever opens it first becomes this operator.\n", textout.When(i.Expires), name)
	})
}

func (a *app) operatorCommand() *cobra.Command {
	var role string
	add := &cobra.Command{
		Use:   "add NAME --role read|helpdesk|admin",
		Short: "add somebody who may use the console, and print a link to set up a passkey",
		Long: `Adds an operator of the console and prints a link, this once, with which they set up a passkey.
There is no password. read sees everything; helpdesk helps people log in; admin also says who
is an operator. The first admin is made here.`,
		Example: "  sallyport-authority operator add maya --role admin",
		Args:    exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if role == "" {
				return badUsage("say what %s may do: --role read, helpdesk or admin", args[0])
			}
			return a.withOperators(cmd.Context(), func(o console.Operators) error {
				i, err := o.Add(cmd.Context(), a.by(), args[0], console.Role(role))
				if errors.Is(err, store.ErrExists) {
					return &Error{Exit: ExitConflict, Text: args[0] + " is an operator already", Remedy: "for another passkey: sallyport-authority operator invite " + args[0]}
				}
				if err != nil {
					return err
				}
				a.invited(args[0], i)
				return nil
			})
		}),
	}
	add.Flags().StringVar(&role, "role", "", "what they may do: `ROLE` is read, helpdesk or admin")
	_ = add.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]cobra.Completion{"read", "helpdesk", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	invite := &cobra.Command{
		Use:   "invite NAME",
		Short: "print a link with which an operator sets up one more passkey",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.withOperators(cmd.Context(), func(o console.Operators) error {
				i, err := o.Invite(cmd.Context(), a.by(), args[0])
				if err != nil {
					return err
				}
				a.invited(args[0], i)
				return nil
			})
		}),
	}
	setRole := &cobra.Command{
		Use:   "role NAME read|helpdesk|admin",
		Short: "change what an operator may do; their sessions end at once",
		Args:  exactly(2),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.withOperators(cmd.Context(), func(o console.Operators) error {
				if err := o.SetRole(cmd.Context(), a.by(), args[0], console.Role(args[1])); err != nil {
					return err
				}
				a.result(map[string]string{"operator": args[0], "role": args[1]}, func(w io.Writer) {
					printf(w, "%s has the role %s; whoever was logged in by that name is not any more.\n", args[0], args[1])
				})
				return nil
			})
		}),
	}
	remove := &cobra.Command{
		Use:   "remove NAME",
		Short: "take the console away from an operator; their sessions end at once",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.withOperators(cmd.Context(), func(o console.Operators) error {
				if err := o.Remove(cmd.Context(), a.by(), args[0]); err != nil {
					return err
				}
				a.result(map[string]string{"removed": args[0]}, func(w io.Writer) { printf(w, "%s is no operator any more.\n", args[0]) })
				return nil
			})
		}),
	}
	type view struct {
		Name     string     `json:"name"`
		Role     string     `json:"role"`
		Passkeys int        `json:"passkeys"`
		Used     *time.Time `json:"used,omitempty"`
		Invited  *time.Time `json:"invited_until,omitempty"`
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "list who may use the console",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				operators, err := console.Operators{Store: au.Store, Now: a.deps.Now}.List(cmd.Context())
				if err != nil {
					return err
				}
				views := []view{}
				for _, o := range operators {
					v := view{Name: o.Name, Role: o.Role, Passkeys: len(o.Keys), Invited: stampJSON(o.Invited)}
					var used time.Time
					for _, k := range o.Keys {
						if k.Used.After(used) {
							used = k.Used
						}
					}
					v.Used = stampJSON(used)
					views = append(views, v)
				}
				a.result(map[string]any{"operators": views}, func(w io.Writer) {
					if len(views) == 0 {
						printf(w, "No operators. Make the first: sallyport-authority operator add NAME --role admin\n")
						return
					}
					rows := [][]string{{"NAME", "ROLE", "PASSKEYS", "LAST LOGIN", "INVITED UNTIL"}}
					for _, v := range views {
						row := []string{v.Name, v.Role, textout.Plural(v.Passkeys, "passkey", "passkeys"), "-", "-"}
						for i, t := range []*time.Time{v.Used, v.Invited} {
							if t != nil {
								row[3+i] = textout.When(*t)
							}
						}
						rows = append(rows, row)
					}
					textout.Table(w, rows)
				})
				return nil
			})
		}),
	}
	return group(&cobra.Command{Use: "operator", Short: "who may use the helpdesk's console"}, add, list, setRole, invite, remove)
}
