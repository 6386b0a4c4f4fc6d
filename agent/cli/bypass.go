package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	minValid  = time.Minute
	maxValid  = 7 * 24 * time.Hour
	maxReason = 200
)

// parseFor reads how long something is good for: Go's durations, and days.
func parseFor(s string) (time.Duration, error) {
	var d time.Duration
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 8)
		if err != nil {
			return 0, badUsage("--for %s: not a duration such as 30m, 2h or 3d", clean(s))
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			return 0, badUsage("--for %s: not a duration such as 30m, 2h or 3d", clean(s))
		}
	}
	if d < minValid || d > maxValid {
		return 0, badUsage("--for %s: from 1m to 7d", clean(s))
	}
	return d, nil
}

func (a *app) bypassCommand() *cobra.Command {
	var valid, reason string
	c := &cobra.Command{
		Use:   "bypass USER --reason TEXT",
		Short: "make one code to read out to a user who has no phone today",
		Long: `Makes one code for the helpdesk to read out. It stands in for the second factor
once, until it expires; who made it, for whom and why is an event. Make sure
first that the person is who they say they are.`,
		Example:           `  sallyport bypass alice --for 1h --reason "phone at home, ticket 4711"`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			d, err := parseFor(valid)
			if err != nil {
				return err
			}
			reason = strings.TrimSpace(reason)
			if n := utf8.RuneCountInString(reason); n == 0 || n > maxReason {
				return badUsage("--reason: say why, in 1 to %d characters: it stays with the event", maxReason)
			}
			var answer *adminv1.CreateBypassResponse
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) (err error) {
				answer, err = c.CreateBypass(ctx, &adminv1.CreateBypassRequest{User: args[0], ValidFor: durationpb.New(d), Reason: reason})
				return err
			}); err != nil {
				return err
			}
			v := struct {
				User    string     `json:"user"`
				Code    string     `json:"code"`
				Expires *time.Time `json:"expires"`
			}{answer.GetUser(), answer.GetCode(), stampJSON(answer.GetExpires())}
			a.result(v, func(w io.Writer) {
				p := a.paint(w)
				_, _ = fmt.Fprintf(w, "Bypass code for %s: %s\n", clean(v.User), p.Bold(clean(v.Code)))
				_, _ = fmt.Fprintf(w, "Good once, until %s. Read it out; it is not shown again.\n", when(*orZero(v.Expires)))
			})
			return nil
		}),
	}
	c.Flags().StringVar(&valid, "for", "1h", "how long it is good: `DURATION` such as 30m, 2h or 3d, at most 7d")
	c.Flags().StringVar(&reason, "reason", "", "why, for the event (`TEXT`, required)")
	return c
}
