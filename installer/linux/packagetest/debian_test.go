//go:build linux

package packagetest

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sallyport/internal/keychain"
	"sallyport/internal/keychain/keychaintest"
)

// TestThePackageOfDebian is the life of one, with a login behind every step.
func TestThePackageOfDebian(t *testing.T) {
	m := boot(t)
	m.byPassword()

	m.must("dpkg", "--install", m.file(older, ".deb"))
	m.wantAgent(older, 0)
	m.fails(nil, "grep", "-r", "sallyport", "/etc/pam.d") // no stack is changed without a question
	m.byPassword()
	codes := m.enrol()
	m.byPassword()

	m.must("pam-auth-update", "--enable", "sallyport")
	wantNoJumpOverIt(m)
	m.byCode(&codes)

	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.wantAgent(newer, 1)
	m.byCode(&codes)

	m.fails([]string{"does not answer within 10 seconds", "THE UPGRADE WAS TAKEN BACK: " + newer}, "dpkg", "--install", m.file(silent, ".deb"))
	m.wantAgent(newer, 1)
	m.byCode(&codes)

	m.must("dpkg", "--install", m.file(older, ".deb"))
	m.wantAgent(older, 1)
	m.byCode(&codes)

	m.must("dpkg", "--remove", "sallyport")
	m.byPassword()
	m.must("ls", "/var/lib/sallyport/vault.db")
	m.must("dpkg", "--purge", "sallyport")
	m.byPassword()
	wantNothingLeft(m)
}

// TestAPurgeGivesTheTPMItsCounterBack, and nothing else does: the state that a removal
// leaves opens again.
func TestAPurgeGivesTheTPMItsCounterBack(t *testing.T) {
	m := boot(t)
	m.must("mkdir", "/run/tpm")
	tpm, _ := keychaintest.SWTPMIn(t, t.TempDir(), "/proc/"+m.pid+"/root/run/tpm")
	m.must("dpkg", "--install", m.file(older, ".deb"))
	m.must("sed", "-i", `1i tpm_device = "/run/tpm/s"`, "/etc/sallyport/sallyport.toml")
	m.must("systemctl", "restart", "sallyport")
	m.wantAgent(older, 0)
	m.must("sallyport", "vault", "rekey", "--to", "tpm", "--yes")
	m.enrol()

	text := m.must("cat", "/var/lib/sallyport/keychain/record.json")
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o700), os.WriteFile(filepath.Join(dir, keychain.RecordName), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`"id":"(\w+)"`).FindStringSubmatch(text)
	record, err := keychain.Load(dir, keychain.Config{TPMDevice: tpm})
	if err != nil || id == nil || !record.Counts(id[1]) {
		t.Fatalf("no counter in %s: %v", text, err)
	}
	counts := func(there bool) {
		t.Helper()
		if n, err := record.Counter(id[1]); (err == nil) != there || !there && !errors.Is(err, keychain.ErrCounter) {
			t.Fatalf("want a counter: %v; got %d, %v", there, n, err)
		}
	}
	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.must("dpkg", "--remove", "sallyport")
	counts(true)
	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.must("systemctl", "restart", "sallyport")
	m.wantAgent(newer, 1)
	m.must("test", "!", "-e", "/var/lib/sallyport-purge")
	m.must("dpkg", "--remove", "sallyport")
	m.must("dpkg", "--purge", "sallyport")
	counts(false)
	wantNothingLeft(m)
}

// wantNoJumpOverIt reads what pam-auth-update made: PAM goes from the first line down,
// where a module that succeeds may jump; from nowhere may it jump over ours.
func wantNoJumpOverIt(m *machine) {
	m.t.Helper()
	var lines []string
	ours := -1
	for line := range strings.Lines(m.must("cat", "/etc/pam.d/common-auth")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.Contains(line, "pam_sallyport.so") {
			if ours >= 0 || !regexp.MustCompile(`^auth\s+required\s+pam_sallyport\.so$`).MatchString(line) {
				m.t.Fatalf("not once as it should be: %s", line)
			}
			ours = len(lines)
		}
		lines = append(lines, line)
	}
	if ours < 0 {
		m.t.Fatal("the profile is on, and the module is not in common-auth")
	}
	jump := regexp.MustCompile(`\b[a-z_]+=(\d+|done|die|reset)\b`)
	for i, line := range lines[:ours] {
		for _, to := range jump.FindAllStringSubmatch(line, -1) {
			n, err := strconv.Atoi(to[1])
			if err != nil && to[1] != "die" || i+n >= ours || strings.Contains(line, "sufficient") {
				m.t.Errorf("it is jumped over by: %s", line)
			}
		}
	}
}

