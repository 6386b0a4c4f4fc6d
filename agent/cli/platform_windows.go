package cli

import (
	"sallyport/agent/cli/pamstack"
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
