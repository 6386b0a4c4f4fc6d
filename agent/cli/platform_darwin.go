package cli

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/doctor"
	"sallyport/agent/cli/pamstack"
	"sallyport/authplugin/authdb"
	"sallyport/installer/macos/launchd"
	"sallyport/internal/acl"
)

// What helps, in the words of this system.
const (
	remedyNotRunning = "start it: sudo sallyport service start; if it does not stay up: " + whereLog + ", and " + launchd.Stderr
	remedyHung       = "see what it is doing: " + whereLog + "; then: " + restartAgent
	remedyRights     = "run it as root: sudo sallyport ..."
	restartAgent     = "sudo launchctl kickstart -k " + launchd.Target
	whereLog         = `log show --predicate 'subsystem == "` + launchd.Label + `"' --last 1h`
)

const doctorLong = `Looks for the usual mistakes: in the LaunchDaemon, the rights database and the
plug-in, the break-glass list, sudo, ssh, the sockets, the authority, the clock; says
what FileVault and Platform SSO mean for logins; and lists the ways in that nothing
covers. Run it as root: some of it is not for others to read.`

// platformEnv fills in what only macOS can say.
func (a *app) platformEnv(e *doctor.Env) {
	e.Root, e.EUID = a.deps.Root, os.Geteuid()
	e.Lstat = func(path string) (doctor.Stat, error) {
		st, err := os.Lstat(path)
		if err != nil {
			return doctor.Stat{}, err
		}
		return doctor.Stat{Mode: st.Mode(), UID: int(st.Sys().(*syscall.Stat_t).Uid)}, nil
	}
	// Once: it loads the plug-in to try.
	report := sync.OnceValues(func() (authdb.Report, error) {
		r, err := a.readRights()
		if err != nil {
			return authdb.Report{}, err
		}
		return r.Check(context.Background()), nil
	})
	e.Mac = &doctor.Mac{Rights: func(context.Context) (authdb.Report, error) { return report() }, Gives: acl.Check}
}

// readRights is the rights database, to be looked at alone.
func (a *app) readRights() (*authdb.Rights, error) {
	if a.deps.Rights == nil {
		return nil, fmt.Errorf("this build knows no rights database")
	}
	return a.rights()
}

// findHooks looks where logins are guarded.
func (a *app) findHooks(v *statusView) {
	hooks, _ := pamstack.Uses(a.deps.Root)
	v.Hooks = append([]pamstack.Use{}, hooks...)
	if r, err := a.readRights(); err == nil {
		v.Rights = lookAtRights(r)
	}
}

func (v statusView) printHooks(line func(name, format string, args ...any)) {
	v.printRights(line)
	v.printStacks(line)
}

// colours says whether a terminal knows them: each one here does.
func colours(any) bool { return true }

func (a *app) importGoogleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "google-authenticator",
		Short: "take over ~/.google_authenticator files (on Linux only)",
		RunE: do(func(*cobra.Command, []string) error {
			return badUsage("~/.google_authenticator files are taken over on Linux only")
		}),
	}
}

func (a *app) tryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "try USER",
		Short: "run one login (on Linux only)",
		RunE: do(func(*cobra.Command, []string) error {
			return &Error{Exit: ExitUsage, Text: "a login cannot be tried from the command line on macOS: only the login window runs authorization plug-ins",
				Remedy: "keep a root shell open (ssh), and log in as somebody else by fast user switching; before that: sudo sallyport doctor, and have a break-glass account. sudo can be tried: sudo -k; sudo true"}
		}),
	}
}
