package cli

import (
	"context"
	"strings"
	"time"

	"sallyport/authplugin/authdb"
)

// lookTime is how long status asks authd for the rights. Monitoring runs it, and so
// does the installer, again and again, while it waits for the agent: so it does not
// load the plug-in or verify its signature either, which is doctor's and authdb
// check's.
const lookTime = 3 * time.Second

func lookAtRights(r *authdb.Rights) *authdb.Report {
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	report := r.Look(ctx)
	return &report
}

// printStacks says where our module is in PAM's stacks.
func (v statusView) printStacks(line func(name, format string, args ...any)) {
	for _, h := range v.Hooks {
		line("hook", "%s:%d %s, in the stack of %s", h.File, h.Line, h.Type, orNone(h.Services))
	}
}

// printRights says which rights of macOS are guarded.
func (v statusView) printRights(line func(name, format string, args ...any)) {
	r := v.Rights
	if r == nil {
		line("hook", "whether the rights of macOS are guarded cannot be told")
		return
	}
	var guarded []string
	unknown := ""
	for _, x := range r.Rights {
		if x.Wanted && x.State == authdb.Unknown && unknown == "" {
			unknown = ": " + clean(x.Why)
		}
		if x.Right == authdb.Screensaver && x.Wanted && x.State == authdb.Guarded || len(x.Ours) > 0 {
			guarded = append(guarded, guards[x.Right])
		}
	}
	switch {
	case r.LockedOut():
		line("hook", "the plug-in cannot be used, and is asked for: %s; do not log out: sudo sallyport authdb remove", strings.Join(guarded, ", "))
	case len(guarded) == 0 && unknown != "":
		line("hook", "whether the rights of macOS are guarded cannot be told%s", unknown)
	case len(guarded) == 0:
		line("hook", "in no right of macOS: the login window asks for no code yet")
	case r.OK:
		line("hook", "guards %s", strings.Join(guarded, ", "))
	default:
		line("hook", "guards %s; not as configured: sallyport authdb check", strings.Join(guarded, ", "))
	}
}
