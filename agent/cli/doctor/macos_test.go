package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sallyport/authplugin/authdb"
	"sallyport/installer/macos/launchd"
	"sallyport/internal/config"
	"sallyport/internal/identity"
	"sallyport/pam/sudolocal"
)

// What macOS's programs say. None of it was recorded by us: it is as their manual
// pages and public reports have it.
const (
	daemonRuns = "system/com.sallyport.agent = {\n\tactive count = 1\n\tpath = /Library/LaunchDaemons/com.sallyport.agent.plist\n\tstate = running\n\n\tpid = 321\n}\n"
	disabled   = "\n\tdisabled services = {\n\t\t\"com.apple.screensharing\" => disabled\n\t\t\"com.openssh.sshd\" => disabled\n\t\t\"com.sallyport.agent\" => enabled\n\t}\n"
	sso        = "Time: 2026-11-22 10:20:30 +0000\n\nDevice Configuration:\n {\n  \"created\" : \"2026-10-01\",\n  \"extensionIdentifier\" : \"com.microsoft.CompanyPortalMac.ssoextension\",\n" +
		"  \"loginType\" : \"POLoginTypePassword (1)\",\n  \"registrationCompleted\" : true,\n}\n\nLogin Configuration:\n (null)\n"
	noSSO       = "Device Configuration:\n (null)\n\nLogin Configuration:\n (null)\n\nUser Configuration:\n (null)\n"
	stockSudo   = "# sudo: auth account password session\nauth       include        sudo_local\nauth       sufficient     pam_smartcard.so\nauth       required       pam_opendirectory.so\naccount    required       pam_permit.so\n"
	stockSSHD   = "# sshd: auth account password session\nauth       optional       pam_krb5.so use_kcminit\nauth       required       pam_opendirectory.so try_first_pass\naccount    required       pam_nologin.so\n"
	sshdConfigs = "UsePAM yes\nPermitRootLogin no\nAuthenticationMethods publickey,keyboard-interactive\n"
)

// mac is a healthy Mac with Sallyport, to be changed by a case.
type mac struct {
	*Env
	files  map[string]*fstest.MapFile // by their full paths
	owners map[string]int
	says   map[string]string // what programs print; not here: they fail
	rights authdb.Report
	broken error // why the rights cannot be told of
}

