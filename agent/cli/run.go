package cli

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	var service bool
	c := &cobra.Command{
		Use:   "run",
		Short: "run the agent (the service itself)",
		Long: `Runs the agent in the foreground until SIGTERM or SIGINT. With state_dir and
runtime_dir in the configuration it also runs unprivileged, for its own user.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if a.deps.Run == nil {
				return failed("this build has no agent in it")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.deps.Run(ctx, a.target(), service)
		}),
	}
	c.Flags().BoolVar(&service, "service", false, "started by the system's service manager")
	return c
}
