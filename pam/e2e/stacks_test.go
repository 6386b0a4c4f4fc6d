//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
)

// Not parallel: these change the stacks that all others log in through.

// theirs is a shipped stack without our lines: what the distribution has.
func theirs(t *testing.T, name string) string {
	t.Helper()
	var lines []string
	for _, line := range strings.Split(stack(t, name), "\n") {
		if !strings.Contains(line, "pam_sallyport.so") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// pamAuthUpdate enables a profile of ours, and puts common-* back in the end.
func pamAuthUpdate(t *testing.T, profile string) {
	t.Helper()
	if _, err := exec.LookPath("pam-auth-update"); err != nil {
		t.Skip("needs pam-auth-update, which Debian and Ubuntu have")
	}
	common, err := filepath.Glob("/etc/pam.d/common-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range common {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(file, before, 0o644); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range []string{"sallyport", "sallyport-breakglass"} {
		if err := os.WriteFile("/usr/share/pam-configs/"+name, []byte(stack(t, "debian/pam-configs/"+name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("pam-auth-update", "--enable", profile, "--force")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	output(t, cmd)
	for _, service := range []string{"sshd", "sudo", "su", "login"} {
		useStack(t, service, theirs(t, "debian/"+service))
	}
}

func TestPamAuthUpdate(t *testing.T) {
	sandbox.Need(t)
	pamAuthUpdate(t, "sallyport")
	p, u := addSudoer(t, "paul"), addUser(t, "petra")
	wantIn(t, "paul", sshd.SSH("paul"), p.right()...)
	wantOut(t, sshd.SSH("paul"), p.wrong()...)
	wantOut(t, sshd.SSH("paul"), sandbox.Password("wrong horse"))
	wantIn(t, "root", sandbox.Sudo(p.User), p.right()...)
	wantOut(t, sandbox.Sudo(p.User), p.wrong()...)
	wantIn(t, "paul", sandbox.Su(u, "paul"), p.right()...)
	wantIn(t, "petra", sandbox.Login("petra", ""), sandbox.Password(password))
	wantFailures(t, "paul", 0) // the right code came after two wrong ones
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code", "allow code_accepted", "deny wrong_code", "allow code_accepted")
}

func TestPamAuthUpdateWithBreakGlass(t *testing.T) {
	sandbox.Need(t)
	if err := breakGlass(); err != nil {
		t.Fatal(err)
	}
	pamAuthUpdate(t, "sallyport-breakglass")
	p := addPerson(t, "gus", "sallyport-breakglass")
	wantIn(t, "gus", sshd.SSH("gus"), p.right()...)
	wantOut(t, sandbox.Login("gus", ""), p.wrong()...)
	stopAgent(t)
	d := onConsole(t, "gus")
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(shellPrompt, proof)
	d.see(insideAs)
	useStack(t, "vlock", "@include common-auth")
	for _, service := range []string{"vlock", "sshd"} { // not in the profile's list
		d := talk(t, exec.Command("pamtester", "-I", "tty=/dev/tty1", service, "gus", "authenticate"))
		d.answer(sandbox.PasswordPrompt, password)
		if status := d.end(); status == 0 {
			t.Errorf("break-glass in %s:\n%s", service, d.Screen())
		}
	}
	wantOut(t, sshd.SSH("gus"), sandbox.Password(password))
}

// Red Hat's shape, on this system's libpam: our lines in system-auth and
// password-auth, around them what RHEL 9 has.
func TestRedHatStacks(t *testing.T) {
	sandbox.Need(t)
	condition := regexp.MustCompile(`(?m)^.*\{include if .*\n|\s*\{[^}]*\}`) // authselect's, without any feature
	auth := condition.ReplaceAllString(stack(t, "redhat/auth-lines"), "")
	rest := `
account     required      pam_unix.so
account     sufficient    pam_localuser.so
account     sufficient    pam_usertype.so issystem
account     [default=bad success=ok user_unknown=ignore] pam_sss.so
account     required      pam_permit.so
session     optional      pam_keyinit.so revoke
session     required      pam_limits.so
session     required      pam_unix.so
`
	useStack(t, "system-auth", auth+rest)
	useStack(t, "password-auth", auth+rest)
	useStack(t, "postlogin", "session optional pam_umask.so silent")
	useStack(t, "sshd", stack(t, "redhat/sshd"))
	useStack(t, "su", `
auth        required      pam_env.so
auth        sufficient    pam_rootok.so
auth        substack      system-auth
auth        include       postlogin
account     sufficient    pam_succeed_if.so uid = 0 use_uid quiet
account     include       system-auth
session     include       system-auth
session     include       postlogin
`)
	useStack(t, "sudo", "auth include system-auth\naccount include system-auth\nsession include system-auth")

	p, u := addSudoer(t, "fee"), addUser(t, "fox")
	wantIn(t, "fee", sshd.SSH("fee"), p.right()...)
	wantOut(t, sshd.SSH("fee"), p.wrong()...)
	wantOut(t, sshd.SSH("fee"), sandbox.Password("wrong horse")) // and no code is asked for
	wantFailures(t, "fee", 1)
	wantIn(t, "fee", sandbox.Su(u, "fee"), p.right()...)
	wantOut(t, sandbox.Su(u, "fee"), sandbox.Password("wrong horse"))
	wantIn(t, "root", sandbox.Sudo(p.User), p.right()...)
	wantOut(t, sandbox.Sudo(p.User), p.wrong()...)
	wantIn(t, "fox", sshd.SSH("fox"), sandbox.Password(password))

	keys := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey")
	for _, user := range []sandbox.User{p.User, u} {
		key, err := keys.Key(user)
		if err != nil {
			t.Fatal(err)
		}
		if user == u {
			wantIn(t, "fox", keys.SSH("fox", "IdentityFile="+key))
		} else {
			wantOut(t, keys.SSH("fee", "IdentityFile="+key))
		}
	}
}
