//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// onConsole runs login(1) on a terminal that is a console by its name: its
// pseudo-terminal, in another place. A machine that tests run on has no real
// console to spare.
func onConsole(t *testing.T, args ...string) dialog {
	t.Helper()
	console := fmt.Sprintf("/dev/ttyS%d", consoles.Add(1))
	script := fmt.Sprintf(`mount --bind "$(tty)" %[1]s && exec login "$@" <%[1]s >%[1]s 2>&1`, console)
	if err := os.WriteFile(console, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := talk(t, exec.Command("sh", append([]string{"-c", script, "login"}, args...)...))
	t.Cleanup(func() {
		d.Close()
		if err := syscall.Unmount(console, syscall.MNT_DETACH); err != nil {
			t.Errorf("umount %s: %v", console, err)
		}
	})
	return d
}

// consoles is how many there are so far.
var consoles atomic.Int32

var (
	shellPrompt = regexp.MustCompile(`\$ $`)
	refused     = regexp.MustCompile(`Login incorrect|Authentication failure|Authentication service cannot retrieve authentication info`)
)

// breakGlass makes the group, once in all.
var breakGlass = sync.OnceValue(func() error {
	return exec.Command("groupadd", "--system", machine.BreakGlassGroup).Run()
})

// withBreakGlass sets break-glass up in a stack of ours, as the README says.
func withBreakGlass(t *testing.T, services ...string) {
	t.Helper()
	if err := breakGlass(); err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		on, err := machine.WithBreakGlass(stack(t, "debian/"+service))
		if err != nil {
			t.Fatal(err)
		}
		useStack(t, service, on)
	}
}

// With the agent dead the break-glass person gets in at the console, by the real
// login, and the log says so; nobody else does, and that person nowhere else.
func TestBreakGlassAtTheConsole(t *testing.T) {
	sandbox.Need(t)
	withBreakGlass(t, "login")
	addUser(t, "glas", machine.BreakGlassGroup)
	addUser(t, "none")
	stopAgent(t)

	mark := here.Log.Mark()
	d := onConsole(t, "glas")
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(shellPrompt, proof)
	if got := d.see(insideAs); got[1] != "glas" {
		t.Errorf("in as %s", got[1])
	}
	d.Close()
	for _, want := range []string{
		`requirement "user ingroup sallyport-breakglass" was met by user "glas"`,
		`requirement "tty =~ \*tty\?\*" was met by user "glas"`,
	} {
		if _, err := here.Log.Wait(mark, want); err != nil {
			t.Error(err)
		}
	}

	refusals := map[string]func(t *testing.T) dialog{
		"a wrong password":                    func(t *testing.T) dialog { return onConsole(t, "glas") },
		"somebody else":                       func(t *testing.T) dialog { return onConsole(t, "none") },
		"from a remote host":                  func(t *testing.T) dialog { return onConsole(t, "-h", "192.0.2.7", "glas") },
		"on a pseudo-terminal":                func(t *testing.T) dialog { return talk(t, exec.Command("login", "glas")) },
		"on a pseudo-terminal, remote host":   func(t *testing.T) dialog { return talk(t, exec.Command("login", "-h", "192.0.2.7", "glas")) },
		"somebody else, on a pseudo-terminal": func(t *testing.T) dialog { return talk(t, exec.Command("login", "none")) },
	}
	for name, start := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // within this test, that is
			d := start(t)
			typed := password
			if name == "a wrong password" {
				typed = "wrong horse"
			}
			d.answer(sandbox.PasswordPrompt, typed)
			d.see(refused)
			if told := strings.Contains(d.Screen(), apology); told != (typed == password) {
				t.Errorf("told that the agent is at fault: %v, after the password %q:\n%s", told, typed, d.Screen())
			}
		})
	}
	wantOut(t, sshd.SSH("glas"), sandbox.Password(password))
}

// As shipped, break-glass is off.
func TestBreakGlassIsOffAsShipped(t *testing.T) {
	sandbox.Need(t)
	if err := breakGlass(); err != nil {
		t.Fatal(err)
	}
	addUser(t, "glenn", machine.BreakGlassGroup)
	stopAgent(t)
	d := onConsole(t, "glenn")
	d.answer(sandbox.PasswordPrompt, password)
	d.see(refused)
}

// Whoever is in the group and has a second factor is asked for it everywhere but
// at the console.
func TestBreakGlassWithTheAgentAlive(t *testing.T) {
	sandbox.Need(t)
	withBreakGlass(t, "login")
	p := addPerson(t, "gala", machine.BreakGlassGroup)
	d := onConsole(t, "gala")
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(shellPrompt, proof)
	d.see(insideAs)
	d.Close()
	wantIn(t, "gala", sandbox.Login("gala", ""), p.right()...)
	wantOut(t, sandbox.Login("gala", "192.0.2.7"), p.wrong()...)
	wantIn(t, "gala", sshd.SSH("gala"), p.right()...)
}

// What the break-glass line takes for a console, word by word, in both stacks
// that have one: a real sudo here has no console to run on.
func TestBreakGlassLine(t *testing.T) {
	sandbox.Need(t)
	if _, err := exec.LookPath("pamtester"); err != nil {
		t.Skip("needs pamtester: ./build.sh deps installs it")
	}
	withBreakGlass(t, "login", "sudo", "sudo-i")
	addUser(t, "grid", machine.BreakGlassGroup)
	addUser(t, "grad")
	stopAgent(t)
	for _, c := range []struct {
		user, tty, rhost string
		in               bool
	}{
		{"grid", "/dev/tty1", "", true},
		{"grid", "tty1", "", true}, // as util-linux's login says it
		{"grid", "/dev/ttyS0", "", true},
		{"grid", "/dev/tty1", "192.0.2.7", false},
		{"grid", "/dev/tty1", "localhost", false},
		{"grid", "/dev/pts/1", "", false},
		{"grid", "pts/1", "", false},
		{"grid", "ssh", "", false},
		{"grid", "/dev/tty", "", false}, // any terminal at all
		{"grid", "UNKNOWN", "", false},
		{"grid", "", "", false},
		{"grad", "/dev/tty1", "", false},
	} {
		for _, service := range []string{"login", "sudo", "sudo-i"} {
			t.Run(fmt.Sprintf("%s/%s/%s/%s", service, c.user, strings.TrimPrefix(c.tty, "/dev/"), c.rhost), func(t *testing.T) {
				t.Parallel()
				var args []string
				if c.tty != "" {
					args = append(args, "-I", "tty="+c.tty)
				}
				if c.rhost != "" {
					args = append(args, "-I", "rhost="+c.rhost)
				}
				d := talk(t, exec.Command("pamtester", append(args, service, c.user, "authenticate", "setcred", "acct_mgmt")...))
				d.answer(sandbox.PasswordPrompt, password)
				if status := d.end(); (status == 0) != c.in {
					t.Errorf("exit status %d, want in: %v:\n%s", status, c.in, d.Screen())
				}
			})
		}
	}
}
