package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"howett.net/plist"

	"sallyport/agent/cli/pamstack"
	"sallyport/authplugin/authdb"
	"sallyport/installer/macos/launchd"
	"sallyport/internal/config"
	"sallyport/pam/sudolocal"
)

// Mac is a Mac, as the checks see it, beside its files and its programs.
type Mac struct {
	// Rights says how the rights database stands, and the plug-in with it.
	Rights func(ctx context.Context) (authdb.Report, error)
	// Gives says what a file's access list gives beside its mode; nil: nothing.
	Gives func(path string) error
}

// Where macOS and the plug-in look.
const (
	macFiles         = "/Library/Application Support/Sallyport"
	breakGlassList   = macFiles + "/break-glass"
	breakGlassMost   = 64 << 10 // BREAKGLASS_MAX of the plug-in
	loginWindow      = "/Library/Preferences/com.apple.loginwindow"
	loginWindowByMDM = "/Library/Managed Preferences/com.apple.loginwindow"
)

// Programs of macOS, by their paths: nobody's PATH decides.
const (
	launchctl   = "/bin/launchctl"
	fdesetup    = "/usr/bin/fdesetup"
	idProgram   = "/usr/bin/id"
	appSSO      = "/usr/bin/app-sso"
	defaults    = "/usr/bin/defaults"
	systemsetup = "/usr/sbin/systemsetup"
)

const (
	reinstall  = "install the package again"
	seeLog     = `log show --predicate 'subsystem == "` + launchd.Label + `"' --last 1h, and ` + launchd.Stderr
	macRestart = "sudo launchctl kickstart -k " + launchd.Target
)

// onlyRoots says why others than root could change a file.
func (e *Env) onlyRoots(name string) error {
	return launchd.OnlyRoots(name, func(p string) (fs.FileMode, int, error) {
		st, err := e.Lstat(p)
		if err == nil && e.Mac != nil && e.Mac.Gives != nil {
			err = e.Mac.Gives(p)
		}
		return st.Mode, st.UID, err
	})
}

// file reads one by its full path.
func (e *Env) file(name string) ([]byte, error) {
	return fs.ReadFile(e.Root, strings.TrimPrefix(name, "/"))
}

// asRoot is for what could not be looked at.
func asRoot(check string, err error) Result {
	return info(check, "cannot be told: %v (run doctor as root)", err)
}

func checkDaemon(ctx context.Context, e *Env) []Result {
	st, err := e.Lstat(launchd.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Result{fail("daemon", reinstall+"; or: sudo sallyport service install && sudo sallyport service start",
			"%s is not there: the agent does not start with macOS", launchd.Path)}
	case err != nil:
		return []Result{asRoot("daemon", err)}
	}
	var out []Result
	add := func(r Result) { out = append(out, r) }
	if st.UID != 0 || st.Mode&(fs.ModeType|0o022) != 0 {
		add(fail("daemon", "sudo chown root:wheel "+launchd.Path+" && sudo chmod 0644 "+launchd.Path,
			"%s is not a file that only root can change (uid %d, mode %v): launchd does not take it", launchd.Path, st.UID, st.Mode))
	}
	if text, err := e.file(launchd.Path); err == nil {
		var daemon struct {
			Label            string
			ProgramArguments []string
		}
		if _, err := plist.Unmarshal(text, &daemon); err != nil || len(daemon.ProgramArguments) == 0 || daemon.Label != launchd.Label {
			add(fail("daemon", reinstall, "%s is not the agent's (%v)", launchd.Path, daemon.Label))
		} else if err := e.onlyRoots(daemon.ProgramArguments[0]); err != nil {
			add(fail("daemon", reinstall, "launchd runs %s as root: %v", daemon.ProgramArguments[0], err))
		}
	}
	control := launchd.Control{Run: e.Run}
	if off, err := control.Disabled(ctx); err == nil && off {
		add(fail("daemon", "System Settings > General > Login Items > Allow in the Background; or: sudo launchctl enable "+launchd.Target+" && sudo sallyport service start",
			"somebody switched it off: it does not start with macOS"))
	}
	switch s := control.State(ctx); {
	case !s.Loaded:
		add(fail("daemon", "sudo sallyport service start", "launchd has not loaded it"))
	case s.State != "" && !s.Running():
		add(fail("daemon", "see why it ends: "+seeLog, "launchd has loaded it, and it does not stay up: %s", s))
	case len(out) == 0:
		add(ok("daemon", "%s (launchd: %s)", launchd.Path, s))
	}
	return out
}

