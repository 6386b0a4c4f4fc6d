package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/loginsvc"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	// probeTime is how long a login waits to know whether phones ring.
	probeTime = 1500 * time.Millisecond
	// deadAfter is how long an authority that lives may be silent after a probe.
	deadAfter = time.Second
	// maxAnswers bounds the different answers of one challenge. The login takes
	// one; a hostile authority may send others before it.
	maxAnswers = 4
	// maxPushes bounds the challenges that wait.
	maxPushes = 1000
	// Bounds of an answer.
	maxField      = 1024
	maxClientData = 2048
)

// pending is a challenge that waits for its answer.
type pending struct {
	until   clock.Deadline
	started chan *authorityv1.PushStarted
	answers chan push.Answer
	seen    [][sha256.Size]byte
}

func noPush(why string) error { return &loginsvc.PushRefused{Reason: loginsvc.PushOffline, Text: why} }

// Send has the user's phones ring. It is loginsvc.Courier's.
func (l *Link) Send(ctx context.Context, user string, c *push.Live, approvers []push.Approver) (loginsvc.Sent, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.probe, errTooLate)
	defer cancel()
	id := c.Challenge.ID
	p := &pending{until: c.Until, started: make(chan *authorityv1.PushStarted, 1), answers: make(chan push.Answer, maxAnswers)}
	begin := &authorityv1.PushBegin{Id: id, User: user, Challenge: c.Bytes, Resource: c.Challenge.Service, Expires: timestamppb.New(time.Unix(c.Challenge.Expires, 0))}
	for _, a := range approvers[:min(len(approvers), 16)] {
		begin.CredentialIds = append(begin.CredentialIds, a.CredentialID)
	}
	if err := checkUser(user); err != nil {
		return loginsvc.Sent{}, noPush(err.Error())
	}
	s, err := l.await(ctx)
	if err != nil {
		return loginsvc.Sent{}, noPush(err.Error())
	}
	l.mu.Lock()
	l.prune()
	full := len(l.pushes) >= maxPushes
	if !full {
		l.pushes[id] = p
	}
	l.mu.Unlock()
	if full {
		return loginsvc.Sent{}, noPush("too many challenges wait for an answer")
	}
	heard, sent := s.heard.Load(), time.Now()
	var once sync.Once
	end := func(outcome string) {
		once.Do(func() {
			l.drop(id)
			l.deliver(id, &authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: id, Outcome: outcome}}}, c.Until)
		})
	}
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: begin}})
	// Answered at once by an authority that lives, however slow its database is.
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Probe{Probe: &authorityv1.Probe{Nonce: heard}}})
	select {
	case r := <-p.started:
		if r.GetRefused() != "" {
			l.drop(id)
			return loginsvc.Sent{}, &loginsvc.PushRefused{Reason: reason(r.GetRefused()), Text: "the authority rings no phone: " + string(reason(r.GetRefused()))}
		}
		phone := r.GetPhone()
		if phone != "" {
			phone = push.PhoneName(phone)
		}
		return loginsvc.Sent{Phone: phone, Answers: p.answers, End: end}, nil
	case <-s.ctx.Done():
		end("cancelled")
		return loginsvc.Sent{}, noPush("the connection broke")
	case <-ctx.Done():
		if ctx.Err() == context.DeadlineExceeded && s.heard.Load() == heard && time.Since(sent) >= l.dead {
			s.end(errFrozen) // and Run dials anew
		}
		end("cancelled")
		return loginsvc.Sent{}, noPush(context.Cause(ctx).Error())
	}
}

// drop forgets a challenge: its answers are late from now on.
func (l *Link) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pushes, id)
}

// reason is the authority's, if it has the shape of one.
func reason(text string) push.Reason {
	if len(text) > 64 || slices.ContainsFunc([]byte(text), func(c byte) bool { return (c < 'a' || c > 'z') && c != '_' }) {
		return "authority_refused"
	}
	return push.Reason(text)
}

// pushStarted takes the authority's word that phones ring. One that comes too
// late is told that it is over.
func (l *Link) pushStarted(s *session, m *authorityv1.PushStarted) {
	l.mu.Lock()
	p := l.pushes[m.GetId()]
	e, known := l.ends[m.GetId()]
	l.mu.Unlock()
	if p != nil {
		select {
		case p.started <- m:
		default:
		}
	} else if known && m.GetRefused() == "" {
		s.send(e.message)
	}
}

// pushAnswer passes an answer on to the login that waits for it, once. It is
// verified there.
func (l *Link) pushAnswer(s *session, m *authorityv1.PushAnswer) {
	a := push.Answer{Decision: push.Decision(m.GetDecision()), Assertion: push.Assertion{CredentialID: m.GetCredentialId(),
		AuthenticatorData: m.GetAuthenticatorData(), ClientData: m.GetClientData(), Signature: m.GetSignature()}}
	if err := checkAnswer(a); err != nil {
		if l.seldom("answer") {
			l.o.Log.Warn("an answer of the authority is dropped", "reason", err.Error())
		}
		return
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %x %x %x %x", a.Decision, a.CredentialID, a.AuthenticatorData, a.ClientData, a.Signature))
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pushes[m.GetId()]
	if p == nil {
		if e, ok := l.ends[m.GetId()]; ok {
			s.send(e.message)
		}
		return
	}
	if slices.Contains(p.seen, sum) || len(p.seen) == maxAnswers {
		return
	}
	p.seen = append(p.seen, sum)
	p.answers <- a // there is room: maxAnswers
}

func checkAnswer(a push.Answer) error {
	switch {
	case a.Decision != push.Approve && a.Decision != push.Deny && a.Decision != push.Report:
		return errors.New("it is neither approve, deny nor report")
	case len(a.CredentialID) > maxField, len(a.AuthenticatorData) > maxField, len(a.ClientData) > maxClientData, len(a.Signature) > maxField:
		return errors.New("it is too long")
	}
	return nil
}
