//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// finding is one line of "sallyport doctor --json".
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

// doctor returns what it found and its exit status.
func doctor(t *testing.T) ([]finding, int) {
	t.Helper()
	stdout, stderr, exit, err := machine.Do("doctor", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Results []finding `json:"results"`
	}
	if err := machine.Decode(stdout, &answer); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	return answer.Results, exit
}

// write replaces a file for one test.
func write(t *testing.T, file, text string) {
	t.Helper()
	before, err := os.ReadFile(file)
	restore := func() error { return os.WriteFile(file, before, 0o644) }
	if os.IsNotExist(err) {
		restore = func() error { return os.Remove(file) }
	} else if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
}

// This system's own sshd_config, which doctor reads: the sshd of these tests has
// one of its own.
const sshdDropIn = "/etc/ssh/sshd_config.d/00-sallyport.conf"

const kbdOn = "KbdInteractiveAuthentication yes\nUsePAM yes\n"

func TestDoctorOnTheShippedStacks(t *testing.T) {
	sandbox.Need(t)
	write(t, sshdDropIn, kbdOn)
	found, exit := doctor(t)
	for _, f := range found {
		if f.Status == "fail" || f.Status == "warn" && f.Check != "clock" { // a build machine's clock is its own affair
			t.Errorf("%+v", f)
		}
	}
	if exit != 0 {
		t.Errorf("exit status %d", exit)
	}
}

func TestDoctorSeesBreakGlass(t *testing.T) {
	sandbox.Need(t)
	write(t, sshdDropIn, kbdOn)
	withBreakGlass(t, "login", "sudo", "sudo-i")
	found, exit := doctor(t)
	for _, f := range found {
		if f.Check == "break-glass" && strings.Contains(f.Text, machine.BreakGlassGroup) && exit == 0 {
			return
		}
	}
	t.Errorf("exit status %d, %+v", exit, found)
}

// A stack that is broken on purpose: what is then true of a real login, and that
// doctor names it.
func TestDoctorOnBrokenStacks(t *testing.T) {
	sandbox.Need(t)
	const ours = "auth required pam_sallyport.so\n"
	const rest = "account required pam_permit.so\nsession required pam_permit.so\n"
	p := addPerson(t, "dora")
	invoker := addUser(t, "dirk")
	withoutCode := func(t *testing.T) {
		wantIn(t, "dora", sandbox.Su(invoker, "dora"), sandbox.Password(password))
	}
	for _, c := range []struct {
		name    string
		service string
		stack   string
		sshd    string // added to sshd_config
		shown   func(t *testing.T)
		check   string
		text    string
	}{
		{name: "above the password", service: "su", stack: ours + "@include common-auth\n" + rest, check: "stacks", text: "it asks before the password is proven",
			shown: func(t *testing.T) {
				wantOut(t, sandbox.Su(invoker, "dora"), sandbox.Code(p.phone.Wrong(1)), sandbox.Password("wrong horse"))
				wantFailures(t, "dora", 1) // by somebody who has no password
			}},
		{name: "below a sufficient", service: "su", stack: "auth sufficient pam_unix.so\n" + ours + rest, check: "stacks", text: "never comes by", shown: withoutCode},
		{name: "within the reach of a jump", service: "su", stack: "auth [success=2 default=ignore] pam_unix.so\n" + ours + "auth requisite pam_deny.so\nauth required pam_permit.so\n" + rest,
			check: "stacks", text: "never comes by", shown: withoutCode},
		{name: "optional", service: "su", stack: "@include common-auth\nauth optional pam_sallyport.so\n" + rest, check: "stacks", text: "is let in all the same",
			shown: func(t *testing.T) { wantIn(t, "dora", sandbox.Su(invoker, "dora"), p.wrong()...) }},
		{name: "behind a substack", service: "su", stack: "auth substack common-auth\n" + ours + rest, check: "stacks", text: "even when",
			shown: func(t *testing.T) {
				wantOut(t, sandbox.Su(invoker, "dora"), sandbox.Password("wrong horse"), sandbox.Code(p.phone.Wrong(1)))
			}},
		{name: "public key alone", service: "sshd", stack: "@include common-auth\n" + ours + "@include common-account\n@include common-session\n",
			check: "sshd", text: "publickey alone lets in without a code",
			shown: func(t *testing.T) {
				keys := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey")
				key, err := keys.Key(p.User)
				if err != nil {
					t.Fatal(err)
				}
				wantIn(t, "dora", keys.SSH("dora", "IdentityFile="+key))
			}},
		{name: "account line too late", service: "sshd", stack: "@include common-auth\n" + ours + "@include common-account\naccount required pam_sallyport.so\n@include common-session\n",
			check: "account", text: "a public key alone gets in"},
		{name: "keyboard-interactive off", sshd: "KbdInteractiveAuthentication no\n", check: "sshd", text: "KbdInteractiveAuthentication is no",
			shown: func(t *testing.T) {
				off := startSSHD(t, "KbdInteractiveAuthentication no", "PasswordAuthentication yes")
				wantOut(t, off.SSH("dora"), sandbox.Password(password))
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, sshdDropIn, c.sshd+kbdOn) // the first mention counts
			if c.service != "" {
				useStack(t, c.service, c.stack)
			}
			if c.shown != nil {
				c.shown(t)
			}
			found, exit := doctor(t)
			for _, f := range found {
				if f.Check == c.check && (f.Status == "fail" || f.Status == "warn") && strings.Contains(f.Text, c.text) && f.Remedy != "" {
					if f.Status == "fail" && exit != 1 {
						t.Errorf("exit status %d, want 1", exit)
					}
					return
				}
			}
			t.Errorf("no %s finding with %q; exit status %d, %+v", c.check, c.text, exit, found)
		})
	}
}

// The mistake that pam-auth-update makes easy: a profile of the wrong type.
func TestDoctorOnAPrimaryProfile(t *testing.T) {
	sandbox.Need(t)
	pamAuthUpdate(t, "sallyport") // for its clean-up, and for the stacks without our lines
	// Below pam_unix, whose jump then goes over it.
	profile := strings.NewReplacer("Auth-Type: Additional", "Auth-Type: Primary", "Priority: 4096", "Priority: 192").Replace(stack(t, "debian/pam-configs/sallyport"))
	write(t, "/usr/share/pam-configs/sallyport", profile)
	cmd := exec.Command("pam-auth-update", "--package", "--force")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	output(t, cmd)
	addPerson(t, "prim")
	wantIn(t, "prim", sandbox.Su(addUser(t, "prix"), "prim"), sandbox.Password(password)) // no code
	found, exit := doctor(t)
	var named []string
	for _, f := range found {
		if f.Status == "fail" {
			named = append(named, f.Check+": "+f.Text)
		}
	}
	all := strings.Join(named, "\n")
	if exit != 1 || !strings.Contains(all, "Primary") || !strings.Contains(all, "never comes by") {
		t.Errorf("exit status %d, want the profile and the jump named in:\n%s", exit, all)
	}
}
