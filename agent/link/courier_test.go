package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/agent/loginsvc"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// challenge is one that a login makes.
func (c *computer) challenge() *push.Live {
	c.t.Helper()
	live, err := push.NewChallenge(push.Challenge{Device: deviceID, Name: "laptop", User: "maya", Service: "sshd"}, c.clock.Now(), time.Minute, 2)
	if err != nil {
		c.t.Fatal(err)
	}
	return live
}

var (
	rp    = push.RelyingParty{ID: goodSettings.RPID, Origin: goodSettings.Origin}
	phone = passkey.New(rp)
)

// sending is a login that waits for Send.
type sending struct {
	live *push.Live
	sent loginsvc.Sent
	err  error
	took time.Duration
	done chan struct{}
}

func (c *computer) send(live *push.Live) *sending { return c.sendUntil(context.Background(), live) }

func (c *computer) sendUntil(ctx context.Context, live *push.Live) *sending {
	s := &sending{live: live, done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(s.done)
		s.sent, s.err = c.link.Send(ctx, "maya", live, []push.Approver{phone.Approver("Maya's phone")})
		s.took = time.Since(began)
	}()
	return s
}

// untilTold is a context whose time is over when the test says so.
type untilTold struct {
	context.Context
	told chan struct{}
}

func (u untilTold) Done() <-chan struct{} { return u.told }

func (u untilTold) Err() error {
	select {
	case <-u.told:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// offline has the login ask for a code, and returns why.
func (s *sending) offline(t *testing.T) string {
	t.Helper()
	receive(t, s.done, "the end of Send")
	var refused *loginsvc.PushRefused
	if !errors.As(s.err, &refused) || refused.Reason != loginsvc.PushOffline {
		t.Fatalf("Send ended with %v", s.err)
	}
	return refused.Text
}

// inRealTime has the time run out for a login that hears nothing; a connection that
// is silent all that time is dead. Elsewhere nobody's time runs out: this machine may
// be slow.
func (c *computer) inRealTime() { c.link.probe, c.link.dead = probeTime, time.Millisecond }

// TestALoginWaits1500msForThePhones, to the moment: by a clock that the rest of this
// machine does not slow down.
func TestALoginWaits1500msForThePhones(t *testing.T) {
	for name, x := range map[string]struct {
		connected, alive bool
		ended            error // the connection
	}{
		"no connection comes about":               {},
		"the authority answers the probe":         {connected: true, alive: true},
		"the authority does not answer the probe": {connected: true, ended: errFrozen},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(Options{Clock: &fakeClock{now: clock.Instant{Wall: epoch, Boot: time.Hour, BootID: "a boot"}}})
				s := &session{l: l, wire: new(wire), out: make(chan *authorityv1.DeviceMessage, outLength)}
				s.ctx, s.cancel = context.WithCancelCause(t.Context())
				if x.connected {
					l.live = s
				}
				if x.alive {
					time.AfterFunc(deadAfter, func() { s.heard.Add(1) })
				}
				c := &computer{t: t, link: l, clock: l.o.Clock.(*fakeClock)}
				sent := c.send(c.challenge())
				if why := sent.offline(t); sent.took != 1500*time.Millisecond || why != errTooLate.Error() {
					t.Errorf("after %v: %s", sent.took, why)
				}
				if got := context.Cause(s.ctx); !errors.Is(got, x.ended) {
					t.Errorf("the connection was ended with %v, want %v", got, x.ended)
				}
			})
		})
	}
}

func (d *devStream) begin() *authorityv1.PushBegin {
	d.t.Helper()
	for {
		m := receive(d.t, d.in, "PushBegin")
		if b := m.GetPushBegin(); b != nil {
			return b
		}
	}
}

func (d *devStream) pushEnd() *authorityv1.PushEnd {
	d.t.Helper()
	m := receive(d.t, d.in, "PushEnd")
	if m.GetPushEnd() == nil {
		d.t.Fatalf("in the place of PushEnd came %v", m)
	}
	return m.GetPushEnd()
}

func (d *devStream) started(id, refused, phone string) {
	d.t.Helper()
	d.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_PushStarted{PushStarted: &authorityv1.PushStarted{Id: id, Refused: refused, Phone: phone}}})
}

