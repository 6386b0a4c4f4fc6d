package pamtest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
)

// PAM's return values, as numbers of Linux-PAM (pam(3)).
const (
	success         = 0
	serviceErr      = 3
	permDenied      = 6
	authErr         = 7
	authinfoUnavail = 9
	userUnknown     = 10
	convErr         = 19
	convAgain       = 30
)

// Only for a test that hangs; nothing waits for it to pass.
const patience = time.Minute

// login says what a login program would tell PAM.
type login struct {
	service string // "login" if empty
	user    string
	options string              // of the module, besides socket=
	stack   string              // the whole service file; MODULE stands for module and options
	items   map[pam.Item]string //
	env     []string            // of the PAM transaction
	environ []string            // of the login program
	unnamed bool                // the program gives no user
	uid     int                 // who runs the program; 0: whoever runs the test
}

// person is somebody at a login program, and what the program's log says.
type person struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	events chan []string
	stderr *bytes.Buffer

	mu   sync.Mutex
	logs []string

	typed      []string
	apologised bool // what the person was told before the last ret
	over       bool
}

// sit starts a login program that has the module in its stack.
func (b build) sit(t *testing.T, socket string, l login) *person {
	t.Helper()
	if l.service == "" {
		l.service = "login"
	}
	if l.user == "" && !l.unnamed {
		l.user = "alice"
	}
	if l.stack == "" {
		l.stack = "auth required MODULE\naccount required MODULE\n"
	}
	conf := openDir(t)
	line := fmt.Sprintf("%s socket=%s %s", b.module, socket, l.options)
	write(t, filepath.Join(conf, l.service), strings.ReplaceAll(l.stack, "MODULE", line))
	write(t, filepath.Join(conf, "other"), "auth required pam_deny.so\naccount required pam_deny.so\n")

	p := &person{t: t, events: make(chan []string, 64), stderr: new(bytes.Buffer)}
	p.cmd = exec.Command(b.driver, conf, l.service, toHex(l.user))
	p.cmd.Env = append(os.Environ(), l.environ...)
	p.cmd.Stderr = p.stderr
	if l.uid != 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.uid)}}
	}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); errors.Is(err, syscall.EACCES) {
		t.Skipf("the temporary directory is closed to other users: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	go p.read(stdout)
	t.Cleanup(p.leave)
	p.next("ready")
	for item, value := range l.items {
		p.say("item %d %s", item, toHex(value))
	}
	for _, e := range l.env {
		p.say("env %s", toHex(e))
	}
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func toHex(s string) string {
	if s == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(s))
}

func fromHex(s string) string {
	if s == "-" {
		return ""
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return "not hex: " + s
	}
	return string(b)
}

func (p *person) read(out io.Reader) {
	defer close(p.events)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if f[0] == "log" {
			p.mu.Lock()
			p.logs = append(p.logs, fromHex(f[2]))
			p.mu.Unlock()
			continue
		}
		p.events <- f
	}
}

func (p *person) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatalf("the login program is gone: %v\n%s", err, p.stderr)
	}
}

// apology is what the person is told when there is no verdict.
const apology = "Sallyport cannot check logins right now. Please call your helpdesk."

// next takes the program's next word, which must be what.
func (p *person) next(what string) []string {
	p.t.Helper()
	event := p.any(what)
	if event[0] != what {
		p.t.Fatalf("the login program says %s, %q was expected; log: %q", describe(event), what, p.log())
	}
	return event
}

// any takes the program's next word, whatever it is.
func (p *person) any(what string) []string {
	p.t.Helper()
	select {
	case event, ok := <-p.events:
		if !ok {
			p.over = true
			p.cmd.Wait()
			p.t.Fatalf("the login program died, %q was expected\n%s", what, p.stderr)
		}
		return event
	case <-time.After(patience):
		p.t.Fatalf("the login program hangs, %q was expected; log: %q", what, p.log())
	}
	return nil
}

func describe(event []string) string {
	if len(event) == 3 {
		return fmt.Sprintf("%s %s %q", event[0], event[1], fromHex(event[2]))
	}
	return strings.Join(event, " ")
}

