//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/phone"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// codeTime is how soon after the password a code must be asked for when the link
// is cut: the agent allows itself 1.5 s, and the hook waits 10 s for its first word
// at the most; the rest is sshd's, the password's hash and a busy machine's.
const codeTime = 20 * time.Second

var notYetPrompt = regexp.MustCompile(`(?s)Not approved yet, (\d+) s left\. Type (\d+) on your phone.*code: $`)

// joined is the authority that this machine has joined, for everybody; and the
// cable between.
var joined = sync.OnceValues(func() (*network, error) {
	a, err := machine.InstallAuthority(shipped)
	if err != nil {
		return nil, err
	}
	cable, err := machine.NewCable(a.Devices)
	if err != nil {
		return nil, err
	}
	token, err := a.Token(nil, "--any-user")
	if err != nil {
		return nil, err
	}
	return &network{a, cable}, machine.This.Join(fmt.Sprintf("127.0.0.1:%d", cable.Port), token, "--name", "laptop-17")
})

type network struct {
	*machine.Authority
	cable *machine.Cable
}

// approver is somebody who can approve logins.
type approver struct {
	*person
	approves *phone.Phone
	net      *network
}

// addApprover makes somebody with codes and a phone, which is enrolled here.
func addApprover(t *testing.T, name string) *approver {
	t.Helper()
	sandbox.Need(t)
	p := &approver{person: addPerson(t, name)}
	var err error
	if p.net, err = joined(); err != nil {
		t.Fatal(err)
	}
	if err := p.net.Do(nil, "user", "add", name, "--json"); err != nil {
		t.Fatal(err)
	}
	connected(t)
	p.approves = phone.New(p.net.Origin, "Phone of "+name)
	if err := machine.This.EnrolPush(name, func(link string) error { return p.approves.Enrol(soon(t), link) }); err != nil {
		t.Fatal(err)
	}
	return p
}

