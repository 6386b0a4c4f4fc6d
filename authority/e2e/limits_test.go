//go:build linux

package e2e

import (
	"slices"
	"strings"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/sandbox"
)

// Limits are those of an installation that sets none, at both ends.

// TestPushBombing: the fourth within five minutes rings nobody.
func TestPushBombing(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	laptop := s.computer("laptop")
	p := laptop.pin(s.phone("Pixel"), maya)
	for range 3 {
		laptop.byPhone(p, maya)
	}
	seq := laptop.last()
	laptop.byCode(maya)
	e := laptop.event(seq, event.PushFailed, "too many concurrent push requests")
	if e.Reason != "too_many_push_requests" || e.User != maya || e.Service != "sshd" || e.Remote != "192.0.2.7" {
		t.Errorf("the event is %+v", e)
	}
	if list, err := p.Shown(soon(t)); err != nil || len(list) != 0 {
		t.Errorf("the phone shows %d logins, %v", len(list), err)
	}
	// Another's are not spent.
	laptop.byPhone(laptop.pin(s.phone("Nokia"), zoe), zoe)
}

// TestSecondLoginWhileAPhoneRings: it is asked for a code, and the first goes on.
func TestSecondLoginWhileAPhoneRings(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	laptop := s.computer("laptop")
	p := laptop.pin(s.phone("Pixel"), maya)
	l := laptop.rings(maya)
	seq := laptop.last()
	second := laptop.loginTo("sudo", maya)
	if second.Number != "" {
		t.Fatal("two phones ring at once")
	}
	laptop.event(seq, event.PushFailed, "^too_many_push_requests too many concurrent push requests")
	answers(t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
	second.types("000000", false, "wrong_code") // the approval was not for this one
}

func TestThreeDenialsInARowPausePush(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	laptop := s.computer("laptop")
	p := laptop.pin(s.phone("Pixel"), maya)
	seq := laptop.last()
	for range 3 {
		l := laptop.rings(maya)
		answers(t, p, push.Deny, "")
		l.ends(false, "push_denied")
	}
	laptop.event(seq, event.PushPaused, "3 requests in a row")
	s.event(event.PushPaused, "")
	if is := laptop.person(maya); is.PushState != "paused" || is.PushPaused <= 0 {
		t.Errorf("user show says %+v", is)
	}
	laptop.byCode(maya)
	laptop.event(seq, event.PushFailed, "^push_paused")

	t.Log("cleared here: the authority counts for itself")
	laptop.clear(maya)
	seq = laptop.last()
	laptop.codeOnly(maya).types(laptop.paper[maya][0], true, "code_accepted")
	laptop.event(seq, event.PushFailed, "^push_paused the authority")
	ok(t, s.authority.Do(nil, "user", "clear", maya, "--json"))
	laptop.byPhone(p, maya)
}

// clear is "sallyport push clear".
func (c *computer) clear(user string) {
	c.t.Helper()
	var p person
	ok(c.t, c.JSON(&p, "push", "clear", user))
	if p.PushState != "ready" {
		c.t.Errorf("after it was cleared push is %q", p.PushState)
	}
}

// TestThisWasntMe locks push, here and at the authority, until both are cleared;
// every code goes on working.
func TestThisWasntMe(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	reported := func() {
		t.Helper()
		seq := laptop.last()
		l := laptop.rings(maya)
		w := answers(t, p, push.Report, "")
		l.ends(false, "push_reported")
		if e := laptop.event(seq, event.PushReported, "Not me.*Pixel"); e.User != maya || e.Remote != "192.0.2.7" {
			t.Errorf("the event is %+v", e)
		}
		if outcome, err := p.Outcome(soon(t), w.ID); err != nil || outcome != "reported" {
			t.Errorf("the page says %q, %v", outcome, err)
		}
		if is := laptop.person(maya); is.PushState != "reported" || !is.PushReported {
			t.Errorf("user show says %+v", is)
		}
	}
	reported()
	s.event(event.PushReported, "")
	if !slices.ContainsFunc(laptop.status().Problems, func(p struct{ Code, Text, Remedy string }) bool {
		return p.Code == "push_reported" && strings.Contains(p.Text, maya) && strings.Contains(p.Remedy, "push clear")
	}) {
		t.Errorf("status does not say so: %+v", laptop.status().Problems)
	}
	var bypass struct{ Code string }
	ok(t, laptop.JSON(&bypass, "bypass", maya, "--for", "1h", "--reason", "reported a login"))
	laptop.byCode(maya)
	laptop.codeOnly(maya).types(laptop.paper[maya][0], true, "code_accepted")
	laptop.codeOnly(maya).types(bypass.Code, true, "code_accepted")

	t.Log("cleared here only")
	laptop.clear(maya)
	seq := laptop.last()
	laptop.codeOnly(maya).types(laptop.paper[maya][1], true, "code_accepted")
	laptop.event(seq, event.PushFailed, "^push_reported the authority")
	ok(t, s.authority.Do(nil, "user", "clear", maya, "--json"))
	laptop.byPhone(p, maya)

	t.Log("cleared at the authority only")
	reported()
	eventually(t, "the authority has heard", func() bool {
		list, err := s.authority.Events()
		ok(t, err)
		n := 0
		for _, e := range list {
			if e.Device == "" && e.Event.Name == event.PushReported {
				n++
			}
		}
		return n == 2
	})
	ok(t, s.authority.Do(nil, "user", "clear", maya, "--json"))
	seq = laptop.last()
	laptop.codeOnly(maya).types(laptop.paper[maya][2], true, "code_accepted")
	laptop.event(seq, event.PushFailed, "^push_reported $")
	laptop.clear(maya)
	laptop.byPhone(p, maya)
}

// TestALockoutOfCodesDoesNotBlockPush.
func TestALockoutOfCodesDoesNotBlockPush(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowAtOnce)
	laptop := s.computer("laptop", append([]string{"[push]", "concurrent = 0", "per_service = 0"}, often...)...)
	p := laptop.pin(s.phone("Pixel"), maya)
	for i := range 10 {
		laptop.login(maya).types(laptop.codes[maya].Wrong(i), false, "wrong_code")
	}
	if is := laptop.person(maya); !is.Locked {
		t.Fatalf("after ten wrong codes: %+v", is)
	}
	laptop.login(maya).types(laptop.codes[maya].Next(), false, "locked")
	l := laptop.rings(maya)
	alone(t, p)
	answers(t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
}
