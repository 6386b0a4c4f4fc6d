package cli

import (
	"context"
	"fmt"
	"time"

	"sallyport/installer/macos/launchd"
)

// versionCommands say what system this is.
var versionCommands = [][]string{{"sw_vers"}, {"uname", "-srm"}}

func (a *app) platformParts(ctx context.Context, since time.Time) []bundlePart {
	program := func(name string, args ...string) func() (string, error) {
		return func() (string, error) { return a.program(ctx, name, args...) }
	}
	return []bundlePart{
		{name: "log.txt", what: "what the agent, the plug-in and the PAM module logged", log: true, get: program("/usr/bin/log", "show", "--style", "compact", "--info",
			"--start", since.Local().Format("2006-01-02 15:04:05"), "--predicate", fmt.Sprintf(`subsystem == %q OR eventMessage CONTAINS "pam_sallyport"`, launchd.Label))},
		{name: "stderr.txt", what: "what the agent said before it had a log", log: true, get: program("/usr/bin/tail", "-n", bundleLines, launchd.Stderr)},
		{name: "rights.txt", what: "sallyport authdb check: the rights database and the plug-in", get: func() (string, error) { return a.own("authdb", "check") }},
		{name: "pam.txt", what: "the auth and account lines of /etc/pam.d", get: a.pamLines},
		{name: "launchd.txt", what: "the agent's process and its last exit", get: program("/bin/launchctl", "list", launchd.Label)},
	}
}
