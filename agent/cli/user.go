package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/wrapperspb"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// userView is one user as the commands print it with --json.
type userView struct {
	Name          string     `json:"name"`
	Key           string     `json:"key"`
	Resolves      bool       `json:"resolves"`
	TOTP          bool       `json:"totp"`
	Algorithm     string     `json:"algorithm,omitempty"`
	Digits        int32      `json:"digits,omitempty"`
	PeriodSeconds int32      `json:"period_seconds,omitempty"`
	DriftSteps    int32      `json:"drift_steps"`
	RecoveryLeft  int32      `json:"recovery_left"`
	BypassUntil   *time.Time `json:"bypass_until,omitempty"`
	Failures      int32      `json:"failures"`
	Locked        bool       `json:"locked"`
	LockedSeconds float64    `json:"locked_seconds"`
	OfflineReady  bool       `json:"offline_ready"`
	// Logins without contact to the authority, and what is left; see policy.offline.
	OfflineLogins  uint32     `json:"offline_logins"`
	OfflineLeft    *uint32    `json:"offline_left,omitempty"` // absent: not limited
	OfflineReached bool       `json:"offline_reached"`
	Enrolled       *time.Time `json:"enrolled,omitempty"`
	LastSuccess    *time.Time `json:"last_success,omitempty"`
	Asked          string     `json:"asked"`
	EnrolmentOpen  bool       `json:"enrolment_open"`
	// Phones and how push stands; see push.go.
	Phones            []phoneView `json:"phones"`
	PushState         string      `json:"push_state,omitempty"`
	PushReady         bool        `json:"push_ready"`
	PushReported      bool        `json:"push_reported"`
	PushPausedSeconds float64     `json:"push_paused_seconds"`
	lockedDuration    time.Duration
	pausedDuration    time.Duration
}

type pendingView struct {
	Name     string     `json:"name"`
	Source   string     `json:"source"`
	Imported *time.Time `json:"imported,omitempty"`
}

func newUserView(u *adminv1.User) userView {
	d, paused := u.GetLockedFor().AsDuration(), u.GetPushPausedFor().AsDuration()
	return userView{Name: u.GetName(), Key: u.GetKey(), Resolves: u.GetResolves(), TOTP: u.GetTotp(),
		Algorithm: u.GetAlgorithm(), Digits: u.GetDigits(), PeriodSeconds: u.GetPeriodSeconds(),
		DriftSteps: u.GetDriftSteps(), RecoveryLeft: u.GetRecoveryLeft(), BypassUntil: stampJSON(u.GetBypassUntil()),
		Failures: u.GetFailures(), Locked: u.GetLocked(), LockedSeconds: d.Seconds(), lockedDuration: d,
		OfflineReady: u.GetOfflineReady(), OfflineLogins: u.GetOfflineLogins(), OfflineLeft: left(u.GetOfflineLeft()), OfflineReached: u.GetOfflineReached(), Enrolled: stampJSON(u.GetEnrolled()), LastSuccess: stampJSON(u.GetLastSuccess()),
		Asked: u.GetAsked(), EnrolmentOpen: u.GetEnrolmentOpen(),
		Phones: newPhoneViews(u.GetPhones()), PushState: u.GetPushState(), PushReady: u.GetPushReady(), PushReported: u.GetPushReported(),
		PushPausedSeconds: paused.Seconds(), pausedDuration: paused}
}

func left(n *wrapperspb.UInt32Value) *uint32 {
	if n == nil {
		return nil
	}
	return &n.Value
}

// offline is whether the person can log in without a network.
func (u userView) offline() string {
	switch {
	case u.OfflineReached:
		return "no code is taken: offline_limit; the helpdesk can answer the challenge that the prompt shows"
	case !u.OfflineReady:
		return "not ready"
	case u.OfflineLeft != nil:
		return fmt.Sprintf("ready: can log in without a network, %s left", plural(int(*u.OfflineLeft), "time", "times"))
	}
	return "ready: can log in without a network"
}

func (a *app) userCommand() *cobra.Command {
	return group(&cobra.Command{Use: "user", Aliases: []string{"users"}, Short: "list, show or remove enrolled users"},
		a.userListCommand(), a.userShowCommand(), a.userRemoveCommand())
}

func (a *app) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list who is enrolled, and imported names that do not resolve yet",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			var answer *adminv1.ListUsersResponse
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) (err error) {
				answer, err = c.ListUsers(ctx, &adminv1.ListUsersRequest{})
				return err
			}); err != nil {
				return err
			}
			list := struct {
				Users   []userView    `json:"users"`
				Pending []pendingView `json:"pending"`
			}{[]userView{}, []pendingView{}}
			for _, u := range answer.GetUsers() {
				list.Users = append(list.Users, newUserView(u))
			}
			slices.SortStableFunc(list.Users, func(x, y userView) int { return strings.Compare(x.Name, y.Name) })
			for _, p := range answer.GetPending() {
				list.Pending = append(list.Pending, pendingView{p.GetName(), p.GetSource(), stampJSON(p.GetImported())})
			}
			a.result(list, func(w io.Writer) { printUsers(w, list.Users, list.Pending) })
			return nil
		}),
	}
}

