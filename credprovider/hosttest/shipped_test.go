package hosttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/pam/e2e/machine"
)

// The one user of a Wine is whoever runs it.
const userSID = "S-1-5-21-0-0-0-1000"

// agent is the shipped one, running.
type agent struct {
	t   *testing.T
	exe string
	pid int // Linux's; 0: it is dead
}

// agents counts them: each runs from a name of its own, by which its process is found.
var agents atomic.Int32

// startAgent starts it, as the service does. It ends with the test.
func startAgent(t *testing.T) *agent {
	t.Helper()
	need(t)
	a := &agent{t: t, exe: filepath.Join(dist, fmt.Sprintf("sallyport-%d.exe", agents.Add(1)))}
	if err := os.Link(filepath.Join(dist, "sallyport.exe"), a.exe); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := windows(t).Command(ctx, a.exe, "run")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && a.pid != 0 {
			events, err := a.try("events", "--last", "20")
			t.Logf("the agent's last events (%v):\n%s", err, events)
		}
		if a.pid != 0 {
			a.signal(syscall.SIGKILL)
		}
		cancel()
		_ = cmd.Wait() // killed: that is how it ends
		if t.Failed() {
			t.Logf("the agent says:\n%s", log.Bytes())
		}
	})
	soon, done := context.WithTimeout(t.Context(), patience)
	defer done()
	if err := run(windows(t).Command(soon, filepath.Join(dist, "primer.exe"), pipe, adminPipe)); err != nil {
		t.Fatal(err)
	}
	a.pid = a.find()
	return a
}

// find looks for the agent's process from outside.
func (a *agent) find() int {
	a.t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if words := strings.Split(string(line), "\x00"); err == nil && words[0] == a.exe {
			pid, _ := strconv.Atoi(filepath.Base(dir)) // the pattern has digits only
			return pid
		}
	}
	a.t.Fatal("the agent's process is not there")
	panic("not reached")
}

func (a *agent) signal(s syscall.Signal) {
	if err := syscall.Kill(a.pid, s); err != nil && err != syscall.ESRCH {
		a.t.Errorf("signal %v to the agent: %v", s, err)
	}
}

// kill ends it as a crash does.
func (a *agent) kill() {
	a.signal(syscall.SIGKILL)
	a.pid = 0
}

// try is "sallyport ARGS...", and what it writes.
func (a *agent) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := windows(a.t).Command(ctx, filepath.Join(dist, "sallyport.exe"), args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("sallyport %s: %w: %s", strings.Join(args, " "), err, complaint.Bytes())
	}
	return out.String(), err
}

