package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/agent/store"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	protocolVersion = 1
	// outLength and syncLength bound what waits to be sent, and to be put in force.
	outLength  = maxEnds + 64
	syncLength = 16
	// maxUsers bounds the names in Welcome that are kept.
	maxUsers = 10000
	// renewRetry is how far apart renewals are, at the most; half of it at least.
	renewRetry = 2 * time.Hour
	// maxHave is how many items the authority takes in Hello. It sends the others
	// again, which does no harm.
	maxHave = 5000
)

// Why a session ended on this side.
var (
	errLeft     = errors.New("this computer left the authority")
	errFrozen   = errors.New("the connection had gone dead unnoticed")
	errReplaced = errors.New("the vault was replaced")
	errSilent   = errors.New("the authority takes connections and says nothing")
	errFull     = errors.New("the authority does not read what it is sent")
)

// session is one connection to the authority.
type session struct {
	l      *Link
	a      *store.Authority
	wire   *wire
	client authorityv1.AuthorityServiceClient
	ctx    context.Context
	cancel context.CancelCauseFunc
	out    chan *authorityv1.DeviceMessage
	syncs  chan []byte
	// welcomes are for keepContact.
	welcomes chan *authorityv1.Welcome
	heard    atomic.Uint64 // messages that came
	// takesReports is what the authority said at first.
	takesReports bool
}

type stream = grpc.BidiStreamingClient[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]

// end ends the session from this side, now.
func (s *session) end(why error) {
	s.cancel(why)
	s.wire.cut()
}

// send queues a message; false when the session has ended.
func (s *session) send(m *authorityv1.DeviceMessage) bool {
	select {
	case <-s.ctx.Done():
		return false
	case s.out <- m:
		return true
	default:
		s.end(errFull)
		return false
	}
}

// session connects, and returns when the connection has ended.
func (l *Link) session(parent context.Context, a *store.Authority) ending {
	own, err := certificate(a)
	if err != nil {
		return ending{err: fmt.Errorf("this computer's certificate: %w; leave and join again: sallyport leave", err), slow: true}
	}
	now := l.wall()
	if now.After(own.NotAfter.Add(renewLate)) {
		return ending{err: fmt.Errorf("this computer's certificate ended on %s and cannot be renewed any more; if its clock is right, leave and join again with a new token: sallyport leave, sallyport join",
			own.NotAfter.UTC().Format(time.DateOnly)), slow: true}
	}
	p, err := parseURL(a.URL)
	if err != nil {
		return ending{err: err, slow: true}
	}
	config, err := l.memberTLS(a, p)
	if err != nil {
		return ending{err: err, slow: true}
	}
	w, err := l.dial(p, config)
	if err != nil {
		return ending{err: err}
	}
	s := &session{l: l, a: a, wire: w, client: authorityv1.NewAuthorityServiceClient(w),
		out: make(chan *authorityv1.DeviceMessage, outLength), syncs: make(chan []byte, syncLength), welcomes: make(chan *authorityv1.Welcome, 1)}
	s.ctx, s.cancel = context.WithCancelCause(parent)
	var workers sync.WaitGroup
	l.enter(s)
	defer func() {
		l.exit(s)
		s.end(context.Canceled)
		_ = w.Close()
		workers.Wait()
	}()

	// Leave ends the session that it finds; this one it may not have found.
	if kept, _, err := l.joined(); err != nil || kept == nil || kept.DeviceID != a.DeviceID {
		return ending{again: true}
	}
	if now.After(own.NotAfter) { // it is good for nothing but its renewal
		if err := s.renew(s.ctx); err != nil {
			return s.failed(err)
		}
		return ending{again: true}
	}
	began := l.o.Clock.Now().Boot
	in, err := s.open()
	if err != nil {
		if status.Code(err) == codes.Unauthenticated && s.renew(s.ctx) == nil {
			// By the authority's clock it had ended. Not at once: it may say so again.
			return ending{err: errors.New("the authority wanted the certificate renewed, which is done")}
		}
		return s.failed(err)
	}
	workers.Go(func() { s.write(in) })
	workers.Go(s.applySyncs)
	workers.Go(s.upload)
	workers.Go(s.keepContact)
	workers.Go(s.report)
	workers.Go(func() { s.keepCertificate(a) })
	end := s.read(in)
	end.stable = l.o.Clock.Now().Boot-began >= stableAfter
	end.crowd = end.crowd || end.stable && !end.again
	return end
}

// enter makes the session the one that Leave ends.
func (l *Link) enter(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.alone = s, false
}

func (l *Link) exit(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == s {
		l.current = nil
	}
	if l.live == s {
		l.live = nil
		l.broadcast()
	}
}

