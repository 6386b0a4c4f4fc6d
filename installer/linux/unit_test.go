package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The unit is a template and a sandbox of its own: only systemd can say whether
// the agent starts, tells that it is ready, keeps its state and comes back when
// it is killed with all that hardening around it. So a real systemd is booted in
// a private machine.
func TestTheUnitUnderARealSystemd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to boot systemd in a private machine")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("needs systemd: ./build.sh deps installs it")
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "sallyport"), "sallyport/agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	boot, err := filepath.Abs("testdata/boot.sh")
	if err != nil {
		t.Fatal(err)
	}
	// The machine ends by poweroff, which has no exit status to speak of: what
	// counts is what it wrote.
	out, _ := exec.Command("timeout", "-k", "5", "300", "../../internal/testkit/sandbox/enter.sh", "--bind", dir, "--", "bash", boot, dir).CombinedOutput()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("systemd did not get that far: %v\n%s", err, out)
		}
		return strings.TrimSpace(string(b))
	}
	for file, want := range map[string][]string{
		"active":   {"active"},
		"status":   {`"healthy":true`, `"keychain":"file"`},
		"enrolled": {`"otpauth_uri"`, `"recovery_codes"`},
		"modes":    {"700 /var/lib/sallyport", "755 /run/sallyport", "666 /run/sallyport/login.sock", "600 /run/sallyport/admin.sock"},
		"marker":   {".sallyport.toml.vault"}, // /etc/sallyport is writable for it
		// EPERM, where the default would kill the agent for what an NSS module does;
		// what systemd was told, as a container may not let it do the latter.
		"sandbox":    {"SystemCallErrorNumber=1", "OOMScoreAdjust=-900"},
		"killed":     {"NRestarts=1"},
		"again":      {`"healthy":true`, `"users":{"enrolled":1`},
		"journal":    {"agent_started", "user_enrolled"},
		"credential": {`"healthy":true`, `"keychain":"systemd-credential"`},
	} {
		text := strings.ReplaceAll(read(file), ": ", ":")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in:\n%s", file, w, text)
			}
		}
	}
}
