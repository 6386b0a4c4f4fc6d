//go:build linux

package openpam

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/phone"
	"sallyport/pam/e2e/machine"
	"sallyport/pam/sudolocal"
)

// OpenPAM's numbers (pam(3), pam_conv(3), pam_get_item(3)).
const (
	success         = "0"
	permDenied      = "7"
	authErr         = "9"
	authinfoUnavail = "12"
	credErr         = "16"

	echoOff  = "1"
	echoOn   = "2"
	errorMsg = "3"
	textInfo = "4"

	silent           = "-2147483648" // PAM_SILENT, as sudo passes it
	reinitialiseCred = "4"           // PAM_REINITIALIZE_CRED

	itemTTY, itemRHost, itemRUser = 3, 4, 8 // PAM_TTY, PAM_RHOST, PAM_RUSER
)

const password = "correct horse"

var (
	nextMu  sync.Mutex
	nextUID = uint32(30000)
)

// person is somebody with an account, and perhaps a second factor.
type person struct {
	name  string
	uid   uint32
	phone *machine.Phone
}

// add adds an account to the sandbox's passwd(5); "" is a name that nobody has.
func add(name string) (*person, error) {
	nextMu.Lock()
	defer nextMu.Unlock()
	nextUID++
	p := &person{name: name, uid: nextUID}
	if name == "" {
		p.name = fmt.Sprintf("u%d", nextUID)
	}
	f, err := os.OpenFile("/etc/passwd", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, "%s:x:%d:100::/nonexistent:/bin/sh\n", p.name, p.uid)
	return p, errors.Join(err, f.Close())
}

func somebody(t *testing.T) *person {
	t.Helper()
	p, err := add("")
	must(t, err)
	return p
}

// enrolled is somebody new with a second factor.
func enrolled(t *testing.T, at *machine.Computer) *person {
	t.Helper()
	p := somebody(t)
	var err error
	p.phone, _, err = at.Enrol(p.name)
	must(t, err)
	return p
}

// wantReasons compares the verdicts on somebody's logins: "allow code_accepted". A
// hook that hangs up says so first; which of the two the agent sees is chance, and
// "cancelled" stands for both. The login is over before the agent has heard of that, so
// what is wanted may come later.
func (p *person) wantReasons(t *testing.T, at *machine.Computer, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		events, err := at.Events(0)
		must(t, err)
		got = nil
		for _, e := range events {
			if e.Name == event.LoginAttempt && e.Key == fmt.Sprintf("uid:%d", p.uid) {
				got = append(got, e.Verdict+" "+strings.Replace(e.Reason, "hook_vanished", "cancelled", 1))
			}
		}
		if len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the agent recorded\n %s\nwant\n %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// sudo is macOS 14's policy; sudolocal has the block that goes into its sudo_local.
const sudoPolicy = `# sudo: auth account password session
auth       include        sudo_local
auth       sufficient     pam_smartcard.so
auth       required       pam_opendirectory.so
account    required       pam_permit.so
password   required       pam_deny.so
session    required       pam_permit.so
`

const touchID = "auth       sufficient     pam_tid.so\n"

// guarded is a directory of policies as "sallyport sudo install" leaves it, the module
// of this build in the place of macOS's, asking a socket.
func (b build) guarded(t *testing.T, socket, local string) string {
	t.Helper()
	ours, err := sudolocal.Add([]byte(local))
	must(t, err)
	return b.policies(t, socket, map[string]string{"sudo": sudoPolicy, "sudo_local": string(ours)})
}

func (b build) policies(t *testing.T, socket string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(b.dir, "modules"), filepath.Join(dir, "modules")))
	for name, text := range files {
		text = strings.ReplaceAll(text, sudolocal.Module, b.module()+" socket="+socket+" debug")
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// login is a program that asks PAM, and whoever sits at it.
type login struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	said   chan []string
	stderr bytes.Buffer

	mu  sync.Mutex
	log []string
}

// run starts the program. environ says what macOS's modules return ("pam_tid=0").
func (b build) run(t *testing.T, policies, service string, p *person, environ ...string) *login {
	t.Helper()
	l := &login{t: t, said: make(chan []string, 64)}
	l.cmd = exec.Command(filepath.Join(b.dir, "driver"), policies, service, toHex(p.name))
	l.cmd.Env = append(os.Environ(), environ...)
	l.cmd.Stderr = &l.stderr
	var err error
	l.in, err = l.cmd.StdinPipe()
	must(t, err)
	out, err := l.cmd.StdoutPipe()
	must(t, err)
	must(t, l.cmd.Start())
	go l.read(out)
	t.Cleanup(l.leave)
	l.next("ready")
	return l
}

// sudo starts sudo as macOS's does, up to pam_authenticate.
func (b build) sudo(t *testing.T, policies string, p *person, environ ...string) *login {
	t.Helper()
	l := b.run(t, policies, "sudo", p, environ...)
	l.do("item %d %s", itemRUser, toHex(p.name))
	l.do("item %d %s", itemTTY, toHex("/dev/ttys003"))
	l.do("block")
	l.do("authenticate %s", silent)
	return l
}

func toHex(s string) string {
	if s == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(s))
}

func fromHex(s string) string {
	b, _ := hex.DecodeString(strings.TrimPrefix(s, "-"))
	return string(b)
}

func (l *login) read(out io.Reader) {
	defer close(l.said)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if f[0] == "log" {
			l.mu.Lock()
			l.log = append(l.log, fromHex(f[2]))
			l.mu.Unlock()
			continue
		}
		if f[0] == "msg" {
			f[2] = fromHex(f[2])
		}
		l.said <- f
	}
}

