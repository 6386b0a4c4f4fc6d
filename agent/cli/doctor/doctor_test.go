package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"sallyport/internal/identity"
)

// computer is a healthy Debian with Sallyport in sshd, sudo and login; a case
// changes what it is about. An empty text takes a file away.
func computer(changes map[string]string) *Env {
	fsys := fstest.MapFS{}
	files := map[string]string{
		"etc/pam.d/common-auth": "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
		"etc/pam.d/common-account": "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\n" +
			"account required pam_permit.so\n",
		"etc/pam.d/sshd":             "@include common-auth\nauth required pam_sallyport.so\naccount required pam_sallyport.so\n@include common-account\n",
		"etc/pam.d/login":            "@include common-auth\nauth required pam_sallyport.so\n@include common-account\n",
		"etc/pam.d/sudo":             "@include common-auth\nauth required pam_sallyport.so\n@include common-account\n",
		"etc/pam.d/cron":             "@include common-auth\n@include common-account\n",
		"etc/ssh/sshd_config":        "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nKbdInteractiveAuthentication yes\nPermitRootLogin no\n",
		"etc/group":                  "root:x:0:\nglass:x:990:alice,bob\nempty:x:991:\n",
		"usr/share/pam-configs/unix": "Name: Unix\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore] pam_unix.so\n",
		"lib/x86_64-linux-gnu/security/pam_sallyport.so": "ELF",
	}
	for name, text := range changes {
		files[name] = text
	}
	for name, text := range files {
		if text != "" {
			fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		}
	}
	return &Env{
		Root: fsys, EUID: 0, RuntimeDir: "/run/sallyport", LoginSocket: "/run/sallyport/login.sock", AdminSocket: "/run/sallyport/admin.sock",
		PromptTime: 90 * time.Second,
		Run:        func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("no such program") },
		Lstat: func(path string) (Stat, error) {
			switch path {
			case "/run/sallyport":
				return Stat{fs.ModeDir | 0o755, 0}, nil
			case "/run/sallyport/login.sock":
				return Stat{fs.ModeSocket | 0o666, 0}, nil
			case "/run/sallyport/admin.sock":
				return Stat{fs.ModeSocket | 0o660, 0}, nil
			}
			st, err := fs.Stat(fsys, strings.TrimPrefix(path, "/"))
			if err != nil {
				return Stat{}, err
			}
			return Stat{st.Mode(), 0}, nil
		},
		Peer:         func(string) (identity.ID, error) { return identity.Root, nil },
		Synchronised: func() (bool, error) { return true, nil },
	}
}

// said is the findings of one status as lines.
func said(results []Result, statuses ...Status) string {
	var b strings.Builder
	for _, r := range results {
		for _, s := range statuses {
			if r.Status == s {
				fmt.Fprintf(&b, "%s %s: %s\n", r.Status, r.Check, r.Text)
			}
		}
	}
	return b.String()
}

func TestHealthyComputer(t *testing.T) {
	results := Check(context.Background(), computer(nil))
	if bad := said(results, Fail, Warn); bad != "" {
		t.Errorf("findings on a healthy computer:\n%s", bad)
	}
	good := said(results, OK)
	for _, want := range []string{"ok agent", "login.sock: mode 0666, answered by uid:0", "ok module: /lib/x86_64-linux-gnu/security/pam_sallyport.so",
		"ok stacks: a code is asked for after the first factor: login, sshd, sudo", "publickey alone runs no auth stack: the account line refuses",
		"UsePAM and KbdInteractiveAuthentication are on", "ok clock"} {
		if !strings.Contains(good, want) {
			t.Errorf("no %q in:\n%s", want, good)
		}
	}
	if notes := said(results, Info); !strings.Contains(notes, "break-glass: not set up") || strings.Contains(notes, "not covered") {
		t.Errorf("%s", notes)
	}
}

