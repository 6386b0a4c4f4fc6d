//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// codeTime is how soon after the password a code must be asked for when the link
// is cut: the agent allows itself 1.5 s, and the hook waits 10 s for its first word
// at the most; the rest is sshd's, the password's hash and a busy machine's.
const codeTime = 20 * time.Second

// Requests live shorter than by default, so that nobody has to wait a minute to
// see one time out, but for longer than a browser on a busy machine takes to answer
// one; and more of them are allowed in a row.
var (
	pushSettings = []string{"[push]", `life = "40s"`, `gap = "40s"`, "in_five_minutes = 100", "in_an_hour = 100", "misses = 0",
		"[limits]", `prompt_time = "45s"`}
	authorityLimits = []string{"[limits]", `gap = "40s"`, "in_five_minutes = 100", "in_an_hour = 100", "misses = 0"}
)

// withPush is the demo of push: what it has beside the other's.
type withPush struct {
	*demo
	authority *machine.Authority
	cable     *machine.Cable
	phone     *machine.Approver
}

func (d *demo) runPush() error {
	d.title("Sallyport: a login approved on the phone")
	d.say("All this happens in a private copy of this machine: an authority, a computer that")
	d.say("has joined it, and a phone's browser with a passkey. Nothing of it stays.")
	p := &withPush{demo: d}
	if err := p.prepare(); err != nil {
		return err
	}
	if err := p.enrol(); err != nil {
		return err
	}
	d.title("Logins by ssh, password first")
	if err := p.logins(); err != nil {
		return err
	}
	d.sum()
	return nil
}

func (p *withPush) prepare() error {
	if err := p.demo.prepare(pushSettings...); err != nil {
		return err
	}
	dist, err := dist()
	if err != nil {
		return err
	}
	if p.authority, err = machine.InstallAuthority(dist, authorityLimits...); err != nil {
		return err
	}
	if p.cable, err = machine.NewCable(p.authority.Devices); err != nil {
		return err
	}
	over := fmt.Sprintf("127.0.0.1:%d", p.cable.Port)
	if err := p.authority.Join(over, guarded); err != nil {
		return err
	}
	p.fact("server", "sallyport-authority; computers on %s (through a cable that can be cut), phones on %s", p.authority.Devices, p.authority.Origin)
	p.command("# sallyport-authority token create --user " + guarded + " | sallyport join https://" + over + " --token-stdin")
	p.phone, err = machine.NewApprover(p.authority.Origin)
	return err
}

var linkShown = regexp.MustCompile(`https://\S+#\S+`)

// enrol gives the person codes, and then a phone: it scans what "sallyport enroll
// --push" shows.
func (p *withPush) enrol() (err error) {
	p.title("sallyport enroll " + guarded + " --push")
	if p.demo.phone, _, err = machine.Enrol(guarded); err != nil {
		return err
	}
	t, err := sandbox.Start(exec.Command(machine.Program, "enroll", guarded, "--push"))
	if err != nil {
		return err
	}
	defer t.Close()
	_, link, err := t.Expect(patience, linkShown)
	if err != nil {
		return fmt.Errorf("sallyport enroll --push showed no link: %w:\n%s", err, t.Screen())
	}
	if err := p.phone.Enrol(link[0]); err != nil {
		return err
	}
	if status, err := t.Wait(patience); err != nil || status != 0 {
		return fmt.Errorf("sallyport enroll --push ended with status %d: %w:\n%s", status, err, t.Screen())
	}
	screen := t.Screen()
	if !p.colour {
		screen = sgr.ReplaceAllString(screen, "")
	}
	fmt.Fprintln(p.out, strings.TrimRight(screen, "\n"))
	return nil
}

// onThePhone is a step at which the person does something on the phone and then
// presses Enter at the login.
func (p *withPush) onThePhone(do func(number string) (string, error)) []sandbox.Answer {
	return []sandbox.Answer{sandbox.Push(func(number string) error {
		question, err := p.phone.Question()
		if err != nil {
			return err
		}
		said, err := do(number)
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out)
		for _, line := range strings.Split(strings.TrimSpace(question), "\n") {
			if line = strings.TrimSpace(line); line != "" {
				fmt.Fprintln(p.out, p.paint("2", "   phone | "+line))
			}
		}
		fmt.Fprintln(p.out, p.paint("2", "   phone > "+said))
		return nil
	})}
}

