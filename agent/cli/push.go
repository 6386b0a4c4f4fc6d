package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// phoneView is one phone as the commands print it with --json.
type phoneView struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Source string `json:"source"` // "here" or "authority"
	Synced bool   `json:"synced"`
}

// phoneHere is the source of a phone that was enrolled at this computer.
const phoneHere = "here"

func newPhoneViews(phones []*adminv1.Phone) []phoneView {
	out := []phoneView{}
	for _, p := range phones {
		out = append(out, phoneView{p.GetId(), p.GetName(), p.GetSource(), p.GetSynced()})
	}
	return out
}

func (p phoneView) text() string {
	where := "enrolled here"
	if p.Source != phoneHere {
		where = "enrolled at the authority, for every computer"
	}
	if p.Synced {
		where += "; synced passkey"
	}
	return fmt.Sprintf("%s  %s (%s)", p.ID, p.Name, where)
}

// pushText says for people how a user's push stands.
func pushText(u userView) string {
	name := quoteArg(u.Name)
	switch u.PushState {
	case "ready":
		return "ready"
	case "no_phone":
		return "no phone"
	case "no_code":
		return "not used: nobody is push-only; codes first: sallyport enroll " + name
	case "reported":
		return "locked: a login was reported as not theirs; clear it with: sallyport push clear " + name
	case "paused":
		return fmt.Sprintf("paused for another %s (denied or not answered); end it: sallyport push clear %s", howLong(u.pausedDuration), name)
	case "too_many":
		return "not now: one is pending, or there were too many within the hour"
	case "not_joined":
		return "not now: this computer has joined no authority"
	case "not_connected":
		return "not now: the authority is not connected; see: sallyport status"
	case "not_allowed":
		return "no: the authority does not list them for this computer"
	case "off":
		return "off: the configuration has push.enabled = false"
	case "":
		return "unknown" // of an agent that is older
	}
	return u.PushState
}

// pushWord is pushText for a table.
func pushWord(u userView) string {
	switch u.PushState {
	case "ready", "reported", "off":
		return u.PushState
	case "paused":
		return "paused " + howLong(u.pausedDuration)
	case "no_phone", "":
		return "-"
	case "no_code":
		return "no code"
	}
	return "not now"
}

func (a *app) pushCommand() *cobra.Command {
	return group(&cobra.Command{Use: "push", Short: "approvals on a phone"}, a.pushClearCommand())
}

func (a *app) pushClearCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clear USER",
		Short: `switch a user's push on again after "This wasn't me", or end a pause`,
		Long: `Switches a user's push on again: after "This wasn't me" on the phone, where nothing
else ends it, and after too many requests that were denied or not answered, where
it would come back by itself.

"This wasn't me" means that somebody knows the password: ask the person, have the
password changed, and look at the events first.

The authority counts for itself, so that a computer that was broken into cannot ring
phones without end: sallyport-authority user clear USER.`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			u, err := a.userCall(cmd.Context(), args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
				return c.ClearPush(ctx, r)
			})
			if err != nil {
				return err
			}
			a.result(u, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "Push of %s: %s\nThe authority counts as well; there: sallyport-authority user clear %s\n", clean(u.Name), clean(pushText(u)), quoteArg(u.Name))
			})
			return nil
		}),
	}
}

func (a *app) phonesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "phones USER",
		Aliases: []string{"phone"},
		Short:   "list the phones that may approve a user's logins, or remove one",
		Long: `Lists the phones that may approve a user's logins at this computer, and where each
was enrolled. Only those enrolled here can be removed here.`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			u, err := a.userCall(cmd.Context(), args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
				return c.ShowUser(ctx, r)
			})
			if err != nil {
				return err
			}
			a.printPhones(u)
			return nil
		}),
	}
	c.AddCommand(a.phonesRemoveCommand())
	return c
}