// checkMacFiles looks at who may change the configuration, and says where settings
// come from.
func checkMacFiles(_ context.Context, e *Env) []Result {
	var out []Result
	if e.Config != "" {
		name := e.Config
		for _, dir := range []string{"/etc/", "/tmp/", "/var/"} {
			if strings.HasPrefix(name, dir) {
				name = "/private" + name // macOS's own links
			}
		}
		err := e.onlyRoots(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, info("configuration", "%s is not there: managed preferences and defaults are in force", e.Config))
		case errors.Is(err, fs.ErrPermission):
			out = append(out, asRoot("configuration", err))
		case err != nil:
			out = append(out, fail("configuration", "sudo chown root:wheel, and sudo chmod go-w, what is named here; of a link, --config what it leads to", "%v", err))
		default:
			out = append(out, ok("configuration", "%s, which only root can change", e.Config))
		}
	}
	if _, err := e.Lstat(config.PreferencesPath); err == nil {
		return append(out, info("configuration", "managed preferences are there, and win over the file: %s", config.PreferencesPath))
	}
	return append(out, info("configuration", "no managed preferences: MDM sets nothing here"))
}

func checkSystemKeychain(_ context.Context, e *Env) []Result {
	switch e.Keychain {
	case "system-keychain", "auto":
		return []Result{ok("keychain", "the vault's key is in the System keychain")}
	case "file":
		return []Result{info("keychain", "the vault's key is a file beside it (keychain = \"file\"): only FileVault protects it when the Mac is off")}
	}
	return nil
}

// guards says what a right is about, and which setting of authorization_plugin.
var guards = map[string]struct{ what, setting string }{
	authdb.Console: {"the login window", "login"}, authdb.Authenticate: {"administrator prompts in a session", "elevate"}, authdb.Screensaver: {"unlocking", "unlock"}}

