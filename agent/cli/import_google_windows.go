package cli

import "github.com/spf13/cobra"

func (a *app) importGoogleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "google-authenticator",
		Short: "take over ~/.google_authenticator files (on Linux only)",
		RunE: do(func(*cobra.Command, []string) error {
			return badUsage("there are no ~/.google_authenticator files on Windows: pam_google_authenticator is for Linux")
		}),
	}
}
