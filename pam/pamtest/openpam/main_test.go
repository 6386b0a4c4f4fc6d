//go:build linux

package openpam

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// patience bounds every wait; nothing waits for it to pass.
const patience = time.Minute

// build is a directory with module, stand-ins and login program.
type build struct{ name, dir string }

func (b build) module() string { return filepath.Join(b.dir, "pam_sallyport.so.2") }

var (
	shipped = build{"shipped", "/run/openpam/shipped"}
	asan    = build{"asan", "/run/openpam/asan"}
	dist    string            // the agent and the authority
	office  *machine.Computer // the agent of most tests
)

var officeSettings = []string{
	"[push]", "in_five_minutes = 1000", "in_an_hour = 1000", "misses = 0", "per_service = 0",
	"[policy.exempt]", `users = ["exempt"]`,
}

func TestMain(m *testing.M) {
	if !sandbox.Inside() { // so that go test knows what these tests depend on
		for _, dir := range []string{"native", "../native", "../../../internal/hookclient", "../../../authplugin/sdk/usr/include"} {
			if err := touchSources(dir); err != nil {
				fmt.Fprintln(os.Stderr, "openpam:", err)
				os.Exit(1)
			}
		}
		for _, file := range []string{"pam_sallyport.c", "libpam.h", "options.c", "service.c"} {
			if _, err := os.ReadFile(filepath.Join("../..", file)); err != nil {
				fmt.Fprintln(os.Stderr, "openpam:", err)
				os.Exit(1)
			}
		}
	}
	machine.Main(m, setUp, "sallyport", "sallyport-authority")
}

// touchSources reads every C source, so that a cached result is not shown for
// changed C.
func touchSources(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
}

func setUp(from string) (err error) {
	dist = from
	for _, b := range []build{shipped, asan} {
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return err
		}
		args := []string{"-s", "-C", "native", "OUT=" + b.dir}
		if b == asan {
			args = append(args, "SANITIZE=1")
		}
		cmd := exec.Command("make", args...)
		// A make around this test must not pass its own jobs and variables on.
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make: %w (./build.sh deps installs what it needs)\n%s", err, text)
		}
	}
	office, err = machine.NewComputer(dist, "/run/office", officeSettings...)
	return err
}

// each runs a test with the module as it is and with the sanitized one.
func each(t *testing.T, test func(t *testing.T, b build)) {
	t.Helper()
	sandbox.Need(t)
	t.Parallel()
	for _, b := range []build{shipped, asan} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
