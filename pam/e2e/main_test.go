//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

const (
	password = "correct horse"
	// patience bounds every wait; it is longer than the hook's own deadline.
	patience = time.Minute
)

// Users that the configuration names: required, and not enrolled.
const (
	newcomer       = "newcomer"
	remoteNewcomer = "remote-newcomer"
	mistaken       = "mistaken-newcomer"
)

// What every test logs in to. Tests that stop the agent start it again and are
// not parallel; the parallel ones run after all of those.
var (
	here    *machine.Machine
	agent   *machine.Agent
	sshd    *sandbox.SSHD
	shipped string // the directory with what is tested
)

func TestMain(m *testing.M) {
	machine.Main(m, setUp, "sallyport", "sallyport-try", "sallyport-authority", "pam_sallyport.so")
}

func setUp(dist string) (err error) {
	shipped = dist
	if here, err = machine.Install(dist); err != nil {
		return err
	}
	config := fmt.Sprintf("[policy]\nrules = ['%s']\n[policy.required]\nusers = [%q, %q, %q]\n[enrolment]\nat_login = true\n",
		strings.Join(rules, "', '"), newcomer, remoteNewcomer, mistaken)
	if err := os.WriteFile(machine.Config, []byte(config), 0o644); err != nil {
		return err
	}
	if agent, err = machine.StartAgent(); err != nil {
		return err
	}
	sshd, err = sandbox.StartSSHD(machine.SSHDOptions()...)
	return err
}

// person is somebody with a second factor.
type person struct {
	sandbox.User
	phone    *machine.Phone
	recovery []string
}

