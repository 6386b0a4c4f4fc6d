package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) serviceCommand() *cobra.Command {
	actions := []struct{ name, short string }{
		{"install", "register the agent with the system's service manager"},
		{"uninstall", "take it out again"},
		{"start", "start the agent"},
		{"stop", "stop the agent: whoever is asked for a code cannot log in until it runs again"},
		{"restart", "stop and start it"},
		{"status", "say what the service manager thinks of it"},
	}
	var children []*cobra.Command
	for _, action := range actions {
		children = append(children, &cobra.Command{
			Use:   action.name,
			Short: action.short,
			Args:  cobra.NoArgs,
			RunE: do(func(cmd *cobra.Command, _ []string) error {
				if a.deps.Service == nil {
					return failed("this build cannot manage services")
				}
				if action.name == "uninstall" && a.deps.Rights != nil {
					if err := a.noRights(cmd.Context()); err != nil {
						return err
					}
				}
				text, err := a.deps.Service(action.name, a.target())
				if err != nil {
					return err
				}
				a.result(map[string]string{"action": action.name, "result": text}, func(w io.Writer) {
					_, _ = fmt.Fprintln(w, clean(text))
				})
				return nil
			}),
		})
	}
	return group(&cobra.Command{Use: "service", Short: "install, start and stop the agent as a service",
		Long: `Manages the agent as a service. What a package or an installer registers is the
better one. To install and uninstall is for a system without.`}, children...)
}

// noRights: as long as macOS's rights ask for the agent, nobody gets in without it.
func (a *app) noRights(ctx context.Context) error {
	r, _ := a.rights()
	if r == nil {
		return nil
	}
	if result, _ := r.PlanRemove(ctx); len(result.Changed) > 0 {
		return &Error{Exit: ExitFailed, Text: "the login rights ask for the agent: without it nobody gets in but by break-glass", Remedy: "first: sudo sallyport authdb remove"}
	}
	return nil
}
