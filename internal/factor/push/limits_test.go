package push_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
)

// person is somebody whose phone can be asked, and a clock. The state goes through
// JSON between two requests, as it does in the vault.
type person struct {
	*testing.T
	state  push.State
	limits push.Limits
	now    clock.Instant
	n      int
}

func newPerson(t *testing.T) *person {
	return &person{T: t, limits: push.DefaultLimits(), now: at(0)}
}

func (p *person) later(d time.Duration) *person {
	p.now.Wall, p.now.Boot = p.now.Wall.Add(d), p.now.Boot+d
	if p.now.Wall.After(p.now.Highest) {
		p.now.Highest = p.now.Wall
	}
	return p
}

// begins asks for a push from a service and checks what is said to that.
func (p *person) begins(service string, want push.Reason) *person {
	p.Helper()
	b, err := json.Marshal(p.state)
	if err != nil {
		p.Fatal(err)
	}
	p.state = push.State{}
	if err := json.Unmarshal(b, &p.state); err != nil {
		p.Fatal(err)
	}
	p.n++
	if got := p.state.Begin(fmt.Sprint(p.n), service, p.now, p.limits); got != want {
		p.Fatalf("request %d after %s: %q, want %q", p.n, p.now.Wall.Sub(noon), got, want)
	}
	return p
}

// ends ends the last request.
func (p *person) ends(why push.Reason) *person {
	p.Helper()
	if !p.state.End(fmt.Sprint(p.n), why, p.now, p.limits) {
		p.Fatal("it had ended")
	}
	return p
}

func TestPushBombing(t *testing.T) {
	// One at a time.
	p := newPerson(t).begins("sshd", "").begins("sshd", push.TooMany).begins("sudo", push.TooMany)
	p.later(time.Minute-1).begins("sshd", push.TooMany)
	// Again after a minute, or as soon as it is answered.
	p.later(1).begins("sshd", "").ends(push.Approved).begins("sshd", "").ends(push.Approved)
	// Three in five minutes, answered or not.
	p.begins("sshd", push.TooMany).later(4*time.Minute-1).begins("sshd", push.TooMany).later(1).begins("sshd", "").ends(push.Approved)

	// Ten in an hour.
	p = newPerson(t)
	for range 10 {
		p.begins("sshd", "").ends(push.Approved).later(2 * time.Minute)
	}
	p.begins("sshd", push.TooMany).later(40*time.Minute-1).begins("sshd", push.TooMany).later(1).begins("sshd", "")
}

func TestThreeMissesInARowPausePush(t *testing.T) {
	for _, miss := range []push.Reason{push.Denied, push.WrongNumber, push.Forged} {
		p := newPerson(t)
		for range 3 {
			p.begins("sshd", "").ends(miss).later(2 * time.Minute)
		}
		p.begins("sshd", push.Paused).later(13*time.Minute-1).begins("sshd", push.Paused).later(1).begins("sshd", "")
		if p.state.Misses != 0 {
			t.Errorf("%d misses after the pause", p.state.Misses)
		}
	}
	// Nobody answered: counted when the next one is begun.
	p := newPerson(t)
	for range 3 {
		p.begins("sshd", "").later(2 * time.Minute)
	}
	p.begins("sshd", push.Paused).later(15*time.Minute-1).begins("sshd", push.Paused).later(1).begins("sshd", "")
	// An approval in between begins the count anew; a code does not.
	p = newPerson(t)
	for _, why := range []push.Reason{push.Denied, push.Denied, push.Approved, push.Denied, push.Denied, ""} {
		p.begins("sshd", "").ends(why).later(2 * time.Minute)
	}
	p.begins("sshd", "").ends(push.Denied).later(2*time.Minute).begins("sshd", push.Paused)
}

// A time-out is over when its gap is: else short-lived requests would ring more
// often than long-lived ones.
func TestATimeOutDoesNotFreeTheNextBeforeTheGapIsOver(t *testing.T) {
	p := newPerson(t).begins("sshd", "").later(30*time.Second).ends(push.TimedOut).begins("sshd", push.TooMany)
	if p.state.Misses != 0 {
		t.Error("counted before its time")
	}
	p.later(30*time.Second).begins("sshd", "")
	if p.state.Misses != 1 {
		t.Errorf("%d misses", p.state.Misses)
	}
}

