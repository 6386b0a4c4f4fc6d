//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// As agent/link has them: a computer behaves here as one with the agent does.
const (
	pingEvery  = 30 * time.Second
	pingTime   = 15 * time.Second
	maxReceive = 512 << 10
	// firstWindow is within which a computer connects again; it doubles with each
	// failure in a row, up to maxWindow.
	firstWindow = time.Second
	maxWindow   = 5 * time.Minute
	// crowdFailures is how many failures a computer counts at once that lost a
	// connection which had held: so did all others.
	crowdFailures = 4
)

// sources is how many addresses of loopback the computers come from: one has
// only so many ports.
const sources = 32

// device is a computer that has joined. It pushes one login at a time.
type device struct {
	id      string
	target  string
	tls     *tls.Config
	source  net.IP
	clock   clock.Clock
	rp      push.RelyingParty
	vaultID string

	have map[string]*have // of what is signed, by kind and user

	conn *grpc.ClientConn
	end  context.CancelFunc
	send sync.Mutex
	seen func(kind organisation.Kind, size int) // is told of each signed item; with send held
	out  grpc.BidiStreamingClient[authorityv1.DeviceMessage, authorityv1.AuthorityMessage]
	in   chan *authorityv1.AuthorityMessage // about the login that it pushes
	gone chan struct{}                      // closed when the stream has ended
	why  error                              // then
}

type have = authorityv1.Have

// connect opens the stream and returns when the authority has said welcome.
func (d *device) connect(ctx context.Context) error {
	var err error
	dialer := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: d.source}, KeepAlive: -1}
	d.conn, err = grpc.NewClient("passthrough:///"+d.target,
		grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }),
		grpc.WithTransportCredentials(credentials.NewTLS(d.tls)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTime, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 10 * time.Second}),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithDisableHealthCheck(),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithStaticStreamWindowSize(maxReceive), grpc.WithStaticConnWindowSize(maxReceive),
		grpc.WithMaxHeaderListSize(16<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceive)),
	)
	if err != nil {
		return err
	}
	// The stream outlives the caller's deadline, and is ended by close.
	live, end := context.WithCancel(context.WithoutCancel(ctx))
	d.end = end
	fail := func(err error) error {
		d.end()
		return errors.Join(err, d.conn.Close())
	}
	stop := context.AfterFunc(ctx, d.end)
	defer stop()
	silent := time.AfterFunc(15*time.Second, d.end)
	defer silent.Stop()
	if d.out, err = authorityv1.NewAuthorityServiceClient(d.conn).Connect(live); err != nil {
		return fail(err)
	}
	hello := &authorityv1.Hello{ProtocolVersion: 1, Version: "bench", Platform: "linux/amd64", VaultId: d.vaultID, VaultGeneration: 1}
	for _, h := range d.have {
		hello.Have = append(hello.Have, h)
	}
	if err := d.tell(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Hello{Hello: hello}}); err != nil {
		_, err = d.out.Recv() // says why
		return fail(err)
	}
	m, err := d.out.Recv()
	if err != nil {
		return fail(err)
	}
	if m.GetWelcome() == nil {
		return fail(fmt.Errorf("the authority's first word is not a welcome: %v", m))
	}
	d.in, d.gone, d.why = make(chan *authorityv1.AuthorityMessage, 8), make(chan struct{}), nil
	go d.receive()
	return nil
}

func (d *device) tell(m *authorityv1.DeviceMessage) error {
	d.send.Lock()
	defer d.send.Unlock()
	return d.out.Send(m)
}

// receive takes what comes until the stream ends.
func (d *device) receive() {
	defer close(d.gone)
	for {
		m, err := d.out.Recv()
		if err != nil {
			d.why = err
			return
		}
		switch x := m.GetMessage().(type) {
		case *authorityv1.AuthorityMessage_Sync:
			if err := d.sync(x.Sync.GetEnvelope()); err != nil {
				d.why = err
				return
			}
		case *authorityv1.AuthorityMessage_Goodbye:
			d.why = errors.New("goodbye: " + x.Goodbye.GetReason())
			return
		default:
			select {
			case d.in <- m:
			default:
				d.why = errors.New("the authority sends what nobody asked for")
				return
			}
		}
	}
}

// keep remembers which version of a signed item came. The agent's own work with
// it is not measured here.
func (d *device) keep(envelope []byte) error {
	var e organisation.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return err
	}
	d.have[string(e.Kind)+" "+e.User] = &have{Kind: string(e.Kind), User: e.User, Version: e.Version}
	return nil
}

// watch has seen told of each signed item that comes from now on.
func (d *device) watch(seen func(kind organisation.Kind, size int)) {
	d.send.Lock()
	defer d.send.Unlock()
	d.seen = seen
}

// sync takes a signed item.
func (d *device) sync(envelope []byte) error {
	var e organisation.Envelope
	if err := errors.Join(d.keep(envelope), json.Unmarshal(envelope, &e)); err != nil {
		return err
	}
	d.send.Lock()
	if d.seen != nil {
		d.seen(e.Kind, len(envelope))
	}
	d.send.Unlock()
	return d.tell(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_SyncApplied{
		SyncApplied: &authorityv1.SyncApplied{Kind: string(e.Kind), User: e.User, Version: e.Version}}})
}

// hangUp ends the connection.
func (d *device) hangUp() {
	if d.conn == nil {
		return
	}
	d.end()
	_ = d.conn.Close() // it is over either way
	if d.gone != nil {
		<-d.gone
	}
	d.conn = nil
}

