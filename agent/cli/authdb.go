package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authplugin/authdb"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// rightsView is `authdb install` and `authdb remove` with --json.
type rightsView struct {
	authdb.Result
	DryRun bool `json:"dry_run,omitempty"`
	// Refused says why the real run would change nothing of it.
	Refused string `json:"refused,omitempty"`
}

func (a *app) authdbCommand() *cobra.Command {
	return group(&cobra.Command{Use: "authdb", Short: "which logins of macOS ask for a second factor: the rights database",
		Long: `Puts Sallyport's mechanisms into macOS's rights database, takes them out, or says
how they are. Which logins are guarded is the configuration's: authorization_plugin.`},
		a.authdbInstallCommand(), a.authdbRemoveCommand(), a.authdbCheckCommand(), a.placeCommand(), a.dryLoadCommand())
}

// rights is the computer's rights database. With a configuration that cannot be read
// there is one all the same, to take ours out.
func (a *app) rights() (*authdb.Rights, error) {
	r, err := a.deps.Rights(a.config)
	if r != nil && r.Answers == nil {
		r.Answers, r.Patience = a.answersLogins, 30*time.Second
	}
	return r, err
}

// answersLogins says whether a login would be answered now, by an agent of this version.
func (a *app) answersLogins(ctx context.Context) error {
	return a.call(ctx, func(ctx context.Context, c *agent) error {
		s, err := c.Status(ctx, &adminv1.StatusRequest{})
		switch {
		case err != nil:
			return err
		case s.GetVersion() != a.deps.Version:
			return failed("the agent that answers is version %s, not %s", clean(s.GetVersion()), a.deps.Version)
		case s.GetVault().GetState() != "open":
			return failed("the agent's vault is not open (%s): it refuses every login", clean(s.GetVault().GetState()))
		}
		socket := s.GetLoginSocket()
		if socket == "" {
			socket = filepath.Join(a.socketDir(), localsock.LoginName)
		}
		login, err := dialChecked(ctx, socket)
		if err != nil {
			return err
		}
		return login.Close()
	})
}

func (a *app) authdbInstallCommand() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "install",
		Short: "guard what is configured: put the mechanisms into the rights",
		Long: `Puts the mechanisms into the rights that are to be guarded, and takes them out of
those that are not to be. Nothing is changed unless the agent answers and the plug-in
is whole, signed, and loads; what does not come out as intended is put back. A second
time it changes nothing.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			r, err := a.rights()
			if err != nil {
				return failed("the configuration does not say what to guard: %v", err)
			}
			if dry {
				result, err := r.PlanInstall(cmd.Context())
				a.printRights(rightsView{Result: result, DryRun: true, Refused: textOf(err)}, "nothing would change: the rights are as configured already")
				if err != nil {
					return errQuiet(ExitFailed)
				}
				return nil
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			result, err := r.Install(ctx)
			if err != nil {
				return rightsError(err, r, "nothing was changed; when that is mended: sudo sallyport authdb install")
			}
			a.printRights(rightsView{Result: result}, "nothing to do: the rights are as configured already")
			if !a.json && len(result.Changed) > 0 {
				_, _ = fmt.Fprintln(a.deps.Stdout, "Try it before you close this session: log in as somebody else, and keep a root shell open (ssh). To take it back: sudo sallyport authdb remove")
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "change nothing, say what would be changed")
	return c
}

func (a *app) authdbRemoveCommand() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "remove",
		Short: "guard nothing: take all our mechanisms out of the rights",
		Long: `Takes every mechanism of Sallyport out of the rights and leaves everything else as
