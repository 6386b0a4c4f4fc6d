package daemon

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/internal/testkit/wine/prime"
)

var prefixes atomic.Int32

// runtimeDir is a prefix for pipes of this test's own.
func runtimeDir(string) string {
	return fmt.Sprintf(`\\.\pipe\sallyport-test-%d\%d`, windows.GetCurrentProcessId(), prefixes.Add(1))
}

// listened primes a pipe.
func listened(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := prime.Pipe(ctx, path); err != nil {
		t.Fatal(err)
	}
}
