//go:build linux

package agenttest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/event"
)

// bend is how far the agent's clock is off; see internal/clock.
type bend struct {
	Wall   string `json:"wall,omitempty"`
	Boot   string `json:"boot,omitempty"`
	BootID string `json:"boot_id,omitempty"`
}

// clocked is an agent whose clock the test sets.
type clocked struct {
	*agent
	off time.Duration
}

func newClocked(t *testing.T) *clocked {
	t.Helper()
	c := &clocked{agent: newAgent(t)}
	c.program = program("sallyport-testclock")
	c.env = []string{clockVar + "=" + filepath.Join(c.dir, "clock"), noRaceSleep}
	c.set(bend{})
	c.start()
	return c
}

// set sets the agent's clock.
func (c *clocked) set(b bend) {
	c.t.Helper()
	text, err := json.Marshal(b)
	must(c.t, err)
	path := filepath.Join(c.dir, "clock")
	write(c.t, path+".new", string(text))
	must(c.t, os.Rename(path+".new", path))
	c.off = 0
	if b.Wall != "" {
		c.off, err = time.ParseDuration(b.Wall)
		must(c.t, err)
	}
}

// code is what a phone with the agent's time shows, so many steps from then.
func (c *clocked) code(p phone, steps int64) string {
	return p.codeAt(c.t, settled(func() time.Time { return time.Now().Add(c.off) }), steps)
}

func (c *clocked) wrong(p phone) string { return p.wrongAt(c.t, time.Now().Add(c.off)) }

func (c *clocked) locked(u *account, p phone) bool {
	c.t.Helper()
	got := c.user(u).GetLocked()
	r := c.as(u, c.wrong(p))
	if got != (r.reason == "locked") {
		c.t.Errorf("locked %v, and a wrong code got %s", got, r)
	}
	return got
}

// The clock set back, by whoever may set it or by a time server that is not the
// right one, gives no code a second life; and it is noticed, once.
func TestClockSetBackGivesNoCodeASecondLife(t *testing.T) {
	need(t)
	c := newClocked(t)
	u, phone := c.enrolled()
	other, otherPhone := c.enrolled()
	anHourAgo := phone.code(t, 0)
	want(t, c.as(u, anHourAgo), allow, "")
	c.set(bend{Wall: "1h"})
	now := c.code(phone, 0)
	want(t, c.as(u, now), allow, "")
	// Two minutes: within what the window would forgive in the other direction.
	for _, wall := range []string{"59m", "58m", "0s", "-1h"} {
		c.set(bend{Wall: wall})
		for _, code := range []string{now, anHourAgo, c.code(phone, -1), c.code(phone, 0), c.code(phone, 1)} {
			if r := c.as(u, code); r.err != nil || r.decision != deny {
				t.Errorf("the clock at %s: %s", wall, r)
			}
		}
		c.cli(nil, "unlock", u.name)
	}
	if n := count(c.events(), event.ClockWentBack, nil, ""); n != 1 {
		t.Errorf("%d clock_went_back events, want one", n)
	}
	c.wantStatus(1, "clock_behind")
	// Who has not used a code of that time may, offline and with the clock off;
	// a recovery code needs no clock.
	want(t, c.as(other, c.code(otherPhone, 0)), allow, "")
	want(t, c.as(u, phone.recovery[0]), allow, "")
	// A restart, as after a kill, forgets nothing of it and repeats nothing.
	c.kill()
	c.start()
	want(t, c.as(u, c.code(phone, 0)), deny, "clock_was_ahead")
	if n := count(c.events(), event.ClockWentBack, nil, ""); n != 1 {
		t.Errorf("%d clock_went_back events after a restart, want one", n)
	}
	// Right again, and back again: that is another event.
	c.set(bend{Wall: "61m"})
	want(t, c.as(u, c.code(phone, 1)), allow, "")
	c.wantStatus(0, "")
	c.set(bend{})
	want(t, c.as(u, c.code(phone, 0)), deny, "clock_was_ahead")
	if n := count(c.events(), event.ClockWentBack, nil, ""); n != 2 {
		t.Errorf("%d clock_went_back events, want two", n)
	}
}

func TestLockoutOutlivesClockAndReboot(t *testing.T) {
	need(t)
	c := newClocked(t)
	u, phone := c.enrolled()
	for range 10 {
		want(t, c.as(u, c.wrong(phone)), deny, "wrong_code")
	}
	began := time.Now()
	const notYet = "14m" // since it was locked: what the test has taken so far is part of it
	for _, b := range []bend{
		{},
		{Wall: "-24h"},                    // set back
		{Boot: notYet},                    //
		{BootID: "another", Boot: "-1m"},  // rebooted at once
		{BootID: "another", Wall: "-24h"}, // and the clock lost
		{BootID: "another", Wall: notYet}, //
		{Wall: "24h"},                     // set forward: no time has passed since boot
	} {
		for _, ahead := range []*string{&b.Boot, &b.Wall} {
			if *ahead == notYet {
				*ahead = (14*time.Minute - time.Since(began)).String()
			}
		}
		c.set(b)
		c.restart()
		if !c.locked(u, phone) {
			t.Errorf("no longer locked with the clock %+v", b)
		}
	}
	// Fifteen minutes of this boot are over, whatever the clock says of them.
	for _, b := range []bend{{Boot: "16m"}, {Boot: "16m", Wall: "-24h"}} {
		c.set(b)
		c.restart()
		if c.user(u).GetLocked() {
			t.Errorf("still locked with the clock %+v", b)
		}
	}
	// The next lockout lasts twice as long.
	c.set(bend{Boot: "16m"})
	for range 10 {
		want(t, c.as(u, c.wrong(phone)), deny, "wrong_code")
	}
	if left := c.user(u).GetLockedFor().AsDuration(); left < 29*time.Minute || left > 30*time.Minute {
		t.Errorf("locked for %s", left)
	}
}

