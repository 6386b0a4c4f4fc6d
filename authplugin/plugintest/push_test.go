//go:build linux

package plugintest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/phone"
	"sallyport/pam/e2e/machine"
)

// authority is the one that the branches have joined.
var authority = sync.OnceValues(func() (*machine.Authority, error) {
	return machine.NewAuthority(dist, "/run/authority", []string{"[limits]", `gap = "6s"`, "in_five_minutes = 1000", "in_an_hour = 1000", "misses = 0"})
})

// branches are more computers: the authority has one enrol a few phones at a time.
var branches struct {
	sync.Mutex
	last *machine.Computer
	all  int
	used int
}

const phonesOfABranch = 8

// branch is a computer where a phone can be enrolled.
func branch(t *testing.T) (*machine.Computer, *machine.Authority) {
	t.Helper()
	a, err := authority()
	must(t, err)
	b := &branches
	b.Lock()
	defer b.Unlock()
	if b.used++; b.last == nil || b.used > phonesOfABranch {
		b.all, b.used = b.all+1, 1
		name := fmt.Sprintf("branch-%d", b.all)
		b.last, err = machine.NewComputer(dist, "/run/"+name, officeSettings...)
		must(t, err)
		token, err := a.Token(nil, "--any-user")
		must(t, err)
		must(t, joins(b.last, a, token, name))
	}
	return b.last, a
}

// joins has a computer join, and waits until it is connected.
func joins(at *machine.Computer, a *machine.Authority, token, name string) error {
	if err := at.Join(a.Devices, token, "--name", name); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		s, err := at.Status()
		if err != nil || s.Authority.Connected {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent is not connected: %+v", s.Authority)
		}
	}
}

// approver is somebody whose phone rings.
type approver struct {
	*person
	approves *phone.Phone
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func withPhone(t *testing.T) *approver {
	t.Helper()
	at, a := branch(t)
	p := &approver{person: enrolled(t, at)}
	p.getsPhone(t, a)
	return p
}

func (p *approver) getsPhone(t *testing.T, a *machine.Authority) {
	t.Helper()
	must(t, a.Do(nil, "user", "add", p.name, "--json"))
	p.approves = phone.New(a.Origin, "Pixel of "+p.name)
	must(t, p.at.EnrolPush(p.name, func(link string) error { return p.approves.Enrol(soon(t), link) }))
}

// isRung waits for the window that shows a number.
func (l *login) isRung() *shown {
	l.t.Helper()
	s := l.isAsked("on your phone")
	if !s.ringing || !s.mayBeEmpty || s.number == 0 || !strings.HasPrefix(s.phone, "Pixel of ") || !strings.Contains(s.text, fmt.Sprintf("%02d", s.number)) {
		l.t.Fatalf("the window of a phone that rings shows %+v", s)
	}
	return s
}

func (s *shown) digits() string { return fmt.Sprintf("%02d", s.number) }

// decides answers on the phone, and wants its page to say how it ended.
func (p *approver) decides(t *testing.T, d push.Decision, number, want string) {
	t.Helper()
	w, err := p.approves.Answer(soon(t), d, number)
	must(t, err)
	p.page(t, w, want)
}

func (p *approver) page(t *testing.T, w phone.Waiting, want string) {
	t.Helper()
	// Not as often as a page that is looked at: it is asked for seconds.
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

// live is how the mechanisms go when the phone decides while the window is open.
const live = "begin allow, interrupt begin, deactivated prompt, "

// The login opens by itself: nobody touches the window.
func TestPushApproved(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		p.decides(t, push.Approve, l.isRung().digits(), "approved")
		l.isIn()
		l.went(live + asked)
		l.closes()
		wantReasons(t, p.at, p.account, "allow push_approved")
	})
}

// The same from begin-session: a rights prompt in a session.
func TestPushApprovesElevation(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, session).runs()
		p.decides(t, push.Approve, l.isRung().digits(), "approved")
		l.isIn()
		if e := attempts(t, p.at, p.account)[0]; e.Scenario != "elevate" || e.Service != "authorization" || e.Reason != "push_approved" {
			t.Errorf("the agent recorded %+v", e)
		}
	})
}

func TestPushDenied(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		l.isRung()
		p.decides(t, push.Deny, "", "denied")
		l.isTold("You denied this login on your phone.")
		l.cancels()
		l.isOut()
		l.went("begin allow, interrupt begin, deactivated prompt, " + refused)
		wantReasons(t, p.at, p.account, "deny push_denied")
	})
}

