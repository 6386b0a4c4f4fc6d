package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/internal/event"
	"sallyport/internal/localsock"
	"sallyport/internal/password"
	"sallyport/internal/testkit/wine/prime"
	adminv1 "sallyport/proto/sallyport/admin/v1"
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

// TestAnAgentWaitsForItsPlace: every user can make a pipe of any name first.
func TestAnAgentWaitsForItsPlace(t *testing.T) {
	for _, name := range []string{localsock.LoginName, localsock.AdminName} {
		dir := t.TempDir()
		path, run := filepath.Join(dir, "sallyport.toml"), runtimeDir(dir)
		if err := os.WriteFile(path, fmt.Appendf(nil, "state_dir = %q\nruntime_dir = %q\n", filepath.Join(dir, "state"), run), 0o600); err != nil {
			t.Fatal(err)
		}
		other, err := localsock.Listen(filepath.Join(run, name), localsock.OwnerOnly, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		a := startAt(t, path, run, func(s State) {
			if s == Blocked {
				other.Close()
			}
		})
		events, err := a.admin.Events(t.Context(), &adminv1.EventsRequest{})
		said := false
		for err == nil {
			var m *adminv1.Event
			if m, err = events.Recv(); err == nil {
				var e event.Event
				err = json.Unmarshal(m.GetJson(), &e)
				said = said || e.Name == event.PipeTaken && strings.Contains(e.Text, filepath.Join(run, name))
			}
		}
		if !errors.Is(err, io.EOF) || !said {
			t.Errorf("nothing says that %s was taken: %v", name, err)
		}
	}
}