func TestMistakes(t *testing.T) {
	const common = "etc/pam.d/common-auth"
	for _, c := range []struct {
		name    string
		changes map[string]string
		env     func(*Env)
		status  Status
		check   string
		want    string // in the text
		remedy  string // in the remedy
	}{
		{"above pam_unix", map[string]string{"etc/pam.d/sshd": "auth required pam_sallyport.so\n@include common-auth\naccount required pam_sallyport.so\n"}, nil,
			Fail, "stacks", "/etc/pam.d/sshd:1 is above", "below the password"},
		{"below a sufficient one", map[string]string{"etc/pam.d/login": "auth sufficient pam_unix.so\nauth required pam_sallyport.so\n"}, nil,
			Fail, "stacks", `whoever passes "/etc/pam.d/login:1 sufficient pam_unix.so" is let in`, "Additional"},
		{"a Primary profile's jump", map[string]string{common: "auth [success=2 default=ignore] pam_unix.so\nauth [success=1 default=ignore] pam_sallyport.so\n" +
			"auth requisite pam_deny.so\nauth required pam_permit.so\n"}, nil,
			Fail, "stacks", "never comes by /etc/pam.d/common-auth:2 (in the stack of cron)", "Additional"},
		{"a Primary profile", map[string]string{"usr/share/pam-configs/sallyport": "Name: x\nAuth-Type: Primary\nAuth:\n\trequired pam_sallyport.so\n"}, nil,
			Fail, "pam-auth-update", "Primary", "Auth-Type: Additional"},
		{"a profile with an account line", map[string]string{"usr/share/pam-configs/sallyport": "Name: x\nAuth-Type: Additional\nAuth:\n\trequired pam_sallyport.so\n" +
			"Account-Type: Additional\nAccount:\n\trequired pam_sallyport.so\n"}, nil,
			Fail, "pam-auth-update", "cron", "Account section"},
		{"optional", map[string]string{"etc/pam.d/sudo": "@include common-auth\nauth optional pam_sallyport.so\n"}, nil,
			Fail, "stacks", "whoever it refuses is let in", "auth required pam_sallyport.so"},
		{"an outage lets in", map[string]string{"etc/pam.d/sudo": "@include common-auth\nauth [success=ok authinfo_unavail=ignore ignore=ignore default=bad] pam_sallyport.so\n"}, nil,
			Warn, "stacks", "while the agent is down everybody is let in", "break-glass"},
		{"a code alone", map[string]string{"etc/pam.d/sudo": "auth sufficient pam_sallyport.so\n@include common-auth\n"}, nil,
			Fail, "stacks", "a code alone lets in", "below the password"},
		{"asked after a wrong password", map[string]string{"etc/pam.d/login": "auth required pam_unix.so\nauth required pam_sallyport.so\n"}, nil,
			Warn, "stacks", "strangers can lock people out", "requisite"},
		{"the unenrolled are refused", map[string]string{"etc/pam.d/login": "auth required pam_sallyport.so\n"}, nil,
			Warn, "stacks", "no other line says yes", "pam_permit"},
		{"a broken include", map[string]string{"etc/pam.d/login": "@include nothing\n"}, nil, Warn, "stacks", "/etc/pam.d/login:1", "refuses everybody"},
		{"no stack at all", map[string]string{"etc/pam.d/sshd": "@include common-auth\n", "etc/pam.d/login": "", "etc/pam.d/sudo": ""}, nil,
			Warn, "stacks", "no login asks for a code", ""},
		{"account in common-account", map[string]string{"etc/pam.d/common-account": "account required pam_sallyport.so\naccount required pam_unix.so\n"}, nil,
			Fail, "account", "locks enrolled users out of cron", "/etc/pam.d/sshd only"},
		{"account in system-auth", map[string]string{"etc/pam.d/system-auth": "account required pam_sallyport.so\n"}, nil, Fail, "account", "shared file", ""},
		{"account in sudo", map[string]string{"etc/pam.d/sudo": "@include common-auth\naccount required pam_sallyport.so\n"}, nil, Fail, "account", "/etc/pam.d/sudo:2", ""},
		{"account in login", map[string]string{"etc/pam.d/login": "@include common-auth\naccount required pam_sallyport.so\n"}, nil, Warn, "account", "/etc/pam.d/login:2", ""},
		{"account behind common-account", map[string]string{"etc/pam.d/sshd": "@include common-auth\nauth required pam_sallyport.so\n@include common-account\naccount required pam_sallyport.so\n"}, nil,
			Fail, "account", "a public key alone gets in", "first"},
		{"account optional", map[string]string{"etc/pam.d/sshd": "@include common-auth\nauth required pam_sallyport.so\naccount optional pam_sallyport.so\n@include common-account\n"}, nil,
			Fail, "account", "its refusal does not count", ""},
		{"KbdInteractiveAuthentication off", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nKbdInteractiveAuthentication no\n"}, nil,
			Fail, "sshd", "sshd cannot ask for a code", "KbdInteractiveAuthentication yes"},
		{"its old name", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nChallengeResponseAuthentication no\n"}, nil, Fail, "sshd", "sshd cannot ask for a code", ""},
		{"off in an included file that comes first", map[string]string{"etc/ssh/sshd_config.d/50-x.conf": "kbdinteractiveauthentication=no\n"}, nil, Fail, "sshd", "cannot ask", ""},
		{"off, but sshd does not ask yet", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nKbdInteractiveAuthentication no\n", "etc/pam.d/sshd": "@include common-auth\n"}, nil,
			Warn, "sshd", "sshd cannot ask for a code", ""},
		{"UsePAM no is the default", map[string]string{"etc/ssh/sshd_config": "Port 22\n"}, nil, Fail, "sshd", "UsePAM is no", ""},
		{"publickey alone", map[string]string{"etc/pam.d/sshd": "@include common-auth\nauth required pam_sallyport.so\n@include common-account\n"}, nil,
			Fail, "sshd", "publickey alone lets in without a code", "AuthenticationMethods publickey,keyboard-interactive"},
		{"publickey alone as one of several", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nAuthenticationMethods publickey,keyboard-interactive publickey\n",
			"etc/pam.d/sshd": "@include common-auth\nauth required pam_sallyport.so\n"}, nil, Fail, "sshd", "publickey alone lets in", ""},
		{"gssapi alone", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nGSSAPIAuthentication yes\nPubkeyAuthentication no\n",
			"etc/pam.d/sshd": "@include common-auth\nauth required pam_sallyport.so\n"}, nil, Fail, "sshd", "gssapi-with-mic alone", ""},
		{"gssapi is named", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nGSSAPIAuthentication yes\nAuthenticationMethods keyboard-interactive gssapi-with-mic,keyboard-interactive\n",
			"etc/pam.d/sshd": "@include common-auth\nauth required pam_sallyport.so\n"}, nil, Info, "not covered", "Kerberos", ""},
		{"key and password", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nAuthenticationMethods publickey,password\n"}, nil, Fail, "sshd", "the password method cannot ask", "keyboard-interactive"},
		{"a short grace", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nLoginGraceTime 1m\n"}, nil, Warn, "sshd", "LoginGraceTime is 1m0s, shorter than the 1m30s", "LoginGraceTime"},
		{"root", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nPermitRootLogin yes\n"}, nil, Info, "sshd", "PermitRootLogin is yes", ""},
		{"a Match block", map[string]string{"etc/ssh/sshd_config": "UsePAM yes\nMatch User backup\n  AuthenticationMethods publickey\n"}, nil, Info, "sshd", "Match User backup: AuthenticationMethods publickey", ""},
		{"no sshd", map[string]string{"etc/ssh/sshd_config": ""}, nil, Info, "sshd", "no OpenSSH server", ""},
		{"sshd -T counts more than the file", nil, func(e *Env) {
			e.Run = func(_ context.Context, name string, args ...string) ([]byte, error) {
				if name != "sshd" || args[0] != "-T" {
					return nil, errors.New("no")
				}
				return []byte("usepam yes\nkbdinteractiveauthentication no\nauthenticationmethods any\n"), nil
			}
		}, Fail, "sshd", "cannot ask", ""},
		{"module not installed, and named", map[string]string{"lib/x86_64-linux-gnu/security/pam_sallyport.so": ""}, nil, Fail, "module", "not installed", "install the package"},
		{"module not installed", map[string]string{"lib/x86_64-linux-gnu/security/pam_sallyport.so": "", "etc/pam.d/sshd": "", "etc/pam.d/login": "", "etc/pam.d/sudo": ""}, nil, Warn, "module", "not installed", ""},
		{"module of others", nil, func(e *Env) {
			lstat := e.Lstat
			e.Lstat = func(path string) (Stat, error) {
				st, err := lstat(path)
				if strings.HasSuffix(path, ".so") {
					st.Mode |= 0o020
				}
				return st, err
			}
		}, Fail, "module", "can be changed by others", "chown"},
		{"agent down", nil, func(e *Env) { e.AgentDown, e.AgentRemedy = "the agent is not running: x", "start it" }, Fail, "agent", "not running", "start it"},
		{"agent's problem", nil, func(e *Env) { e.Problems = []Problem{{Text: "the clock went back", Remedy: "set it"}} }, Fail, "agent", "went back", "set it"},
		{"not root", nil, func(e *Env) { e.AgentNote = "not permitted" }, Info, "agent", "cannot be told", ""},
		{"login socket closed", nil, func(e *Env) { e.Lstat = mode("login.sock", fs.ModeSocket|0o600, 0) }, Fail, "sockets", "not 0666", "restart"},
		{"admin socket open", nil, func(e *Env) { e.Lstat = mode("admin.sock", fs.ModeSocket|0o666, 0) }, Fail, "sockets", "open to everybody", "restart"},
		{"a stranger's socket", nil, func(e *Env) { e.Lstat = mode("login.sock", fs.ModeSocket|0o666, 1000) }, Fail, "sockets", "belongs to uid 1000", ""},
		{"no socket", nil, func(e *Env) { e.Lstat = mode("login.sock", 0o666, 0) }, Fail, "sockets", "is not a socket", ""},
		{"socket gone", nil, func(e *Env) {
			e.Lstat = func(string) (Stat, error) { return Stat{}, &fs.PathError{Op: "lstat", Path: "x", Err: fs.ErrNotExist} }
		}, Fail, "sockets", "login.sock: file does not exist", ""},
		{"a stranger answers", nil, func(e *Env) { e.Peer = func(string) (identity.ID, error) { return identity.UID(1000), nil } }, Fail, "sockets", "uid:1000 answers", ""},
		{"nobody answers", nil, func(e *Env) {
			e.Peer = func(string) (identity.ID, error) { return "", errors.New("connection refused") }
		}, Fail, "sockets", "connection refused", ""},
		{"admin socket not for us", nil, func(e *Env) { e.Peer = func(string) (identity.ID, error) { return "", fs.ErrPermission } }, Info, "sockets", "not for you", ""},
		{"runtime directory open", nil, func(e *Env) { e.Lstat = mode("/run/sallyport", fs.ModeDir|0o777, 0) }, Fail, "sockets", "can be written by others", "chmod"},
		{"clock", nil, func(e *Env) { e.Synchronised = func() (bool, error) { return false, nil } }, Warn, "clock", "not synchronised", "timedatectl"},
		{"clock by timedatectl", nil, func(e *Env) {
			e.Synchronised = func() (bool, error) { return false, errors.New("not permitted") }
			e.Run = func(context.Context, string, ...string) ([]byte, error) { return []byte("no\n"), nil }
		}, Warn, "clock", "not synchronised", ""},
		{"clock unknown", nil, func(e *Env) { e.Synchronised = func() (bool, error) { return false, errors.New("not permitted") } }, Info, "clock", "cannot be told", ""},
		{"SELinux without the module", map[string]string{"sys/fs/selinux/enforce": "1"}, func(e *Env) {
			e.Run = func(context.Context, string, ...string) ([]byte, error) { return []byte("abrt\nzebra\n"), nil }
		}, Fail, "selinux", "no module for Sallyport", "semodule"},
		{"SELinux with it", map[string]string{"sys/fs/selinux/enforce": "1\n"}, func(e *Env) {
			e.Run = func(context.Context, string, ...string) ([]byte, error) { return []byte("abrt\nsallyport 1.0\n"), nil }
		}, OK, "selinux", "with the policy module", ""},
		{"SELinux, not to be told", map[string]string{"sys/fs/selinux/enforce": "1"}, nil, Info, "selinux", "cannot be told", ""},
		{"break-glass", map[string]string{"etc/pam.d/login": "@include common-auth\nauth [success=1 default=ignore] pam_succeed_if.so quiet user ingroup glass\nauth required pam_sallyport.so\n"}, nil,
			Info, "break-glass", "set up for the group glass: login; in it: alice, bob", ""},
		{"break-glass without anybody", map[string]string{"etc/pam.d/login": "@include common-auth\nauth [success=1 default=ignore] pam_succeed_if.so quiet user ingroup empty\nauth required pam_sallyport.so\n"}, nil,
			Info, "break-glass", "nobody is in it", ""},
		{"break-glass without its group", map[string]string{"etc/pam.d/login": "@include common-auth\nauth [success=1 default=ignore] pam_succeed_if.so quiet user ingroup gone\nauth required pam_sallyport.so\n"}, nil,
			Info, "break-glass", "no such local group", ""},
		{"su lets root by", map[string]string{"etc/pam.d/su": "auth sufficient pam_rootok.so\n@include common-auth\nauth required pam_sallyport.so\n"}, nil, Info, "stacks", "pam_rootok.so", ""},
		{"a service that does not ask", map[string]string{"etc/pam.d/gdm-fingerprint": "auth required pam_fprintd.so\n"}, nil, Info, "not covered", "gdm-fingerprint", ""},
		{"NOPASSWD", map[string]string{"etc/sudoers.d/x": "# NOPASSWD\nalice ALL=(ALL) NOPASSWD: ALL\n"}, nil, Info, "not covered", "/etc/sudoers.d/x:2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := computer(c.changes)
			if c.env != nil {
				c.env(e)
			}
			results := Check(context.Background(), e)
			for _, r := range results {
				if r.Status == c.status && r.Check == c.check && strings.Contains(r.Text, c.want) && strings.Contains(r.Remedy, c.remedy) {
					return
				}
			}
			t.Errorf("no %s %s with %q and %q in:\n%s", c.status, c.check, c.want, c.remedy, said(results, Fail, Warn, Info, OK))
		})
	}
}

