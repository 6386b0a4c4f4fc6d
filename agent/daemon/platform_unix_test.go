//go:build unix

package daemon

import (
	"path/filepath"
	"testing"

	"sallyport/internal/password"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// checker: the system checks passwords before it asks a hook.
var checker password.Checker

// asHook adds what the hook of this system says.
func asHook(b *loginv1.Begin) {
	b.Hook, b.Service = loginv1.HookKind_HOOK_KIND_PAM, []byte("login")
}

// runtimeDir is for the sockets of an agent that has dir to itself.
func runtimeDir(dir string) string { return filepath.Join(dir, "run") }

// listened is called once before a socket is used.
func listened(*testing.T, string) {}