// open says Hello and waits for Welcome.
func (s *session) open() (stream, error) {
	silent := time.AfterFunc(callTime, func() { s.end(errSilent) })
	defer silent.Stop()
	in, err := s.client.Connect(s.ctx)
	if err != nil {
		return nil, err
	}
	hello, err := s.hello()
	if err != nil {
		return nil, err
	}
	if err := in.Send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err // after io.EOF, Recv says why
	}
	m, err := in.Recv()
	if err != nil {
		return nil, err
	}
	if g := m.GetGoodbye(); g != nil {
		return nil, goodbye{g}
	}
	welcome := m.GetWelcome()
	if welcome == nil {
		return nil, errors.New("the authority does not speak this protocol: its first word is not a welcome")
	}
	s.takesReports = welcome.GetTakesReports()
	s.welcome(welcome)
	s.welcomes <- welcome
	return in, nil
}

// hello is what this computer has.
func (s *session) hello() (*authorityv1.Hello, error) {
	v, err := s.l.o.Store.Vault()
	if err != nil {
		return nil, err
	}
	i := v.Info()
	h := &authorityv1.Hello{ProtocolVersion: protocolVersion, Version: s.l.o.Version, Platform: s.l.o.Platform, VaultId: i.VaultID, VaultGeneration: i.Generation}
	err = v.View(func(tx *vault.Tx) error {
		return store.EachSigned(tx, func(kind organisation.Kind, user string, item store.Item) error {
			if len(h.Have) < maxHave {
				h.Have = append(h.Have, &authorityv1.Have{Kind: string(kind), User: user, Version: item.Version})
			}
			return nil
		})
	})
	return h, err
}

// welcome makes the session the live one, and says again what the authority may
// not have heard.
func (s *session) welcome(w *authorityv1.Welcome) {
	l, users := s.l, allowed(w)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != s || s.ctx.Err() != nil { // left meanwhile
		return
	}
	l.live, l.slow = s, false
	l.state.Connected, l.state.Since, l.state.LastError, l.state.Refused = true, l.o.Clock.Now().Wall, "", ""
	l.state.Users, l.state.HoldsKey, l.state.Version = users, w.GetHoldsOrganisationKey(), clean(w.GetVersion(), 64)
	l.prune()
	for _, e := range l.ends {
		s.send(e.message)
	}
	l.broadcast()
	l.o.Log.Info("connected to the authority", "authority", s.wire.place.String(), "version", clean(w.GetVersion(), 64))
}

// allowed are the users that the authority lists for this computer.
func allowed(w *authorityv1.Welcome) (users []string) {
	for _, u := range w.GetUsers() {
		if checkUser(u) == nil && len(users) < maxUsers {
			users = append(users, u)
		}
	}
	return users
}

// welcomeAgain takes what the authority says anew: who is allowed here has changed.
func (s *session) welcomeAgain(w *authorityv1.Welcome) {
	l, users := s.l, allowed(w)
	l.mu.Lock()
	if l.live == s {
		l.state.Users, l.state.HoldsKey = users, w.GetHoldsOrganisationKey()
	}
	l.mu.Unlock()
	select { // the newest counts: what comes next does not wait for the disk
	case <-s.welcomes:
	default:
	}
	s.welcomes <- w // read puts them there alone
}

// goodbye is the authority's last word.
type goodbye struct{ *authorityv1.Goodbye }

func (goodbye) Error() string { return "the authority said goodbye" }

// failed says how a session ended that an error ended.
func (s *session) failed(err error) ending {
	var bye goodbye
	if errors.As(err, &bye) {
		return s.farewell(bye.Goodbye)
	}
	switch cause := context.Cause(s.ctx); {
	case s.ctx.Err() == nil:
	case errors.Is(cause, errLeft), errors.Is(cause, errReplaced):
		return ending{again: true}
	case errors.Is(cause, errFrozen):
		return ending{err: fmt.Errorf("the authority at %s: %w", s.wire.place, cause), again: true}
	case errors.Is(cause, errSilent), errors.Is(cause, errFull):
		return ending{err: fmt.Errorf("the authority at %s: %w", s.wire.place, cause)}
	default:
		return ending{err: cause}
	}
	if _, ok := status.FromError(err); !ok && !errors.Is(err, io.EOF) {
		return ending{err: err} // ours: the vault, the clock
	}
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unavailable, "the stream ended")
	}
	switch status.Code(err) {
	case codes.PermissionDenied:
		return s.farewell(&authorityv1.Goodbye{Reason: "revoked", Text: status.Convert(err).Message()})
	case codes.NotFound:
		return s.farewell(&authorityv1.Goodbye{Reason: "unknown", Text: status.Convert(err).Message()})
	case codes.Unauthenticated:
		return ending{err: fmt.Errorf("the authority at %s does not take this computer's certificate any more (%s); leave and join again with a new token: sallyport leave, sallyport join",
			s.wire.place, clean(status.Convert(err).Message(), maxText)), slow: true}
	}
	return ending{err: s.wire.explain(err)}
}

