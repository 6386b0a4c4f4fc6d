package bounded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestADirectoryThatHangs: a call fails in time, and as many as hang are
// bounded; when the directory answers again, so do we.
func TestADirectoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{Patience: 5 * time.Second, Pending: 100, Others: 10}
		var c Calls
		up := make(chan struct{})
		hang := func() (int, error) { <-up; return 1, nil }
		look := func(ctx context.Context) error { _, err := Do(ctx, &c, limits, hang); return err }

		begun := time.Now()
		if err := look(t.Context()); !errors.Is(err, errHangs) {
			t.Fatalf("a call that hangs: %v", err)
		}
		if took := time.Since(begun); took != limits.Patience {
			t.Errorf("it fails after %s", took)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := look(gone); !errors.Is(err, context.Canceled) || c.pending != 1 {
			t.Fatalf("a login that is gone calls: %v, %d pending", err, c.pending)
		}
		leaves := func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return look(ctx)
		}
		// Callers that are not root leave room for root's hooks.
		for range limits.Others {
			if err := leaves(ForOthers(t.Context())); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a login that is gone waits: %v", err)
			}
		}
		begun = time.Now()
		if err := look(ForOthers(t.Context())); !errors.Is(err, errHangs) || time.Since(begun) != 0 {
			t.Errorf("the call after %d of others that hang: %v", limits.Others, err)
		}
		for range limits.Pending - limits.Others - 1 {
			if err := leaves(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a login that is gone waits: %v", err)
			}
		}
		begun = time.Now()
		if err := look(t.Context()); !errors.Is(err, errHangs) || time.Since(begun) != 0 {
			t.Errorf("the call after %d that hang: %v", limits.Pending, err)
		}
		close(up)
		synctest.Wait()
		if err := look(t.Context()); err != nil || c.pending != 0 {
			t.Errorf("after the directory came back: %v, %d pending", err, c.pending)
		}
	})
}