// checkRights looks at the rights database and the plug-in.
func checkRights(ctx context.Context, e *Env) []Result {
	report, err := e.Mac.Rights(ctx)
	if err != nil {
		return []Result{info("rights", "cannot be told: %v", err)}
	}
	var out []Result
	add := func(r Result) { out = append(out, r) }
	const install, remove = "sudo sallyport authdb install", "sudo sallyport authdb remove"
	ours := false
	switch {
	case report.LockedOut():
		add(fail("plug-in", "do not log out or restart; at once: "+remove+"; then "+reinstall,
			"the rights ask for it, and it cannot be used: %s. Nobody whom they guard gets in, but by ssh", report.Bundle))
	case report.Bundle != "":
		add(fail("plug-in", reinstall, "it cannot be used: %s", report.Bundle))
	}
	for _, r := range report.Rights {
		what := r.Right + " (" + guards[r.Right].what + ")"
		ours = ours || len(r.Ours) > 0
		switch {
		case r.Wanted && r.State == authdb.Guarded:
			add(ok("rights", "%s is guarded", what))
		case r.Wanted && r.State == authdb.Unguarded && report.Installed:
			add(fail("rights", install, "%s asks for no code any more: an upgrade of macOS, or another product, took ours out", what))
		case r.Wanted && r.State == authdb.Unguarded:
			add(warn("rights", install, "%s asks for no code yet", what))
		case r.Wanted && r.State == authdb.Disorder:
			add(fail("rights", install, "%s is not as it should be: %s", what, r.Why))
		case r.Wanted && r.Right == authdb.Console:
			add(fail("rights", "see whose it is: security authorizationdb read "+r.Right+"; two products that change the login window need their makers' word",
				"%s is none that we know, and is left alone: %s", what, r.Why))
		case r.Wanted:
			add(fail("rights", "see whose it is: security authorizationdb read "+r.Right, "%s is none that we know, and is left alone: %s", what, r.Why))
		case !r.OK():
			add(warn("rights", install, "%s is not to be guarded, and has something of ours: %s", what, orElse(r.Why, strings.Join(r.Ours, ", "))))
		default:
			add(info("not covered", "no code is asked for at %s: authorization_plugin.%s is off", guards[r.Right].what, guards[r.Right].setting))
		}
		if len(r.Others) > 0 {
			add(info("rights", "%s has another product's mechanisms, too: %s", r.Right, strings.Join(r.Others, ", ")))
		}
	}
	if ours && report.Bundle == "" {
		add(ok("plug-in", "it is root's, for this processor, signed, and loads"))
	}
	if !report.Repaired.IsZero() {
		add(info("rights", "the agent last put ours back on %s", report.Repaired.Format("2006-01-02 15:04")))
	}
	if report.Note != "" {
		add(info("rights", "%s", report.Note))
	}
	return out
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// checkBreakGlassList reads the list as the plug-in does (authplugin/breakglass.h).
func checkBreakGlassList(ctx context.Context, e *Env) []Result {
	st, err := e.Lstat(breakGlassList)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Result{warn("break-glass", "make a local administrator for emergencies, and: sudo sh -c 'umask 022; id -u NAME >> \""+breakGlassList+"\"'",
			"not set up: while the agent is broken, nobody gets in at the login window")}
	case err != nil:
		return []Result{asRoot("break-glass", err)}
	}
	const remedy = "one uid a line; then: sudo chown root:wheel '" + breakGlassList + "' && sudo chmod 0644 '" + breakGlassList + "'"
	ignored := func(format string, args ...any) []Result {
		return []Result{fail("break-glass", remedy, "%s is not taken, and lets nobody in: %s", breakGlassList, fmt.Sprintf(format, args...))}
	}
	if !st.Mode.IsRegular() {
		return ignored("it is no regular file")
	}
	if err := e.onlyRoots(breakGlassList); err != nil {
		return ignored("%v", err)
	}
	text, err := e.file(breakGlassList)
	if err != nil {
		return []Result{asRoot("break-glass", err)}
	}
	if len(text) > breakGlassMost {
		return ignored("it is over %d bytes", breakGlassMost)
	}
	uids, line := breakGlassUIDs(text)
	if line > 0 {
		return ignored("line %d is no uid", line)
	}
	if len(uids) == 0 {
		return []Result{warn("break-glass", remedy, "%s names nobody: while the agent is broken, nobody gets in at the login window", breakGlassList)}
	}
	var out []Result
	var names []string
	unlocks, knowsUnlocks := e.Run(ctx, fdesetup, "list") // "name,UUID" a line; only root may
	for _, uid := range uids {
		answer, err := e.Run(ctx, idProgram, "-un", uid)
		name := strings.TrimSpace(string(answer))
		if err != nil || name == "" {
			out = append(out, warn("break-glass", remedy, "uid %s is no account here", uid))
			continue
		}
		names = append(names, name)
		if knowsUnlocks == nil && len(unlocks) > 0 && !bytes.Contains(append([]byte("\n"), unlocks...), []byte("\n"+name+",")) {
			out = append(out, warn("break-glass", "sudo fdesetup add -usertoadd "+name, "%s cannot start this Mac: FileVault does not take its password", name))
		}
	}
	if len(names) > 0 {
		out = append(out, ok("break-glass", "at the login window, with the password alone: %s", strings.Join(names, ", ")))
	}
	return out
}

// breakGlassUIDs are those of the list, or the first line that is none.
func breakGlassUIDs(text []byte) (uids []string, bad int) {
	n := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		uid := strings.Trim(string(line), " \t\r")
		if uid == "" {
			continue
		}
		uid = strings.TrimPrefix(uid, "uid:")
		v, err := strconv.ParseUint(uid, 10, 32)
		if err != nil || v == 1<<32-1 || strconv.FormatUint(v, 10) != uid {
			return nil, n
		}
		if !slices.Contains(uids, uid) {
			uids = append(uids, uid)
		}
	}
	return uids, 0
}

