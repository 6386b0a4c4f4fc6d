//go:build linux

package coretest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long one test of the core may take, on a busy machine too.
const patience = 2 * time.Minute

var out string // what make built

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if out, err = os.MkdirTemp("", "coretest"); err == nil {
		defer os.RemoveAll(out)
		if err = touchSources("..", "../../internal/hookclient"); err == nil {
			err = runMake("OUT="+out, "all", "asan", "unit")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "coretest:", err)
		return 1
	}
	return m.Run()
}

func runMake(args ...string) error {
	cmd := exec.Command("make", append([]string{"-s", "-C", ".."}, args...)...)
	// A make around this test must not pass its own jobs and variables on.
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make %s: %w (./build.sh deps installs what it needs)\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// touchSources reads every C source, so that a cached result is not shown for
// changed C.
func touchSources(dirs ...string) error {
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
				return err
			}
			_, err = os.ReadFile(path)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// command runs a program of ours for as long as patience lasts.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return string(text)
}

// TestCore runs unit/unit.c, test by test: with ASan and UBSan, and with TSan.
func TestCore(t *testing.T) {
	for _, kind := range []string{"asan", "tsan"} {
		unit := filepath.Join(out, kind, "unit")
		names := strings.Fields(command(t, unit, "-list"))
		if len(names) < 40 {
			t.Fatalf("only %d tests are listed", len(names))
		}
		t.Run(kind, func(t *testing.T) {
			for _, name := range names {
				t.Run(name, func(t *testing.T) {
					if strings.HasPrefix(name, "break_glass_") {
						if os.Geteuid() != 0 {
							t.Skip("the list must be root's, and this test is not run by root")
						}
					} else { // those have one list
						t.Parallel()
					}
					command(t, unit, name)
				})
			}
		})
	}
}

// TestWhatIsBuilt: one name is exported, and there is no state but a host's; gcc and
// clang agree.
func TestWhatIsBuilt(t *testing.T) {
	for _, cc := range []string{"gcc", "clang-19"} {
		t.Run(cc, func(t *testing.T) {
			if _, err := exec.LookPath(cc); err != nil {
				t.Skipf("%s is not installed", cc)
			}
			if err := runMake("OUT="+filepath.Join(t.TempDir(), "out"), "CC="+cc, "check"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFuzz lets libFuzzer write hints, lists and QR codes, and play authd out of order,
// for some seconds; make -C authplugin fuzz does it for longer.
func TestFuzz(t *testing.T) {
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("clang, which brings libFuzzer, is not installed")
	}
	if testing.Short() {
		t.Skip("fuzzing takes 10 s")
	}
	if err := runMake("OUT="+out, "fuzzers"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"read", "mechanisms", "view"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			seeds := filepath.Join("../fuzz/seeds", name)
			if found, err := os.ReadDir(seeds); err != nil || len(found) == 0 {
				t.Fatalf("%s: %d seeds, %v", seeds, len(found), err)
			}
			text := command(t, filepath.Join(out, "fuzz_"+name), "-seed=1", "-max_total_time=5", "-max_len=16384", "-timeout=60",
				"-rss_limit_mb=1024", "-print_final_stats=1", "-artifact_prefix="+dir+"/", dir, seeds)
			for line := range strings.Lines(text) {
				if strings.Contains(line, "stat::number_of_executed_units") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