func answerOf(id string, a push.Answer) *authorityv1.AuthorityMessage {
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_PushAnswer{PushAnswer: &authorityv1.PushAnswer{Id: id, Decision: string(a.Decision),
		CredentialId: a.CredentialID, AuthenticatorData: a.AuthenticatorData, ClientData: a.ClientData, Signature: a.Signature}}}
}

func TestAPhoneApproves(t *testing.T) {
	c, _, d := connected(t)
	s := c.send(c.challenge())
	b := d.begin()
	if b.GetUser() != "maya" || string(b.GetChallenge()) != string(s.live.Bytes) || b.GetResource() != "sshd" || len(b.GetCredentialIds()) != 1 || b.GetExpires().GetSeconds() != s.live.Challenge.Expires {
		t.Errorf("PushBegin is %v", b)
	}
	d.started(b.GetId(), "", "Maya's phone\x1b[31m")
	receive(t, s.done, "the end of Send")
	if s.err != nil || s.sent.Phone != "Maya's phone?[31m" {
		t.Fatalf("%q, %v", s.sent.Phone, s.err)
	}
	answer := phone.Answer(s.live.Bytes, push.Approve, s.live.Number)
	d.send(answerOf(b.GetId(), answer))
	got := receive(t, s.sent.Answers, "the answer")
	v := s.live.Verify(got, []push.Approver{phone.Approver("Maya's phone")}, nil, push.Rules{RelyingParty: rp}, c.clock.Now())
	if !v.OK {
		t.Errorf("the answer does not verify: %+v", v)
	}
	s.sent.End("approved")
	s.sent.End("approved") // once is enough
	if e := d.pushEnd(); e.GetId() != b.GetId() || e.GetOutcome() != "approved" {
		t.Errorf("PushEnd is %v", e)
	}
}

// TestAnswersOfAHostileAuthority: foreign, late, repeated, oversized, and many.
func TestAnswersOfAHostileAuthority(t *testing.T) {
	c, _, d := connected(t)
	s := c.send(c.challenge())
	id := d.begin().GetId()
	d.started(id, "", "phone")
	receive(t, s.done, "the end of Send")
	good := phone.Answer(s.live.Bytes, push.Deny, "")
	d.send(answerOf(c.challenge().Challenge.ID, good)) // foreign
	d.send(answerOf("", good))
	for _, change := range []func(*push.Answer){
		func(a *push.Answer) { a.Decision = "allow" },
		func(a *push.Answer) { a.Decision = "" },
		func(a *push.Answer) { a.CredentialID = make([]byte, 1025) },
		func(a *push.Answer) { a.AuthenticatorData = make([]byte, 1025) },
		func(a *push.Answer) { a.ClientData = make([]byte, 2049) },
		func(a *push.Answer) { a.Signature = make([]byte, 1025) },
	} {
		bad := good
		change(&bad)
		d.send(answerOf(id, bad))
	}
	d.send(answerOf(id, good))
	for range 100 { // the same again, and then different ones without end
		d.send(answerOf(id, good))
	}
	for i := range 100 {
		other := good
		other.Signature = fmt.Appendf(nil, "forged %d", i)
		d.send(answerOf(id, other))
	}
	last := c.send(c.challenge()) // the stream is alive: nothing of that blocked it
	d.started(d.begin().GetId(), "", "phone")
	receive(t, last.done, "the next push")
	if last.err != nil {
		t.Fatal(last.err)
	}
	if n := len(s.sent.Answers); n != maxAnswers {
		t.Errorf("%d answers wait, want %d", n, maxAnswers)
	}
	if a := <-s.sent.Answers; string(a.Signature) != string(good.Signature) || a.Decision != push.Deny {
		t.Error("the first is not the one that was well formed")
	}
	t.Log("late: the authority is told again that it is over")
	s.sent.End("denied")
	d.pushEnd()
	before := len(s.sent.Answers)
	late := good
	late.Signature = []byte("late")
	d.send(answerOf(id, late))
	if e := d.pushEnd(); e.GetId() != id || e.GetOutcome() != "denied" || len(s.sent.Answers) != before {
		t.Errorf("%v; %d answers", e, len(s.sent.Answers))
	}
}

