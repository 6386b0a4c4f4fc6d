//go:build linux

package openpam

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/factor/push"
	"sallyport/pam/sudolocal"
)

func TestPasswordAndCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.sudo(t, b.guarded(t, office.Socket(), ""), p)
		l.password()
		l.code(p.phone.Next())
		l.returns(success)
		l.account(success)
		// pam_deny has no credentials to give; sudo goes on all the same, as its
		// source says.
		l.do("setcred %s", reinitialiseCred)
		l.returns(credErr)
		p.wantReasons(t, office, "allow code_accepted")
	})
}

// A wrong password asks for no code, and counts nothing against the second factor.
func TestWrongPasswordAsksForNothing(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		for _, wrong := range []string{"wrong horse", ""} {
			l := b.sudo(t, b.guarded(t, office.Socket(), ""), p)
			l.sees(echoOff, "^Password:$")
			l.types(wrong)
			l.returns(authErr)
		}
		p.wantReasons(t, office)
	})
}

// Nobody is asked for the password again by the lines behind our block, and none of
// them lets in whom the code keeps out.
func TestNoSecondWayInBehindAWrongCode(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		policies := b.guarded(t, office.Socket(), touchID)
		used := p.phone.Next()
		l := b.sudo(t, policies, p)
		l.password()
		l.code(used)
		l.returns(success)
		for _, bad := range []string{p.phone.Wrong(1), used} {
			l := b.sudo(t, policies, p, "pam_tid=0", "pam_smartcard=0")
			l.password()
			l.code(bad)
			l.returns(authErr)
		}
		p.wantReasons(t, office, "allow code_accepted", "deny wrong_code", "deny code_already_used")
	})
}

func TestPasswordForACodeIsNotCounted(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.sudo(t, b.guarded(t, office.Socket(), ""), p)
		l.password()
		l.code(password)
		l.returns(authErr)
		p.wantReasons(t, office, "deny password_typed_as_code")
	})
}

func TestAgentStopped(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.sudo(t, b.guarded(t, filepath.Join(t.TempDir(), "none.sock"), ""), p)
		l.password()
		l.returns(authinfoUnavail)
		if !strings.Contains(l.logged(), "the agent is not running") {
			t.Errorf("the log says\n%s", l.logged())
		}
	})
}

func TestUnenrolledByPassword(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := somebody(t)
		l := b.sudo(t, b.guarded(t, office.Socket(), ""), p)
		l.password()
		l.returns(success)
		l.account(success)
		p.wantReasons(t, office, "skip not_asked")
	})
}

func TestExemptByPassword(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, err := exempt()
		must(t, err)
		l := b.sudo(t, b.guarded(t, office.Socket(), ""), p)
		l.password()
		l.returns(success)
	})
}

// Touch ID in sudo_local lets in without a code where its line stands ahead of ours,
// as documented, and with our block on top it does not.
func TestTouchID(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		ours, err := sudolocal.Add(nil)
		must(t, err)
		policies := b.policies(t, office.Socket(), map[string]string{"sudo": sudoPolicy, "sudo_local": touchID + string(ours)})
		l := b.sudo(t, policies, p, "pam_tid=0")
		l.returns(success)

		l = b.sudo(t, policies, p) // no finger: password and code
		l.password()
		l.code(p.phone.Next())
		l.returns(success)

		l = b.sudo(t, b.guarded(t, office.Socket(), touchID), p, "pam_tid=0")
		l.password()
		l.code(p.phone.Wrong(1))
		l.returns(authErr)
	})
}

// A sudo_local of somebody's that is malformed, or a module that does not load, lets
// nobody in: pam_start fails, and sudo says that it cannot initialise PAM.
func TestASudoThatCannotStartLetsNobodyIn(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		policies := b.guarded(t, "/nowhere", "")
		path := filepath.Join(policies, "sudo_local")
		text, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), b.module(), b.module()+".gone")), 0o644))
		out, err := exec.Command(filepath.Join(b.dir, "driver"), policies, "sudo", toHex("root")).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "pam_start_confdir failed") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// Why pam_deny stands behind our module: OpenPAM takes a chain in which whatever may
// suffice has failed for a success, though pam.conf(5) says otherwise.
func TestWhatMaySufficeAndFailsDoesNotKeepOut(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := somebody(t)
		ours := "auth sufficient " + sudolocal.Module + "\n"
		none := filepath.Join(t.TempDir(), "none.sock")
		l := b.sudo(t, b.policies(t, none, map[string]string{"sudo": ours}), p)
		l.returns(success)
		l = b.sudo(t, b.policies(t, none, map[string]string{"sudo": ours + "auth requisite pam_deny.so\n"}), p)
		l.returns(authinfoUnavail)
	})
}

func TestNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		replies []string
		reason  string
	}{
		"empty":                 {[]string{"reply -"}, "deny cancelled"},
		"a reply without text":  {[]string{"null"}, "deny cancelled"},
		"no reply":              {[]string{"none"}, "deny cancelled"},
		"a conversation broken": {[]string{"fail 6"}, "deny cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b build) {
				p := enrolled(t, office)
				policies := b.guarded(t, office.Socket(), "")
				l := b.sudo(t, policies, p)
				l.sees(echoOff, "^Password:$")
				l.do("%s", c.replies[0])
				l.returns(authErr)
				p.wantReasons(t, office)

				l = b.sudo(t, policies, p)
				l.password()
				l.sees(echoOn, "Code from")
				l.do("%s", c.replies[0])
				l.returns(authErr)
				p.wantReasons(t, office, c.reason)
			})
		})
	}
}

func TestPushApproved(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, at := withPhone(t)
		l := b.sudo(t, b.guarded(t, at.Socket(), ""), p.person)
		l.password()
		text := l.sees(echoOn, "on your phone")
		number := regexp.MustCompile(`\b\d\d\b`).FindString(text)
		p.decides(t, push.Approve, number, "approved")
		l.types("")
		l.returns(success)
		p.wantReasons(t, at, "allow push_approved")
	})
}

func TestPushDenied(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, at := withPhone(t)
		l := b.sudo(t, b.guarded(t, at.Socket(), ""), p.person)
		l.password()
		l.sees(echoOn, "on your phone")
		p.decides(t, push.Deny, "", "denied")
		l.types("")
		l.returns(authErr)
		p.wantReasons(t, at, "deny push_denied")
	})
}