// farewell is what to do when the authority ends the link on purpose.
func (s *session) farewell(g *authorityv1.Goodbye) ending {
	text := clean(g.GetText(), maxText)
	if text != "" {
		text = " (" + text + ")"
	}
	who := "the authority at " + s.wire.place.String()
	switch g.GetReason() {
	case "stopping":
		return ending{err: fmt.Errorf("%s is being stopped or restarted%s", who, text), crowd: true}
	case "revoked":
		return ending{refused: "revoked", slow: true,
			err: fmt.Errorf("%s has revoked this computer%s; if it is to be used again, leave and join with a new token: sallyport leave, sallyport join", who, text)}
	case "unknown":
		return ending{refused: "unknown", slow: true,
			err: fmt.Errorf("%s does not know this computer%s: was it restored from a backup? Leave and join with a new token: sallyport leave, sallyport join", who, text)}
	case "vault_rolled_back":
		return ending{refused: "vault_rolled_back", slow: true,
			err: fmt.Errorf("%s knows a later state of this computer's vault%s: it was restored or copied; if that was on purpose, leave and join with a new token: sallyport leave, sallyport join", who, text)}
	case "version":
		return ending{refused: "version", slow: true, err: fmt.Errorf("%s does not take this agent%s", who, text)}
	case "replaced":
		return ending{refused: "replaced",
			err: fmt.Errorf("%s has another connection with this computer's certificate%s: was the computer cloned?", who, text)}
	}
	return ending{err: fmt.Errorf("%s ended the connection: %s%s", who, clean(g.GetReason(), 64), text)}
}

// write sends what is queued.
func (s *session) write(in stream) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case m := <-s.out:
			if err := in.Send(m); err != nil {
				return // read learns why
			}
		}
	}
}

// read takes what comes until the stream ends.
func (s *session) read(in stream) ending {
	for {
		m, err := in.Recv()
		if err != nil {
			return s.failed(err)
		}
		s.heard.Add(1)
		switch m := m.GetMessage().(type) {
		case *authorityv1.AuthorityMessage_PushStarted:
			s.l.pushStarted(s, m.PushStarted)
		case *authorityv1.AuthorityMessage_PushAnswer:
			s.l.pushAnswer(s, m.PushAnswer)
		case *authorityv1.AuthorityMessage_EnrolmentStarted:
			s.l.enrolmentStarted(m.EnrolmentStarted)
		case *authorityv1.AuthorityMessage_EnrolmentKey:
			s.l.enrolmentKey(s, m.EnrolmentKey)
		case *authorityv1.AuthorityMessage_Sync:
			select {
			case s.syncs <- m.Sync.GetEnvelope():
			case <-s.ctx.Done():
			}
		case *authorityv1.AuthorityMessage_Welcome:
			s.welcomeAgain(m.Welcome)
		case *authorityv1.AuthorityMessage_Goodbye:
			return s.farewell(m.Goodbye)
		default: // ProbeReply: that it came is what counts. Others: a later version's
		}
	}
}

// keepCertificate renews it when it is time. The stream goes on with the one it
// was opened with.
func (s *session) keepCertificate(a *store.Authority) {
	for {
		own, err := certificate(a)
		if err != nil {
			return // session said so
		}
		// A suspended computer's timers stand still: look again now and then.
		wait := min(renewAt(own).Sub(s.l.wall()), 12*time.Hour)
		if wait > 0 {
			select {
			case <-s.ctx.Done():
				return
			case <-s.l.after(wait):
			}
			if s.l.wall().Before(renewAt(own)) {
				continue
			}
		}
		if err := s.renew(s.ctx); err != nil {
			if s.ctx.Err() != nil {
				return
			}
			s.l.o.Log.Warn("this computer's certificate could not be renewed; it is tried again", "ends", own.NotAfter, "error", s.wire.explain(err))
		}
		// Also behind a success: by a clock that is ahead the new one is due at once.
		select {
		case <-s.ctx.Done():
			return
		case <-s.l.after(renewRetry/2 + s.l.jitter(renewRetry/2)):
		}
		fresh, _, err := s.l.joined()
		if err != nil || fresh == nil {
			s.end(errReplaced)
			return
		}
		a = fresh
	}
}
