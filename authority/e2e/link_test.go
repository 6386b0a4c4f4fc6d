//go:build linux

package e2e

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/sandbox"
)

// The authority dies while a phone rings: the agent reconnects by itself, what was
// asked is still there, and the answer opens the login.
func TestAuthorityKilledWhileAPhoneRings(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	l := laptop.rings(maya)
	ok(t, s.authority.Kill())
	s.restart()
	w := answers(t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
	outcome, err := p.Outcome(soon(t), w.ID)
	ok(t, err)
	if outcome != "approved" {
		t.Errorf("the page says %q", outcome)
	}
}

func TestAuthorityKilledMeansACodeInTimeAndPushWhenItIsBack(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	ok(t, s.authority.Kill())
	began := time.Now()
	l := laptop.codeOnly(maya)
	if took := time.Since(began); took > codeTime {
		t.Errorf("a code was asked for after %v", took)
	}
	l.types(laptop.codes[maya].Next(), true, "code_accepted")
	s.restart()
	laptop.connected()
	laptop.byPhone(p, maya)
	if n := laptop.count(event.PushFailed, "push_offline"); n != 0 {
		t.Errorf("being offline made %d events of failed pushes: it is normal", n)
	}
}

// What the phone answered while the link was cut comes when it is back, and counts
// once.
func TestAnAnswerGivenWhileTheLinkIsCutOpensTheLoginOnce(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	l := laptop.rings(maya)
	laptop.cable.Freeze()
	w := answers(t, p, push.Approve, l.Number)
	laptop.cable.Thaw()
	l.ends(true, "push_approved")
	// The connection is made anew: whatever waits is sent again.
	laptop.replugged(s.authority.Devices)
	laptop.byPhone(p, maya)
	if n := laptop.count(event.LoginAttempt, "push_approved"); n != 2 {
		t.Errorf("there are %d approved logins, want the two", n)
	}
	if err := p.Post(soon(t), w.ID, p.Key.Answer(w.Challenge, push.Approve, l.Number)); refused(t, err) < 400 {
		t.Errorf("a second answer: %v", err)
	}
}

func TestAnAnswerThatComesAfterTheLoginOpensNothing(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	l := laptop.rings(maya)
	laptop.cable.Freeze()
	w := answers(t, p, push.Deny, "")
	l.types(laptop.codes[maya].Next(), true, "code_accepted") // did not wait for the phone
	laptop.cable.Thaw()
	outcome, err := p.Outcome(soon(t), w.ID)
	ok(t, err)
	if outcome != "code" {
		t.Errorf("the page says %q, want that the login went on by a code", outcome)
	}
	laptop.byPhone(p, maya)
	if n := laptop.count(event.LoginAttempt, "push_denied"); n != 0 {
		t.Errorf("the answer that came late decided %d logins", n)
	}
}

// TestLinkCutAsksForACodeInTime: cut in a way that nobody is told of.
func TestLinkCutAsksForACodeInTime(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	// What was under way may arrive when the link is back, and count as pending there.
	s := newSite(t, allowAtOnce)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	laptop.cable.Freeze()
	began := time.Now()
	l := laptop.codeOnly(maya)
	if took := time.Since(began); took > codeTime {
		t.Errorf("a code was asked for after %v", took)
	}
	l.types("000000", false, "wrong_code") // never nothing
	laptop.byCode(maya)
	laptop.cable.Thaw()
	laptop.connected()
	// What was asked in vain counts against nobody here.
	l = laptop.rings(maya)
	alone(t, p)
	answers(t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
}

func TestAgentKilledWhileAPhoneRings(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p, other := laptop.pin(s.phone("Pixel"), maya), laptop.pin(s.phone("Nokia"), zoe)
	l := laptop.rings(maya)
	w, err := p.Rings(soon(t))
	ok(t, err)
	ok(t, laptop.Kill())
	if v, err := l.Verdict(patience); err == nil {
		t.Fatalf("the login ended with a verdict: %+v", v)
	}
	laptop.restart()
	laptop.connected() // it has joined still
	ok(t, p.Post(soon(t), w.ID, p.Key.Answer(w.Challenge, push.Approve, l.Number)))
	laptop.byPhone(other, zoe)
	// maya's counts as pending: whoever kills the agent rings no phone again and again.
	laptop.byCode(maya)
	if n := laptop.count(event.LoginAttempt, "push_approved"); n != 1 {
		t.Errorf("there are %d approved logins: the answer to the dead one opened something", n)
	}
}

// TestOfflineReadiness: computer restarted on the train.
func TestOfflineReadiness(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	ok(t, s.authority.Stop())
	ok(t, laptop.Stop())
	laptop.restart()
	if st := laptop.status(); st.Users.OfflineReady != 2 || st.Authority.Connected {
		t.Errorf("status says %+v", st)
	}
	laptop.byCode(maya)
	laptop.codeOnly(maya).types(laptop.paper[maya][0], true, "code_accepted")
	s.restart()
	laptop.connected()
	laptop.byPhone(p, maya)
}

func TestARevokedComputerPushesNoMore(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	laptop.byPhone(p, maya)
	l := laptop.rings(maya) // under way
	seq := laptop.last()
	ok(t, s.authority.Do(nil, "device", "revoke", "laptop", "--reason", "stolen", "--json"))
	laptop.event(seq, event.AuthorityRefused, "revoked this computer")
	l.types(laptop.codes[maya].Next(), true, "code_accepted")
	began := time.Now()
	laptop.byCode(maya)
	if took := time.Since(began); took > codeTime {
		t.Errorf("a login took %v", took)
	}
	st := laptop.status()
	if st.Authority.Connected || st.Authority.Refused != "revoked" {
		t.Errorf("status says %+v", st.Authority)
	}
	found := false
	for _, problem := range st.Problems {
		found = found || problem.Code == "authority_refused" && strings.Contains(problem.Remedy, "sallyport leave")
	}
	if !found {
		t.Errorf("status does not say what to do: %+v", st.Problems)
	}
	// Nor after a restart of either.
	ok(t, laptop.Stop())
	laptop.restart()
	laptop.byCode(maya)
	if laptop.status().Authority.Connected {
		t.Error("a restarted agent is connected")
	}
}

func TestWhatTheAuthorityTakesAwayIsGone(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	seq := laptop.last()
	p := s.enrol(s.phone("Pixel"), maya)
	laptop.event(seq, event.SyncApplied, "approvers, version 1")
	laptop.byPhone(p, maya)

	t.Log("the computer is not maya's any more, and again")
	ok(t, s.authority.Do(nil, "device", "disallow", "laptop", maya, "--json"))
	eventually(t, "push is not allowed", func() bool { return laptop.person(maya).PushState == "not_allowed" })
	laptop.byCode(maya)
	s.event(event.PushFailed, "user_not_allowed")
	ok(t, s.authority.Do(nil, "device", "allow", "laptop", maya, "--json"))
	eventually(t, "push is allowed", func() bool { return laptop.person(maya).PushState == "ready" })
	laptop.byPhone(p, maya)

	t.Log("a phone is removed")
	var list struct{ Phones []struct{ ID string } }
	ok(t, s.authority.Do(&list, "user", "phones", maya, "--json"))
	if len(list.Phones) != 1 {
		t.Fatalf("the phones are %+v", list)
	}
	seq = laptop.last()
	ok(t, s.authority.Do(nil, "phone", "remove", list.Phones[0].ID, "--json"))
	laptop.event(seq, event.SyncApplied, "0 phones may approve")
	laptop.byCode(maya)
	if _, err := p.Shown(soon(t)); refused(t, err) != 401 {
		t.Errorf("the removed phone's page is told %v", err)
	}

	t.Log("a person is removed")
	q := s.enrol(s.phone("Nokia"), zoe)
	eventually(t, "zoe can push", func() bool { return laptop.person(zoe).PushState == "ready" })
	laptop.byPhone(q, zoe)
	seq = laptop.last()
	ok(t, s.authority.Do(nil, "user", "remove", zoe, "--json"))
	laptop.event(seq, event.SyncApplied, "0 phones may approve")
	laptop.byCode(zoe)
}
