package cli

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"sallyport/installer/windows/setup"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// setupCommand is the Windows installer's: nobody else has to call it.
func (a *app) setupCommand() *cobra.Command {
	run := func(use string, f func(s *setup.Setup, ctx context.Context) error) *cobra.Command {
		return &cobra.Command{Use: use, Args: cobra.NoArgs, RunE: do(func(cmd *cobra.Command, _ []string) error {
			program, err := a.deps.Executable()
			if err != nil {
				return err
			}
			return f(&setup.Setup{System: a.deps.System, Dir: filepath.Dir(program), Answers: a.answers, Join: a.joinQuietly, Log: a.deps.Stdout}, cmd.Context())
		})}
	}
	c := group(&cobra.Command{Use: "setup", Short: "what the installer does with the files it brought"},
		run("activate", func(s *setup.Setup, ctx context.Context) error { return s.Activate(ctx, a.deps.Stdin) }),
		run("deactivate", (*setup.Setup).Deactivate),
		run("back", (*setup.Setup).Back))
	c.Hidden = true
	return c
}

// plain is an error without what could be done about it: in the installer's log,
// and in what it shows, the last line is the error.
func plain(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return errors.New(e.Text)
	}
	return err
}

// answers says whether the agent is there, and is of this version.
func (a *app) answers(ctx context.Context) error {
	return plain(a.call(ctx, func(ctx context.Context, c *agent) error {
		s, err := c.Status(ctx, &adminv1.StatusRequest{})
		if err == nil && s.GetVersion() != a.deps.Version {
			return failed("the agent that answers is version %s, not %s", clean(s.GetVersion()), a.deps.Version)
		}
		return err
	}))
}

// joinQuietly joins an authority, now or as soon as it can be reached, unless one is
// joined already: a package's properties are given again at each upgrade.
func (a *app) joinQuietly(ctx context.Context, url, token string) error {
	err := a.call(ctx, func(ctx context.Context, c *agent) error {
		_, err := c.Join(ctx, &adminv1.JoinRequest{Url: url, Token: token, KeepTrying: true})
		return err
	})
	if e := (*Error)(nil); errors.As(err, &e) && e.Exit == ExitConflict {
		return nil
	}
	return plain(err)
}
