package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) enrolmentCommand() *cobra.Command {
	return group(&cobra.Command{Use: "enrolment", Aliases: []string{"enrollment"},
		Short: "let a user enrol at the login, or stop that"},
		a.enrolmentOpenCommand(), a.enrolmentCloseCommand())
}

// windowView is `enrolment open --json` and `enrolment close --json`.
type windowView struct {
	User    string     `json:"user"`
	Open    bool       `json:"open"`
	Code    string     `json:"code,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
}

func (a *app) enrolmentOpenCommand() *cobra.Command {
	var valid string
	var withCode bool
	c := &cobra.Command{
		Use:   "open USER",
		Short: "let a user enrol at the next login",
		Long: `Lets a user who is required to have a second factor, and has none, enrol at the
login: whoever knows the password can then do so until the window ends. --code
makes a one-time code that has to be typed first: read it out to the right person.`,
		Example:           `  sallyport enrolment open alice --for 2h --code`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			d, err := parseFor(valid)
			if err != nil {
				return err
			}
			v, err := a.enrolmentWindow(cmd.Context(), &adminv1.OpenEnrolmentRequest{User: args[0], ValidFor: durationpb.New(d), WithCode: withCode})
			if err != nil {
				return err
			}
			v.Open = true
			a.result(v, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s may enrol at the login until %s.\n", clean(v.User), when(*orZero(v.Expires)))
				if v.Code != "" {
					_, _ = fmt.Fprintf(w, "One-time code to read out: %s\n", a.paint(w).Bold(clean(v.Code)))
				}
			})
			return nil
		}),
	}
	c.Flags().StringVar(&valid, "for", "2h", "how long: `DURATION` such as 30m, 2h or 3d, at most 7d")
	c.Flags().BoolVar(&withCode, "code", false, "ask for a one-time code first")
	return c
}

func (a *app) enrolmentCloseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "close USER",
		Short:             "end an open window and its code",
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			v, err := a.enrolmentWindow(cmd.Context(), &adminv1.OpenEnrolmentRequest{User: args[0], Close: true})
			if err != nil {
				return err
			}
			v.Expires, v.Code = nil, ""
			a.result(v, func(w io.Writer) { _, _ = fmt.Fprintf(w, "%s may not enrol at the login.\n", clean(v.User)) })
			return nil
		}),
	}
}

func (a *app) enrolmentWindow(ctx context.Context, r *adminv1.OpenEnrolmentRequest) (v windowView, err error) {
	err = a.call(ctx, func(ctx context.Context, c *agent) error {
		answer, err := c.OpenEnrolment(ctx, r)
		v = windowView{User: answer.GetUser(), Code: answer.GetCode(), Expires: stampJSON(answer.GetExpires())}
		return err
	})
	return v, err
}