func TestTheAuthoritysRefusalIsAReason(t *testing.T) {
	c, _, d := connected(t)
	for says, want := range map[string]push.Reason{
		"too_many_push_requests": push.TooMany, "Not A\nReason": "authority_refused", strings.Repeat("a", 65): "authority_refused",
	} {
		s := c.send(c.challenge())
		d.started(d.begin().GetId(), says, "")
		receive(t, s.done, "the end of Send")
		var refused *loginsvc.PushRefused
		if !errors.As(s.err, &refused) || refused.Reason != want {
			t.Errorf("%q: %v", says, s.err)
		}
	}
}

func TestWithoutAnAuthorityTheCodeComesAtOnce(t *testing.T) {
	c := newComputer(t)
	c.run()
	c.until("seen that there is none", func() bool { c.link.mu.Lock(); defer c.link.mu.Unlock(); return c.link.alone })
	s := c.send(c.challenge())
	if why := s.offline(t); why != errNotJoined.Error() {
		t.Errorf("it waited for an authority that is none: %s", why)
	}
	a := newAuthority(t, c.clock)
	c.join(a)
	a.stream()
	a.server.Stop()
	s = c.send(c.challenge())
	if why := s.offline(t); why == errTooLate.Error() {
		t.Error("it waited for an authority that takes no connections")
	}
}

// TestALoginMakesTheConnectionThatItNeeds: the next attempt would have been in
// five minutes.
func TestALoginMakesTheConnectionThatItNeeds(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.server.Stop()
	waiting := make(chan struct{}, 10)
	c.link.after = func(d time.Duration) <-chan time.Time {
		if d == minGap || d == coalesce {
			return time.After(d)
		}
		waiting <- struct{}{}
		return nil // for ever
	}
	c.run()
	receive(t, waiting, "the wait for the next attempt")
	a.listen(a.addr)
	s := c.send(c.challenge())
	d := a.stream()
	d.started(d.begin().GetId(), "", "phone")
	receive(t, s.done, "the end of Send")
	if s.err != nil {
		t.Fatal(s.err)
	}
}

// TestAFrozenLinkYieldsTheCodeWithin1500ms (link cut to downgrade, or a network
// that swallows packets): and the next login finds a new connection.
func TestAFrozenLinkYieldsTheCodeWithin1500ms(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	p := newProxy(t, a.addr)
	if err := c.link.Join(t.Context(), "uid:0", "https://"+p.addr, a.token().String(), "laptop"); err != nil {
		t.Fatal(err)
	}
	c.run()
	a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	p.freeze(false)
	c.inRealTime()
	s := c.send(c.challenge())
	if why := s.offline(t); why != errTooLate.Error() || s.took < probeTime {
		t.Errorf("it waited only %v: %s", s.took, why)
	}
	d := a.stream() // redialled at once, without another login
	if e := d.pushEnd(); e.GetId() != s.live.Challenge.ID || e.GetOutcome() != "cancelled" {
		t.Errorf("the authority, which may have got the challenge late, is told %v", e)
	}
	c.link.probe = patience
	next := c.send(c.challenge())
	d.started(d.begin().GetId(), "", "phone")
	receive(t, next.done, "the next login's push")
	if next.err != nil {
		t.Error(next.err)
	}
}

// TestABlackHoleYieldsTheCodeWithin1500ms: not even connections come about.
func TestABlackHoleYieldsTheCodeWithin1500ms(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	p := newProxy(t, a.addr)
	if err := c.link.Join(t.Context(), "uid:0", "https://"+p.addr, a.token().String(), "laptop"); err != nil {
		t.Fatal(err)
	}
	c.run()
	a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	p.freeze(true)
	c.inRealTime()
	c.send(c.challenge()).offline(t)
	c.send(c.challenge()).offline(t) // while the new connection hangs in its handshake
}