// printPhones prints `phones` and `phones remove`.
func (a *app) printPhones(u userView) {
	v := struct {
		User      string      `json:"user"`
		PushState string      `json:"push_state"`
		Phones    []phoneView `json:"phones"`
	}{u.Name, u.PushState, u.Phones}
	a.result(v, func(w io.Writer) {
		if len(u.Phones) == 0 {
			_, _ = fmt.Fprintf(w, "%s has no phone; enrol one: sallyport enroll %s --push\n", clean(u.Name), quoteArg(u.Name))
			return
		}
		for _, p := range u.Phones {
			_, _ = fmt.Fprintln(w, clean(p.text()))
		}
		_, _ = fmt.Fprintf(w, "push: %s\n", clean(pushText(u)))
	})
}

func (a *app) phonesRemoveCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "remove USER PHONE",
		Aliases: []string{"rm"},
		Short:   "forget a phone that was enrolled here, by its id or name",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return badUsage("%s: say whose phone and which: %s", cmd.CommandPath(), cmd.UseLine())
			}
			return validUser(args[0])
		},
		ValidArgsFunction: a.completePhone,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if a.deps.IsTTY(a.deps.Stdin) {
				if err := a.confirm(yes, fmt.Sprintf("Forget the phone %s of %s?", clean(args[1]), clean(args[0]))); err != nil {
					return err
				}
			}
			u, err := a.userCall(cmd.Context(), args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
				return c.RemovePhone(ctx, &adminv1.RemovePhoneRequest{User: r.GetUser(), Phone: args[1]})
			})
			if err != nil {
				return err
			}
			if !a.json {
				_, _ = fmt.Fprintf(a.deps.Stdout, "Forgotten. From now on that phone approves nothing here.\n")
			}
			a.printPhones(u)
			return nil
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// errWithdrawn ends an enrolment that was given up at this end.
var errWithdrawn = &Error{Exit: ExitFailed, Text: "withdrawn: the link is worth nothing any more"}

// enrollPush shows the link and waits for the phone. Whoever goes away withdraws
// the link: the agent sees the call end.
func (a *app) enrollPush(ctx context.Context, request *adminv1.EnrolPushRequest, showQR bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	// The link comes at once, or the agent does not answer; the phone has its time.
	callCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(a.deps.CallTimeout, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	fail := func(err error) error {
		switch {
		case ctx.Err() != nil:
			return errWithdrawn
		case errors.Is(context.Cause(callCtx), context.DeadlineExceeded):
			err = status.FromContextError(context.DeadlineExceeded).Err()
		case errors.Is(err, io.EOF):
			err = status.Error(codes.Internal, "the agent ended the enrolment without a phone")
		}
		return fromAgent(err, c.socket)
	}
	stream, err := c.EnrolPush(callCtx, request)
	if err != nil {
		return fail(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return fail(err)
	}
	late.Stop()
	a.result(struct {
		User    string     `json:"user"`
		URL     string     `json:"url"`
		Expires *time.Time `json:"expires"`
	}{request.GetUser(), first.GetUrl(), stampJSON(first.GetExpires())}, func(w io.Writer) {
		a.showQR(w, request.GetUser(), first.GetUrl(), showQR)
		_, _ = fmt.Fprintf(w, "Link (keep it secret; whoever opens it first has it):\n%s\n\n", clean(first.GetUrl()))
		_, _ = fmt.Fprintf(w, "Waiting for the phone until %s. Ctrl-C withdraws the link.\n", when(stamp(first.GetExpires())))
	})
	second, err := stream.Recv()
	if err != nil {
		return fail(err)
	}
	if second.GetPhone() == nil {
		return fail(io.EOF)
	}
	v := newPhoneViews([]*adminv1.Phone{second.GetPhone()})[0]
	a.result(struct {
		User  string    `json:"user"`
		Phone phoneView `json:"phone"`
	}{request.GetUser(), v}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "Enrolled: %s\nFrom now on a login of %s here rings this phone; codes go on working.\n", clean(v.text()), clean(request.GetUser()))
	})
	return nil
}
