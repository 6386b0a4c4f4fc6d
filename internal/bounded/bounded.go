// Package bounded makes calls into the system that may hang for minutes when a
// directory is down and cannot be cancelled: each is waited for so long and no
// longer, and only so many may hang.
package bounded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errHangs says that a call was not made, or not waited for: the system does not
// answer.
var errHangs = errors.New("the directory (SSSD, LDAP, Active Directory) does not answer")

// Limits are those of one kind of call.
type Limits struct {
	Patience time.Duration // a call that takes longer has failed
	Pending  int           // how many may hang
	// Others is how many may hang of those made for callers that are not root:
	// whoever they are, they leave room for root's hooks.
	Others int
}

// Calls counts those under way. The zero value is ready.
type Calls struct {
	mu      sync.Mutex
	pending int // of all
	others  int // of them, for callers that are not root
}

// ForOthers marks the calls of ctx as made for a caller that is not root's hook.
func ForOthers(ctx context.Context) context.Context { return context.WithValue(ctx, others{}, true) }

type others struct{}

// Do makes a call and returns what came of it, or that there was no waiting for
// it. The call goes on all the same.
func Do[T any](ctx context.Context, c *Calls, limits Limits, call func() (T, error)) (T, error) {
	var zero T
	if ctx.Err() != nil {
		return zero, ctx.Err()
	}
	other := 0
	if ctx.Value(others{}) != nil {
		other = 1
	}
	c.mu.Lock()
	if c.pending >= limits.Pending || other == 1 && c.others >= limits.Others {
		c.mu.Unlock()
		return zero, fmt.Errorf("%w: too many calls hang", errHangs)
	}
	c.pending++
	c.others += other
	c.mu.Unlock()
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := call()
		c.mu.Lock()
		c.pending--
		c.others -= other
		c.mu.Unlock()
		done <- result{v, err}
	}()
	timer := time.NewTimer(limits.Patience)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-timer.C:
		return zero, fmt.Errorf("%w within %s", errHangs, limits.Patience)
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}
