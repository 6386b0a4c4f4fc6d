//go:build linux

// Package selftest shows that the sandbox's logins are worth believing: with the
// password alone, through the system's own programs, right is in and wrong is out.
package selftest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

func addUser(t *testing.T, name, password string) sandbox.User {
	t.Helper()
	u, err := sandbox.AddUser(name, password)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func startSSHD(t *testing.T, lines ...string) *sandbox.SSHD {
	t.Helper()
	sshd, err := sandbox.StartSSHD(lines...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sshd.Stop)
	return sshd
}

func wantIn(t *testing.T, as string, s *sandbox.Session, answers ...sandbox.Answer) {
	t.Helper()
	got, err := s.Run(answers...)
	if err != nil {
		t.Fatal(err)
	}
	if !got.In || got.As != as || got.Unused != 0 || got.Status != 0 {
		t.Fatalf("want in as %s with status 0 and every answer used, got %+v", as, got)
	}
}

func wantOut(t *testing.T, s *sandbox.Session, answers ...sandbox.Answer) {
	t.Helper()
	got, err := s.Run(answers...)
	if err != nil {
		t.Fatal(err)
	}
	if got.In || got.Status == 0 || got.Unused != 0 {
		t.Fatalf("want out with every answer used, got %+v", got)
	}
}

func TestSSHKeyboardInteractive(t *testing.T) {
	sandbox.Need(t)
	u, sshd := addUser(t, "kim", "right horse"), startSSHD(t)
	wantIn(t, "kim", sshd.SSH(u.Name), sandbox.Password("right horse"))
	wantOut(t, sshd.SSH(u.Name), sandbox.Password("wrong horse"))
	wantOut(t, sshd.SSH("nobody-of-that-name"), sandbox.Password("right horse"))
	if log := sshd.Log(); !strings.Contains(log, "Accepted keyboard-interactive/pam for kim") {
		t.Errorf("sshd's log does not show the login:\n%s", log)
	}
}

func TestSSHPublicKey(t *testing.T) {
	sandbox.Need(t)
	u := addUser(t, "lee", "right horse")
	sshd := startSSHD(t, "PubkeyAuthentication yes", "AuthenticationMethods publickey,keyboard-interactive")
	key, err := sshd.Key(u)
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, "lee", sshd.SSH(u.Name, "IdentityFile="+key), sandbox.Password("right horse"))
	wantOut(t, sshd.SSH(u.Name, "IdentityFile="+key), sandbox.Password("wrong horse"))
	wantOut(t, sshd.SSH(u.Name))
}

func TestSSHPasswordMethod(t *testing.T) {
	sandbox.Need(t)
	u := addUser(t, "mo", "right horse")
	sshd := startSSHD(t, "PasswordAuthentication yes", "KbdInteractiveAuthentication no")
	wantIn(t, "mo", sshd.SSH(u.Name), sandbox.Password("right horse"))
	wantOut(t, sshd.SSH(u.Name), sandbox.Password("wrong horse"))
}

func TestSudo(t *testing.T) {
	sandbox.Need(t)
	u := addUser(t, "ada", "right horse")
	if err := sandbox.AllowSudo(u.Name); err != nil {
		t.Fatal(err)
	}
	wantIn(t, "root", sandbox.Sudo(u), sandbox.Password("right horse"))
	wantIn(t, "root", sandbox.Sudo(u), sandbox.Password("right horse")) // it asks again
	wantOut(t, sandbox.Sudo(u), sandbox.Password("wrong horse"))
	wantOut(t, sandbox.Sudo(addUser(t, "eve", "x horse")), sandbox.Password("x horse"))
}

func TestSu(t *testing.T) {
	sandbox.Need(t)
	invoker := addUser(t, "ivo", "not this one")
	addUser(t, "tam", "right horse")
	wantIn(t, "tam", sandbox.Su(invoker, "tam"), sandbox.Password("right horse"))
	wantOut(t, sandbox.Su(invoker, "tam"), sandbox.Password("not this one"))
}