func checkSudo(_ context.Context, e *Env) []Result {
	s, err := sudolocal.Look(e.file)
	if errors.Is(err, fs.ErrPermission) {
		return []Result{asRoot("sudo", err)}
	}
	if err != nil {
		return []Result{info("sudo", "cannot be told: %v", plainError(err))}
	}
	const install, remove = "sudo sallyport sudo install", "sudo sallyport sudo remove"
	change := install
	if s.Managed {
		change = "have the MDM put our lines on top of its own sudo_local (docs/macos.md, sudo)"
	}
	var out []Result
	switch s.Verdict {
	case sudolocal.TooOld:
		out = append(out, info("not covered", "%s", s.Text()))
	case sudolocal.Unguarded:
		out = append(out, info("not covered", "%s; to change that: %s", s.Text(), change))
	case sudolocal.Stray:
		out = append(out, fail("sudo", "take those lines out by hand; then: "+change, "%s", s.Text()))
	case sudolocal.Bypassed:
		out = append(out, warn("sudo", change, "%s", s.Text()))
	default:
		out = append(out, ok("sudo", "%s", s.Text()))
	}
	if s.Names {
		if err := e.onlyRoots(sudolocal.Module); errors.Is(err, fs.ErrNotExist) {
			out = append(out, fail("sudo", reinstall+"; or, in a root shell: "+strings.TrimPrefix(remove, "sudo "), "%s is not there: sudo lets nobody in", sudolocal.Module))
		} else if err != nil {
			out = append(out, fail("sudo", reinstall, "%v", err))
		}
	}
	return append(out, noPasswords(e)...)
}

// serviceOff says whether launchd was told to leave a service of macOS off; known is
// false where it does not say.
func serviceOff(list []byte, label string) (off, known bool) {
	m := regexp.MustCompile(`(?m)^\s*"` + regexp.QuoteMeta(label) + `" => (\w+)`).FindSubmatch(list)
	if m == nil {
		return false, false
	}
	return string(m[1]) == "disabled" || string(m[1]) == "true", true
}

// checkRemoteWays looks at what comes over the network.
func checkRemoteWays(ctx context.Context, e *Env) []Result {
	var out []Result
	add := func(r Result) { out = append(out, r) }
	list, err := e.Run(ctx, launchctl, "print-disabled", "system")
	if err != nil {
		return []Result{info("not covered", "whether Remote Login or Screen Sharing is on cannot be told: %v", err)}
	}
	uses, _ := pamstack.Uses(e.Root)
	inSSHD := slices.ContainsFunc(uses, func(u pamstack.Use) bool { return u.Type == "auth" && slices.Contains(u.Services, "sshd") })
	off, known := serviceOff(list, "com.openssh.sshd")
	switch {
	case inSSHD:
		out = append(out, checkSSHD(ctx, e)...)
		add(info("sshd", "an upgrade of macOS may take our module out of /etc/pam.d/sshd again"))
	case known && !off:
		add(warn("sshd", "turn Remote Login off, or put our module into /etc/pam.d/sshd (docs/macos.md)", "Remote Login is on, and asks for no code"))
	case !known:
		add(info("not covered", "Remote Login (ssh), if it is on, asks for no code"))
	}
	if off, known := serviceOff(list, "com.apple.screensharing"); known && !off {
		add(warn("not covered", "System Settings > General > Sharing: turn Screen Sharing and Remote Management off", "Screen Sharing is on: whoever connects to an open session is asked for no code"))
	}
	return out
}

