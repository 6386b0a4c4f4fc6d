package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) clockCommand() *cobra.Command {
	var yes bool
	reset := &cobra.Command{
		Use:   "reset",
		Short: "forget the highest time ever seen, when that was wrong",
		Long: `The agent counts from the highest time it ever saw, so that a clock that is set
back gives no code a second life. When the clock once ran far ahead by mistake,
codes are refused until that time comes; this makes the present time the highest.
Check first that the clock is right now.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if a.deps.IsTTY(a.deps.Stdin) {
				if err := a.confirm(yes, fmt.Sprintf("Is %s the right time?", when(a.deps.Now()))); err != nil {
					return err
				}
			}
			var answer *adminv1.ResetClockResponse
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) (err error) {
				answer, err = c.ResetClock(ctx, &adminv1.ResetClockRequest{})
				return err
			}); err != nil {
				return err
			}
			a.result(map[string]*time.Time{"now": stampJSON(answer.GetNow())}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "The agent counts from %s on.\n", when(stamp(answer.GetNow())))
			})
			return nil
		}),
	}
	reset.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return group(&cobra.Command{Use: "clock", Short: "what the agent remembers of the time"}, reset)
}
