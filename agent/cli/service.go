package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"sallyport/pam/sudolocal"
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

// noRights: as long as macOS's rights or sudo ask for the agent, nobody gets in
// without it.
func (a *app) noRights(ctx context.Context) error {
	refused := func(remedy, format string, args ...any) error {
		return &Error{Exit: ExitFailed, Text: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	if r, _ := a.rights(); r != nil {
		if result, _ := r.PlanRemove(ctx); len(result.Changed) > 0 {
			return refused("first: sudo sallyport authdb remove", "the login rights ask for the agent: without it nobody gets in but by break-glass")
		}
	}
	const first = "first: sudo sallyport sudo remove"
	s, err := sudolocal.Look(func(name string) ([]byte, error) { return fs.ReadFile(a.deps.Root, name) })
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return refused(first, "whether sudo asks for the agent cannot be told: %v", err)
	case s.Names:
		return refused(first, "sudo asks for the agent: without it sudo lets nobody in")
	}
	return nil
}
