package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) recoveryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "recovery USER",
		Short: "make ten new recovery codes; the old ones end",
		Long: `Makes ten new recovery codes for a user and shows them once. Each logs the user
in once when the phone is gone. The user's old recovery codes end.`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			var answer *adminv1.NewRecoveryCodesResponse
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) (err error) {
				answer, err = c.NewRecoveryCodes(ctx, &adminv1.UserRequest{User: args[0]})
				return err
			}); err != nil {
				return err
			}
			v := struct {
				User  string   `json:"user"`
				Codes []string `json:"recovery_codes"`
			}{answer.GetUser(), append([]string{}, answer.GetRecoveryCodes()...)}
			a.result(v, func(w io.Writer) { printRecovery(w, v.User, v.Codes) })
			return nil
		}),
	}
}

// printRecovery shows recovery codes and says what they are for.
func printRecovery(w io.Writer, user string, codes []string) {
	_, _ = fmt.Fprintf(w, "Recovery codes of %s:\n\n", clean(user))
	for i := 0; i < len(codes); i += 2 {
		second := ""
		if i+1 < len(codes) {
			second = "    " + clean(codes[i+1])
		}
		_, _ = fmt.Fprintf(w, "    %s%s\n", clean(codes[i]), second)
	}
	_, _ = fmt.Fprintf(w, `
Each is good once, when the phone is gone: type it where the code is asked for.
Keep them on paper or in a password manager, not on this computer.
They are not shown again; new ones: sallyport recovery %s
`, quoteArg(user))
}
