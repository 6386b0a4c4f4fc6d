//go:build !windows

package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestThePreferencesAreWatched: where the directory comes later, and goes; where the
// file is replaced, written in its place, taken away, given to others.
func TestThePreferencesAreWatched(t *testing.T) {
	managed := ownPreferences(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() { ended <- watchFile(ctx, managed, func() { looks <- struct{}{} }) }()
	// told waits until somebody is, and it is as it has to be then.
	told := func(what string, is func(*Policies, error) bool) {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			select {
			case <-looks:
				if is(readPolicies(t.Context())) {
					return
				}
			case err := <-ended:
				t.Fatal(err)
			case <-deadline:
				t.Fatalf("%s, and nobody was told", what)
			}
		}
	}
	holds := func(n int) func(*Policies, error) bool {
		return func(p *Policies, err error) bool {
			if err != nil || p.Preferences == nil {
				return err == nil && n == 0
			}
			c, _, err := Preferred(p.Preferences)
			return err == nil && c.Events == n
		}
	}
	told("the beginning", holds(0))
	for round := range 3 { // the directory goes at the end of each
		n := 1000 * (round + 1)
		prefers(t, inBinary(t, dict{"events": n}))
		told("the directory comes, with a file", holds(n))
		prefers(t, inBinary(t, dict{"events": n + 1}))
		told("it is replaced", holds(n+1))
		if err := os.WriteFile(managed, inXML(t, dict{"events": n + 2}), 0o600); err != nil {
			t.Fatal(err)
		}
		told("it is written in its place", holds(n+2))
		if err := os.Chmod(managed, 0o666); err != nil {
			t.Fatal(err)
		}
		told("others may write to it", func(_ *Policies, err error) bool { return err != nil })
		if err := os.Remove(managed); err != nil {
			t.Fatal(err)
		}
		told("it is taken away", holds(0))
		prefers(t, inBinary(t, dict{"events": n + 3}))
		told("it is put back", holds(n+3))
		if round == 1 { // by another name
			if err := os.Rename(filepath.Dir(managed), filepath.Dir(managed)+".old"); err != nil {
				t.Fatal(err)
			}
		} else if err := os.RemoveAll(filepath.Dir(managed)); err != nil {
			t.Fatal(err)
		}
		told("the directory goes", holds(0))
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the watch does not end")
	}
}

// TestOtherFilesOfTheDirectoryWakeNobody: every application's profile is there.
func TestOtherFilesOfTheDirectoryWakeNobody(t *testing.T) {
	managed := ownPreferences(t)
	prefers(t, inBinary(t, dict{}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() { ended <- watchFile(ctx, managed, func() { looks <- struct{}{} }) }()
	<-looks
	for range 100 {
		if err := os.WriteFile(filepath.Join(filepath.Dir(managed), "com.example.plist"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	prefers(t, inBinary(t, dict{"events": 500})) // the file itself comes after them
	select {
	case <-looks:
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := len(looks); n > 3 {
		t.Errorf("%d more looks", n)
	}
}

func TestADirectoryThatCannotBeWatchedIsAnError(t *testing.T) {
	if err := watchFile(t.Context(), filepath.Join(t.TempDir(), "none", "neither", "x.plist"), func() { t.Error("it is looked at") }); err == nil {
		t.Error("nothing is watched")
	}
}
