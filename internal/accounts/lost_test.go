package accounts

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/internal/policy"
)

// HAZARD: a directory that hangs keeps everybody out, as each group of a policy is
// waited for; or a group that is there is not looked up, as others are not.
func TestADirectoryThatHangsIsWaitedForOnceInALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) policy.Membership {
			timer := time.NewTimer(limits.Patience)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			return policy.Unknown
		}
		is := func(m policy.Membership) func(context.Context) policy.Membership {
			return func(ctx context.Context) policy.Membership {
				if ctx.Err() != nil {
					return policy.Unknown
				}
				return m
			}
		}
		var l lost
		began := time.Now()
		for range 5 {
			if m := l.bound(t.Context(), hangs); m != policy.Unknown {
				t.Fatalf("it says %v", m)
			}
		}
		if m := l.bound(t.Context(), is(policy.Member)); m != policy.Member {
			t.Errorf("a group in /etc/group, behind five of a directory that hangs: %v", m)
		}
		for range 1000 {
			l.bound(t.Context(), hangs)
		}
		if took := time.Since(began); took > limits.Patience+2*extra {
			t.Errorf("the login waited for %s", took)
		}

		// What is not there costs nothing, however many there are of them.
		l = 0
		for range 1000 {
			l.bound(t.Context(), is(policy.Unknown))
		}
		if m := l.bound(t.Context(), is(policy.Member)); m != policy.Member {
			t.Errorf("a group that is there, behind 1,000 that are not: %v", m)
		}
	})
}