func TestAuthority(t *testing.T) {
	const unit = "etc/systemd/system/sallyport.service"
	joined := func() *Authority {
		return &Authority{URL: "https://a:7443", Connected: true, Until: "tomorrow", Trust: []string{"the page comes from the authority"}}
	}
	for name, c := range map[string]struct {
		changes map[string]string
		change  func(*Authority)
		status  Status
		want    string // "" is nothing to say
	}{
		"connected":                       {nil, nil, OK, "https://a:7443 is connected; this computer's certificate is good until tomorrow"},
		"whom it trusts":                  {nil, nil, Info, "the page comes from the authority"},
		"nothing is wrong":                {map[string]string{unit: "[Service]\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"}, nil, Fail, ""},
		"no unit of ours":                 {nil, nil, Fail, ""},
		"not connected":                   {nil, func(a *Authority) { a.Connected, a.Why = false, "connection refused" }, Warn, "not connected: connection refused. No phone rings; logins go on with codes"},
		"phones without codes":            {nil, func(a *Authority) { a.NoCode = []string{"maya", "bob"} }, Warn, "maya, bob. Nobody is push-only"},
		"phones of people not allowed":    {nil, func(a *Authority) { a.NotAllowed = make([]string, 30) }, Warn, ", ..."},
		"the unit of the version before":  {map[string]string{unit: "[Service]\nRestrictAddressFamilies=AF_UNIX\n"}, nil, Fail, "/" + unit + " lets the agent have no network"},
		"the same from a package":         {map[string]string{"usr/lib/systemd/system/sallyport.service": "RestrictAddressFamilies=AF_UNIX\n"}, nil, Fail, "no network"},
		"one of ours hides the package's": {map[string]string{"usr/lib/systemd/system/sallyport.service": "RestrictAddressFamilies=AF_UNIX\n", unit: "[Service]\n"}, nil, Fail, ""},
		"a drop-in gives it back":         {map[string]string{unit: "RestrictAddressFamilies=AF_UNIX\n", unit + ".d/net.conf": "[Service]\nRestrictAddressFamilies=AF_INET\n"}, nil, Fail, ""},
		"a drop-in takes it away":         {map[string]string{unit: "RestrictAddressFamilies=AF_UNIX AF_INET\n", unit + ".d/net.conf": "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n"}, nil, Fail, "net.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			e := computer(c.changes)
			e.Authority = joined()
			if c.change != nil {
				c.change(e.Authority)
			}
			var about []Result
			for _, r := range Check(context.Background(), e) {
				if r.Check == "authority" {
					about = append(about, r)
				}
			}
			if got := said(about, c.status); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%s, want %q", got, c.want)
			}
		})
	}
	// A link that was ended on purpose is not mended by waiting.
	e := computer(nil)
	e.Authority = joined()
	e.Authority.Connected, e.Authority.Refused = false, true
	for _, r := range Check(context.Background(), e) {
		if r.Check == "authority" && r.Status == Warn && r.Remedy != "the authority ended it on purpose; what to do: sallyport status" {
			t.Errorf("refused: %s", r.Remedy)
		}
	}
	// Where none was joined nothing is asked of the unit.
	if got := said(Check(context.Background(), computer(map[string]string{unit: "RestrictAddressFamilies=AF_UNIX\n"})), Fail, Warn); got != "" {
		t.Errorf("no authority: %s", got)
	}
}

