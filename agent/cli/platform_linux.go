package cli

import "sallyport/agent/cli/pamstack"

// What helps, in the words of this system.
const (
	remedyNotRunning = "start it: systemctl start sallyport; if it does not stay up: journalctl -u sallyport"
	remedyHung       = "see what it is doing: journalctl -u sallyport; then: systemctl restart sallyport"
	remedyRights     = "run it as root: sudo sallyport ..."
	restartAgent     = "systemctl restart sallyport"
	whereLog         = "journalctl -u sallyport"
)

// findHooks looks where logins are guarded.
func (a *app) findHooks(v *statusView) {
	hooks, _ := pamstack.Uses(a.deps.Root)
	v.Hooks = append([]pamstack.Use{}, hooks...)
}

func (v statusView) printHooks(line func(name, format string, args ...any)) {
	if len(v.Hooks) == 0 {
		line("hook", "in no file of /etc/pam.d: no login asks for a code yet")
	}
	v.printStacks(line)
}

// colours says whether a terminal knows them: each one here does.
func colours(any) bool { return true }