// command is the same for what must succeed.
func (a *agent) command(args ...string) string {
	a.t.Helper()
	out, err := a.try(args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// enrolled is somebody with codes.
type enrolled struct {
	*machine.Phone
	person
	domain, user string
	recovery     []string
}

// enrol gives the user of this Windows a second factor, and nothing else.
func (a *agent) enrol() *enrolled {
	a.t.Helper()
	p := &enrolled{domain: computerName(a.t), user: userName(a.t)}
	p.person = person{userSID, p.domain + `\` + p.user}
	_, _ = a.try("user", "remove", p.name, "--yes") // what a test before has left
	var e machine.Enrolled
	if err := machine.Decode(a.command("enroll", p.name, "--no-confirm", "--json"), &e); err != nil {
		a.t.Fatal(err)
	}
	p.recovery = e.RecoveryCodes
	var err error
	if p.Phone, err = machine.NewPhone(e.OTPAuthURI); err != nil {
		a.t.Fatal(err)
	}
	return p
}

// events are the agent's last ones.
func (a *agent) events() (list []event.Event) {
	a.t.Helper()
	for line := range strings.Lines(a.command("events", "--json", "--last", "200")) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			a.t.Fatalf("sallyport events: %v: %s", err, line)
		}
		list = append(list, e)
	}
	return list
}

// ended compares how the last logins did: "allow code_accepted totp".
func (a *agent) ended(want ...string) {
	a.t.Helper()
	var got []string
	for _, e := range a.events() {
		if e.Name == event.LoginAttempt {
			got = append(got, strings.TrimSpace(e.Verdict+" "+e.Reason+" "+e.Factor))
		}
	}
	if got = got[max(0, len(got)-len(want)):]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		a.t.Errorf("the last logins ended with\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// atTile is this person in front of their tile.
func (p *enrolled) atTile(t *testing.T) *screen {
	t.Helper()
	s := sit(t, visit{people: []person{p.person}})
	s.selects(0)
	return s
}

func userName(t *testing.T) string {
	t.Helper()
	out, err := windows(t).Command(t.Context(), "cmd", "/c", "echo %USERNAME%").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestShippedAgentCodes(t *testing.T) {
	a := startAgent(t)
	p := a.enrol()
	s := p.atTile(t)

	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.Wrong(1))
	s.isRefused("That code is not right.")

	code := p.Next()
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(code)
	s.isIn(p.domain, p.user)

	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(code)
	s.isRefused("That code was used already. Wait for the next one.")

	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(password)
	s.isRefused("That was your password.")

	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.recovery[0])
	s.isIn(p.domain, p.user)

	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.recovery[0])
	s.isRefused("That code")
	s.leaves()
	a.ended("deny wrong_code totp", "allow code_accepted totp", "deny code_already_used totp",
		"deny password_typed_as_code", "allow code_accepted recovery", "deny wrong_code recovery")
}

// TestShippedAgentScenarios: one person, all ways to the same agent.
func TestShippedAgentScenarios(t *testing.T) {
	a := startAgent(t)
	for name, v := range map[string]visit{
		"unlock":    {scenario: "unlock"},
		"over RDP":  {from: "192.0.2.7"},
		"elevation": {scenario: "credui", flags: creduiEnumerateAdmins},
	} {
		t.Run(name, func(t *testing.T) {
			p := a.enrol()
			v.people = []person{p.person}
			s := sit(t, v)
			s.selects(0)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode(p.Next())
			s.isIn(p.domain, p.user)
			s.leaves()
		})
	}
	t.Run("RDP, the password sent along", func(t *testing.T) {
		p := a.enrol()
		s := arrives(t, sentAlong(p.domain, p.user), p.person)
		tile := s.do("tiles").Default
		if tile == nil {
			t.Fatal("no tile is selected")
		}
		s.selects(*tile)
		s.submits()
		s.isAsked(codePrompt)
		s.typesCode(p.Next())
		s.isIn(p.domain, p.user)
		s.leaves()
	})
	t.Run("a name typed in three ways", func(t *testing.T) {
		for _, typed := range []string{`.\%s`, "%s", computerName(t) + `\%s`} {
			p := a.enrol()
			s := atOther(t)
			s.types("User name", fmt.Sprintf(typed, p.user))
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode(p.Next())
			s.isIn(p.domain, p.user)
			s.leaves()
		}
	})
}

// TestShippedAgentNotEnrolled: nobody is asked, and nobody is locked out by an
// installation; who does not exist is not let in.
func TestShippedAgentNotEnrolled(t *testing.T) {
	a := startAgent(t)
	p := a.enrol()
	a.command("user", "remove", p.name, "--yes")
	s := p.atTile(t)
	s.typesPassword()
	s.isIn(p.domain, p.user)
	s.leaves()

	s = atOther(t)
	s.types("User name", p.domain+`\nobody-of-that-name`)
	s.typesPassword()
	s.isRefused("")
	s.leaves()
	a.ended("skip not_asked", "deny unknown_user")
}

// TestShippedAgentStopped, and there again.
func TestShippedAgentStopped(t *testing.T) {
	besideOthers(t)
	a := startAgent(t)
	p := a.enrol()
	a.kill()
	s := p.atTile(t)
	s.typesPassword()
	s.isRefused(notRunning)
	startAgent(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.Next())
	s.isIn(p.domain, p.user)
	s.leaves()
}

// TestShippedAgentKilled between the prompt and the code; a code that was used before
// a crash is used after it (CVE-2023-20123).
func TestShippedAgentKilled(t *testing.T) {
	besideOthers(t)
	a := startAgent(t)
	p := a.enrol()
	s := p.atTile(t)
	// Of a young step: it has to be known as used, and not too old, once the agent is
	// there again, which may take a while.
	if old := time.Now().Unix() % 30; old > 5 {
		time.Sleep(time.Duration(30-old) * time.Second)
	}
	code := p.Next()
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(code)
	s.isIn(p.domain, p.user)

	s.typesPassword()
	s.isAsked(codePrompt)
	a.kill()
	s.do("await", awaitMS)
	s.do("refresh")
	s.selects(0)
	s.isBlank()
	s.reads(cannotCheck)

	a = startAgent(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(code)
	s.isRefused("That code was used already.")
	s.leaves()
	a.ended("allow code_accepted totp", "deny code_already_used totp")
}

// TestShippedAgentHangs: it is there and does nothing, as on a disk that does not
// answer.
func TestShippedAgentHangs(t *testing.T) {
	besideOthers(t)
	a := startAgent(t)
	p := a.enrol()
	s := p.atTile(t)
	a.signal(syscall.SIGSTOP)
	s.types("Password", password)
	if r := s.submits(); time.Duration(r.ConnectMS)*time.Millisecond > hungMax {
		t.Errorf("the person waited for %d ms", r.ConnectMS)
	}
	s.isRefused(noAnswer)
	a.signal(syscall.SIGCONT)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.Next())
	s.isIn(p.domain, p.user)
	s.leaves()
}

// TestShippedAgentOneCodeTwoScreens (CVE-2023-20123: two logins at the same instant).
func TestShippedAgentOneCodeTwoScreens(t *testing.T) {
	a := startAgent(t)
	p := a.enrol()
	var screens []*screen
	for range 4 {
		s := p.atTile(t)
		s.typesPassword()
		s.isAsked(codePrompt)
		screens = append(screens, s)
	}
	code := p.Next()
	for _, s := range screens {
		s.types("Code", code)
	}
	for _, s := range screens {
		s.presses()
	}
	in := 0
	for _, s := range screens {
		if s.waits(); s.last.Credential != nil {
			in++
			s.isIn(p.domain, p.user)
		} else {
			s.isRefused("That code was used already.")
		}
		s.leaves()
	}
	if in != 1 {
		t.Errorf("%d of %d are in with one code", in, len(screens))
	}
}

// TestShippedAgentLocksOut after ten wrong codes, and says so.
func TestShippedAgentLocksOut(t *testing.T) {
	a := startAgent(t)
	p := a.enrol()
	s := p.atTile(t)
	for i := range 10 {
		s.typesPassword()
		s.isAsked(codePrompt)
		s.typesCode(p.Wrong(i))
		s.isRefused(map[bool]string{false: "That code is not right.", true: "Too many wrong codes."}[i == 9])
	}
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.Next())
	s.isRefused("Too many wrong codes.")
	a.command("unlock", p.name)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode(p.Next())
	s.isIn(p.domain, p.user)
	s.leaves()
}
