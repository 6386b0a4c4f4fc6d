//go:build linux

package machine

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sallyport/internal/testkit/sandbox"
)

// distVariable names a directory with what is to be tested, if it is built already.
const distVariable = "SALLYPORT_DIST"

// The parts that Main can build.
var parts = map[string]struct {
	args []string
	env  string
}{
	"sallyport":           {args: []string{"go", "build", "-trimpath", "-buildmode=pie", "-o", "DIST/sallyport", "./agent"}},
	"sallyport-try":       {args: []string{"go", "build", "-trimpath", "-buildmode=pie", "-o", "DIST/sallyport-try", "./pam/try"}},
	"sallyport-authority": {args: []string{"go", "build", "-trimpath", "-buildmode=pie", "-o", "DIST/sallyport-authority", "./authority"}, env: "CGO_ENABLED=0"},
	"pam_sallyport.so":    {args: []string{"make", "-s", "-C", "pam", "OUT=DIST"}},
}

// Main is the TestMain of tests of what is shipped: it builds the parts as
// "./build.sh build" does, and runs the tests in a sandbox, after setUp. Where no
// sandbox can be had the tests run outside, and skip.
func Main(m *testing.M, setUp func(dist string) error, build ...string) {
	flag.Parse()
	status, err := 1, error(nil)
	switch {
	case sandbox.Inside():
		status, err = inside(m, setUp)
	case sandbox.Possible() != nil:
		sandbox.Main(m) // the tests skip, and say why
	default:
		status, err = outside(build)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	os.Exit(status)
}

func outside(build []string) (int, error) {
	if os.Getenv(distVariable) == "" {
		dist, err := os.MkdirTemp("", "sallyport-dist-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dist)
		_, file, _, _ := runtime.Caller(0)
		for _, name := range build {
			part := parts[name]
			cmd := exec.Command(part.args[0])
			cmd.Args = nil
			for _, arg := range part.args {
				cmd.Args = append(cmd.Args, strings.ReplaceAll(arg, "DIST", dist))
			}
			cmd.Dir = filepath.Join(filepath.Dir(file), "..", "..", "..")
			cmd.Env = append(os.Environ(), part.env)
			if out, err := cmd.CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
			}
		}
		if err := os.Setenv(distVariable, dist); err != nil {
			return 0, err
		}
	}
	var keep []string
	flag.Visit(func(f *flag.Flag) {
		if name := strings.TrimPrefix(f.Name, "test."); name == "coverprofile" {
			keep = append(keep, filepath.Dir(f.Value.String()))
		} else if name == "gocoverdir" {
			keep = append(keep, f.Value.String())
		} else if name == "pictures" { // screenshots
			keep = append(keep, f.Value.String())
		}
	})
	return sandbox.Reexec(keep...)
}

func inside(m *testing.M, setUp func(dist string) error) (int, error) {
	// Most of a login is waiting: for pam_unix, which takes its time to refuse.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set("test.parallel", "8"); err != nil {
			return 0, err
		}
	}
	dist, err := filepath.Abs(os.Getenv(distVariable))
	if err != nil {
		return 0, err
	}
	if err := setUp(dist); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