it is. It needs neither the agent nor the plug-in: it is the way back when nobody gets
in. The agent puts nothing back until the next "authdb install".`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			r, broken := a.rights()
			if r == nil {
				return broken
			}
			if dry {
				result, err := r.PlanRemove(cmd.Context())
				a.printRights(rightsView{Result: result, DryRun: true, Refused: textOf(err)}, "nothing would change: nothing of ours is in the rights")
				if err != nil {
					return errQuiet(ExitFailed)
				}
				return nil
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			result, err := r.Remove(ctx)
			if err == nil || len(result.Changed) > 0 {
				a.printRights(rightsView{Result: result, Refused: textOf(err)}, "nothing to do: nothing of ours is in the rights")
			}
			if err != nil {
				return rightsError(err, r, "what else there was of ours is out; see: sallyport authdb check. The last resort puts all rights back to Apple's: security authorizationdb reset")
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "change nothing, say what would be changed")
	return c
}

// interruptible ends when somebody presses Ctrl-C or the connection of the terminal
// drops: the command then puts back what it has changed, and does not just die.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// rightsError says how a change of the rights failed.
func rightsError(err error, r *authdb.Rights, remedy string) error {
	e := &Error{Exit: ExitFailed, Text: err.Error(), Remedy: remedy}
	var stuck *authdb.NotUndoneError
	var own *Error
	switch {
	case errors.As(err, &stuck):
		e.Remedy = fmt.Sprintf("do not log out or restart before it is right again: sudo sallyport authdb remove; then look: security authorizationdb read %s (as it was before the first installation: %s)",
			stuck.Right, r.Backup(stuck.Right))
	case errors.Is(err, authdb.ErrNotRoot):
		e.Exit, e.Remedy = ExitDenied, remedyRights
	case errors.Is(err, authdb.ErrBusy):
		e.Remedy = "wait for it, and try again"
	case errors.As(err, &own):
		e.Exit, e.Text = own.Exit, "the agent does not answer logins: "+own.Text
		if own.Remedy != "" {
			e.Remedy = "nothing was changed; " + own.Remedy
		}
	}
	return e
}

func (a *app) printRights(v rightsView, nothing string) {
	a.result(v, func(w io.Writer) {
		if len(v.Changed) == 0 && v.Refused == "" {
			_, _ = fmt.Fprintln(w, nothing)
		}
		for _, c := range v.Changed {
			verb := "changed"
			if v.DryRun {
				verb = "would change"
			}
			_, _ = fmt.Fprintf(w, "%s: %s\n", c.Right, verb)
			for _, line := range c.Diff {
				_, _ = fmt.Fprintf(w, "  %s\n", clean(line))
			}
		}
		if v.DryRun && v.Refused != "" {
			_, _ = fmt.Fprintf(w, "but it would be refused: %s\n", clean(v.Refused))
		}
	})
}

// guards says what a right is about, for people.
var guards = map[string]string{authdb.Console: "logging in", authdb.Authenticate: "passwords asked for in a session", authdb.Screensaver: "unlocking"}

func (a *app) authdbCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "say how the rights are; exit status 1: not as configured",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			r, err := a.rights()
			if err != nil {
				return failed("the configuration does not say what to guard: %v", err)
			}
			report := r.Check(cmd.Context())
			a.result(report, func(w io.Writer) { a.printReport(w, report) })
			if !report.OK {
				return errQuiet(ExitFailed)
			}
			return nil
		}),
	}
}

func (a *app) printReport(w io.Writer, report authdb.Report) {
	p := a.paint(w)
	for _, x := range report.Rights {
		said, colour := "not guarded", p.Green
		switch {
		case !x.OK():
			said, colour = string(x.State), p.Red
		case x.State == authdb.Guarded:
			said = "guarded"
		}
		_, _ = fmt.Fprintf(w, "%-25s %s  (%s)\n", x.Right, colour(fmt.Sprintf("%-11s", said)), guards[x.Right])
		if x.Why != "" {
			_, _ = fmt.Fprintf(w, "  %s\n", clean(x.Why))
		}
		for _, m := range x.Others {
			_, _ = fmt.Fprintf(w, "  also there: %s\n", clean(m))
		}
	}
	if report.Note != "" {
		_, _ = fmt.Fprintln(w, clean(report.Note))
	}
	if report.Bundle != "" {
		_, _ = fmt.Fprintf(w, "%s %s\n", p.Red("the plug-in cannot be used:"), clean(report.Bundle))
	}
	switch {
	case report.OK:
		_, _ = fmt.Fprintln(w, "The rights are as configured.")
	case report.LockedOut():
		_, _ = fmt.Fprintln(w, "Nobody gets in where the plug-in is asked for. At once: sudo sallyport authdb remove")
	default:
		_, _ = fmt.Fprintln(w, "The rights are not as configured. Next: sudo sallyport authdb install")
	}
}

// placeCommand is what the package runs for the plug-in that it has brought.
func (a *app) placeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "place BUNDLE",
		Hidden: true,
		Short:  "exchange the plug-in for another one that is fit for use",
		Args:   cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			r, err := a.rights()
			if r == nil {
				return err
			}
			if err := r.Place(cmd.Context(), args[0]); err != nil {
				return rightsError(err, r, "the plug-in that was there still is")
			}
			return nil
		}),
	}
}

// dryLoadCommand is what installations run in a process of its own.
func (a *app) dryLoadCommand() *cobra.Command {
	return &cobra.Command{
		Use:    authdb.DryLoad[1] + " BUNDLE",
		Hidden: true,
		Short:  "load a plug-in into this process and end",
		Args:   cobra.ExactArgs(1),
		RunE: do(func(_ *cobra.Command, args []string) error {
			r, err := a.rights()
			if r == nil {
				return err
			}
			word, err := r.DryLoadHere(args[0])
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(a.deps.Stdout, word)
			return nil
		}),
	}
}