func newMac(t *testing.T) *mac {
	t.Helper()
	daemon, err := launchd.Plist(launchd.Program, launchd.Arguments(macFiles+"/sallyport.toml"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := sudolocal.Add(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mac{files: map[string]*fstest.MapFile{}, owners: map[string]int{},
		says: map[string]string{
			"/bin/launchctl print system/com.sallyport.agent": daemonRuns,
			"/bin/launchctl print-disabled system":            disabled,
			"/usr/bin/fdesetup list":                          "maya,5C4E9D2A-0000-4000-8000-000000000001\nrescue,5C4E9D2A-0000-4000-8000-000000000002\n",
			"/usr/bin/id -un 501":                             "rescue\n", "/usr/bin/id -un 502": "second\n", "/usr/bin/id -un 503": "third\n",
			"/usr/bin/fdesetup status":                                                       "FileVault is On.\n",
			"/usr/bin/app-sso platform -s":                                                   noSSO,
			"/usr/sbin/systemsetup -getusingnetworktime":                                     "Network Time: On\n",
			"/usr/bin/defaults read /Library/Preferences/com.apple.loginwindow GuestEnabled": "0\n",
		},
		rights: authdb.Report{OK: true, Installed: true, Rights: []authdb.Right{
			{Right: authdb.Console, Wanted: true, State: authdb.Guarded, Ours: []string{"Sallyport:begin,privileged", "Sallyport:prompt", "Sallyport:verify,privileged"}},
			{Right: authdb.Authenticate, State: authdb.Unguarded}, {Right: authdb.Screensaver, State: authdb.Unguarded, Rule: "use-login-window-ui"}}},
	}
	for name, text := range map[string]string{
		launchd.Path: string(daemon), launchd.Program: "", macFiles + "/sallyport.toml": "", breakGlassList: "501 # rescue\n",
		"/etc/pam.d/sudo": stockSudo, "/etc/pam.d/sudo_local": string(ours), sudolocal.Module: "", "/etc/pam.d/sshd": stockSSHD,
	} {
		m.files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	m.Env = &Env{Version: "1.2.3", Keychain: "system-keychain", Config: macFiles + "/sallyport.toml", RuntimeDir: "/var/run/sallyport",
		LoginSocket: "/var/run/sallyport/login.sock", AdminSocket: "/var/run/sallyport/admin.sock", PromptTime: 90 * time.Second,
		Peer: func(string) (identity.ID, error) { return identity.Root, nil },
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			text, ok := m.says[strings.Join(append([]string{name}, args...), " ")]
			if !ok {
				return nil, errors.New("exit status 1")
			}
			return []byte(text), nil
		},
		Mac: &Mac{Rights: func(context.Context) (authdb.Report, error) { return m.rights, m.broken }}}
	m.Lstat = func(name string) (Stat, error) {
		switch f := m.files[name]; {
		case f != nil:
			return Stat{f.Mode, m.owners[name]}, nil
		case name == m.LoginSocket:
			return Stat{fs.ModeSocket | 0o666, m.owners[name]}, nil
		case name == m.AdminSocket:
			return Stat{fs.ModeSocket | 0o600, m.owners[name]}, nil
		}
		if name == "/" || name == m.RuntimeDir || slices.ContainsFunc(slices.Collect(maps.Keys(m.files)), func(f string) bool { return strings.HasPrefix(f, name+"/") }) {
			return Stat{fs.ModeDir | 0o755, m.owners[name]}, nil
		}
		return Stat{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return m
}

// check runs all of them. The files are those of now.
func (m *mac) check() []Result {
	fsys := fstest.MapFS{}
	for name, f := range m.files {
		fsys[strings.TrimPrefix(name, "/")] = f
	}
	m.Root = fsys
	return Check(context.Background(), m.Env)
}

func (m *mac) writes(name, text string) {
	m.files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
}

// right changes one of the report.
func (m *mac) right(name string, change func(*authdb.Right)) {
	for i := range m.rights.Rights {
		if r := &m.rights.Rights[i]; r.Right == name {
			change(r)
		}
	}
}

// gives has an access list give rights to a file.
func gives(name string) func(*mac) {
	return func(m *mac) {
		m.Mac.Gives = func(path string) error {
			if path == name {
				return fmt.Errorf("%s has an access list that gives rights", path)
			}
			return nil
		}
	}
}

func TestAHealthyMac(t *testing.T) {
	m := newMac(t)
	results := m.check()
	if bad := said(results, Fail, Warn); bad != "" {
		t.Errorf("%s", bad)
	}
	for _, check := range []string{"agent", "daemon", "sockets", "configuration", "keychain", "rights", "plug-in", "sudo", "clock", "break-glass", "filevault"} {
		if !slices.ContainsFunc(results, func(r Result) bool { return r.Check == check && r.Status == OK }) {
			t.Errorf("nothing is well with %s:\n%s", check, said(results, OK, Info))
		}
	}
	for _, word := range []string{"systemctl", "journalctl", "ss -xlp", "/run/sallyport ", "timedatectl"} {
		if all := said(results, OK, Info); strings.Contains(all, word) {
			t.Errorf("%q is not macOS's:\n%s", word, all)
		}
	}
}

func TestWhatIsWrongWithAMac(t *testing.T) {
	says := func(program, text string) func(*mac) { return func(m *mac) { m.says[program] = text } }
	fails := func(program string) func(*mac) { return func(m *mac) { delete(m.says, program) } }
	gone := func(name string) func(*mac) { return func(m *mac) { delete(m.files, name) } }
	has := func(name, text string) func(*mac) { return func(m *mac) { m.writes(name, text) } }
	belongs := func(name string, uid int) func(*mac) { return func(m *mac) { m.owners[name] = uid } }
	mode := func(name string, mode fs.FileMode) func(*mac) { return func(m *mac) { m.files[name].Mode = mode } }
	right := func(name string, change func(*authdb.Right)) func(*mac) {
		return func(m *mac) { m.right(name, change) }
	}
	const (
		launchctlPrint = "/bin/launchctl print system/com.sallyport.agent"
		printDisabled  = "/bin/launchctl print-disabled system"
		networkTime    = "/usr/sbin/systemsetup -getusingnetworktime"
		fileVault      = "/usr/bin/fdesetup status"
		platformSSO    = "/usr/bin/app-sso platform -s"
		autoLogin      = "/usr/bin/defaults read /Library/Preferences/com.apple.loginwindow autoLoginUser"
	)
	for _, c := range []struct {
		name   string
		change func(*mac)
		status Status
		check  string
		want   string
	}{
		{"the agent is down", func(m *mac) { m.AgentDown, m.AgentRemedy = "it is not running", "start it" }, Fail, "agent", "not running"},
		{"no daemon", gone(launchd.Path), Fail, "daemon", "does not start with macOS"},
		{"a daemon's file of a user", belongs(launchd.Path, 501), Fail, "daemon", "uid 501"},
		{"a daemon's file that others can write", mode(launchd.Path, 0o664), Fail, "daemon", "launchd does not take it"},
		{"a daemon's file that is a link", mode(launchd.Path, fs.ModeSymlink|0o755), Fail, "daemon", "launchd does not take it"},
		{"another daemon", has(launchd.Path, "<plist version=\"1.0\"><dict><key>Label</key><string>x</string></dict></plist>"), Fail, "daemon", "is not the agent's"},
		{"half a daemon", has(launchd.Path, "<plist"), Fail, "daemon", "is not the agent's"},
		{"a program of Homebrew's", belongs(launchd.Program, 501), Fail, "daemon", "belongs to uid 501"},
		{"a program in a folder of a user", belongs(macFiles+"/bin", 501), Fail, "daemon", macFiles + "/bin belongs to uid 501"},
		{"a program that is not there", gone(launchd.Program), Fail, "daemon", "not exist"},
		{"switched off", says(printDisabled, strings.Replace(disabled, "agent\" => enabled", "agent\" => disabled", 1)), Fail, "daemon", "switched it off"},
		{"not loaded", fails(launchctlPrint), Fail, "daemon", "not loaded"},
		{"crashing", says(launchctlPrint, strings.Replace(daemonRuns, "state = running", "state = spawn scheduled", 1)), Fail, "daemon", "spawn scheduled"},
		{"an answer of a later launchd", says(launchctlPrint, "other words"), OK, "daemon", "launchd: loaded"},
		{"a socket of somebody", belongs("/var/run/sallyport/login.sock", 501), Fail, "sockets", "uid 501"},
		{"an agent of somebody", func(m *mac) {
			m.Peer = func(string) (identity.ID, error) { return identity.UID(501), nil }
		}, Fail, "sockets", "not root's"},
		{"a configuration that others can write", mode(macFiles+"/sallyport.toml", 0o666), Fail, "configuration", "can be written by others"},
		{"its folder is a user's", belongs(macFiles, 501), Fail, "configuration", "belongs to uid 501"},
		{"below /etc", func(m *mac) {
			m.files["/etc"] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o755}
			m.Config = "/etc/sallyport/x.toml"
			m.writes("/private/etc/sallyport/x.toml", "")
		}, OK, "configuration", "/etc/sallyport/x.toml, which only root can change"},
		{"below /etc, a user's", func(m *mac) {
			m.Config = "/etc/x.toml"
			m.writes("/private/etc/x.toml", "")
			m.owners["/private/etc/x.toml"] = 501
		}, Fail, "configuration", "belongs to uid 501"},
		{"no configuration", gone(macFiles + "/sallyport.toml"), Info, "configuration", "defaults are in force"},
		{"managed", has(config.PreferencesPath, ""), Info, "configuration", "win over the file"},
		{"not managed", func(*mac) {}, Info, "configuration", "MDM sets nothing"},
		{"a key in a file", func(m *mac) { m.Keychain = "file" }, Info, "keychain", "FileVault"},
		{"rights that cannot be told of", func(m *mac) { m.broken = errors.New("no configuration") }, Info, "rights", "no configuration"},
		{"after an upgrade of macOS", right(authdb.Console, func(r *authdb.Right) { r.State, r.Ours = authdb.Unguarded, nil }), Fail, "rights", "an upgrade of macOS"},
		{"not installed yet", func(m *mac) {
			m.rights.Installed = false
			m.right(authdb.Console, func(r *authdb.Right) { r.State, r.Ours = authdb.Unguarded, nil })
		}, Warn, "rights", "asks for no code yet"},
		{"out of order", right(authdb.Console, func(r *authdb.Right) { r.State, r.Why = authdb.Disorder, "verify is before begin" }), Fail, "rights", "verify is before begin"},
		{"another login window", right(authdb.Console, func(r *authdb.Right) {
			r.State, r.Ours, r.Others, r.Why = authdb.Unknown, nil, []string{"XCredsLoginPlugin:UserSetup"}, "no builtin:authenticate"
		}), Fail, "rights", "is left alone: no builtin:authenticate"},
		{"and whose it is", right(authdb.Console, func(r *authdb.Right) { r.Others = []string{"Crypt:Check,privileged"} }), Info, "rights", "another product's mechanisms, too: Crypt:Check"},
		{"unlock is wanted, and is not", right(authdb.Screensaver, func(r *authdb.Right) { r.Wanted = true }), Fail, "rights", "system.login.screensaver (unlocking) asks for no code any more"},
		{"unlock is another's", right(authdb.Screensaver, func(r *authdb.Right) { r.Wanted, r.State, r.Why = true, authdb.Unknown, "another product's rule" }), Fail, "rights", "another product's rule"},
		{"elevation is guarded, and not to be", right(authdb.Authenticate, func(r *authdb.Right) { r.State, r.Ours = authdb.Guarded, []string{"Sallyport:prompt"} }), Warn, "rights", "is not to be guarded"},
		{"what is not configured is said", func(*mac) {}, Info, "not covered", "no code is asked for at unlocking: authorization_plugin.unlock is off"},
		{"a plug-in that does not load", func(m *mac) { m.rights.Bundle = "it does not load" }, Fail, "plug-in", "Nobody whom they guard gets in"},
		{"no plug-in, and nobody asks it", func(m *mac) {
			m.rights.Bundle = "no such file"
			m.right(authdb.Console, func(r *authdb.Right) { r.Ours, r.State = nil, authdb.Unguarded })
		}, Fail, "plug-in", "it cannot be used: no such file"},
		{"repaired", func(m *mac) { m.rights.Repaired = time.Date(2026, 11, 22, 10, 20, 0, 0, time.UTC) }, Info, "rights", "put ours back on 2026-11-22 10:20"},
		{"a note", func(m *mac) { m.rights.Note = "what was installed is not known" }, Info, "rights", "not known"},
		{"no break-glass", gone(breakGlassList), Warn, "break-glass", "not set up"},
		{"an empty break-glass list", has(breakGlassList, "# nobody\n\n"), Warn, "break-glass", "names nobody"},
		{"a name in the break-glass list", has(breakGlassList, "501\nrescue\n"), Fail, "break-glass", "line 2 is no uid"},
		{"nobody in the break-glass list", has(breakGlassList, "4294967295\n"), Fail, "break-glass", "line 1 is no uid"},
		{"a long break-glass list", has(breakGlassList, strings.Repeat("501\n", 20_000)), Fail, "break-glass", "over 65536 bytes"},
		{"a break-glass list of a user", belongs(breakGlassList, 501), Fail, "break-glass", "lets nobody in"},
		{"a break-glass list for all to write", mode(breakGlassList, 0o646), Fail, "break-glass", "lets nobody in"},
		{"a break-glass list that an access list gives away", gives(breakGlassList), Fail, "break-glass", "lets nobody in"},
		{"the agent's program, likewise", gives(launchd.Program), Fail, "daemon", "has an access list"},
		{"a break-glass list that is a link", mode(breakGlassList, fs.ModeSymlink|0o777), Fail, "break-glass", "no regular file"},
		{"the break-glass list's uids", has(breakGlassList, "uid:502\r\n 503 # two\n503"), OK, "break-glass", "password alone: second, third"},
		{"a break-glass uid of nobody", has(breakGlassList, "777\n501\n"), Warn, "break-glass", "uid 777 is no account here"},
		{"a break-glass account that cannot start the Mac", has(breakGlassList, "502\n"), Warn, "break-glass", "second cannot start this Mac"},
		{"nobody but root may ask who can", func(m *mac) {
			delete(m.says, "/usr/bin/fdesetup list")
			m.writes(breakGlassList, "502\n")
		}, OK, "break-glass", "password alone: second"},
		{"sudo of macOS 13", has("/etc/pam.d/sudo", strings.Replace(stockSudo, "auth       include        sudo_local\n", "", 1)), Info, "not covered", "macOS 14"},
		{"sudo is not guarded", gone("/etc/pam.d/sudo_local"), Info, "not covered", "sudo asks for no code: the password is enough; to change that"},
		{"Touch ID before ours", func(m *mac) {
			m.files["/etc/pam.d/sudo_local"].Data = append([]byte("auth sufficient pam_tid.so\n"), m.files["/etc/pam.d/sudo_local"].Data...)
		}, Warn, "sudo", "Touch ID"},
		{"a smart card before ours", func(m *mac) {
			m.files["/etc/pam.d/sudo_local"].Data = append([]byte("auth sufficient pam_smartcard.so\n"), m.files["/etc/pam.d/sudo_local"].Data...)
		}, Warn, "sudo", "pam_smartcard"},
		{"our module by hand", has("/etc/pam.d/sudo_local", "auth optional "+sudolocal.Module+"\n"), Fail, "sudo", "not in the block"},
		{"sudo without its module", gone(sudolocal.Module), Fail, "sudo", "sudo lets nobody in"},
		{"sudo's module of a user", belongs(sudolocal.Module, 501), Fail, "sudo", "belongs to uid 501"},
		{"NOPASSWD", has("/etc/sudoers", "%admin ALL=(ALL) NOPASSWD: ALL\n"), Info, "not covered", "NOPASSWD"},
		{"Remote Login", says(printDisabled, strings.Replace(disabled, "sshd\" => disabled", "sshd\" => enabled", 1)), Warn, "sshd", "Remote Login is on"},
		{"Remote Login, guarded, by a key alone", func(m *mac) {
			m.writes("/etc/pam.d/sshd", stockSSHD+"auth required "+sudolocal.Module+"\n")
			m.writes("/etc/ssh/sshd_config", "UsePAM yes\n")
		}, Fail, "sshd", "publickey alone lets in"},
		{"Remote Login, guarded", func(m *mac) {
			m.writes("/etc/pam.d/sshd", stockSSHD+"auth required "+sudolocal.Module+"\n")
			m.writes("/etc/ssh/sshd_config", sshdConfigs)
		}, Info, "sshd", "an upgrade of macOS"},
		{"Remote Login of which nothing is known", says(printDisabled, "disabled services = {\n}\n"), Info, "not covered", "if it is on"},
		{"Screen Sharing", says(printDisabled, strings.Replace(disabled, "screensharing\" => disabled", "screensharing\" => false", 1)), Warn, "not covered", "Screen Sharing is on"},
		{"a launchd that says nothing", fails(printDisabled), Info, "not covered", "cannot be told"},
		{"FileVault is off", says(fileVault, "FileVault is Off.\n"), Warn, "filevault", "it is off"},
		{"FileVault that says nothing", fails(fileVault), Info, "filevault", "cannot be told"},
		{"FileVault in other words", says(fileVault, "?"), Info, "filevault", "cannot be told"},
		{"FileVault's login goes on", func(*mac) {}, Info, "filevault", "a phone may not ring"},
		{"FileVault's login ends there", says("/usr/bin/defaults read /Library/Preferences/com.apple.loginwindow DisableFDEAutoLogin", "1\n"), OK, "filevault", "logs nobody in"},
		{"the same, by MDM", says("/usr/bin/defaults read /Library/Managed Preferences/com.apple.loginwindow DisableFDEAutoLogin", "1\n"), OK, "filevault", "logs nobody in"},
		{"Platform SSO", says(platformSSO, sso), Info, "platform-sso", "(com.microsoft.CompanyPortalMac.ssoextension, registered, POLoginTypePassword)"},
		{"Platform SSO, and unlock", func(m *mac) {
			m.says[platformSSO] = sso
			m.right(authdb.Screensaver, func(r *authdb.Right) { r.Wanted, r.State = true, authdb.Guarded })
		}, Warn, "platform-sso", "unlocking is guarded"},
		{"automatic login", says(autoLogin, "kiosk\n"), Warn, "not covered", "logs kiosk in by itself"},
		{"a guest", says("/usr/bin/defaults read /Library/Preferences/com.apple.loginwindow GuestEnabled", "1\n"), Info, "not covered", "guest"},
		{"time by hand", says(networkTime, "Network Time: Off\n"), Warn, "clock", "not set by the network"},
		{"time that only root may ask for", says(networkTime, "You need administrator access to run this tool... exiting!\n"), Info, "clock", "as root"},
		{"what nothing covers", func(*mac) {}, Info, "not covered", "Recovery"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMac(t)
			c.change(m)
			results := m.check()
			for _, r := range results {
				if (r.Status == Fail || r.Status == Warn) && r.Remedy == "" {
					t.Errorf("no remedy for: %s", r.Text)
				}
				if strings.Contains(r.Remedy, "systemctl") || strings.Contains(r.Text+r.Remedy, "%!") {
					t.Errorf("%s: %s", r.Text, r.Remedy)
				}
			}
			if !slices.ContainsFunc(results, func(r Result) bool {
				return r.Status == c.status && r.Check == c.check && strings.Contains(r.Text, c.want)
			}) {
				t.Errorf("no %s %s with %q in:\n%s", c.status, c.check, c.want, said(results, Fail, Warn, Info, OK))
			}
			if slices.ContainsFunc(results, func(r Result) bool { return r.Status == OK && r.Check == c.check }) && c.status == Fail && !slices.Contains([]string{"agent", "rights", "sockets", "sudo"}, c.check) {
				t.Errorf("and all is well with it:\n%s", said(results, OK))
			}
		})
	}
}

// TestTheBreakGlassListIsReadAsThePluginDoes: the same lines as its own test has.
func TestTheBreakGlassListIsReadAsThePluginDoes(t *testing.T) {
	for text, want := range map[string]string{
		"": "[] 0", "501": "[501] 0", "uid:501\n": "[501] 0", "\t501 \r\n#x\n 502#y\n501": "[501 502] 0", "0\n": "[0] 0", "4294967294": "[4294967294] 0",
		"01": "[] 1", "uid:": "[] 1", "-1": "[] 1", "+1": "[] 1", "0x10": "[] 1", "5 6": "[] 1", "501\nadmin": "[] 2", "4294967295": "[] 1", "99999999999": "[] 1",
		"uid:uid:5": "[] 1", "uid: 5": "[] 1", "5\x00": "[] 1",
	} {
		uids, line := breakGlassUIDs([]byte(text))
		if got := fmt.Sprint(uids, line); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