// addUser makes an account without a second factor.
func addUser(t *testing.T, name string, groups ...string) sandbox.User {
	t.Helper()
	sandbox.Need(t)
	u, err := sandbox.AddUser(name, password, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// addPerson makes an account with one.
func addPerson(t *testing.T, name string, groups ...string) *person {
	t.Helper()
	p := &person{User: addUser(t, name, groups...)}
	phone, enrolled, err := machine.Enrol(name)
	if err != nil {
		t.Fatal(err)
	}
	p.phone, p.recovery = phone, enrolled.RecoveryCodes
	return p
}

// wantIn logs in, and wants every answer used.
func wantIn(t *testing.T, as string, s *sandbox.Session, answers ...sandbox.Answer) sandbox.Result {
	t.Helper()
	got, err := s.Run(answers...)
	if err != nil {
		t.Fatal(err)
	}
	if !got.In || got.As != as || got.Unused != 0 || got.Status != 0 {
		t.Fatalf("want in as %s with status 0 and every answer used, got %+v", as, got)
	}
	return got
}

// wantOut does not get in, though every answer was asked for.
func wantOut(t *testing.T, s *sandbox.Session, answers ...sandbox.Answer) sandbox.Result {
	t.Helper()
	got, err := s.Run(answers...)
	if err != nil {
		t.Fatal(err)
	}
	if got.In || got.Status == 0 || got.Unused != 0 {
		t.Fatalf("want out with every answer used, got %+v", got)
	}
	return got
}

// right is the answers of somebody who may log in.
func (p *person) right() []sandbox.Answer {
	return []sandbox.Answer{sandbox.Password(password), sandbox.Code(p.phone.Next())}
}

// wrong is the same with a wrong code.
func (p *person) wrong() []sandbox.Answer {
	return []sandbox.Answer{sandbox.Password(password), sandbox.Code(p.phone.Wrong(1))}
}

// state is part of what "sallyport user show" knows.
type state struct {
	Failures int  `json:"failures"`
	Locked   bool `json:"locked"`
}

func stateOf(t *testing.T, name string) (s state) {
	t.Helper()
	if err := machine.JSON(&s, "user", "show", name); err != nil {
		t.Fatal(err)
	}
	return s
}

func wantFailures(t *testing.T, name string, want int) {
	t.Helper()
	if got := stateOf(t, name); got.Failures != want {
		t.Errorf("%s has %d wrong codes counted, want %d", name, got.Failures, want)
	}
}

// attempts are the logins of one uid, oldest first.
func attempts(t *testing.T, uid uint32) (list []event.Event) {
	t.Helper()
	events, err := machine.Events(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Name == event.LoginAttempt && e.Key == fmt.Sprintf("uid:%d", uid) {
			list = append(list, e)
		}
	}
	return list
}

// wantReasons compares the verdicts of one uid's logins: "allow code_accepted".
// A hook whose prompt is not answered says so and hangs up; which of the two the
// agent sees first is chance, and "cancelled" stands for both. The login is over before
// the agent has heard of that, so what is wanted may come later.
func wantReasons(t *testing.T, uid uint32, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		got = nil
		for _, e := range attempts(t, uid) {
			got = append(got, e.Verdict+" "+strings.Replace(e.Reason, "hook_vanished", "cancelled", 1))
		}
		if len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the events of uid %d are\n  %s\nwant\n  %s", uid, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// waitEvent waits until the agent has recorded an event that fits.
func waitEvent(t *testing.T, name string, fits func(event.Event) bool) event.Event {
	t.Helper()
	cmd := exec.Command(machine.Program, "events", "--json", "--follow", "--user", name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // it may have ended
	defer func() {
		end.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: that is how it ends
	}()
	var seen []event.Event
	decoder := json.NewDecoder(out)
	for {
		var e event.Event
		if err := decoder.Decode(&e); err != nil {
			t.Fatalf("no such event of %s within %v (%v); there are %+v", name, patience, err, seen)
		}
		if fits(e) {
			return e
		}
		seen = append(seen, e)
	}
}

// as is a command of a user's, in their own groups.
func as(t *testing.T, u sandbox.User, name string, args ...string) *exec.Cmd {
	t.Helper()
	account, err := user.Lookup(u.Name)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := account.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	var groups []uint32
	for _, id := range ids {
		gid, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, uint32(gid))
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = u.Home
	cmd.Env = []string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=/bin/sh", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: groups}}
	return cmd
}

// dialog is a program on a terminal that a test talks to step by step.
type dialog struct {
	t *testing.T
	*sandbox.Terminal
}

func talk(t *testing.T, cmd *exec.Cmd) dialog {
	t.Helper()
	terminal, err := sandbox.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(terminal.Close)
	return dialog{t, terminal}
}

// see waits until something shows, and returns the pattern's groups.
func (d dialog) see(pattern *regexp.Regexp) []string {
	d.t.Helper()
	_, groups, err := d.Expect(patience, pattern)
	if err != nil {
		d.t.Fatalf("%v, waiting for %q; the screen:\n%s", err, pattern, d.Screen())
	}
	return groups
}

// answer waits for a prompt and types a line.
func (d dialog) answer(prompt *regexp.Regexp, line string) {
	d.t.Helper()
	d.see(prompt)
	if err := d.Send(line); err != nil {
		d.t.Fatal(err)
	}
}

// press types keys as they are.
func (d dialog) press(keys string) {
	d.t.Helper()
	if err := d.Type(keys); err != nil {
		d.t.Fatal(err)
	}
}

// end waits for the program's exit status.
func (d dialog) end() int {
	d.t.Helper()
	status, err := d.Wait(patience)
	if err != nil {
		d.t.Fatalf("%v; the screen:\n%s", err, d.Screen())
	}
	return status
}

const ctrlC = "\x03"

// inside is printed by a session that was let in; what the terminal echoes of
// the command does not look like it.
const proof = `echo "in""side: $(id -un)"`

var insideAs = regexp.MustCompile(`inside: (\S+)`)

// output runs a command that must succeed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, stderr.Bytes())
	}
	return string(out)
}

// useStack makes lines the stack of a service for one test.
func useStack(t *testing.T, service, text string) {
	t.Helper()
	restore, err := sandbox.SetPAM(service, strings.TrimSuffix(text, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
}

// stack is the text of a shipped stack.
func stack(t *testing.T, name string) string {
	t.Helper()
	text, err := machine.Stack(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// stopAgent stops the agent for one test.
func stopAgent(t *testing.T) {
	t.Helper()
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { startAgent(t) })
}

func startAgent(t *testing.T) {
	t.Helper()
	fresh, err := machine.StartAgent()
	if err != nil {
		t.Fatal(err)
	}
	agent = fresh
}
