package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/agent/cli/pamstack"
	"sallyport/authplugin/authdb"
)

// TestWhereTheHooksOfAMacAre: what `status` says of the rights and of sudo.
func TestWhereTheHooksOfAMacAre(t *testing.T) {
	ours := []string{"Sallyport:begin,privileged", "Sallyport:prompt", "Sallyport:verify,privileged"}
	report := func(ok bool, bundle string, login, unlock bool) *authdb.Report {
		r := &authdb.Report{OK: ok, Bundle: bundle, Rights: []authdb.Right{
			{Right: authdb.Console, Wanted: true, State: authdb.Unguarded}, {Right: authdb.Authenticate, State: authdb.Unguarded},
			{Right: authdb.Screensaver, State: authdb.Unguarded, Rule: "use-login-window-ui"}}}
		if login {
			r.Rights[0].State, r.Rights[0].Ours = authdb.Guarded, ours
		}
		if unlock {
			r.Rights[1].State, r.Rights[1].Ours = authdb.Guarded, ours
			r.Rights[2].State, r.Rights[2].Wanted, r.Rights[2].Rule = authdb.Guarded, true, "authenticate"
		}
		return r
	}
	unread := report(false, "", false, false)
	unread.Rights[0].State, unread.Rights[0].Why = authdb.Unknown, "security did not end"
	for want, r := range map[string]*authdb.Report{
		"hook: whether the rights of macOS are guarded cannot be told: security did not end": unread,
		"hook: whether the rights of macOS are guarded cannot be told":                       nil,
		"hook: in no right of macOS: the login window asks for no code yet":                  report(false, "", false, false),
		"hook: guards logging in": report(true, "", true, false),
		"hook: guards logging in, passwords asked for in a session, unlocking":                                         report(true, "", true, true),
		"hook: guards logging in; not as configured: sallyport authdb check":                                           report(false, "", true, false),
		"hook: the plug-in cannot be used, and is asked for: logging in; do not log out: sudo sallyport authdb remove": report(false, "it does not load", true, false),
	} {
		v := statusView{Rights: r, Hooks: []pamstack.Use{{File: "/etc/pam.d/sudo_local", Line: 3, Type: "auth", Services: []string{"sudo"}}}}
		var got []string
		line := func(name, format string, args ...any) { got = append(got, name+": "+fmt.Sprintf(format, args...)) }
		v.printRights(line)
		v.printStacks(line)
		if strings.Join(got, "\n") != want+"\nhook: /etc/pam.d/sudo_local:3 auth, in the stack of sudo" {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}

// TestStatusOnlyLooksAtTheRights: monitoring may ask every minute, and the installer
// each second.
func TestStatusOnlyLooksAtTheRights(t *testing.T) {
	programs := map[string]int{}
	r := &authdb.Rights{StateDir: t.TempDir(), Wanted: authdb.Wanted{Login: true}, Bundle: filepath.Join(t.TempDir(), "Sallyport.bundle"), Program: "/x/sallyport"}
	r.Run = func(ctx context.Context, _ []byte, program string, args ...string) (authdb.Output, error) {
		programs[program]++
		if by, ok := ctx.Deadline(); !ok || time.Until(by) > lookTime {
			t.Errorf("%s %q may take until %v", program, args, by)
		}
		return authdb.Output{}, errors.New("it did not end")
	}
	report := lookAtRights(r)
	if report.OK || report.Bundle == "" || len(programs) != 1 || programs["/usr/bin/security"] != 3 {
		t.Errorf("%+v by %v", report, programs)
	}
}