// A clock that was far ahead once must not count for ever; only the helpdesk
// says that it was wrong.
func TestClockReset(t *testing.T) {
	need(t)
	c := newClocked(t)
	u, phone := c.enrolled()
	c.set(bend{Wall: "8760h"}) // a year
	want(t, c.as(u, phone.codeAt(t, time.Now(), 0)), deny, "wrong_code")
	c.set(bend{})
	c.wantStatus(1, "clock_behind")
	code := c.code(phone, 0)
	want(t, c.as(u, code), allow, "") // it locks nobody out
	got := c.command("", "clock", "reset", "--yes")
	if got.exit != 0 {
		t.Fatalf("clock reset: %+v", got)
	}
	c.wantStatus(0, "")
	events := c.events()
	if n := count(events, event.ClockReset, nil, ""); n != 1 {
		t.Errorf("%d clock_reset events", n)
	}
	if n := count(events, event.ClockWentBack, nil, ""); n != 1 {
		t.Errorf("%d clock_went_back events", n)
	}
	c.kill()
	c.start()
	c.wantStatus(0, "")
	want(t, c.as(u, code), deny, "code_already_used")
}

// A bypass and an enrolment window end when they were said to, by the boot clock
// within a boot and never later for a clock that was set back.
func TestExpiriesCannotBeStretched(t *testing.T) {
	need(t)
	c := newClocked(t)
	u, _ := c.enrolled()
	bypass := func() string {
		var v struct{ Code string }
		c.cli(&v, "bypass", u.name, "--for", "10m", "--reason", "test")
		return v.Code
	}
	for name, after := range map[string]bend{
		"time passed":                     {Boot: "11m", Wall: "11m"},
		"time passed, clock set back":     {Boot: "11m", Wall: "-1h"},
		"rebooted, time passed":           {BootID: "another", Wall: "11m", Boot: "-10m"},
		"rebooted, and the clock is lost": {BootID: "another", Wall: "-1h", Boot: "-10m"},
	} {
		t.Run(name, func(t *testing.T) {
			c.set(bend{})
			must(t, errorOf(c.command("", "clock", "reset", "--yes")))
			code := bypass()
			if strings.Contains(name, "lost") {
				// The time that passed was seen before the clock was lost.
				c.set(bend{Wall: "11m", Boot: "11m"})
				want(t, c.as(newUser(t)), skip, "")
			}
			c.set(after)
			c.restart()
			want(t, c.as(u, code), deny, "code_expired")
			want(t, c.as(u, code), deny, "wrong_code")
		})
	}
	c.set(bend{})
	must(t, errorOf(c.command("", "clock", "reset", "--yes")))
	code := bypass()
	c.set(bend{Wall: "720h", Boot: "9m"}) // set forward: it is still good
	want(t, c.as(u, code), allow, "")
}

// A phone whose clock runs fast is followed, up to three steps.
func TestDriftIsLearntAndBounded(t *testing.T) {
	need(t)
	c := newClocked(t)
	u, phone := c.enrolled()
	// One step of the test's own clock may pass meanwhile: both move together.
	start := settled(time.Now)
	for _, step := range []int64{1, 2, 3, 4} {
		want(t, c.as(u, phone.codeAt(t, start, step)), allow, "")
	}
	if got := c.user(u).GetDriftSteps(); got != 3 && time.Now().Unix()/30 == start.Unix()/30 {
		t.Errorf("drift %d, want 3", got)
	}
	c.restart()
	if r := c.as(u, phone.code(t, 5)); r.reason != "wrong_code" {
		t.Errorf("five steps ahead: %s", r)
	}
	slow, slowPhone := c.enrolled()
	if r := c.as(slow, slowPhone.code(t, -2)); r.reason != "wrong_code" {
		t.Errorf("two steps behind, never seen: %s", r)
	}
}

// No variable and no file moves the clock of what is shipped.
func TestShippedAgentHasNoTestClock(t *testing.T) {
	need(t)
	for name, has := range map[string]bool{"sallyport": false, "sallyport-testclock": true} {
		content, err := os.ReadFile(program(name))
		must(t, err)
		if got := bytes.Contains(content, []byte(clockVar)); got != has {
			t.Errorf("%s knows %s: %v, want %v", name, clockVar, got, has)
		}
	}
}
