package cli

import "github.com/spf13/cobra"

func (a *app) tryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "try USER",
		Short: "run one login (on Linux only)",
		RunE: do(func(*cobra.Command, []string) error {
			return &Error{Exit: ExitUsage, Text: "a login cannot be tried from the command line on Windows: only the sign-in screen runs credential providers",
				Remedy: "lock this computer (Windows+L) and unlock it; before that: sallyport doctor, and have a break-glass account"}
		}),
	}
}