// Calls of PAM. Each needs its ret afterwards.

func (p *person) authenticate(flags ...pam.Flags) { p.t.Helper(); p.call("authenticate", flags) }
func (p *person) account(flags ...pam.Flags)      { p.t.Helper(); p.call("account", flags) }
func (p *person) setcred(flags ...pam.Flags)      { p.t.Helper(); p.call("setcred", flags) }

func (p *person) call(what string, flags []pam.Flags) {
	p.t.Helper()
	var all pam.Flags
	for _, f := range flags {
		all |= f
	}
	p.say("%s %d", what, all)
}

// ret checks what the call returned. Anything shown or asked before it that the
// test did not take is an error, but for the apology.
func (p *person) ret(want int) {
	p.t.Helper()
	event := p.any("ret")
	p.apologised = event[0] == "msg" && event[1] == strconv.Itoa(int(pam.ErrorMsg)) && fromHex(event[2]) == apology
	if p.apologised {
		p.say("null")
		event = p.any("ret")
	}
	if event[0] != "ret" {
		p.t.Fatalf("the login program says %s, %q was expected; log: %q", describe(event), "ret", p.log())
	}
	if got := event[1]; got != strconv.Itoa(want) {
		p.t.Errorf("PAM returned %s, want %d; log: %q", got, want, p.log())
	}
}

// sees takes a message of the style and text; a prompt is to be answered then.
func (p *person) sees(style pam.Style, text string) {
	p.t.Helper()
	event := p.next("msg")
	if event[1] != strconv.Itoa(int(style)) || fromHex(event[2]) != text {
		p.t.Fatalf("shown: %s; want style %d %q", describe(event), style, text)
	}
	if style == pam.TextInfo || style == pam.ErrorMsg {
		p.say("null")
	}
}

// types answers the prompt.
func (p *person) types(text string) {
	p.t.Helper()
	if len(text) > 3 {
		p.typed = append(p.typed, text)
	}
	p.say("reply %s", toHex(text))
}

// log returns what went to syslog so far, one line an entry.
func (p *person) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.logs, "\n")
}

// logged checks that the log says something.
func (p *person) logged(want string) {
	p.t.Helper()
	if !strings.Contains(p.log(), want) {
		p.t.Errorf("the log does not say %q: %q", want, p.log())
	}
}

// signal sends a signal to the login program.
func (p *person) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// stack is the login program's whole stack, what was returned from too.
func (p *person) stack() string {
	p.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	maps, err := os.ReadFile(proc + "maps") // proc(5)
	if err != nil {
		p.t.Fatal(err)
	}
	mem, err := os.Open(proc + "mem")
	if err != nil {
		p.t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		if !strings.HasSuffix(line, "[stack]\n") {
			continue
		} else if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			p.t.Fatal(err)
		}
		b := make([]byte, to-from)
		if _, err := mem.ReadAt(b, from); err != nil {
			p.t.Fatal(err)
		}
		return string(b)
	}
	p.t.Fatal("the login program has no stack")
	return ""
}

// leave ends the program, and checks that it left in good order (sanitizers
// speak up at the end) and that no answer is in the log.
func (p *person) leave() {
	if p.over {
		return
	}
	p.over = true
	if p.t.Failed() {
		p.cmd.Process.Kill()
	} else {
		p.say("end")
	}
	p.in.Close()
	for event := range p.events {
		if !p.t.Failed() {
			p.t.Errorf("the login program still had to say: %s", describe(event))
		}
	}
	if err := p.cmd.Wait(); err != nil && !p.t.Failed() {
		p.t.Errorf("the login program: %v\n%s", err, p.stderr)
	}
	for _, line := range strings.Split(p.log(), "\n") {
		if i := slices.IndexFunc(p.typed, func(typed string) bool { return strings.Contains(line, typed) }); i >= 0 {
			p.t.Errorf("the log holds what was typed: %q", line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			p.t.Errorf("the log holds a character that is not printable ASCII: %q", line)
		}
	}
}
