package cli

import (
	"github.com/spf13/cobra"
	"golang.org/x/sys/windows"

	"sallyport/agent/cli/pamstack"
	"sallyport/internal/command"
)

// What helps, in the words of this system. In PowerShell sc is another command, so
// it is sc.exe.
const (
	remedyNotRunning = "start it, as administrator: sallyport service start; if it does not stay up: sc.exe query sallyport, and " + whereLog
	remedyHung       = "see what it is doing: " + whereLog + "; then, as administrator: sallyport service restart"
	remedyRights     = "run it as administrator: open the terminal with \"Run as administrator\""
	restartAgent     = "sallyport service restart"
	whereLog         = "the Event Log, Application, source Sallyport"
)

// findHooks looks where logins are guarded.
func (a *app) findHooks(v *statusView) {
	v.Hooks = []pamstack.Use{}
	if p, err := a.windows().Provider(); err == nil {
		v.Provider = &p
	}
}

func (v statusView) printHooks(line func(name, format string, args ...any)) {
	p := v.Provider
	switch {
	case p == nil:
		line("hook", "whether the credential provider is registered cannot be told")
		return
	case !p.Registered:
		line("hook", "the credential provider or its filter is not registered: no sign-in asks for a code yet")
		return
	case !p.Enabled:
		line("hook", "the emergency switch is thrown: no sign-in asks for a code")
		return
	}
	var guarded []string
	for _, s := range []struct {
		on   bool
		what string
	}{{p.Logon, "signing in"}, {p.Unlock, "unlocking"}, {p.CredUI, "credential prompts"}} {
		if s.on {
			guarded = append(guarded, s.what)
		}
	}
	line("hook", "%s guards: %s", p.DLL, orNone(guarded))
	line("emergency", "%s", plural(p.BreakGlass, "break-glass account", "break-glass accounts"))
}

// colours says whether a console knows them, and turns them on: "Console Virtual
// Terminal Sequences". (Text needs nothing: Go writes to a console in UTF-16,
// whatever its code page.)
func colours(stream any) bool {
	f, ok := stream.(command.Descriptor)
	if !ok {
		return true
	}
	h := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(h, mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}

func (a *app) importGoogleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "google-authenticator",
		Short: "take over ~/.google_authenticator files (on Linux only)",
		RunE: do(func(*cobra.Command, []string) error {
			return badUsage("there are no ~/.google_authenticator files on Windows: pam_google_authenticator is for Linux")
		}),
	}
}

func (a *app) tryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "try USER",
		Short: "run one login (on Linux only)",
		RunE: do(func(*cobra.Command, []string) error {
			return &Error{Exit: ExitUsage, Text: "a login cannot be tried from the command line on Windows: only the sign-in screen runs credential providers",
				Remedy: "lock this computer (Windows+L) and unlock it; before that: sallyport doctor, and have a break-glass account"}
		}),
	}
}
