package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/pam/sudolocal"
)

// sudoCommand guards sudo on macOS. root is the file system that it works on.
func (a *app) sudoCommand(root string) *cobra.Command {
	run := func(use, short string, f func() (sudolocal.State, error)) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: do(func(*cobra.Command, []string) error {
			s, err := f()
			switch {
			case errors.Is(err, fs.ErrPermission):
				e := failed("%v", err)
				e.Remedy = remedyRights
				return e
			case err != nil:
				return err
			}
			a.result(s, func(w io.Writer) { _, _ = fmt.Fprintln(w, sudoText(s)) })
			if use == "check" && (!s.Guarded || len(s.Before) > 0) {
				return errQuiet(ExitFailed)
			}
			return nil
		})}
	}
	return group(&cobra.Command{Use: "sudo", Short: "have sudo ask for the second factor too",
		Long: `Puts Sallyport's PAM module into /etc/pam.d/sudo_local, which upgrades of macOS
leave alone, or takes it out. sudo then asks for the password, and then for the
second factor. While the agent does not run, sudo lets nobody in: keep a root
shell open until you have tried it.`},
		run("install", "put the module in", func() (sudolocal.State, error) { return sudolocal.Install(root) }),
		run("remove", "take it out", func() (sudolocal.State, error) {
			if err := sudolocal.Uninstall(root); err != nil {
				return sudolocal.State{}, err
			}
			return sudolocal.Read(root)
		}),
		run("check", "say whether sudo is guarded; exit status 1 when it is not", func() (sudolocal.State, error) { return sudolocal.Read(root) }))
}

func sudoText(s sudolocal.State) string {
	switch {
	case !s.Included:
		return "sudo is not guarded: " + sudolocal.ErrTooOld.Error()
	case !s.Guarded:
		return "sudo is not guarded: the password is enough. To change that: sudo sallyport sudo install"
	case len(s.Before) > 0:
		return "sudo asks for the second factor, but not whom these let in before: " + strings.Join(s.Before, ", ") + ". To change that: sudo sallyport sudo install"
	}
	return "sudo asks for the second factor. Try it while a root shell is open: sudo -k; sudo true"
}