// TestNoProfileBesideMovesAJumpOverTheModule: pam-auth-update counts the jumps of all
// profiles anew for each that comes and goes.
func TestNoProfileBesideMovesAJumpOverTheModule(t *testing.T) {
	m := boot(t)
	m.must("dpkg", "--install", m.file(older, ".deb"))
	codes := m.enrol()
	m.must("pam-auth-update", "--enable", "sallyport")
	const profile = `printf 'Name: %s\nDefault: yes\nPriority: %s\nAuth-Type: %s\nAuth:\n\t[success=end default=ignore] pam_succeed_if.so quiet uid %s\n' "$0" "$1" "$2" "$3" >/usr/share/pam-configs/"$0"
if [ "$0" = below ]; then printf '\toptional pam_permit.so\n' >>/usr/share/pam-configs/below; fi
pam-auth-update --package`
	// Those of the kind Additional jump at every login. 1024 is more than the profiles of
	// Debian's own packages have.
	for _, other := range [][]string{{"first", "900", "Primary", "eq 4242"}, {"last", "1", "Primary", "eq 4242"}, {"above", "1024", "Additional", "ge 0"}, {"below", "1", "Additional", "ge 0"}} {
		m.must("sh", "-c", profile, other[0], other[1], other[2], other[3])
		wantNoJumpOverIt(m)
	}
	m.byCode(&codes)
	for _, other := range []string{"first", "below", "last", "above"} {
		m.must("pam-auth-update", "--package", "--remove", other)
		wantNoJumpOverIt(m)
	}
	m.byCode(&codes)
}

// TestAnUpgradeThatRuinsTheStateIsTakenBackWithIt: what the new agent has left is no
// use to the old one, so that it gets its own state back.
func TestAnUpgradeThatRuinsTheStateIsTakenBackWithIt(t *testing.T) {
	m := boot(t)
	m.must("dpkg", "--install", m.file(older, ".deb"))
	codes := m.enrol()
	m.must("pam-auth-update", "--enable", "sallyport")
	m.fails([]string{"TAKEN BACK: " + older, "with its state from before the upgrade"}, "dpkg", "--install", m.file(ruining, ".deb"))
	m.wantAgent(older, 1)
	m.byCode(&codes)
	m.must("test", "!", "-e", "/var/lib/sallyport-previous") // it held the vault's key

	// It does not pass for installed, and the next version mends that.
	m.fails([]string{"an upgrade was taken back"}, "dpkg", "--configure", "--pending")
	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.wantAgent(newer, 1)
	m.byCode(&codes)
}

// TestAnUpgradeThatWasCutShortGoesOn: the power went while the new agent was being
// waited for. What was kept is not overwritten by what may be broken, by the next
// version neither.
func TestAnUpgradeThatWasCutShortGoesOn(t *testing.T) {
	m := boot(t)
	m.must("dpkg", "--install", m.file(older, ".deb"))
	codes := m.enrol()
	m.must("pam-auth-update", "--enable", "sallyport")
	cut := m.command("dpkg", "--install", m.file(ruining, ".deb"))
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	m.wait("the new agent runs", func() bool {
		out, _ := m.command("cat", "/var/lib/sallyport/vault.db").Output() // gone for a moment
		return string(out) == "ruined\n"
	})
	m.must("pkill", "-KILL", "--full", "postinst|dpkg --install")
	_ = cut.Wait() // killed
	m.fails([]string{"TAKEN BACK: " + older, "with its state from before the upgrade"}, "dpkg", "--install", m.file(silent, ".deb"))
	m.wantAgent(older, 1)
	m.byCode(&codes)
}

