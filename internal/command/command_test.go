package command

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestHowACommandEnds(t *testing.T) {
	classify := func(err error) *Error { return &Error{Exit: ExitFailed, Text: err.Error()} }
	for _, c := range []struct {
		err  error
		exit int
		text string
	}{
		{nil, ExitOK, ""},
		{errors.New("the disk is full"), ExitFailed, "the disk is full"},
		{BadUsage("no user"), ExitUsage, "no user"},
		{fmt.Errorf("on the way: %w", BadUsage("no user")), ExitUsage, "no user"},
		{Quiet(ExitNotRunning), ExitNotRunning, ""},
	} {
		root := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true,
			RunE: Do(classify, func(*cobra.Command, []string) error { return c.err })}
		exit, e := Execute(t.Context(), root, nil)
		if exit != c.exit || (e == nil) != (c.text == "") || e != nil && e.Text != c.text {
			t.Errorf("%v: exit %d, %v", c.err, exit, e)
		}
	}
	root := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, RunE: Do(classify, nil)}
	if exit, e := Execute(t.Context(), root, []string{"--nonsense"}); exit != ExitUsage || e == nil || e.Remedy != "see: x help" {
		t.Errorf("an unknown flag: exit %d, %v", exit, e)
	}
}

func TestEveryExitCodeHasAName(t *testing.T) {
	seen := map[string]bool{}
	for code := range exitCodes {
		if name := ExitName(code); name == "" || seen[name] {
			t.Errorf("exit code %d is %q", code, name)
		} else {
			seen[name] = true
		}
	}
	for _, code := range []int{-1, exitCodes, 255} {
		if ExitName(code) != "failed" {
			t.Errorf("exit code %d is %q", code, ExitName(code))
		}
	}
}

func TestWhoWantsJSON(t *testing.T) {
	for args, want := range map[string]bool{"": false, "a --json": true, "--json=true": true, "--json=false": false, "a -- --json": false} {
		if WantsJSON(strings.Fields(args)) != want {
			t.Errorf("%q: %v", args, !want)
		}
	}
}