// mode is a healthy Lstat with one answer changed.
func mode(suffix string, m fs.FileMode, uid int) func(string) (Stat, error) {
	healthy := computer(nil).Lstat
	return func(path string) (Stat, error) {
		if strings.HasSuffix(path, suffix) {
			return Stat{m, uid}, nil
		}
		return healthy(path)
	}
}

// A key first and then only the code is a good way, too: sshd has proven the
// first factor.
func TestKeyThenCodeAlone(t *testing.T) {
	changes := map[string]string{
		"etc/ssh/sshd_config": "UsePAM yes\nAuthenticationMethods publickey,keyboard-interactive:pam\n",
		"etc/pam.d/sshd":      "auth required pam_sallyport.so skip=success\n@include common-account\n",
	}
	if bad := said(Check(context.Background(), computer(changes)), Fail, Warn); bad != "" {
		t.Errorf("%s", bad)
	}
	changes["etc/ssh/sshd_config"] = "UsePAM yes\nAuthenticationMethods keyboard-interactive\n"
	if bad := said(Check(context.Background(), computer(changes)), Fail, Warn); !strings.Contains(bad, "nothing above it checks a first factor") {
		t.Errorf("%s", bad)
	}
}

func TestEveryFindingHasARemedy(t *testing.T) {
	e := computer(map[string]string{"etc/pam.d/sshd": "auth sufficient pam_sallyport.so\n@include common-auth\n", "etc/ssh/sshd_config": "Port 22\n",
		"lib/x86_64-linux-gnu/security/pam_sallyport.so": "", "etc/pam.d/common-account": "account optional pam_sallyport.so\n"})
	e.Synchronised = func() (bool, error) { return false, nil }
	e.Authority = &Authority{NoCode: []string{"a"}, NotAllowed: []string{"b"}}
	for _, r := range Check(context.Background(), e) {
		if (r.Status == Fail || r.Status == Warn) && r.Remedy == "" {
			t.Errorf("%s: %s", r.Check, r.Text)
		}
	}
}

func TestEmptyComputer(t *testing.T) {
	e := computer(nil)
	e.Root = fstest.MapFS{}
	e.EUID = 1000
	if bad := said(Check(context.Background(), e), Fail); bad != "" {
		t.Errorf("%s", bad)
	}
}

func TestSSHDTime(t *testing.T) {
	for s, want := range map[string]time.Duration{"120": 2 * time.Minute, "2m": 2 * time.Minute, "1h30M": 90 * time.Minute, "0": 0, "1w": 168 * time.Hour} {
		if got, ok := sshdTime(s); !ok || got != want {
			t.Errorf("%s: %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"m", "2x", "99999999999999999999", "-1"} {
		if _, ok := sshdTime(s); ok {
			t.Errorf("%s is a time", s)
		}
	}
}