// checkFileVault says what the password that is asked before macOS starts means.
func checkFileVault(ctx context.Context, e *Env) []Result {
	answer, err := e.Run(ctx, fdesetup, "status")
	switch {
	case err != nil:
		return []Result{info("filevault", "whether it is on cannot be told: %v", err)}
	case bytes.Contains(answer, []byte("FileVault is Off")):
		return []Result{warn("filevault", "turn it on: System Settings > Privacy & Security > FileVault",
			"it is off: whoever has this Mac reads its disk, and takes Sallyport out, without a password")}
	case !bytes.Contains(answer, []byte("FileVault is On")):
		return []Result{info("filevault", "whether it is on cannot be told from: fdesetup status")}
	}
	for _, domain := range []string{loginWindow, loginWindowByMDM} {
		if e.preference(ctx, domain, "DisableFDEAutoLogin") == "1" {
			return []Result{ok("filevault", "on; the password that starts macOS logs nobody in: it is asked for again at the login window, and then the code")}
		}
	}
	return []Result{
		ok("filevault", "on; it asks for the password before macOS starts, where no code can be asked for"),
		info("filevault", "macOS then logs that person in with the same password: the code is asked for in that login, mostly before there is a network, so that a phone may not ring and a code is needed"),
	}
}

// preference is one of macOS's own settings; "": it is not set.
func (e *Env) preference(ctx context.Context, domain, key string) string {
	out, err := e.Run(ctx, defaults, "read", domain, key)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func checkAutoLogin(ctx context.Context, e *Env) []Result {
	var out []Result
	if who := e.preference(ctx, loginWindow, "autoLoginUser"); who != "" {
		out = append(out, warn("not covered", "System Settings > Users & Groups > Automatically log in as: Off",
			"macOS logs %s in by itself at the start: nobody is asked for a password", who))
	}
	if e.preference(ctx, loginWindow, "GuestEnabled") == "1" {
		out = append(out, info("not covered", "the guest account is on: it has no password, and no code unless the policy requires one of it"))
	}
	return out
}

var (
	ssoExtension  = regexp.MustCompile(`"extensionIdentifier" : "([^"]+)"`)
	ssoLoginType  = regexp.MustCompile(`"loginType" : "?([A-Za-z]+)`)
	ssoRegistered = regexp.MustCompile(`"registrationCompleted" : (true|1)`)
)

// checkPlatformSSO tells of Platform SSO: it logs in at the same window, and unlocks.
func checkPlatformSSO(ctx context.Context, e *Env) []Result {
	answer, err := e.Run(ctx, appSSO, "platform", "-s")
	extension := ssoExtension.FindSubmatch(answer)
	if err != nil || extension == nil { // before macOS 13, or nothing is set up
		return nil
	}
	how := "not registered yet"
	if ssoRegistered.Match(answer) {
		how = "registered"
	}
	if m := ssoLoginType.FindSubmatch(answer); m != nil {
		how += ", " + string(m[1])
	}
	const text = "Platform SSO is set up (%s, %s)"
	report, err := e.Mac.Rights(ctx)
	if err == nil && slices.ContainsFunc(report.Rights, func(r authdb.Right) bool { return r.Right == authdb.Screensaver && r.Wanted }) {
		return []Result{warn("platform-sso", "set authorization_plugin.unlock = false, then: sudo sallyport authdb install",
			text+", and unlocking is guarded: macOS then unlocks by another way than Platform SSO's, which keeps its passwords in step", extension[1], how)}
	}
	return []Result{info("platform-sso", text+": the code is asked for at the login window; unlocking is left to it", extension[1], how)}
}

func checkNetworkTime(ctx context.Context, e *Env) []Result {
	answer, err := e.Run(ctx, systemsetup, "-getusingnetworktime")
	switch {
	case err == nil && bytes.Contains(answer, []byte("Network Time: On")):
		return []Result{ok("clock", "macOS sets it by the network")}
	case err == nil && bytes.Contains(answer, []byte("Network Time: Off")):
		return []Result{warn("clock", "sudo systemsetup -setusingnetworktime on", "it is not set by the network: codes are refused once it is more than about a minute off")}
	}
	return []Result{info("clock", "whether it is set by the network cannot be told (run doctor as root)")}
}

// checkOtherMacWays lists what nothing here guards.
func checkOtherMacWays(context.Context, *Env) []Result {
	return []Result{info("not covered", "no code is asked for by: FileVault before macOS starts, macOS Recovery, file sharing, su, Touch ID and Apple Watch where macOS takes them")}
}
