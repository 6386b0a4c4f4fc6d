package pamtest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build is the module and the login program to load it with.
type build struct {
	name, module, driver string
}

var (
	out      string // what make built
	shipped  build
	asan     build
	peerMode = "SALLYPORT_PAMTEST_PEER" // set in a copy of this process that plays the agent
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(peerMode); socket != "" {
		runPeer(socket)
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	var err error
	if out, err = os.MkdirTemp("", "pamtest"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(out)
	if err := os.Chmod(out, 0o755); err != nil { // for logins as other users
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := touchSources("..", "../../internal/hookclient"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if text, err := runMake(out, "all", "driver", "asan"); err != nil {
		fmt.Fprintf(os.Stderr, "%s\nbuilding the PAM module: %v (./build.sh deps installs what it needs)\n", text, err)
		return 1
	}
	shipped = build{"shipped", filepath.Join(out, "pam_sallyport.so"), filepath.Join(out, "driver")}
	asan = build{"asan", filepath.Join(out, "asan/pam_sallyport.so"), filepath.Join(out, "asan/driver")}
	return m.Run()
}

func runMake(out string, targets ...string) (string, error) {
	cmd := exec.Command("make", append([]string{"-s", "-C", "..", "OUT=" + out}, targets...)...)
	// A make around this test must not pass its own jobs and variables on.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// touchSources looks at every C source, so that go test knows what these tests
// depend on, and a cached result is not shown for changed C.
func touchSources(dirs ...string) error {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
				return err
			}
			_, err = os.ReadFile(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachBuild runs a test with the shipped module and with the sanitized one.
func eachBuild(t *testing.T, test func(t *testing.T, b build)) {
	t.Helper()
	t.Parallel()
	for _, b := range []build{shipped, asan} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}