func TestLogin(t *testing.T) {
	sandbox.Need(t)
	u := addUser(t, "lou", "right horse")
	wantIn(t, "lou", sandbox.Login(u.Name, ""), sandbox.Password("right horse"))
	wantIn(t, "lou", sandbox.Login(u.Name, "192.0.2.7"), sandbox.Password("right horse"))
	wantOut(t, sandbox.Login(u.Name, "192.0.2.7"), sandbox.Password("wrong horse"))
}

// Two questions in one login, the second by a peer: pam_oath, with the first two
// HOTP values of RFC 4226, appendix D.
func TestPasswordThenCode(t *testing.T) {
	sandbox.Need(t)
	if modules, _ := filepath.Glob("/lib/*/security/pam_oath.so"); len(modules) == 0 {
		t.Skip("needs pam_oath (Debian's libpam-oath): ./build.sh deps installs it")
	}
	u := addUser(t, "two", "right horse")
	users := filepath.Join(t.TempDir(), "users.oath")
	if err := os.WriteFile(users, []byte("HOTP two - 3132333435363738393031323334353637383930\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	restore, err := sandbox.SetPAM("sshd",
		"auth requisite pam_unix.so",
		"auth required pam_oath.so window=1 usersfile="+users,
		"account required pam_unix.so",
		"session required pam_unix.so")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	}()
	sshd := startSSHD(t)
	wantIn(t, "two", sshd.SSH(u.Name), sandbox.Password("right horse"), sandbox.Code("755224"))
	wantOut(t, sshd.SSH(u.Name), sandbox.Password("right horse"), sandbox.Code("755224"))
	wantOut(t, sshd.SSH(u.Name), sandbox.Password("wrong horse"))
	wantIn(t, "two", sshd.SSH(u.Name), sandbox.Password("right horse"), sandbox.Code("287082"))
}

func TestAnUnexpectedPromptIsAnError(t *testing.T) {
	sandbox.Need(t)
	u, sshd := addUser(t, "pat", "right horse"), startSSHD(t)
	got, err := sshd.SSH(u.Name).Run()
	if err == nil || got.In || !strings.Contains(err.Error(), "no answer left") {
		t.Errorf("a password prompt without an answer: %+v, %v", got, err)
	}
}

func TestAnUnusedAnswerIsCounted(t *testing.T) {
	sandbox.Need(t)
	u, sshd := addUser(t, "uma", "right horse"), startSSHD(t)
	got, err := sshd.SSH(u.Name).Run(sandbox.Password("right horse"), sandbox.Code("123456"))
	if err != nil || !got.In || got.Unused != 1 {
		t.Errorf("want in with one answer unused, got %+v, %v", got, err)
	}
}

func TestThereIsNoWayOut(t *testing.T) {
	sandbox.Need(t)
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(interfaces) != 1 || interfaces[0].Flags&net.FlagLoopback == 0 || interfaces[0].Flags&net.FlagUp == 0 {
		t.Errorf("want the loopback only, and up: %v", interfaces)
	}
	if conn, err := net.DialTimeout("tcp", "192.0.2.1:80", time.Second); err == nil {
		conn.Close()
		t.Error("reached a network outside")
	}
}

func TestPowerCutKeepsOnlyWhatWasSynced(t *testing.T) {
	sandbox.Need(t)
	disk, err := sandbox.NewDisk(t.TempDir(), 16)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(disk.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(name); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("synced", true)
	write("unsynced", false)
	after, err := disk.Cut()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if content, err := os.ReadFile(filepath.Join(after.Dir, "synced")); err != nil || string(content) != "synced" {
		t.Errorf("synced, but lost: %q, %v", content, err)
	}
	if _, err := os.Stat(filepath.Join(after.Dir, "unsynced")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("not synced, but there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(disk.Dir, "unsynced")); err != nil {
		t.Errorf("the disk itself does not go on: %v", err)
	}
}

func TestTheLastWordsAreOnTheScreen(t *testing.T) {
	sandbox.Need(t)
	for range 20 {
		terminal, err := sandbox.Start(exec.Command("sh", "-c", "seq 5000; echo the end"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := terminal.Wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(terminal.Screen(), "\nthe end\n") {
			t.Errorf("the screen ends before the command did: %q", terminal.Screen()[max(0, len(terminal.Screen())-40):])
		}
		terminal.Close()
	}
}
