//go:build linux

// Package fuzz drives the tests of those parts of the credential provider that are
// only text and bytes, and so are compiled on Linux too: unit.cpp, and libFuzzer on
// what comes from a remote desktop's client, from a person, and from the agent.
package fuzz

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs make -C credprovider in out.
func run(t *testing.T, out, target string) {
	t.Helper()
	if _, err := exec.LookPath("clang++"); err != nil {
		t.Skip("clang++ is not installed")
	}
	text, err := exec.Command("make", "-s", "-C", "..", target, "OUT="+out).CombinedOutput()
	if err != nil {
		t.Fatalf("make %s: %v (Debian: clang libclang-rt-dev libnanopb-dev)\n%s", target, err, text)
	}
}

func TestUnit(t *testing.T) {
	run(t, t.TempDir(), "unit")
}

// TestFuzz is for some seconds; make -C credprovider fuzz does it for longer.
func TestFuzz(t *testing.T) {
	if testing.Short() {
		t.Skip("fuzzing takes 10 s")
	}
	out := t.TempDir()
	run(t, out, "fuzzers")
	for _, name := range []string{"logon", "account", "dialogue"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			text, err := exec.Command(filepath.Join(out, "native", "fuzz_"+name), "-seed=1", "-max_total_time=3", "-max_len=4096", "-timeout=60",
				"-rss_limit_mb=1024", "-print_final_stats=1", "-artifact_prefix="+dir+"/", dir, "seeds_"+name).CombinedOutput()
			if err != nil {
				crashes, _ := filepath.Glob(filepath.Join(dir, "*-*"))
				var input []byte
				if len(crashes) > 0 {
					input, _ = os.ReadFile(crashes[0])
				}
				t.Fatalf("%v\n%s\ninput: %q", err, text, input)
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "stat::number_of_executed_units") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
