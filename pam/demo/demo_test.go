//go:build linux

package main

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// runs runs "./build.sh demo ARGS..." as a newcomer does, and counts its logins.
func runs(t *testing.T, args ...string) (screen string, ok, wrong int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for the private machine")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../../build.sh", append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_BUILT=1")
	out, err := cmd.CombinedOutput()
	screen = string(out)
	if err != nil {
		t.Fatalf("./build.sh demo %s: %v\n%s", strings.Join(args, " "), err, screen)
	}
	return screen, len(regexp.MustCompile(`(?m)^ok +\d+\. `).FindAllString(screen, -1)), strings.Count(screen, "\nWRONG")
}

func TestTheDemo(t *testing.T) {
	t.Parallel()
	if screen, ok, wrong := runs(t); ok != 10 || wrong != 0 {
		t.Errorf("%d logins as they should be, %d not:\n%s", ok, wrong, screen)
	}
}

func TestTheDemoOfPush(t *testing.T) {
	t.Parallel()
	screen, ok, wrong := runs(t, "push")
	if ok != 9 || wrong != 0 {
		t.Errorf("%d logins as they should be, %d not:\n%s", ok, wrong, screen)
	}
	for _, want := range []string{"push approved", "wrong number", "push denied", "push reported", "timed out",
		"push_mfa_attempt_failed reason=too_many_push_requests too many concurrent push requests", "push_mfa_reported",
		"push_answer_forged", "code accepted"} {
		if !strings.Contains(screen, want) {
			t.Errorf("it does not show %q:\n%s", want, screen)
		}
	}
}

func TestTheDemoRefusesWhatItDoesNotKnow(t *testing.T) {
	out, err := exec.Command("go", "run", ".", "pusch").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "unknown argument pusch") {
		t.Errorf("%v: %s", err, out)
	}
}
