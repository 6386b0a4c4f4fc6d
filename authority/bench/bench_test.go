//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// The bench from outside, small: it measures the programs as they are built for
// release, says all that it promises, and leaves nothing behind. How fast they
// are, beside a suite of tests, says nothing.
func TestBench(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the agent rings phones for root's hooks only")
	}
	dir := t.TempDir()
	for _, build := range [][]string{
		{"-o", filepath.Join(dir, "sallyport"), "-trimpath", "-buildmode=pie", "sallyport/agent"},
		{"-o", filepath.Join(dir, "sallyport-authority"), "-trimpath", "-buildmode=pie", "sallyport/authority"},
		{"-o", filepath.Join(dir, "bench"), "sallyport/authority/bench"},
	} {
		if out, err := exec.Command("go", append([]string{"build"}, build...)...).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v: %s", strings.Join(build, " "), err, out)
		}
	}
	before, err := filepath.Glob("/var/tmp/sallyport-bench-*")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), "-dist", dir, "-quick")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the bench: %v\n%s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	t.Logf("%s", stdout.Bytes())

	line := regexp.MustCompile(`^target ([a-z0-9_]+) [0-9]+(\.[0-9]+)? [0-9]+(\.[0-9]+)? (ok|MISSED)$`)
	var names []string
	for text := range strings.Lines(stdout.String()) {
		if !strings.HasPrefix(text, "target ") {
			continue
		}
		m := line.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if m == nil {
			t.Errorf("a malformed line: %q", text)
			continue
		}
		names = append(names, m[1])
	}
	if want := []string{"approval_opens_login_p99_ms_sqlite", "approval_opens_login_p99_ms_postgresql", "push_logins_per_s_sqlite",
		"push_logins_per_s_postgresql", "idle_stream_rss_kb", "item_to_all_streams_s"}; !slices.Equal(names, want) {
		t.Errorf("targets %q, want %q", names, want)
	}
	if zero := regexp.MustCompile(`(?m)^target \S+ 0+(\.0+)? `).FindString(stdout.String()); zero != "" {
		t.Errorf("%q: nothing was measured", zero)
	}
	if after, err := filepath.Glob("/var/tmp/sallyport-bench-*"); err != nil || !slices.Equal(after, before) {
		t.Errorf("left behind: %q (before: %q), %v", after, before, err)
	}
}

// What fails in one of many ends the whole.
func TestEach(t *testing.T) {
	var done atomic.Int64
	if err := each(t.Context(), 100, 8, func(context.Context, int) error { done.Add(1); return nil }); err != nil || done.Load() != 100 {
		t.Errorf("%d of 100 done, %v", done.Load(), err)
	}
	bad := errors.New("bad")
	if err := each(t.Context(), 100, 8, func(_ context.Context, i int) error {
		if i == 50 {
			return bad
		}
		return nil
	}); !errors.Is(err, bad) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := each(ctx, 100, 8, func(context.Context, int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v after the end", err)
	}
}
