// Package hook is a hook in software, for tests: one login through an agent's login
// socket, as a program of this process's uid makes it.
package hook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Request is who wants in.
type Request struct {
	User    string
	Service string // "" = sshd
	From    string // remote host; "" = 192.0.2.7
}

// Login is one that is under way.
type Login struct {
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	stream loginv1.LoginService_ConverseClient
	said   chan *loginv1.Directive
	err    error // of the stream; valid once said is closed

	waiting *loginv1.Waiting
	prompt  uint32
}

// Asked is a prompt as the person sees it.
type Asked struct {
	Number string // to type on the phone; "" = only a code is asked for
	Phone  string // that rings
	Text   string
}

// Verdict is how a login ended.
type Verdict struct {
	In     bool
	Reason string
	Text   string
}

// ErrVerdict: the login ended, where a prompt was expected.
var ErrVerdict = errors.New("hook: the login ended")

// Begin begins a login. Close ends it.
func Begin(ctx context.Context, socket string, r Request) (*Login, error) {
	if r.Service == "" {
		r.Service = "sshd"
	}
	if r.From == "" {
		r.From = "192.0.2.7"
	}
	conn, err := grpc.NewClient("passthrough:///"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Login{conn: conn, cancel: cancel, said: make(chan *loginv1.Directive, 16)}
	if l.stream, err = loginv1.NewLoginServiceClient(conn).Converse(ctx); err == nil {
		err = l.stream.Send(&loginv1.HookMessage{Message: &loginv1.HookMessage_Begin{Begin: &loginv1.Begin{
			ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_REMOTE, Stage: loginv1.Stage_STAGE_AUTHENTICATE,
			User: []byte(r.User), Service: []byte(r.Service), RemoteHost: []byte(r.From),
			Capabilities: &loginv1.Capabilities{LiveNotices: true, CancelPrompt: true}}}})
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	go func() {
		defer close(l.said)
		for {
			d, err := l.stream.Recv()
			if err != nil {
				l.err = err
				return
			}
			select {
			case l.said <- d:
			case <-ctx.Done():
				l.err = ctx.Err()
				return
			}
		}
	}()
	return l, nil
}

// Close takes the hook away, in the middle of the login if it has not ended.
func (l *Login) Close() {
	l.cancel()
	_ = l.conn.Close() // the login is over either way
}

// next is the next directive.
func (l *Login) next(deadline <-chan time.Time) (*loginv1.Directive, error) {
	select {
	case d, ok := <-l.said:
		if !ok {
			return nil, fmt.Errorf("hook: the agent went away: %w", l.err)
		}
		return d, nil
	case <-deadline:
		return nil, errors.New("hook: the agent says nothing")
	}
}

// Prompt waits for the next prompt.
func (l *Login) Prompt(within time.Duration) (Asked, error) {
	deadline := time.After(within)
	for {
		d, err := l.next(deadline)
		if err != nil {
			return Asked{}, err
		}
		switch d := d.GetDirective().(type) {
		case *loginv1.Directive_Waiting:
			l.waiting = d.Waiting
		case *loginv1.Directive_Prompt:
			a := Asked{Text: string(d.Prompt.GetText())}
			l.prompt = d.Prompt.GetId()
			if w := l.waiting; w != nil {
				a.Number, a.Phone, l.waiting = fmt.Sprint(w.GetNumber()), string(w.GetDevice()), nil
			}
			return a, nil
		case *loginv1.Directive_Verdict:
			return Asked{}, fmt.Errorf("%w: %v", ErrVerdict, d.Verdict)
		}
	}
}

// Type answers the last prompt.
func (l *Login) Type(text string) error {
	return l.stream.Send(&loginv1.HookMessage{Message: &loginv1.HookMessage_Answer{Answer: &loginv1.Answer{PromptId: l.prompt, Text: []byte(text)}}})
}

// Verdict waits for the end of the login, whatever is asked meanwhile.
func (l *Login) Verdict(within time.Duration) (Verdict, error) {
	deadline := time.After(within)
	for {
		d, err := l.next(deadline)
		if err != nil {
			return Verdict{}, err
		}
		switch d := d.GetDirective().(type) {
		case *loginv1.Directive_Prompt:
			l.prompt = d.Prompt.GetId()
		case *loginv1.Directive_Verdict:
			v := d.Verdict
			return Verdict{v.GetDecision() == loginv1.Verdict_DECISION_ALLOW, string(v.GetReason()), string(v.GetText())}, nil
		}
	}
}