// about is the id of the login that a message is about.
func about(m *authorityv1.AuthorityMessage) string {
	if s := m.GetPushStarted(); s != nil {
		return s.GetId()
	}
	return m.GetPushAnswer().GetId()
}

// await is the next message about the login with that id.
func (d *device) await(ctx context.Context, id string) (*authorityv1.AuthorityMessage, error) {
	for {
		select {
		case m := <-d.in:
			if about(m) == id { // else of one that was given up
				return m, nil
			}
		case <-d.gone:
			return nil, fmt.Errorf("the stream ended: %w", d.why)
		case <-time.After(answerTime):
			return nil, fmt.Errorf("the authority said nothing about %s for %v", id, answerTime)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// answerTime is longer than the authority may take for anything.
const answerTime = 20 * time.Second

// errOverloaded: the authority had no time for a login, which a code opens then.
var errOverloaded = errors.New("the authority is overloaded")

// login pushes one login of the phone's user and has the phone approve it:
// begin, answer, verify, end. looks: the phone first fetches the list, as a page
// that was rung does.
func (d *device) login(ctx context.Context, p *person, looks bool) error {
	live, err := push.NewChallenge(push.Challenge{Device: d.id, Name: "bench", User: p.user, Service: "sshd", From: "192.0.2.1"}, d.clock.Now(), time.Minute, 2)
	if err != nil {
		return err
	}
	id := live.Challenge.ID
	err = d.tell(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushBegin{PushBegin: &authorityv1.PushBegin{
		Id: id, User: p.user, Challenge: live.Bytes, CredentialIds: [][]byte{p.Key.ID}, Resource: "sshd",
		Expires: timestamppb.New(time.Unix(live.Challenge.Expires, 0))}}})
	if err != nil {
		return err
	}
	m, err := d.await(ctx, id)
	if err != nil {
		return fmt.Errorf("beginning a push: %w", err)
	}
	end := func(outcome string) error {
		return d.tell(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_PushEnd{PushEnd: &authorityv1.PushEnd{Id: id, Outcome: outcome}}})
	}
	switch s := m.GetPushStarted(); {
	case s.GetRefused() == "authority_database_unavailable":
		return errOverloaded
	case s == nil || s.GetRefused() != "":
		return fmt.Errorf("the push did not start: %v", m)
	}
	challenge := live.Bytes
	if looks {
		open, err := p.Shown(ctx)
		if overloaded(err) {
			return errors.Join(errOverloaded, end("code"))
		}
		if err != nil {
			return err
		}
		if len(open) != 1 || open[0].ID != id {
			return fmt.Errorf("the phone is shown %d logins, not the one", len(open))
		}
		challenge = open[0].Challenge
	}
	if err := p.Post(ctx, id, p.Key.Answer(challenge, push.Approve, live.Number)); overloaded(err) {
		return errors.Join(errOverloaded, end("code"))
	} else if err != nil {
		return err
	}
	if m, err = d.await(ctx, id); err != nil {
		return fmt.Errorf("after the phone's answer was taken: %w", err)
	}
	a := m.GetPushAnswer()
	v := live.Verify(push.Answer{Decision: push.Decision(a.GetDecision()), Assertion: push.Assertion{CredentialID: a.GetCredentialId(),
		AuthenticatorData: a.GetAuthenticatorData(), ClientData: a.GetClientData(), Signature: a.GetSignature()}},
		[]push.Approver{p.Key.Approver("bench")}, nil, push.Rules{RelyingParty: d.rp, AllowSynced: true}, d.clock.Now())
	if !v.OK {
		return fmt.Errorf("the answer does not verify: %s %s", v.Reason, v.Detail)
	}
	return end("approved")
}

// upload sends n events, numbered from after on: logins, as an agent reports them.
func (d *device) upload(ctx context.Context, after, n int, user string) error {
	r := &authorityv1.UploadEventsRequest{VaultId: d.vaultID}
	for i := range n {
		b, err := json.Marshal(event.Event{Seq: uint64(after + i + 1), Time: time.Now().UTC(), Name: event.LoginAttempt, User: user, Key: "uid:1000", Hook: "pam",
			Service: "sshd", Scenario: "remote", Remote: "192.0.2.1", Session: "ssh", Verdict: "allow", Reason: "push_approved", Factor: "push", By: "uid:0"})
		if err != nil {
			return err
		}
		r.Events = append(r.Events, b)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	got, err := authorityv1.NewAuthorityServiceClient(d.conn).UploadEvents(ctx, r)
	if err == nil && got.GetLastSeq() != uint64(after+n) {
		err = fmt.Errorf("%d events were sent, and kept up to %d", after+n, got.GetLastSeq())
	}
	return err
}

// jitter is any time within a window.
func jitter(window time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(window))
}

// comeBack connects again as an agent does: after any time within a window that
// doubles with each failure. It returns how many attempts failed.
func (d *device) comeBack(ctx context.Context, window time.Duration) (failed int, err error) {
	for {
		select {
		case <-ctx.Done():
			return failed, context.Cause(ctx)
		case <-time.After(jitter(window)):
		}
		if err := d.connect(ctx); err == nil {
			return failed, nil
		} else if ctx.Err() != nil {
			return failed, errors.Join(context.Cause(ctx), err)
		}
		failed++
		window = min(2*window, maxWindow)
	}
}

// identity is the key that all computers here share: what it costs to keep one
// each is theirs, and not the authority's.
type identity struct {
	key *ecdsa.PrivateKey
	csr []byte
}

func newIdentity() (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return &identity{key, csr}, err
}

// each runs do for the indexes below n, at most `at` at once, and returns the
// first error.
func each(ctx context.Context, n, at int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(at, n) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
