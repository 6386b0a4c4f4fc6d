package winreg

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// groupPolicy is somebody who holds the lock of policies; a lock that fails after ten
// minutes, as Windows' does.
type groupPolicy struct {
	held    chan struct{} // has one in it while the lock is taken
	waiting atomic.Int32
}

func newGroupPolicy() *groupPolicy { return &groupPolicy{held: make(chan struct{}, 1)} }

func (g *groupPolicy) lock() (unlock func()) {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	select {
	case g.held <- struct{}{}:
		return func() { <-g.held }
	case <-time.After(10 * time.Minute):
		return func() {}
	}
}

// ownSlot gives a test in a bubble the place that readers queue for.
func ownSlot(t *testing.T) {
	was := looking
	looking = make(chan struct{}, 1)
	t.Cleanup(func() { looking = was })
}

func TestNothingIsReadWhilePoliciesAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ownSlot(t)
		g, value := newGroupPolicy(), "required"
		g.held <- struct{}{} // it deletes the value, and writes it anew three seconds later
		value = ""
		time.AfterFunc(3*time.Second, func() { value = "required"; <-g.held })
		short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		read := func() string { return value }
		if got, err := while(short, g.lock, read); got != "" || !errors.Is(err, ErrBusy) {
			t.Errorf("in two seconds: %q, %v", got, err)
		}
		if got, err := while(t.Context(), g.lock, read); got != "required" || err != nil {
			t.Errorf("with patience: %q, %v", got, err)
		}
		if len(g.held) != 0 {
			t.Error("the lock was not given back")
		}
	})
}

// Any program may hold the lock: that must neither pile up threads nor last.
func TestALockThatIsNotGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ownSlot(t)
		g := newGroupPolicy()
		g.held <- struct{}{}
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if _, err := while(ctx, g.lock, func() int { return 1 }); !errors.Is(err, ErrBusy) {
				t.Errorf("%v", err)
			}
			cancel()
		}
		if n := g.waiting.Load(); n != 1 {
			t.Errorf("%d threads wait for the lock", n)
		}
		began := time.Now()
		if got, err := while(t.Context(), g.lock, func() int { return 1 }); got != 1 || err != nil || time.Since(began) > 20*time.Minute {
			t.Errorf("%d, %v, after %s", got, err, time.Since(began))
		}
	})
}

func TestUndisturbed(t *testing.T) {
	for range 3 { // the system's own lock is given back
		if got, err := Undisturbed(t.Context(), func() int { return 7 }); got != 7 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	}
}