func TestNotMeLocksPushUntilItIsCleared(t *testing.T) {
	p := newPerson(t)
	p.limits.Concurrent, p.limits.PerResource = 2, 2
	p.begins("sshd", "").begins("sudo", "").ends(push.Reported)
	// What else rings now lets nobody in either.
	if p.state.Open("1") || p.state.End("1", push.Approved, p.now, p.limits) {
		t.Error("another request is still open")
	}
	p.begins("sshd", push.Reported).later(365*24*time.Hour).begins("sshd", push.Reported)
	p.state.Clear()
	p.begins("sshd", "")
	// It is named before a pause and before a limit.
	p.limits = push.DefaultLimits()
	p.begins("sshd", push.TooMany)
	p.state.Paused = p.now.In(time.Hour)
	p.begins("sshd", push.Paused)
	p.state.Reported = true
	p.begins("sshd", push.Reported)
}

func TestARequestEndsOnce(t *testing.T) {
	p := newPerson(t).begins("sshd", "")
	if !p.state.Open("1") || p.state.Open("2") || p.state.Open("") || (*push.State)(nil).Open("1") {
		t.Error("another request is open than was begun")
	}
	p.ends(push.Approved)
	if p.state.Open("1") || p.state.End("1", push.Approved, p.now, p.limits) || p.state.End("2", push.Reported, p.now, p.limits) {
		t.Error("it ended twice")
	}
	if p.state.Reported || p.state.Misses != 0 {
		t.Errorf("%+v", p.state)
	}
}

func TestARequestThatReachedNoPhoneCountsForNothing(t *testing.T) {
	p := newPerson(t)
	for range 20 {
		p.begins("sshd", "")
		p.state.Withdraw(fmt.Sprint(p.n))
	}
	if len(p.state.Begun) != 0 {
		t.Errorf("%+v", p.state)
	}
	// One that was answered stays counted.
	p.begins("sshd", "").ends(push.Denied)
	p.state.Withdraw(fmt.Sprint(p.n))
	if len(p.state.Begun) != 1 {
		t.Error("an answered request was taken back")
	}
}

func TestLimitsAreTurnedOffByZeroAndRaised(t *testing.T) {
	p := newPerson(t)
	p.limits = push.Limits{Gap: time.Minute}
	// What is kept is bounded all the same.
	for range 1000 {
		p.n++
		if why := p.state.Begin(fmt.Sprint(p.n), "sshd", p.now, p.limits); why != "" {
			t.Fatalf("request %d: %s", p.n, why)
		}
	}
	p.begins("sshd", push.TooMany)
	if b, err := json.Marshal(p.state); err != nil || len(b) > 500_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	p.later(time.Hour).begins("sshd", "")
	if len(p.state.Begun) != 1 || !p.state.Paused.IsZero() {
		t.Errorf("%d requests are kept", len(p.state.Begun))
	}

	p = newPerson(t)
	p.limits.Concurrent, p.limits.PerResource, p.limits.InFiveMinutes = 3, 2, 5
	p.begins("sshd", "").begins("sshd", "").begins("sshd", push.TooMany).begins("sudo", "").begins("su", push.TooMany)
}

func TestTheClockCannotBeSetToAskMoreOften(t *testing.T) {
	p := newPerson(t).begins("sshd", "")
	for _, by := range []time.Duration{time.Hour, -24 * time.Hour, 48 * time.Hour} {
		p.now.Wall = p.now.Wall.Add(by) // set; no time goes by
		p.begins("sshd", push.TooMany)
	}
	// A reboot with the clock set back: the highest time is remembered.
	p = newPerson(t).later(time.Hour).begins("sshd", "").ends(push.Denied).begins("sshd", "").ends(push.Denied).begins("sshd", "").ends(push.Denied)
	p.now = clock.Instant{Wall: noon.Add(-time.Hour), Boot: time.Second, BootID: "another", Highest: p.now.Highest}
	p.begins("sshd", push.Paused)
	p.now.Wall = noon.Add(time.Hour + 14*time.Minute)
	p.begins("sshd", push.Paused)
	p.now.Wall = noon.Add(time.Hour + 15*time.Minute)
	p.begins("sshd", "")
}
