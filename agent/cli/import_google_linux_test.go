package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const googleText = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n\" RATE_LIMIT 3 30\n\" DISALLOW_REUSE 57000000 57000002\n\" TOTP_AUTH\n11111111\n22222222\n"

// passwd lets `getent passwd` answer these lines.
func (s *session) passwd(lines ...string) *session {
	s.deps.Command = func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name != "getent" || quoted(args) != `["passwd"]` {
			s.t.Errorf("%s %v was run", name, args)
		}
		return []byte(strings.Join(lines, "\n") + "\n"), nil
	}
	return s
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of several owners")
	}
}

// home makes a home directory of one owner, and a file in it of one owner.
func home(t *testing.T, uid, fileUID int, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		file := filepath.Join(dir, googleFile)
		if err := os.WriteFile(file, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(file, fileUID, fileUID); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Lchown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	return dir
}

func passwdLine(name string, uid int, home string) string {
	return fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", name, uid, uid, home)
}

func TestImportAllHomes(t *testing.T) {
	needRoot(t)
	f := newFake()
	alice := home(t, 4001, 4001, googleText)
	bob := home(t, 4002, 0, googleText) // root keeps it
	thief := home(t, 4003, 4003, "")
	if err := os.Symlink(filepath.Join(alice, googleFile), filepath.Join(thief, googleFile)); err != nil {
		t.Fatal(err)
	}
	foreign := home(t, 4004, 4001, googleText) // alice's file in erin's home
	hotp := home(t, 4005, 4005, strings.Replace(googleText, `" TOTP_AUTH`, `" HOTP_COUNTER 3`, 1))
	operator := home(t, 0, 0, googleText) // root's home is operator's as well
	fifo := home(t, 4006, 4006, "")
	if err := unix.Mkfifo(filepath.Join(fifo, googleFile), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := home(t, 4007, 4007, "")
	if err := os.Link(filepath.Join(bob, googleFile), filepath.Join(linked, googleFile)); err == nil {
		if err := os.Remove(filepath.Join(bob, googleFile)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bob, googleFile), []byte(googleText), 0o400); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(linked, googleFile), filepath.Join(linked, "second")); err != nil {
			t.Fatal(err)
		}
	}
	big := home(t, 4008, 4008, strings.Repeat("\n", maxGoogleFile+1))

	s := newSession(t, f).passwd(
		passwdLine("root", 0, "/nonexistent"), passwdLine("alice", 4001, alice), passwdLine("bob", 4002, bob),
		passwdLine("thief", 4003, thief), passwdLine("erin", 4004, foreign), passwdLine("frank", 4005, hotp),
		passwdLine("operator", 11, operator), passwdLine("pipe", 4006, fifo), passwdLine("linked", 4007, linked),
		passwdLine("big", 4008, big), passwdLine("daemon", 1, "/dev/null/x"), "broken:line", passwdLine("nohome", 4009, home(t, 4009, 0, "")),
	).run("import", "google-authenticator", "--all-homes")
	s.wantExit(1)
	s.wantOut("imported  alice", "imported  bob", "2 emergency codes not taken over", "sallyport recovery alice",
		"refused   thief", "symbolic link", "refused   erin", "belongs to uid 4001", "refused   frank", "counter-based",
		"refused   pipe", "not a regular file", "refused   linked", "hard links", "refused   big", "2 imported, 0 pending, 0 there already, 6 refused")
	s.wantNot("operator", "GEZDGNBV", rawSecret, "11111111")
	entries := asked[*adminv1.ImportRequest](f)[0].GetEntries()
	if len(entries) != 2 {
		t.Fatalf("%d entries", len(entries))
	}
	for _, e := range entries {
		if string(e.GetSecret()) != rawSecret || e.GetLastStep() != 57000002 || e.GetAlgorithm() != "SHA1" || e.GetDigits() != 6 ||
			e.GetPeriodSeconds() != 30 || e.GetSource() != "google-authenticator" {
			t.Errorf("%s: last step %d, %s, %d, %d, %s", e.GetUser(), e.GetLastStep(), e.GetAlgorithm(), e.GetDigits(), e.GetPeriodSeconds(), e.GetSource())
		}
	}
}

func TestImportOneFile(t *testing.T) {
	needRoot(t)
	f := newFake()
	file := filepath.Join(home(t, 0, 0, googleText), googleFile)
	newSession(t, f).run("import", "google-authenticator", file).wantExit(5).wantErr("--user")
	newSession(t, f).run("import", "google-authenticator", file, "--user", "alice").wantExit(0).wantOut("1 imported").wantNot("GEZDGNBV")
	v := newSession(t, f).run("import", "google-authenticator", file, "--user", "ghost", "--json").wantExit(0).object()
	if v["pending"] != 1.0 || v["results"].([]any)[0].(map[string]any)["outcome"] != "pending" {
		t.Errorf("%v", v)
	}
	// uid 1 is a user everywhere (daemon), and decides when nobody says otherwise.
	if err := os.Chown(file, 1, 1); err != nil {
		t.Fatal(err)
	}
	newSession(t, f).run("import", "google-authenticator", file).wantExit(0).wantOut("imported  daemon")
	newSession(t, f).run("import", "google-authenticator", file, "--user", "root").wantExit(1).wantOut("belongs to uid 1, neither to root nor to root")
	if err := os.Chown(file, 4999999, 1); err != nil {
		t.Fatal(err)
	}
	newSession(t, f).run("import", "google-authenticator", file).wantExit(5).wantErr("uid 4999999, which is nobody here")
}

// Neither the last part nor any directory on the way may be a link.
func TestImportFollowsNoLink(t *testing.T) {
	needRoot(t)
	dir := home(t, 0, 0, googleText)
	links := t.TempDir()
	for link, target := range map[string]string{"file": filepath.Join(dir, googleFile), "dir": dir} {
		if err := os.Symlink(target, filepath.Join(links, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(links, "file"), filepath.Join(links, "dir", googleFile)} {
		newSession(t, newFake()).run("import", "google-authenticator", path, "--user", "alice").wantExit(1).wantOut("symbolic link", "1 refused")
		const flags = unix.O_RDONLY | unix.O_NOFOLLOW
		if fd, err := openStepwise(unix.AT_FDCWD, path, flags); err != unix.ELOOP {
			_ = unix.Close(fd)
			t.Errorf("stepwise, %s: %v", path, err)
		}
	}
}

func TestOpenStepwise(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/c"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(at) }()
	for path, want := range map[string]error{"a/b/c": nil, "./a//b/c": nil, filepath.Join(dir, "a/b/c"): nil,
		"a/../a/b/c": unix.EXDEV, "../x": unix.EXDEV, "a/x": unix.ENOENT, "a/b/c/d": unix.ENOTDIR, "": unix.EISDIR} {
		fd, err := openStepwise(at, path, unix.O_RDONLY|unix.O_NOFOLLOW)
		if err != want {
			t.Errorf("%q: %v, want %v", path, err, want)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}
