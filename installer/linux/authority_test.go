package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The authority under its own unit: as its own account on port 443, restarted
// when it is killed, and still able to write after root's commands worked on its
// database.
func TestTheAuthoritysUnitUnderARealSystemd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to boot systemd in a private machine")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("needs systemd: ./build.sh deps installs it")
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "sallyport-authority"), "sallyport/authority")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"sallyport-authority.service", "sallyport-authority.sysusers"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	boot, err := filepath.Abs("testdata/boot-authority.sh")
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("timeout", "-k", "5", "300", "../../internal/testkit/sandbox/enter.sh", "--bind", dir, "--", "bash", boot, dir).CombinedOutput()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatalf("systemd did not get that far: %v\n%s", err, out)
		}
		return strings.TrimSpace(string(b))
	}
	const owner = " sallyport-authority /var/lib/sallyport-authority"
	for file, want := range map[string][]string{
		"active":    {"active"},
		"status":    {`"healthy":true`, `"running":true`},
		"user":      {"sallyport-authority"},
		"added":     {`"added":"maya"`},
		"token":     {`"users":["maya"]`},
		"modes":     {"700" + owner, "600" + owner + "/authority.db\n", "600" + owner + "/authority.db-wal", "600" + owner + "/keys/ca.key", "600" + owner + "/keys/webpush.key"},
		"sandbox":   {"SystemCallErrorNumber=1", "NoNewPrivileges=yes"},
		"killed":    {"NRestarts=1"},
		"again":     {`"healthy":true`},
		"down":      {`"added":"noah"`},
		"restarted": {`"healthy":true`, `"users":2`},
		"events":    {"settings_changed", "user_added"},
		"journal":   {"the authority is up"},
	} {
		text := read(file)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in:\n%s", file, w, text)
			}
		}
	}
	if t.Failed() {
		errors, _ := os.ReadFile(filepath.Join(dir, "errors"))
		t.Logf("errors: %s\ninit: %s\njournal: %s", errors, read("init"), read("journal"))
	}
}