// TestWhatPeopleWroteIntoAStackHoldsTheRemovalUp: without its module such a line lets
// nobody in.
func TestWhatPeopleWroteIntoAStackHoldsTheRemovalUp(t *testing.T) {
	m := boot(t)
	m.must("dpkg", "--install", m.file(older, ".deb"))
	codes := m.enrol()
	m.must("sed", "-i", "/^@include common-auth/a auth required pam_sallyport.so", "/etc/pam.d/sshd")
	m.byCode(&codes)
	m.fails([]string{"NOT REMOVED", "/etc/pam.d/sshd:5:auth required pam_sallyport.so", `sed -i '/pam_sallyport\|ingroup sallyport-breakglass/d' /etc/pam.d/sshd`}, "dpkg", "--remove", "sallyport")
	m.wantAgent(older, 1)
	m.byCode(&codes)

	// pam-auth-update takes back what it wrote itself, and nothing else.
	m.must("sed", "-i", "/pam_sallyport/d", "/etc/pam.d/sshd")
	m.must("pam-auth-update", "--enable", "sallyport")
	m.must("sed", "-i", "$a auth required pam_sallyport.so", "/etc/pam.d/common-auth")
	m.fails([]string{"NOT REMOVED", "/etc/pam.d/common-auth:"}, "dpkg", "--remove", "sallyport")
	m.byCode(&codes)
	m.must("sed", "-i", "/pam_sallyport/d", "/etc/pam.d/common-auth")
	m.must("dpkg", "--purge", "sallyport")
	m.byPassword()
}

// TestAnAgentThatWasStoppedStaysSo: whoever stopped it knows why.
func TestAnAgentThatWasStoppedStaysSo(t *testing.T) {
	m := boot(t)
	m.must("dpkg", "--install", m.file(older, ".deb"))
	m.must("systemctl", "disable", "--now", "sallyport")
	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.fails(nil, "systemctl", "--quiet", "is-active", "sallyport")
	m.fails(nil, "systemctl", "--quiet", "is-enabled", "sallyport")
	m.must("dpkg", "--purge", "sallyport")
}

// TestAnUpgradeMendsAnAgentThatHangs, or one that was mended by nothing but an upgrade
// could never be.
func TestAnUpgradeMendsAnAgentThatHangs(t *testing.T) {
	m := boot(t)
	m.must("dpkg", "--install", m.file(older, ".deb"))
	m.must("pkill", "--signal", "STOP", "--exact", "sallyport")
	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.wantAgent(newer, 0)
}

// TestAnAgentInstalledByHandComesFirst: its unit would hide the package's. Nothing is
// changed before it is gone, and then the state is taken over.
func TestAnAgentInstalledByHandComesFirst(t *testing.T) {
	m := boot(t)
	m.must("sh", "-c", "dpkg-deb --extract $0 /tmp/by-hand && install -D /tmp/by-hand/usr/bin/sallyport /usr/local/sbin/sallyport && sallyport service install && sallyport service start", m.file(older, ".deb"))
	m.wait("the agent runs", func() bool { return m.command("sallyport", "status").Run() == nil })
	m.enrol()
	m.fails([]string{"NOT INSTALLED", "sallyport service uninstall"}, "dpkg", "--install", m.file(newer, ".deb"))
	m.wantAgent(older, 1)
	m.must("sh", "-c", "sallyport service stop && sallyport service uninstall && rm /usr/local/sbin/sallyport")
	m.must("dpkg", "--install", m.file(newer, ".deb"))
	m.wantAgent(newer, 1)
}

// TestWithoutSystemd is a container, or an image that is being made: all of it works
// and nothing is started.
func TestWithoutSystemd(t *testing.T) {
	m := boot(t)
	m.must("mount", "-t", "tmpfs", "tmpfs", "/run")
	for _, step := range [][]string{{"--install", m.file(older, ".deb")}, {"--install", m.file(newer, ".deb")}, {"--install", m.file(silent, ".deb")}, {"--remove", "sallyport"}, {"--purge", "sallyport"}} {
		m.must(append([]string{"dpkg"}, step...)...)
		m.fails(nil, "pgrep", "-x", "sallyport")
	}
	wantNothingLeft(m)
}

// wantNothingLeft: of the package there is no trace.
func wantNothingLeft(m *machine) {
	m.t.Helper()
	if left := m.must("sh", "-c", "find / -ignore_readdir_race -xdev -iname '*sallyport*' ! -path '/packages/*' ! -name 10-sallyport.conf; grep -rls sallyport /etc /var/lib/pam /var/lib/systemd || :"); left != "" {
		m.t.Errorf("there is left:\n%s", left)
	}
}
