package hosttest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// script is the agent's side of one login.
type script func(*session)

// session is what a script acts on. Its methods end the script when the hook
// does something else than the script says.
type session struct {
	t      *testing.T
	stream loginv1.LoginService_ConverseServer
	begin  *loginv1.Begin
	err    error // what the stream ends with
}

var errScript = errors.New("the script failed")

// scripted is an agent behind the pipe that plays one script for each login, in
// their order.
type scripted struct {
	loginv1.UnimplementedLoginServiceServer
	t      *testing.T
	server *grpc.Server

	mu      sync.Mutex
	scripts []script
	asked   int
	running sync.WaitGroup
}

// agentPlays puts an agent behind the pipe. At the test's end each script must
// have been played to its end, and no more logins asked for.
func agentPlays(t *testing.T, scripts ...script) *scripted {
	t.Helper()
	need(t)
	a := newAgent(t, scripts...)
	a.serve(behindPipe(t))
	return a
}

func newAgent(t *testing.T, scripts ...script) *scripted {
	a := &scripted{t: t, server: grpc.NewServer(), scripts: scripts}
	loginv1.RegisterLoginServiceServer(a.server, a)
	return a
}

func (a *scripted) serve(l net.Listener) {
	t := a.t
	go a.server.Serve(l)
	t.Cleanup(func() {
		ended := make(chan struct{})
		// Who was answered is counted by now. That is known from another process, into
		// which the race detector does not see: to it, mu says so.
		a.mu.Lock()
		go func() { a.running.Wait(); close(ended) }()
		a.mu.Unlock()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("a script did not end")
		}
		a.server.Stop()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.asked != len(a.scripts) {
			t.Errorf("the agent was asked %d times, want %d", a.asked, len(a.scripts))
		}
	})
}

// behindPipe listens where the clients of the pipe arrive.
func behindPipe(t *testing.T) net.Listener {
	t.Helper()
	l := listen(t)
	startRelay(t, pipe, l, systems)
	return l
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// systems is the pipe of a service: the kernel says that it belongs to SYSTEM.
const systems = "O:SYG:SYD:P(A;;GA;;;SY)(A;;GA;;;BA)"

// startRelay returns when the pipe is there, and a function that kills it, as an
// agent that dies.
func startRelay(t *testing.T, pipe string, to net.Listener, sddl string) (kill func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := windows(t).Command(ctx, filepath.Join(dist, "relay.exe"), pipe, to.Addr().String(), sddl)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		said := bufio.NewReader(out)
		line, _ := said.ReadString('\n') // "" says enough
		first <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, said)
	}()
	kill = sync.OnceFunc(func() {
		cancel()
		// What is killed is the Linux program that started it. Its output ends once
		// Wine knows that the relay is dead, and the pipe's name is free again.
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the relay does not end")
		}
		_ = cmd.Wait() // killed: that is how it ends
	})
	t.Cleanup(kill)
	late := time.AfterFunc(patience, cancel)
	line := <-first
	if late.Stop(); line != "listens" {
		kill()
		t.Fatalf("the relay says %q", line)
	}
	return kill
}

// Converse implements the login service.
func (a *scripted) Converse(stream loginv1.LoginService_ConverseServer) error {
	a.mu.Lock()
	n := a.asked
	a.asked++
	if n < len(a.scripts) {
		a.running.Add(1)
	}
	a.mu.Unlock()
	if n >= len(a.scripts) {
		return status.Error(codes.Internal, "no script for this login")
	}
	defer a.running.Done()

	s := &session{t: a.t, stream: stream}
	defer func() {
		if r := recover(); r != nil && r != errScript {
			panic(r)
		}
	}()
	if s.begin = s.hears().GetBegin(); s.begin == nil {
		s.fail("the first message is no Begin")
	}
	a.scripts[n](s)
	return s.err
}

func (s *session) fail(format string, args ...any) {
	s.t.Errorf("agent: "+format, args...)
	panic(errScript)
}

func (s *session) hears() *loginv1.HookMessage {
	m, err := s.stream.Recv()
	if err != nil {
		s.fail("no message: %v", err)
	}
	return m
}

func (s *session) says(directives ...*loginv1.Directive) {
	for _, d := range directives {
		if err := s.stream.Send(d); err != nil {
			s.fail("sending: %v", err)
		}
	}
}

// hearsCode takes the answer to prompt id.
func (s *session) hearsCode(id uint32, want string) {
	m := s.hears()
	a := m.GetAnswer()
	if a == nil || a.PromptId != id || string(a.Text) != want || a.IsPassword {
		s.fail("heard %v, want %q for prompt %d", m, want, id)
	}
}

// hearsNoMore waits for the hook to give up: by a Cancel, which the end of the
// connection right behind it may overtake.
func (s *session) hearsNoMore() {
	m, err := s.stream.Recv()
	if err == nil && m.GetCancel() != nil {
		return
	}
	if err == nil || err != io.EOF && status.Code(err) != codes.Canceled {
		s.fail("the hook did not cancel: %v %v", m, err)
	}
}

func prompt(id uint32, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Prompt{Prompt: &loginv1.Prompt{Id: id, Echo: loginv1.Prompt_ECHO_VISIBLE, Text: []byte(text)}}}
}

func notice(kind loginv1.Notice_Kind, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Notice{Notice: &loginv1.Notice{Kind: kind, Text: []byte(text)}}}
}

func closePrompt(id uint32) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: id}}}
}

func verdict(d loginv1.Verdict_Decision, reason, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Verdict{Verdict: &loginv1.Verdict{Decision: d, Reason: []byte(reason), Text: []byte(text)}}}
}

func allow() *loginv1.Directive { return verdict(loginv1.Verdict_DECISION_ALLOW, "code_accepted", "") }
func skip() *loginv1.Directive  { return verdict(loginv1.Verdict_DECISION_SKIP, "not_asked", "") }
func deny(reason, text string) *loginv1.Directive {
	return verdict(loginv1.Verdict_DECISION_DENY, reason, text)
}
