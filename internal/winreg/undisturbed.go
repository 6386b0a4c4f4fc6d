package winreg

import (
	"context"
	"errors"
	"runtime"
)

// ErrBusy says that policies are being applied, and went on being applied for
// longer than was to be waited for.
var ErrBusy = errors.New("the computer's policies are being applied now, and cannot be read in between")

// looking has room for one reader. One that nobody waits for any more keeps its
// thread until Windows answers; the next one waits behind it.
var looking = make(chan struct{}, 1)

// Undisturbed returns what read returns, at a moment at which Group Policy does
// not write: it deletes all values of a policy that changed before it writes them
// anew. After the end of ctx it returns ErrBusy, and what read returns is lost.
func Undisturbed[T any](ctx context.Context, read func() T) (T, error) { return while(ctx, lock, read) }

// while calls read between lock and what lock returns.
func while[T any](ctx context.Context, lock func() (unlock func()), read func() T) (T, error) {
	var none T
	select {
	case looking <- struct{}{}:
	case <-ctx.Done():
		return none, ErrBusy
	}
	done := make(chan T, 1)
	go func() {
		runtime.LockOSThread() // the lock is the thread's
		defer runtime.UnlockOSThread()
		unlock := lock()
		got := read()
		unlock()
		<-looking
		done <- got
	}()
	select {
	case got := <-done:
		return got, nil
	case <-ctx.Done():
		return none, ErrBusy
	}
}
