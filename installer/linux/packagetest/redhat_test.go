//go:build linux

package packagetest

import (
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
)

// system is a package that has nothing but the names of what Debian's packages have
// brought, for dnf to find them in rpm's database.
const system = `Name: system
Version: 12
Release: 1
Summary: what is there already
License: none
BuildArch: noarch
AutoReqProv: no
Provides: libc.so.6(GLIBC_2.34)(64bit) libnghttp2.so.14()(64bit) libpam.so.0(LIBPAM_1.0)(64bit) /bin/sh
%description
%files
`

// redHat makes a machine look like one of Red Hat's, as far as the package goes: rpm,
// dnf, authselect, which all are the real ones, the stacks that authselect makes, and
// SSSD's PAM module without SSSD. libpam and all else stay Debian's.
func redHat(t *testing.T) *machine {
	m := boot(t)
	m.must("sh", "-c", `mkdir -p /usr/lib64/security /etc/authselect
rm /usr/sbin/pam-auth-update
ln -s /usr/lib64/security/pam_sallyport.so /usr/lib/*-linux-gnu/security/
printf '%s\n' 'auth substack password-auth' 'auth include postlogin' 'account include password-auth' 'session include password-auth' 'session include postlogin' >/etc/pam.d/sshd
printf '%s' "$0" >/tmp/system.spec && rpmbuild -bb --quiet --define '_topdir /tmp/rpmbuild' /tmp/system.spec && rpm --install /tmp/rpmbuild/RPMS/noarch/*.rpm`, system)
	m.must("authselect", "select", "sssd", "with-faillock", "--force")
	m.byPassword()
	return m
}

// dnf is one of its commands, without repositories.
func dnf(args ...string) []string {
	return append([]string{"dnf", "--assumeyes", "--disablerepo=*"}, args...)
}

// passwordAuth is what sshd's logins go by.
func (m *machine) passwordAuth() string {
	m.t.Helper()
	m.must("authselect", "check")
	return m.must("cat", "/etc/pam.d/password-auth")
}

// TestThePackageOfRedHat is the life of one under dnf, with a login behind every step.
func TestThePackageOfRedHat(t *testing.T) {
	m := redHat(t)
	before := m.passwordAuth()
	// A policy for SELinux that takes no module: that must not break the package.
	m.must("sh", "-c", `mkdir -p /etc/selinux && echo SELINUXTYPE=targeted >/etc/selinux/config
printf '%s\n' '#!/bin/sh' 'echo "$@" >>/tmp/semodule; systemctl is-active sallyport >>/tmp/semodule; exit 1' >/usr/sbin/semodule && chmod +x /usr/sbin/semodule`)

	m.must(dnf("install", m.file(older, ".rpm"))...)
	if asked := m.must("cat", "/tmp/semodule"); asked != "-i /usr/share/selinux/packages/sallyport.cil\ninactive\n" {
		t.Errorf("SELinux was asked %q", asked)
	}
	m.wantAgent(older, 0)
	if m.passwordAuth() != before {
		t.Fatal("the stacks were changed without a question")
	}
	codes := m.enrol()
	m.byPassword()

	m.must("authselect", "select", "sallyport", "with-faillock", "with-sallyport-breakglass")
	if auth := m.passwordAuth(); !strings.Contains(auth, "pam_faillock.so authfail") || strings.Contains(auth, "requisite                       pam_deny.so") || !strings.Contains(auth, "ingroup sallyport-breakglass") {
		t.Error("the profile lost something")
	}
	m.byCode(&codes)

	m.must(dnf("upgrade", m.file(newer, ".rpm"))...)
	m.wantAgent(newer, 1)
	m.passwordAuth()
	m.byCode(&codes)

	// rpm has no way back: a script that fails is a warning, so it must say it loudly.
	if said, _ := m.do(dnf("upgrade", m.file(silent, ".rpm"))...); !strings.Contains(said, "THE UPGRADE WAS TAKEN BACK: "+newer) {
		t.Fatal("the upgrade was not taken back")
	}
	m.wantAgent(newer, 1)
	m.byCode(&codes)

	m.must(dnf("downgrade", m.file(older, ".rpm"))...)
	m.wantAgent(older, 1)
	m.byCode(&codes)

	m.must("sed", "-i", "1a account required pam_sallyport.so", "/etc/pam.d/sshd")
	m.fails([]string{"NOT REMOVED", "/etc/pam.d/sshd:2:", "scriptlet failed"}, dnf("remove", "sallyport")...)
	m.byCode(&codes)
	m.must("sed", "-i", "/pam_sallyport/d", "/etc/pam.d/sshd")

	m.must(dnf("remove", "sallyport")...)
	if m.passwordAuth() != before {
		t.Error("the stacks are not what they were")
	}
	m.byPassword()
	m.must("sh", "-c", "! pgrep -x sallyport && ! ls /usr/share/authselect/vendor/* && test -e /var/lib/sallyport/vault.db")
	if asked := m.must("tail", "-n", "2", "/tmp/semodule"); asked != "-r sallyport\ninactive\n" {
		t.Errorf("SELinux was asked %q last", asked)
	}
}