func (p *withPush) logins() error {
	other := func(number string) (string, error) { // one that is shown nowhere
		if number == "10" {
			return p.phone.Approve("11")
		}
		return p.phone.Approve("10")
	}
	deny := func(string) (string, error) { return p.phone.Deny() }
	report := func(string) (string, error) { return p.phone.Report() }
	for _, s := range []step{
		{name: "approved with the number", in: true, then: p.onThePhone(p.phone.Approve), why: "push approved"},
		{name: "another number", then: p.onThePhone(other), why: "wrong number"},
		{name: "denied", then: p.onThePhone(deny), why: "push denied"},
		{name: "\"This wasn't me\"", then: p.onThePhone(report), why: "push reported"},
	} {
		if err := p.login(s); err != nil {
			return err
		}
	}
	for _, do := range []func() error{p.locked, p.ignored, p.bombed, p.replayed, p.cut} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// replayed answers a login with the approval that another was given, as whoever
// relays could, and then tries to guess a code.
func (p *withPush) replayed() error {
	return p.login(step{name: "an approval from before, again", why: "wrong code", then: []sandbox.Answer{
		sandbox.Push(func(string) error {
			status, err := p.phone.Replay()
			if err != nil {
				return err
			}
			fmt.Fprintln(p.out, "\n"+p.paint("2", fmt.Sprintf("   phone > (a script sends the last approval again; the authority relays it: HTTP %d)", status)))
			return p.waitFor(event.PushFailed, "push_answer_forged")
		}),
		sandbox.Code(p.demo.phone.Wrong(3)),
	}})
}

// waitFor waits for an event, which it then shows.
func (p *withPush) waitFor(name event.Name, reason string) error {
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		events, err := machine.Events(p.seq)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Name == name && e.Reason == reason {
				fmt.Fprintln(p.out, p.paint("2", fmt.Sprintf("   event | %s reason=%s %s", e.Name, e.Reason, e.Text)))
				return nil
			}
		}
	}
	return fmt.Errorf("no event %s with the reason %s came", name, reason)
}

// ignored is a login that nobody answers, here or on the phone.
func (p *withPush) ignored() error {
	hold, err := p.hold()
	if err != nil {
		return err
	}
	defer hold.Close()
	if err := p.waitFor(event.LoginAttempt, "timed_out"); err != nil {
		return err
	}
	if err := hold.Send(""); err != nil { // ssh shows what came when its prompt is answered
		return err
	}
	status, err := hold.Wait(patience)
	if err != nil {
		return fmt.Errorf("ssh did not end: %w:\n%s", err, hold.Screen())
	}
	why, err := p.why(0)
	if err != nil {
		return err
	}
	p.judge(step{name: "nobody answers", user: guarded, why: "timed out"}, sandbox.Result{In: status == 0, As: guarded, Screen: hold.Screen()}, why)
	return nil
}

// hold begins a login and leaves its prompt open.
func (p *withPush) hold() (*sandbox.Terminal, error) {
	t, err := p.sshd.SSH(guarded, "NumberOfPasswordPrompts 1").Start()
	if err != nil {
		return nil, err
	}
	if _, _, err = t.Expect(patience, sandbox.PasswordPrompt); err == nil {
		if err = t.Send(password); err == nil {
			_, _, err = t.Expect(patience, sandbox.PushPrompt)
		}
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("a login did not come to its number: %w:\n%s", err, t.Screen())
	}
	return t, nil
}

// locked shows that a report has locked push, and that the helpdesk ends it.
func (p *withPush) locked() error {
	if err := p.login(step{name: "after that only a code", in: true, code: p.demo.phone.Next(), why: "code accepted"}); err != nil {
		return err
	}
	for _, e := range []event.Name{event.PushReported, event.PushFailed} {
		if err := p.showEvent(e); err != nil {
			return err
		}
	}
	fmt.Fprintln(p.out)
	p.command("# sallyport push clear " + guarded + "; sallyport-authority user clear " + guarded)
	if _, complaint, exit, err := machine.Do("push", "clear", guarded); err != nil || exit != 0 {
		return fmt.Errorf("sallyport push clear: exit status %d, %w: %s", exit, err, complaint)
	}
	return p.authority.Do(nil, "user", "clear", guarded)
}

// showEvent shows the newest event of that name.
func (p *withPush) showEvent(name event.Name) error {
	events, err := machine.Events(0)
	if err != nil {
		return err
	}
	for i := len(events) - 1; i >= 0; i-- {
		if e := events[i]; e.Name == name {
			fmt.Fprintln(p.out, p.paint("2", fmt.Sprintf("   event | %s reason=%s %s", e.Name, e.Reason, e.Text)))
			return nil
		}
	}
	return fmt.Errorf("there is no event %s", name)
}

// bombed: somebody who has the password begins one login after the other.
func (p *withPush) bombed() error {
	first, err := p.hold()
	if err != nil {
		return err
	}
	defer first.Close()
	p.say("")
	p.say("(somebody has the password and begins a login; while the phone rings, another)")
	if err := p.login(step{name: "bombed: it does not ring again", code: p.demo.phone.Wrong(5), why: "wrong code"}); err != nil {
		return err
	}
	if err := p.showEvent(event.PushFailed); err != nil {
		return err
	}
	said, err := p.phone.Deny()
	if err != nil {
		return err
	}
	fmt.Fprintln(p.out, p.paint("2", "   phone > "+said+" (the first one, on its owner's phone)"))
	return p.waitFor(event.LoginAttempt, "push_denied")
}

// cut freezes the link: nothing arrives, and nobody is told.
func (p *withPush) cut() error {
	p.cable.Freeze()
	defer p.cable.Thaw()
	p.say("")
	p.say("(the link to the authority is frozen: no byte passes, no connection ends)")
	code := p.demo.phone.Next()
	var took time.Duration
	var began time.Time
	s := step{name: "link cut: a code at once", in: true, why: "code accepted", now: func() { began = time.Now() }, then: []sandbox.Answer{
		{Prompt: sandbox.CodePrompt, Act: func([]string) (string, error) { took = time.Since(began); return code, nil }},
	}}
	if err := p.login(s); err != nil {
		return err
	}
	p.say("(%.2f s after the password; the agent waits 1.5 s for the authority at most)", took.Seconds())
	if took > codeTime {
		p.wrong++
	}
	return nil
}
