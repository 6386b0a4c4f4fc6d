//go:build linux

package authdb

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTheNewPlugInComesInOneStep: what is there is never nothing, and what was there
// lies where the new one did.
func TestTheNewPlugInComesInOneStep(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	which := func(bundle string) string {
		b, err := os.ReadFile(filepath.Join(bundle, "which"))
		if err != nil {
			return ""
		}
		return string(b)
	}
	staged := filepath.Join(filepath.Dir(r.Bundle), "staged", "Sallyport.bundle")
	if err := errors.Join(os.Mkdir(filepath.Dir(staged), 0o755), os.Rename(bundle(t, ownCPU, mhBundle, "_"+entryPoint), staged),
		os.WriteFile(filepath.Join(staged, "which"), []byte("new"), 0o644),
		os.WriteFile(filepath.Join(r.Bundle, "which"), []byte("old"), 0o644)); err != nil {
		t.Fatal(err)
	}
	// One that is not fit for use does not come.
	a.load = errors.New("it does not load")
	if err := r.Place(t.Context(), staged); err == nil || which(r.Bundle) != "old" {
		t.Errorf("%v, and %q is there", err, which(r.Bundle))
	}
	a.load = nil
	if err := r.Place(t.Context(), staged); err != nil || which(r.Bundle) != "new" || which(staged) != "old" {
		t.Errorf("%v, %q is there, %q beside", err, which(r.Bundle), which(staged))
	}
	if err := os.RemoveAll(r.Bundle); err != nil {
		t.Fatal(err)
	}
	if err := r.Place(t.Context(), staged); err != nil || which(r.Bundle) != "old" {
		t.Errorf("%v: nothing was there, and now %q", err, which(r.Bundle))
	}
	if err := r.Place(t.Context(), staged); err == nil || which(r.Bundle) != "old" {
		t.Errorf("%v: one that is not there, and now %q", err, which(r.Bundle))
	}
	r.Owner = 12345
	if err := r.Place(t.Context(), staged); !errors.Is(err, ErrNotRoot) {
		t.Error(err)
	}
}

// TestARepairIsWaitedFor: the agent that an installation has just started looks at the
// rights itself.
func TestARepairIsWaitedFor(t *testing.T) {
	r := world(t, newAuthd(t))
	unlock, err := r.lock()
	if err != nil {
		t.Fatal(err)
	}
	r.Patience = time.Minute
	done := make(chan error)
	go func() {
		_, err := r.Install(t.Context())
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(2 * lockPause):
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
