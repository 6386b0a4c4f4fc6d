package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/doctor"
	"sallyport/installer/macos/launchd"
	"sallyport/internal/loadable"
	"sallyport/pam/sudolocal"
)

// sudoView is `sallyport sudo ...` with --json.
type sudoView struct {
	sudolocal.State
	// Module says why sudo cannot use our module; "": it can, or is not to.
	Module string `json:"module,omitempty"`
}

// sudoCommand guards sudo on macOS. root is the file system that it works on.
func (a *app) sudoCommand(root string) *cobra.Command {
	module := func() error { return a.sudoModule(root) }
	run := func(use, short, long string, f func(context.Context) (sudolocal.State, error)) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs, RunE: do(func(cmd *cobra.Command, _ []string) error {
			s, err := f(cmd.Context())
			if err != nil {
				return sudoError(err)
			}
			if use == "remove" && s.Names { // the uninstaller goes by it
				return failed("what we wrote is out, and sudo still names our module: take it out of /%s, /%s or what the MDM puts there, whichever it is", sudolocal.Sudo, sudolocal.Local)
			}
			v := sudoView{State: s}
			if s.Names {
				v.Module = textOf(module())
			}
			a.result(v, func(w io.Writer) { v.print(w) })
			if use != "remove" && (s.Verdict != sudolocal.Guarded || v.Module != "") {
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
		run("install", "put the module in",
			`Puts the module into sudo_local, on top of whatever stands there. Nothing is changed
unless the module can be loaded, is root's alone, and the agent answers logins. A
second time it changes nothing.`,
			func(ctx context.Context) (sudolocal.State, error) {
				return sudolocal.Install(root, func() error {
					if err := module(); err != nil {
						return err
					}
					return a.answersLogins(ctx)
				})
			}),
		run("remove", "take it out",
			`Takes the module out of sudo_local and leaves everything else as it is. It needs
neither the agent nor the module: it is the way back when sudo lets nobody in.`,
			func(context.Context) (sudolocal.State, error) {
				if err := sudolocal.Uninstall(root); err != nil {
					return sudolocal.State{}, err
				}
				return sudolocal.Read(root)
			}),
		run("check", "say whether sudo is guarded; exit status 1: it is not, or lets nobody in", "",
			func(context.Context) (sudolocal.State, error) { return sudolocal.Read(root) }))
}

func (v sudoView) print(w io.Writer) {
	const install, remove = "sudo sallyport sudo install", "sallyport sudo remove"
	switch {
	case v.Module != "":
		_, _ = fmt.Fprintf(w, "sudo lets nobody in: its module cannot be used: %s\nNext: install the package again; or, in a root shell: %s\n", clean(v.Module), remove)
	case v.Verdict == sudolocal.Guarded:
		_, _ = fmt.Fprintln(w, v.Text()+". Try it while a root shell is open: sudo -k; sudo true")
	case v.Verdict == sudolocal.TooOld:
		_, _ = fmt.Fprintln(w, v.Text())
	case v.Verdict == sudolocal.Stray:
		_, _ = fmt.Fprintf(w, "%s\nTake those lines out by hand; then: %s\n", v.Text(), install)
	case v.Managed:
		_, _ = fmt.Fprintf(w, "%s\nAn MDM manages sudo_local: the change is its to make\n", clean(v.Text()))
	default:
		_, _ = fmt.Fprintf(w, "%s\nTo change that: %s\n", clean(v.Text()), install)
	}
}

// sudoError says how a change of sudo's policy failed.
func sudoError(err error) error {
	e := &Error{Exit: ExitFailed, Text: err.Error()}
	var own *Error
	switch {
	case errors.As(err, &own):
		e.Exit, e.Text, e.Remedy = own.Exit, "the agent does not answer logins, and sudo would let nobody in: "+own.Text, own.Remedy
	case errors.Is(err, errModule):
		e.Remedy = "nothing was changed; install the package again"
	case errors.Is(err, sudolocal.ErrManaged):
		e.Remedy = "have the MDM put our lines on top of its own sudo_local (docs/macos.md, sudo)"
	case errors.Is(err, syscall.EPERM): // root, and refused all the same: TCC
		e.Exit = ExitDenied
		e.Text = "macOS does not let this program change /etc/pam.d: " + err.Error()
		e.Remedy = "give the terminal Full Disk Access (System Settings > Privacy & Security), or have the MDM install sallyport-privacy.mobileconfig; then try again, as root"
	case errors.Is(err, syscall.EROFS):
		e.Text = "/etc/pam.d is on a volume that cannot be written: " + err.Error()
		e.Remedy = "start the Mac from its own disk, not from recovery or a snapshot; then try again"
	case errors.Is(err, fs.ErrPermission):
		e.Exit, e.Remedy = ExitDenied, remedyRights
	}
	return e
}

// errModule: what sudo would load cannot be used.
var errModule = errors.New("the PAM module cannot be used, and sudo would let nobody in")

// sudoModule says why sudo could not use our module: macOS itself does not look at
// whose it is, and with one that does not load sudo lets nobody in.
func (a *app) sudoModule(root string) error {
	r, _ := a.rights()
	if r == nil {
		return fmt.Errorf("%w: this build knows no module", errModule)
	}
	var env doctor.Env
	a.platformEnv(&env)
	file := filepath.Join(root, sudolocal.Module)
	for _, check := range []func() error{
		func() error {
			return launchd.OnlyRoots(sudolocal.Module, func(path string) (fs.FileMode, int, error) {
				st, err := env.Lstat(filepath.Join(root, path))
				if st.UID == r.Owner { // root, but in tests
					st.UID = 0
				}
				return st.Mode, st.UID, err
			})
		},
		func() error {
			err := loadable.Check(file, moduleFunctions...)
			if err == nil && r.Load == nil {
				err = errors.New("this build cannot load it to try")
			}
			if err == nil {
				err = r.Load(file)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", sudolocal.Module, err)
			}
			return nil
		},
	} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", errModule, err)
		}
	}
	return nil
}

// moduleFunctions are what sudo calls of a module (pam_sm_authenticate(3)). OpenPAM
// passes over a function that is not there.
var moduleFunctions = []string{"pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_setcred"}
