//go:build linux

package openpam

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/pam/sudolocal"
)

// sshd is macOS's policy, and ours as docs/macos.md gives it.
const sshdPolicy = `# sshd: auth account password session
auth       optional       pam_krb5.so use_kcminit
auth       optional       pam_ntlm.so try_first_pass
auth       optional       pam_mount.so try_first_pass
auth       required       pam_opendirectory.so try_first_pass
account    required       pam_nologin.so
account    required       pam_sacl.so sacl_service=ssh
account    required       pam_opendirectory.so
password   required       pam_opendirectory.so
session    required       pam_launchd.so
session    optional       pam_mount.so
`

// documented is the policy that docs/macos.md tells people to write.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "macos.md"))
	must(t, err)
	var lines []string
	for _, m := range regexp.MustCompile(`(?m)^    ((?:auth|account|password|session) .*)$`).FindAllStringSubmatch(string(text), -1) {
		lines = append(lines, m[1])
	}
	return strings.Join(lines, "\n") + "\n"
}

// What is documented is macOS's own policy but for one word and two lines.
func TestTheDocumentedPolicyOfSSHD(t *testing.T) {
	want := strings.Join(strings.Split(sshdPolicy, "\n")[1:], "\n")
	const od, sacl = "auth       required       pam_opendirectory.so try_first_pass\n", "account    required       pam_opendirectory.so\n"
	want = strings.Replace(want, od, strings.Replace(od, "required ", "requisite", 1)+"auth       required       "+sudolocal.Module+"\n", 1)
	want = strings.Replace(want, sacl, sacl+"account    required       "+sudolocal.Module+"\n", 1)
	if got := documented(t); got != want {
		t.Errorf("docs/macos.md has\n%s\nwant\n%s", got, want)
	}
}

// ssh starts sshd's keyboard-interactive or password login, up to pam_authenticate.
func (b build) ssh(t *testing.T, socket string, p *person) *login {
	t.Helper()
	l := b.run(t, b.policies(t, socket, map[string]string{"sshd": documented(t)}), "sshd", p)
	l.do("item %d %s", itemRHost, toHex("192.0.2.7"))
	l.do("item %d %s", itemTTY, toHex("ssh"))
	return l
}

func TestSSHPasswordAndCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.ssh(t, office.Socket(), p)
		l.do("authenticate 1") // PAM_DISALLOW_NULL_AUTHTOK
		l.password()
		l.code(p.phone.Next())
		l.returns(success)
		l.do("account 0")
		l.returns(success)
		l.do("setcred 1") // PAM_ESTABLISH_CRED; sshd ends a login where it fails
		l.returns(success)
		p.wantReasons(t, office, "allow code_accepted")
	})
}

func TestSSHWrongPasswordAsksForNothing(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.ssh(t, office.Socket(), p)
		l.do("authenticate 1")
		l.sees(echoOff, "^Password:$")
		l.types("wrong horse")
		l.returns(authErr)
		p.wantReasons(t, office)
	})
}

func TestSSHWrongCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.ssh(t, office.Socket(), p)
		l.do("authenticate 1")
		l.password()
		l.code(p.phone.Wrong(1))
		l.isTold("not right")
		l.returns(authErr)
		l.do("account 0")
		l.returns(permDenied)
		p.wantReasons(t, office, "deny wrong_code")
	})
}

// A public key alone runs no auth chain: the account line refuses who is asked for a
// code, and lets in who is not.
func TestSSHPublicKeyAlone(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.ssh(t, office.Socket(), p)
		l.do("account 0")
		l.isTold("second factor")
		l.returns(permDenied)
		p.wantReasons(t, office, "deny second_factor_required")

		other := somebody(t)
		l = b.ssh(t, office.Socket(), other)
		l.do("account 0")
		l.returns(success)
	})
}

func TestSSHAgentStopped(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.ssh(t, filepath.Join(t.TempDir(), "none.sock"), p)
		l.do("authenticate 1")
		l.password()
		l.isTold("cannot check logins right now")
		l.returns(authinfoUnavail)
	})
}

func TestSSHUnenrolledByPassword(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := somebody(t)
		l := b.ssh(t, office.Socket(), p)
		l.do("authenticate 1")
		l.password()
		l.returns(success)
		l.do("account 0")
		l.returns(success)
	})
}