func TestPushWrongNumber(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		number := "10"
		if l.isRung().digits() == number {
			number = "11"
		}
		p.decides(t, push.Approve, number, "wrong_number")
		l.isTold("number")
		l.types("")
		l.isOut()
		wantReasons(t, p.at, p.account, "deny wrong_number")
	})
}

// Nobody answers the phone; the button has it ring again, and the second time it is
// answered. Enter before that is too early, and says so.
func TestPushTimedOutAndSentAgain(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		first := l.isRung()
		w, err := p.approves.Rings(soon(t))
		must(t, err)
		l.types("")
		if s := l.isRung(); s.notice != "Not approved yet." || s.number != first.number {
			t.Errorf("Enter came too early, and the window shows %+v", s)
		}
		p.page(t, w, "timed_out")
		l.types("")
		second := l.isRung()
		p.decides(t, push.Approve, second.digits(), "approved")
		l.isIn()
		wantReasons(t, p.at, p.account, "allow push_approved")
	})
}

// A code in the field while the phone rings is a code.
func TestCodeBesideARingingPhone(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		l.isRung()
		w, err := p.approves.Rings(soon(t))
		must(t, err)
		l.types(p.phone.Next())
		l.isIn()
		p.page(t, w, "code")
		l.went(asked)
		wantReasons(t, p.at, p.account, "allow code_accepted")
	})
}

// Whoever leaves the window takes the request back: the phone stops ringing.
func TestCancelStopsThePhone(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		l.isRung()
		w, err := p.approves.Rings(soon(t))
		must(t, err)
		l.cancels()
		l.isOut()
		p.page(t, w, "cancelled")
		wantReasons(t, p.at, p.account, "deny cancelled")
	})
}

// Destroy, as when loginwindow is gone: the phone stops ringing too, and its approval
// is worth nothing any more.
func TestDestroyStopsThePhone(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		l.isRung()
		w, err := p.approves.Rings(soon(t))
		must(t, err)
		l.closes()
		p.page(t, w, "cancelled")
		wantReasons(t, p.at, p.account, "deny cancelled")
	})
}

// authd takes RequestInterrupt and does nothing: the window stays, and what is
// approved is found by whoever presses the button.
func TestInterruptIgnored(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		s := b.start(t, sockets(p.at), options{})
		l := s.login(t, p.account, atLogin)
		l.do("deaf")
		l.runs()
		p.decides(t, push.Approve, l.isRung().digits(), "approved")
		l.until("ignored")
		l.types("")
		l.isIn()
		l.went("begin allow, ignored begin, prompt allow, verify allow")
		l.closes()

		l = s.login(t, p.account, atLogin) // and a wrong code is a denial, not a hang
		l.do("deaf")
		l.runs().isAsked("")
		began := time.Now()
		l.types(p.phone.Wrong(1))
		l.isOut()
		if took := time.Since(began); took > 40*time.Second { // and not minutes
			t.Errorf("the denial took %v", took)
		}
	})
}

// The approval and the answer cross: whichever is first, one verdict.
func TestApprovalAndAnswerCross(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		l := b.start(t, sockets(p.at), options{}).login(t, p.account, atLogin).runs()
		s := l.isRung()
		w, err := p.approves.Rings(soon(t))
		must(t, err)
		posted := make(chan error, 1)
		go func() {
			posted <- p.approves.Post(soon(t), w.ID, p.approves.Key.Answer(w.Challenge, push.Approve, s.digits()))
		}()
		l.types("")
		must(t, <-posted)
		for f := l.until("shown", "ended"); f[0] != "ended"; f = l.until("shown", "ended") {
		}
		if got := l.trail[len(l.trail)-1]; got != "verify allow" {
			t.Errorf("approved, and it ended so: %v", l.trail)
		}
		wantReasons(t, p.at, p.account, "allow push_approved")
	})
}

// The agent dies while the phone rings: nobody gets in, and the window says why.
func TestAgentKilledWhileThePhoneRings(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		a, err := authority()
		must(t, err)
		at := ownAgent(t, officeSettings[:5]...)
		token, err := a.Token(nil, "--any-user")
		must(t, err)
		must(t, joins(at, a, token, "laptop-"+b.name))
		p := &approver{person: enrolled(t, at)}
		p.getsPhone(t, a)
		l := b.start(t, sockets(at), options{}).login(t, p.account, atLogin).runs()
		l.isRung()
		must(t, at.Kill())
		l.isTold("Sallyport")
		l.types("")
		l.isOut()
	})
}