// connected waits until the agent is.
func connected(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		s, err := machine.This.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Authority.Connected {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the agent is not connected: %+v", s.Authority)
		}
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// decide answers the login that rings, and waits until the page says how it ended.
func (p *approver) decide(t *testing.T, d push.Decision, number, want string) error {
	w, err := p.approves.Answer(soon(t), d, number)
	if err != nil {
		return err
	}
	outcome, err := p.approves.Outcome(soon(t), w.ID)
	if err == nil && outcome != want {
		err = fmt.Errorf("the page says %q, want %q", outcome, want)
	}
	return err
}

// approving is what somebody does who approves: password, number, Enter.
func (p *approver) approving(t *testing.T) []sandbox.Answer {
	return []sandbox.Answer{sandbox.Password(password), sandbox.Push(func(number string) error {
		return p.decide(t, push.Approve, number, "approved")
	})}
}

// wantApproved wants the last login to have been approved.
func (p *approver) wantApproved(t *testing.T, service, scenario, remote string) {
	t.Helper()
	list := attempts(t, p.UID)
	if len(list) == 0 {
		t.Fatalf("there is no event of %s", p.Name)
	}
	e := list[len(list)-1]
	if e.Verdict != "allow" || e.Reason != "push_approved" || e.Factor != "push" || e.Service != service || e.Scenario != scenario || e.Remote != remote ||
		e.Text != "Phone of "+p.Name || e.By != "uid:0" {
		t.Errorf("want an event of %s from %q, approved, got %+v", service, remote, e)
	}
}

// Not parallel: these cut the cable, and stop the agent that all others log in with.

// TestPushLinkCut: frozen, so that nobody is told.
func TestPushLinkCut(t *testing.T) {
	p := addApprover(t, "freya")
	p.net.cable.Freeze()
	defer func() {
		p.net.cable.Thaw()
		connected(t)
	}()
	var began, asked time.Time
	code := p.phone.Next()
	wantIn(t, "freya", sshd.SSH("freya"),
		sandbox.Answer{Prompt: sandbox.PasswordPrompt, Act: func([]string) (string, error) { began = time.Now(); return password, nil }},
		sandbox.Answer{Prompt: sandbox.CodePrompt, Act: func(shown []string) (string, error) {
			asked = time.Now()
			if strings.Contains(shown[0], "on your phone") {
				return "", fmt.Errorf("a number is shown")
			}
			return code, nil
		}})
	if took := asked.Sub(began); took > codeTime {
		t.Errorf("a code was asked for %v after the password", took)
	}
	wantReasons(t, p.UID, "allow code_accepted")
}

// TestPushAgentKilled: an agent that dies while a phone rings takes the login with it.
func TestPushAgentKilled(t *testing.T) {
	p := addApprover(t, "kilian")
	mark := here.Log.Mark()
	d := talk(t, exec.Command("su", "-s", "/bin/sh", "-c", "exec su -c '"+proof+"' kilian", "nobody"))
	d.answer(sandbox.PasswordPrompt, password)
	number := d.see(sandbox.PushPrompt)[1]
	w, err := p.approves.Rings(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.approves.Post(soon(t), w.ID, p.approves.Key.Answer(w.Challenge, push.Approve, number)); err != nil {
		t.Fatal(err)
	}
	startAgent(t)
	d.press("\r")
	if status := d.end(); status == 0 || insideAs.MatchString(d.Screen()) {
		t.Errorf("exit status %d, the screen:\n%s", status, d.Screen())
	}
	if _, err := here.Log.Wait(mark, `pam_sallyport\(su:auth\): denied: the agent at `); err != nil {
		t.Error(err)
	}
	connected(t)
	wantIn(t, "kilian", sshd.SSH("kilian"), p.right()...) // nothing opened, and codes work
	wantReasons(t, p.UID, "allow code_accepted")
}

// From here on parallel.

// TestPushSSH: with the page in a real browser.
func TestPushSSH(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addApprover(t, "sana")
	browser, err := machine.NewApprover(p.net.Origin)
	if err != nil {
		t.Fatal(err)
	}
	defer browser.Close()
	if err := machine.This.EnrolPush("sana", browser.Enrol); err != nil {
		t.Fatal(err)
	}
	var question, said string
	mark := here.Log.Mark()
	got := wantIn(t, "sana", sshd.SSH("sana"), sandbox.Password(password), sandbox.Push(func(number string) (err error) {
		if question, err = browser.Question(); err != nil {
			return err
		}
		said, err = browser.Approve(number)
		return err
	}))
	if said != "Approved" {
		t.Errorf("the page says %q", said)
	}
	for _, want := range []string{"sana", "laptop-17", "127.0.0.1", "SSH"} {
		if !strings.Contains(question, want) {
			t.Errorf("the page does not show %q:\n%s", want, question)
		}
	}
	if strings.Contains(got.Screen, "Not approved yet") {
		t.Errorf("Enter behind an approval was too early:\n%s", got.Screen)
	}
	if log := here.Log.Since(mark) + sshd.Log(); strings.Contains(log, "on your phone") {
		t.Errorf("a prompt with its number is in the system's log:\n%s", log)
	}
	list := attempts(t, p.UID)
	if e := list[len(list)-1]; e.Reason != "push_approved" || e.Factor != "push" || e.Service != "sshd" || e.Remote != "127.0.0.1" {
		t.Errorf("the event is %+v", e)
	}
}

func TestPushSudo(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addApprover(t, "sudi")
	if err := sandbox.AllowSudo("sudi"); err != nil {
		t.Fatal(err)
	}
	wantIn(t, "root", sandbox.Sudo(p.User), p.approving(t)...)
	p.wantApproved(t, "sudo", "elevate", "")
	wantOut(t, sandbox.Sudo(p.User), sandbox.Password(password), sandbox.Push(func(string) error { return p.decide(t, push.Deny, "", "denied") }))
	wantReasons(t, p.UID, "allow push_approved", "deny push_denied")
}

func TestPushSu(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	invoker, p := addUser(t, "suse"), addApprover(t, "suna")
	wantIn(t, "suna", sandbox.Su(invoker, "suna"), p.approving(t)...)
	p.wantApproved(t, "su", "elevate", "")
	wantOut(t, sandbox.Su(invoker, "suna"), sandbox.Password(password), sandbox.Push(func(number string) error {
		other := "10"
		if number == other {
			other = "11"
		}
		return p.decide(t, push.Approve, other, "wrong_number")
	}))
	wantReasons(t, p.UID, "allow push_approved", "deny wrong_number")
}

func TestPushLogin(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addApprover(t, "logan")
	wantIn(t, "logan", sandbox.Login("logan", ""), p.approving(t)...)
	p.wantApproved(t, "login", "login", "")
	wantIn(t, "logan", sandbox.Login("logan", "192.0.2.7"), p.approving(t)...)
	p.wantApproved(t, "login", "remote", "192.0.2.7")
}

// Enter says that the phone was answered; where it was not, the number stands again.
func TestPushEnterTooEarly(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addApprover(t, "ella")
	var number string
	wantIn(t, "ella", sshd.SSH("ella"), sandbox.Password(password),
		sandbox.Push(func(shown string) error { number = shown; return nil }),
		sandbox.Answer{Prompt: notYetPrompt, Act: func(shown []string) (string, error) {
			if shown[2] != number {
				return "", fmt.Errorf("the number was %s and is %s now", number, shown[2])
			}
			return "", p.decide(t, push.Approve, number, "approved")
		}})
	p.wantApproved(t, "sshd", "remote", "127.0.0.1")
}

// A code is a code as ever, in the same prompt; the phone's page says how it ended.
func TestPushCodeInstead(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addApprover(t, "cody")
	var rang phone.Waiting
	code := p.phone.Next()
	wantIn(t, "cody", sshd.SSH("cody"), sandbox.Password(password), sandbox.Answer{Prompt: sandbox.PushPrompt, Act: func([]string) (_ string, err error) {
		rang, err = p.approves.Rings(soon(t))
		return code, err
	}})
	outcome, err := p.approves.Outcome(soon(t), rang.ID)
	if err != nil || outcome != "code" {
		t.Errorf("the page says %q, %v; want that a code was used", outcome, err)
	}
	wantOut(t, sshd.SSH("cody"), sandbox.Password(password), sandbox.Answer{Prompt: sandbox.PushPrompt, Text: p.phone.Wrong(1)})
	wantReasons(t, p.UID, "allow code_accepted", "deny wrong_code")
	wantFailures(t, "cody", 1)
}

// TestPushTwoLoginsAtOnce: whoever has the password begins another while the phone
// rings. It does not ring again, in whatever program.
func TestPushTwoLoginsAtOnce(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	p := addApprover(t, "twain")
	wantIn(t, "twain", sshd.SSH("twain"), sandbox.Password(password), sandbox.Push(func(number string) error {
		for service, session := range map[string]*sandbox.Session{"sshd": sshd.SSH("twain"), "login": sandbox.Login("twain", "192.0.2.66")} {
			got := wantOut(t, session, sandbox.Password(password), sandbox.Answer{Prompt: sandbox.CodePrompt, Text: p.phone.Wrong(len(service))})
			if sandbox.PushPrompt.MatchString(got.Screen) || strings.Contains(got.Screen, "on your phone") {
				t.Errorf("%s: the second login is offered push:\n%s", service, got.Screen)
			}
			e := waitEvent(t, "twain", func(e event.Event) bool { return e.Name == event.PushFailed && e.Service == service })
			if e.Reason != "too_many_push_requests" || !strings.HasPrefix(e.Text, "too many concurrent push requests") {
				t.Errorf("%s: the event is %+v", service, e)
			}
		}
		return p.decide(t, push.Approve, number, "approved") // the first is as it was
	}))
	wantReasons(t, p.UID, "deny wrong_code", "deny wrong_code", "allow push_approved")
}
