package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) unlockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unlock USER",
		Short: "end a user's lockout after too many wrong codes",
		Long: `Ends a user's lockout after too many wrong codes. Push has a lock of its own,
after "This wasn't me" on the phone or too many requests that were not answered:
sallyport push clear USER.`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			u, err := a.userCall(cmd.Context(), args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
				return c.Unlock(ctx, r)
			})
			if err != nil {
				return err
			}
			a.result(u, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s can use codes again.\n", clean(u.Name))
				if u.PushState == "reported" || u.PushState == "paused" {
					_, _ = fmt.Fprintf(w, "Push is not part of this: it is %s\n", pushText(u))
				}
			})
			return nil
		}),
	}
}
