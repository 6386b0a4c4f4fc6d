package daemon

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/internal/password"
	"sallyport/internal/testkit/wine/prime"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

const rightPassword = "a password"

// checker stands in for Windows', which would lock the account of whoever runs
// these tests.
func checker(_ context.Context, _ string, typed []byte) password.Result {
	if string(typed) != rightPassword {
		return password.Result{Verdict: password.Wrong, Reason: password.ReasonWrong}
	}
	return password.Result{Verdict: password.Right}
}

// asHook adds what the hook of this system says.
func asHook(b *loginv1.Begin) {
	b.Hook, b.Service = loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER, []byte("logonui")
	b.Session, b.Password = []byte("1"), []byte(rightPassword)
}

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