func printUsers(w io.Writer, users []userView, pending []pendingView) {
	if len(users) == 0 && len(pending) == 0 {
		_, _ = fmt.Fprintln(w, "nobody is enrolled; enrol somebody: sallyport enroll USER")
		return
	}
	if len(users) > 0 {
		rows := [][]string{{"USER", "KEY", "CODE", "PUSH", "RECOVERY", "OFFLINE", "STATE", "LAST LOGIN"}}
		for _, u := range users {
			code := "-"
			if u.TOTP {
				code = fmt.Sprintf("%s/%d", clean(u.Algorithm), u.Digits)
			}
			rows = append(rows, []string{clean(u.Name), clean(u.Key), code, pushWord(u), fmt.Sprint(u.RecoveryLeft),
				yesNo(u.OfflineReady), userState(u), when(*orZero(u.LastSuccess))})
		}
		table(w, rows)
	}
	for _, p := range pending {
		_, _ = fmt.Fprintf(w, "pending: %s (from %s, %s): no such user on this computer yet\n", clean(p.Name), clean(p.Source),
			when(*orZero(p.Imported)))
	}
}

func userState(u userView) string {
	var s []string
	if u.Locked {
		s = append(s, "locked "+howLong(u.lockedDuration))
	}
	if !u.Resolves {
		s = append(s, "no such account")
	}
	if u.BypassUntil != nil {
		s = append(s, "bypass")
	}
	if u.EnrolmentOpen {
		s = append(s, "may enrol")
	}
	if len(s) == 0 {
		return "ok"
	}
	return strings.Join(s, ", ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) userShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show USER",
		Short:             "show what is known of one user",
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			u, err := a.userCall(cmd.Context(), args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
				return c.ShowUser(ctx, r)
			})
			if err != nil {
				return err
			}
			a.result(u, func(w io.Writer) { printUser(w, u) })
			return nil
		}),
	}
}

func (a *app) userCall(ctx context.Context, name string,
	f func(context.Context, *agent, *adminv1.UserRequest) (*adminv1.User, error)) (userView, error) {
	var u *adminv1.User
	err := a.call(ctx, func(ctx context.Context, c *agent) (err error) {
		u, err = f(ctx, c, &adminv1.UserRequest{User: name})
		return err
	})
	if err != nil {
		return userView{}, err
	}
	return newUserView(u), nil
}

func printUser(w io.Writer, u userView) {
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "  %-12s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	_, _ = fmt.Fprintf(w, "%s (%s)\n", clean(u.Name), clean(u.Key))
	if !u.Resolves {
		line("account", "there is no such account on this computer now")
	}
	line("asked", "%s", u.Asked)
	if u.TOTP {
		line("code", "%s, %d digits, %d s, drift %+d steps", u.Algorithm, u.Digits, u.PeriodSeconds, u.DriftSteps)
	} else {
		line("code", "not enrolled")
	}
	line("push", "%s", pushText(u))
	for _, p := range u.Phones {
		line("phone", "%s", p.text())
	}
	line("recovery", "%s left", plural(int(u.RecoveryLeft), "code", "codes"))
	line("offline", "%s", u.offline())
	if u.BypassUntil != nil {
		line("bypass", "one code, until %s", when(*u.BypassUntil))
	}
	if u.EnrolmentOpen {
		line("enrolment", "open: may enrol at the login")
	}
	if u.Locked {
		line("locked", "for another %s; end it: sallyport unlock %s", howLong(u.lockedDuration), quoteArg(u.Name))
	} else {
		line("locked", "no")
	}
	line("failures", "%d in a row", u.Failures)
	line("enrolled", "%s", when(*orZero(u.Enrolled)))
	line("last login", "%s", when(*orZero(u.LastSuccess)))
}

func (a *app) userRemoveCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:               "remove USER",
		Aliases:           []string{"rm"},
		Short:             "forget a user's secret, codes and phones",
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if a.deps.IsTTY(a.deps.Stdin) {
				if err := a.confirm(yes, fmt.Sprintf("Forget the secret, the recovery codes and the phones of %s?", clean(args[0]))); err != nil {
					return err
				}
			}
			u, err := a.userCall(cmd.Context(), args[0], func(ctx context.Context, c *agent, r *adminv1.UserRequest) (*adminv1.User, error) {
				return c.RemoveUser(ctx, r)
			})
			if err != nil {
				return err
			}
			a.result(map[string]string{"removed": u.Name, "key": u.Key}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s is no longer enrolled.\n", clean(u.Name))
			})
			return nil
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
