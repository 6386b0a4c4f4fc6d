//go:build unix

package accounts_test

import (
	"context"
	"errors"
	"os/exec"
	"os/user"
	"strings"
	"testing"

	"sallyport/internal/accounts"
	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

func TestRootIsUID0(t *testing.T) {
	var n accounts.Names
	for range 2 {
		u, err := n.Lookup(t.Context(), "root")
		if err != nil || u != (accounts.User{Name: "root", ID: identity.Root}) {
			t.Fatalf("%+v, %v", u, err)
		}
	}
	if u, err := n.ByID(t.Context(), identity.Root); err != nil || u.Name != "root" {
		t.Errorf("uid:0 is %+v, %v", u, err)
	}
}

// TestTheCLibraryAgrees asks getent(1), which goes through nsswitch.conf(5).
func TestTheCLibraryAgrees(t *testing.T) {
	getent, err := exec.LookPath("getent")
	if err != nil {
		t.Skip("getent is not installed (Debian package libc-bin)")
	}
	for _, name := range []string{"root", "daemon", "nobody"} {
		out, err := exec.Command(getent, "passwd", name).Output()
		if err != nil {
			t.Skipf("this system has no user %s: %v", name, err)
		}
		f := strings.Split(string(out), ":")
		var n accounts.Names
		u, err := n.Lookup(t.Context(), name)
		known, byID := user.LookupId(f[2])
		if err != nil || byID != nil || u.Name != f[0] || known.Username != f[0] {
			t.Errorf("%s: %+v, %v; getent says %s", name, u, err, out)
		}
	}
}

// names that are nobody's, and that a careless look-up makes somebody's: the C
// library's own files are separated by colons and newlines, and its strings end
// at a NUL.
func TestStrangeNamesAreNobodys(t *testing.T) {
	var n accounts.Names
	for _, name := range []string{
		"", "\x00", "root\x00", "root\x00x", "\x00root", "nosuchuser", "root:", "root:x", "root:x:0:0", ":root", "root\n", "\nroot",
		"nosuch\nroot", "root\r", " root", "root ", "root/", "/root", "../root", "ro%6ft", "%s", "%n%n%n", "root%", "root@", "\\root",
		strings.Repeat("r", 300), "root" + strings.Repeat("x", 300), strings.Repeat("root ", 60), strings.Repeat("a", 100_000),
		"\xff\xfe", "root\xff", "r\xf6\xf6t", "ｒｏｏｔ", "rооt", "0", "-1", "4294967295", "+", "+root", "-root", "#0", "*", "root,daemon",
	} {
		u, err := n.Lookup(t.Context(), name)
		if !errors.Is(err, accounts.ErrUnknown) || u != (accounts.User{}) {
			t.Errorf("%.40q is %+v, %v", name, u, err)
		}
		if n.IsUser(t.Context(), name, identity.Root) != policy.NotMember {
			t.Errorf("%.40q is taken for root on a list", name)
		}
	}
}

func TestErrorsDoNotHoldTheName(t *testing.T) {
	// What is typed at the prompt for a name may be the password.
	var n accounts.Names
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), ctx} {
		if _, err := n.Lookup(ctx, "CanaryPassword"); err == nil || strings.Contains(err.Error(), "Canary") {
			t.Errorf("%v", err)
		}
	}
}

func TestUIDsThatNobodyHas(t *testing.T) {
	var n accounts.Names
	for _, uid := range []uint32{4_000_000_123, 1<<32 - 1} {
		if u, err := n.ByID(t.Context(), identity.UID(uid)); !errors.Is(err, accounts.ErrUnknown) || u != (accounts.User{}) {
			t.Errorf("%d is %+v, %v", uid, u, err)
		}
	}
}

func TestIsUser(t *testing.T) {
	var n accounts.Names
	daemon, err := n.Lookup(t.Context(), "daemon")
	if err != nil || daemon.ID == identity.Root {
		t.Fatalf("daemon is %+v, %v", daemon, err)
	}
	for range 2 { // the second time from memory
		for _, c := range []struct {
			name string
			id   identity.ID
			want policy.Membership
		}{
			{"root", identity.Root, policy.Member},
			{"root", identity.UID(1), policy.NotMember},
			{"daemon", daemon.ID, policy.Member},
			{"daemon", identity.ID(string(daemon.ID) + "1"), policy.NotMember},
			{"nosuchuser", identity.Root, policy.NotMember},
		} {
			if got := n.IsUser(t.Context(), c.name, c.id); got != c.want {
				t.Errorf("%s is %s: %v, want %v", c.name, c.id, got, c.want)
			}
		}
	}
}

func TestMembership(t *testing.T) {
	var n accounts.Names
	g, err := user.LookupGroupId("0")
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := user.Lookup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, group string
		want        policy.Membership
	}{
		{"root", g.Name, policy.Member},
		{"root", "0", policy.Member},
		{"daemon", daemon.Gid, policy.Member},
		{"daemon", "0", policy.NotMember},
		{"root", "nosuchgroup", policy.Unknown},
		{"root", "", policy.Unknown},
		{"root", g.Name + "\x00x", policy.Unknown},
		{"nosuchuser", g.Name, policy.Unknown},
		{"nosuchuser", "0", policy.Unknown},
		{"", g.Name, policy.Unknown},
		{"root\x00", "0", policy.Unknown},
	} {
		if got := n.Membership(t.Context(), c.user, c.group); got != c.want {
			t.Errorf("%q in %q: %v, want %v", c.user, c.group, got, c.want)
		}
	}
}
