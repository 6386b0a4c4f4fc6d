//go:build linux

package packagetest

import (
	"os"
	"strings"
	"testing"
)

// sssd is a profile in the shape of Red Hat's, where "sufficient" ends the list. What
// it includes is its own.
const sssd = `auth        required      pam_env.so
auth        sufficient    pam_unix.so {if not "without-nullok":nullok}
-auth       sufficient    pam_sss.so forward_pass
auth        required      pam_deny.so
account     required      pam_unix.so
account     sufficient    pam_localuser.so
account     required      pam_permit.so
session     optional      pam_umask.so silent {include if "with-umask"}
session     required      pam_unix.so
`

// redHat makes a machine look like one of Red Hat's, as far as the package goes: rpm,
// authselect (a stand-in), the stacks. libpam and all else stay Debian's.
func redHat(m *machine) {
	m.t.Helper()
	standIn, err := os.ReadFile("testdata/authselect")
	if err != nil {
		m.t.Fatal(err)
	}
	m.must("sh", "-c", `mkdir -p /usr/share/authselect/default/sssd /etc/authselect /usr/lib64/security
for f in system-auth password-auth; do printf '%s' "$0" >/usr/share/authselect/default/sssd/$f; done
echo 'Enable SSSD' >/usr/share/authselect/default/sssd/README
printf '%s' "$1" >/usr/bin/authselect && chmod +x /usr/bin/authselect && authselect select sssd with-umask
echo 'session optional pam_umask.so silent' >/etc/pam.d/postlogin
rm /usr/sbin/pam-auth-update
ln -s /usr/lib64/security/pam_sallyport.so /usr/lib/*-linux-gnu/security/
printf '%s\n' 'auth substack password-auth' 'auth include postlogin' 'account include password-auth' 'session include password-auth' >/etc/pam.d/sshd`, sssd, string(standIn))
}

// TestThePackageOfRedHat is the life of one under rpm, with a login behind every step.
// Nothing here is Red Hat's but rpm.
func TestThePackageOfRedHat(t *testing.T) {
	m := boot(t)
	redHat(m)
	m.byPassword()
	before := m.must("cat", "/etc/pam.d/password-auth")
	install := func(version string, more ...string) []string {
		return append(append([]string{"rpm", "--upgrade", "--nodeps", "--verbose"}, more...), m.file(version, ".rpm"))
	}

	m.must(install(older)...)
	m.wantAgent(older, 0)
	if now := m.must("cat", "/etc/pam.d/password-auth"); now != before {
		t.Fatal("the stacks were changed without a question")
	}
	codes := m.enrol()
	m.byPassword()

	m.must("authselect", "select", "sallyport", "with-umask", "with-sallyport-breakglass")
	if auth := m.must("cat", "/etc/pam.d/password-auth"); !strings.Contains(auth, "pam_umask") || !strings.Contains(auth, "ingroup sallyport-breakglass") || strings.Contains(auth, "{") {
		t.Error("the profile lost something")
	}
	m.byCode(&codes)

	m.must(install(newer)...)
	m.wantAgent(newer, 1)
	m.byCode(&codes)

	// rpm has no way back: a script that fails is a warning, so it must say it loudly.
	if said, _ := m.do(install(silent)...); !strings.Contains(said, "THE UPGRADE WAS TAKEN BACK: "+newer) {
		t.Fatal("the upgrade was not taken back")
	}
	m.wantAgent(newer, 1)
	m.byCode(&codes)

	m.must(install(older, "--oldpackage")...)
	m.wantAgent(older, 1)
	m.byCode(&codes)

	m.must("sed", "-i", "1a account required pam_sallyport.so", "/etc/pam.d/sshd")
	m.fails([]string{"NOT REMOVED", "/etc/pam.d/sshd:2:", "scriptlet failed"}, "rpm", "--erase", "sallyport")
	m.byCode(&codes)
	m.must("sed", "-i", "/pam_sallyport/d", "/etc/pam.d/sshd")

	m.must("rpm", "--erase", "--verbose", "sallyport")
	if now := m.must("cat", "/etc/pam.d/password-auth"); now != before {
		t.Error("the stacks are not what they were")
	}
	m.byPassword()
	m.must("sh", "-c", "! pgrep -x sallyport && ! test -e /usr/share/authselect/vendor/sallyport && test -e /var/lib/sallyport/vault.db")
}
