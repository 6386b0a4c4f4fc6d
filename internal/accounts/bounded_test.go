package accounts

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestADirectoryThatHangs: a look-up fails in time, and as many as hang are
// bounded; when the directory answers again, so do we.
func TestADirectoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Names
		up := make(chan struct{})
		hang := func() (int, error) { <-up; return 1, nil }
		look := func(ctx context.Context) error { _, err := bounded(ctx, &n, hang); return err }

		begun := time.Now()
		if err := look(t.Context()); err == nil {
			t.Fatal("a look-up that hangs succeeds")
		}
		if took := time.Since(begun); took != patience {
			t.Errorf("it fails after %s", took)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := look(gone); !errors.Is(err, context.Canceled) || n.pending != 1 {
			t.Fatalf("a login that is gone looks up: %v, %d pending", err, n.pending)
		}
		leaves := func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return look(ctx)
		}
		// Callers that are not root leave room for root's hooks.
		for range maxOthers {
			if err := leaves(ForOthers(t.Context())); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a login that is gone waits: %v", err)
			}
		}
		begun = time.Now()
		if err := look(ForOthers(t.Context())); err == nil || time.Since(begun) != 0 {
			t.Errorf("the look-up after %d of others that hang: %v", maxOthers, err)
		}
		for range maxPending - maxOthers - 1 {
			if err := leaves(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("a login that is gone waits: %v", err)
			}
		}
		begun = time.Now()
		if err := look(t.Context()); err == nil || time.Since(begun) != 0 {
			t.Errorf("the look-up after %d that hang: %v", maxPending, err)
		}
		close(up)
		synctest.Wait()
		if err := look(t.Context()); err != nil || n.pending != 0 {
			t.Errorf("after the directory came back: %v, %d pending", err, n.pending)
		}
	})
}