func (l *login) logged() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.log, "\n")
}

func (l *login) do(format string, args ...any) {
	l.t.Helper()
	if _, err := fmt.Fprintf(l.in, format+"\n", args...); err != nil {
		l.t.Fatalf("the program is gone: %v\n%s", err, &l.stderr)
	}
}

// next takes the program's next word, which must be what.
func (l *login) next(what string) []string {
	l.t.Helper()
	select {
	case said, ok := <-l.said:
		if !ok {
			l.t.Fatalf("the program ended, %q was expected\n%s", what, &l.stderr)
		}
		if said[0] != what {
			l.t.Fatalf("the program says %q, %q was expected; log:\n%s", said, what, l.logged())
		}
		return said
	case <-time.After(patience):
		l.t.Fatalf("the program hangs, %q was expected; log:\n%s", what, l.logged())
	}
	return nil
}

// sees takes a message, and acknowledges it when it asks nothing.
func (l *login) sees(style, pattern string) string {
	l.t.Helper()
	m := l.next("msg")
	if m[1] != style || !regexp.MustCompile(pattern).MatchString(m[2]) {
		l.t.Fatalf("shown: %q; want style %s %q; log:\n%s", m, style, pattern, l.logged())
	}
	if style == textInfo || style == errorMsg {
		l.do("null")
	}
	return m[2]
}

func (l *login) types(text string) { l.t.Helper(); l.do("reply %s", toHex(text)) }

// password proves the first factor.
func (l *login) password() { l.t.Helper(); l.sees(echoOff, "^Password:$"); l.types(password) }

// code is asked for, and given.
func (l *login) code(code string) {
	l.t.Helper()
	l.sees(echoOn, "Code from your authenticator app")
	l.types(code)
}

// isTold takes an error that is shown.
func (l *login) isTold(pattern string) { l.t.Helper(); l.sees(errorMsg, pattern) }

// returns takes the end of a call, before which nothing may be shown or asked.
func (l *login) returns(want string) {
	l.t.Helper()
	if got := l.next("ret")[1]; got != want {
		l.t.Errorf("PAM returned %s, want %s; log:\n%s", got, want, l.logged())
	}
}

// account is what sudo calls after a success.
func (l *login) account(want string) { l.t.Helper(); l.do("account %s", silent); l.returns(want) }

// leave ends the program; sanitizers speak up at the end. No answer is in the log.
func (l *login) leave() {
	if l.t.Failed() {
		_ = l.cmd.Process.Kill()
	} else {
		l.do("end")
	}
	l.in.Close()
	for said := range l.said {
		if !l.t.Failed() {
			l.t.Errorf("the program still had to say: %q", said)
		}
	}
	if err := l.cmd.Wait(); err != nil && !l.t.Failed() {
		l.t.Errorf("the program: %v\n%s", err, &l.stderr)
	}
	if strings.Contains(l.logged(), password) {
		l.t.Errorf("the log holds the password:\n%s", l.logged())
	}
}

// authority is the one that the branch, where phones are enrolled, has joined.
var authority = sync.OnceValues(func() (*machine.Authority, error) {
	return machine.NewAuthority(dist, "/run/authority", []string{"[limits]", `gap = "6s"`, "in_five_minutes = 1000", "in_an_hour = 1000", "misses = 0"})
})

var branch = sync.OnceValues(func() (*machine.Computer, error) {
	a, err := authority()
	if err != nil {
		return nil, err
	}
	at, err := machine.NewComputer(dist, "/run/branch", officeSettings...)
	if err != nil {
		return nil, err
	}
	token, err := a.Token(nil, "--any-user")
	if err != nil {
		return nil, err
	}
	if err := at.Join(a.Devices, token, "--name", "branch"); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		s, err := at.Status()
		if err != nil || s.Authority.Connected {
			return at, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the agent is not connected: %+v", s.Authority)
		}
	}
})

// approver is somebody whose phone rings.
type approver struct {
	*person
	approves *phone.Phone
}

func withPhone(t *testing.T) (*approver, *machine.Computer) {
	t.Helper()
	at, err := branch()
	must(t, err)
	a, err := authority()
	must(t, err)
	p := &approver{person: enrolled(t, at)}
	must(t, a.Do(nil, "user", "add", p.name, "--json"))
	p.approves = phone.New(a.Origin, "Pixel of "+p.name)
	must(t, at.EnrolPush(p.name, func(link string) error { return p.approves.Enrol(soon(t), link) }))
	return p, at
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// decides answers on the phone, and waits until its page says how that ended.
func (p *approver) decides(t *testing.T, d push.Decision, number, want string) {
	t.Helper()
	w, err := p.approves.Answer(soon(t), d, number)
	must(t, err)
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		var got struct{ State, Outcome string }
		err := p.approves.Call(soon(t), http.MethodGet, "challenges/"+w.ID, nil, &got)
		if err == nil && got.State != "ended" && time.Now().Before(deadline) {
			continue
		}
		if err != nil || got.Outcome != want {
			t.Errorf("the phone's page says %+v, %v; want %q", got, err, want)
		}
		return
	}
}

// exempt is somebody with a second factor whom the office's policy does not ask.
var exempt = sync.OnceValues(func() (*person, error) {
	p, err := add("exempt")
	if err == nil {
		p.phone, _, err = office.Enrol(p.name)
	}
	return p, err
})