// TestEveryProfileOfAuthselect: each of the system's has one of ours that is made of it,
// and a removal goes back to that one, with its features.
func TestEveryProfileOfAuthselect(t *testing.T) {
	m := redHat(t)
	m.must(dnf("install", m.file(older, ".rpm"))...)
	codes := m.enrol()
	for _, base := range []string{"local", "winbind", "nis", "sssd"} {
		ours := strings.TrimSuffix("sallyport-"+base, "-sssd")
		m.must("authselect", "select", ours, "with-faillock", "with-pamaccess")
		m.passwordAuth()
		m.byCode(&codes)
		m.must("rpm", "--erase", "sallyport")
		if now := strings.TrimSpace(m.must("authselect", "current", "--raw")); now != base+" with-faillock with-pamaccess" {
			t.Fatalf("from %s to %s", ours, now)
		}
		m.passwordAuth()
		m.byPassword()
		m.must("rpm", "--install", m.file(older, ".rpm"))
	}

	// What would ask for a smart card does not come with lines that ask for a password.
	m.fails([]string{"Unknown profile feature [with-smartcard-required]"}, "authselect", "select", "sallyport", "with-smartcard-required")

	// Whoever failed too often is neither asked for a password nor for a code.
	m.must("authselect", "select", "sallyport", "with-faillock")
	for range 3 {
		m.login(false, sandbox.Password("wrong horse"))
	}
	m.login(false)
	m.must("faillock", "--user", "alice", "--reset")
	m.byCode(&codes)
}

// TestWhatAuthselectDidNotMakeHoldsTheRemovalUp, and what is said then is the way out.
func TestWhatAuthselectDidNotMakeHoldsTheRemovalUp(t *testing.T) {
	m := redHat(t)
	m.must("rpm", "--install", m.file(older, ".rpm"))
	codes := m.enrol()
	remove := []string{"rpm", "--erase", "sallyport"}

	// A profile of the customer's own.
	m.must("authselect", "create-profile", "mine", "--base-on=sallyport")
	m.must("authselect", "select", "custom/mine")
	m.byCode(&codes)
	m.fails([]string{"NOT REMOVED", "/etc/pam.d/password-auth:", "in /etc/authselect/custom/mine, and then: authselect apply-changes"}, remove...)
	m.byCode(&codes)
	m.must("sh", "-c", "sed -i /pam_sallyport/d /etc/authselect/custom/mine/*-auth && authselect apply-changes")
	m.must(remove...)
	m.byPassword()

	// Files that authselect has let go of.
	m.must("rpm", "--install", m.file(older, ".rpm"))
	m.must("authselect", "select", "sallyport", "with-sallyport-breakglass")
	m.must("authselect", "opt-out")
	m.byCode(&codes)
	said, _ := m.do(remove...)
	advice := regexp.MustCompile(`(?m)^  (sed -i .*)$`).FindAllStringSubmatch(said, -1)
	if !strings.Contains(said, "NOT REMOVED") || len(advice) != 2 {
		t.Fatal("it was removed, or what to do was not said")
	}
	m.byCode(&codes)
	for _, line := range advice {
		m.must("sh", "-c", line[1])
	}
	m.must(remove...)
	m.byPassword()

	// Changes in files that authselect still has are overwritten by it.
	m.must("rpm", "--install", m.file(older, ".rpm"))
	m.must("authselect", "select", "sallyport", "--force")
	m.must("sed", "-i", "$a session optional pam_umask.so", "/etc/authselect/password-auth")
	m.byCode(&codes)
	m.must(remove...)
	if strings.Contains(m.passwordAuth(), "pam_umask") {
		t.Error("a change of a generated file was kept")
	}
	m.byPassword()
}