// TestASlowAuthorityIsNoDeadLink: it answers the probe. Were the link cut, every
// computer would connect anew to an authority that is overloaded.
func TestASlowAuthorityIsNoDeadLink(t *testing.T) {
	c, a, d := connected(t)
	c.link.dead = time.Millisecond
	c.link.mu.Lock()
	live := c.link.live
	c.link.mu.Unlock()
	before := live.heard.Load()
	late := untilTold{t.Context(), make(chan struct{})}
	s := c.sendUntil(late, c.challenge())
	id := d.begin().GetId()
	c.eventually("the answer to the probe", func() bool { return live.heard.Load() > before })
	close(late.told)
	s.offline(t)
	if e := d.pushEnd(); e.GetId() != id || e.GetOutcome() != "cancelled" {
		t.Errorf("%v", e)
	}
	d.started(id, "", "phone") // late: it is told that it is over
	if e := d.pushEnd(); e.GetId() != id || e.GetOutcome() != "cancelled" {
		t.Errorf("%v", e)
	}
	if a.count(&a.connects) != 1 || !c.link.State().Connected {
		t.Error("the link was cut")
	}
}

// TestAnAuthorityThatHangsIsLeft: TCP is alive, and nobody behind it. With several
// nodes the next connection may find another.
func TestAnAuthorityThatHangsIsLeft(t *testing.T) {
	c, a, d := connected(t)
	a.set(func() { a.stalled = true })
	c.link.dead = 0
	over := untilTold{t.Context(), make(chan struct{})}
	s := c.sendUntil(over, c.challenge())
	d.begin()
	close(over.told)
	s.offline(t)
	receive(t, d.finished, "the end of the stream")
	a.stream()
}

func TestALoginThatGoesAwayIsWithdrawn(t *testing.T) {
	c, _, d := connected(t)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := c.link.Send(ctx, "maya", c.challenge(), nil)
		failed <- err
	}()
	id := d.begin().GetId()
	cancel()
	if err := receive(t, failed, "the end of Send"); err == nil {
		t.Error("there is a push")
	}
	if e := d.pushEnd(); e.GetId() != id || e.GetOutcome() != "cancelled" {
		t.Errorf("%v", e)
	}
}

// TestAnAnswerComesAfterTheStreamBroke: the phone answered while there was none.
func TestAnAnswerComesAfterTheStreamBroke(t *testing.T) {
	c, a, d := connected(t)
	s := c.send(c.challenge())
	id := d.begin().GetId()
	d.started(id, "", "phone")
	receive(t, s.done, "the end of Send")
	d.end()
	d = a.stream()
	answer := phone.Answer(s.live.Bytes, push.Approve, s.live.Number)
	d.send(answerOf(id, answer))
	if got := receive(t, s.sent.Answers, "the answer"); string(got.Signature) != string(answer.Signature) {
		t.Error("another answer came")
	}
	t.Log("and the end reaches the authority after another break, too")
	d.end()
	c.until("not connected", func() bool { return !c.link.State().Connected || c.link.State().Connected })
	s.sent.End("approved")
	d = a.stream()
	if e := d.pushEnd(); e.GetId() != id || e.GetOutcome() != "approved" {
		t.Errorf("%v", e)
	}
}

func TestAStreamThatBreaksBeforeThePhonesRing(t *testing.T) {
	c, a, d := connected(t)
	s := c.send(c.challenge())
	id := d.begin().GetId()
	d.end()
	s.offline(t)
	if e := a.stream().pushEnd(); e.GetId() != id || e.GetOutcome() != "cancelled" {
		t.Errorf("%v", e)
	}
}

// TestManyLoginsAtOnce is for the race detector.
func TestManyLoginsAtOnce(t *testing.T) {
	c, _, d := connected(t)
	const n = 50
	var all []*sending
	for range n {
		all = append(all, c.send(c.challenge()))
	}
	for range n {
		b := d.begin()
		d.started(b.GetId(), "", "phone")
		d.send(answerOf(b.GetId(), push.Answer{Decision: push.Deny, Assertion: push.Assertion{CredentialID: []byte(b.GetId())}}))
	}
	for _, s := range all {
		receive(t, s.done, "the end of Send")
		if s.err != nil {
			t.Fatal(s.err)
		}
		if a := receive(t, s.sent.Answers, "the answer"); string(a.CredentialID) != s.live.Challenge.ID {
			t.Error("the answer is another login's")
		}
		s.sent.End("denied")
	}
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if len(c.link.pushes) != 0 {
		t.Errorf("%d are left", len(c.link.pushes))
	}
}
