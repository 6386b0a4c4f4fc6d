package pamtest

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// agent is a gRPC server that plays one script for each login, in their order.
type agent struct {
	loginv1.UnimplementedLoginServiceServer
	t      *testing.T
	socket string
	server *grpc.Server
	over   sync.Once

	mu      sync.Mutex
	scripts []script
	asked   int
	running sync.WaitGroup
}

// script is the agent's side of one login.
type script func(s *session)

// session is what a script acts on. Its methods end the script when the hook
// does something else than the script says.
type session struct {
	t      *testing.T
	stream loginv1.LoginService_ConverseServer
	begin  *loginv1.Begin
	err    error // what the stream ends with
}

type scriptFailed struct{}

// openDir is a directory with a short path, into which every user may look: a
// socket's path has at most 107 bytes, and t.TempDir is longer in a subtest and
// closed to others.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(openDir(t), "login.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// startAgent starts an agent. At the test's end each script must have been
// played to its end, and no more logins asked for.
func startAgent(t *testing.T, scripts ...script) *agent {
	t.Helper()
	l := listen(t)
	a := &agent{t: t, socket: l.Addr().String(), server: grpc.NewServer(), scripts: scripts}
	loginv1.RegisterLoginServiceServer(a.server, a)
	go a.server.Serve(l)
	t.Cleanup(a.stop)
	return a
}

func (a *agent) stop() {
	a.over.Do(func() {
		// Who was answered is counted by now. That is known from the module, into which
		// the race detector does not see: to it, mu says so.
		a.mu.Lock()
		a.running.Wait()
		a.mu.Unlock()
		a.server.Stop()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.asked != len(a.scripts) {
			a.t.Errorf("the agent was asked %d times, want %d", a.asked, len(a.scripts))
		}
	})
}

func (a *agent) Converse(stream loginv1.LoginService_ConverseServer) error {
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
	func() {
		defer func() {
			if r := recover(); r != nil && r != (scriptFailed{}) {
				panic(r)
			}
		}()
		if s.begin = s.hears().GetBegin(); s.begin == nil {
			s.fail("the first message is no Begin")
		}
		a.scripts[n](s)
	}()
	return s.err
}

func (s *session) fail(format string, args ...any) {
	s.t.Errorf("agent: "+format, args...)
	panic(scriptFailed{})
}

func (s *session) hears() *loginv1.HookMessage {
	m, err := s.stream.Recv()
	if err != nil {
		s.fail("no message: %v", err)
	}
	return m
}

func (s *session) says(d *loginv1.Directive) {
	if err := s.stream.Send(d); err != nil {
		s.fail("sending: %v", err)
	}
}

func prompt(id uint32, echo loginv1.Prompt_Echo, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Prompt{Prompt: &loginv1.Prompt{Id: id, Echo: echo, Text: []byte(text)}}}
}

func notice(kind loginv1.Notice_Kind, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Notice{Notice: &loginv1.Notice{Kind: kind, Text: []byte(text)}}}
}

func waiting(number uint32, device string, expires time.Duration) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Waiting{Waiting: &loginv1.Waiting{
		Number: number, Device: []byte(device), ExpiresInMs: uint32(expires.Milliseconds())}}}
}

func verdict(d loginv1.Verdict_Decision, reason, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Verdict{Verdict: &loginv1.Verdict{
		Decision: d, Reason: []byte(reason), Text: []byte(text)}}}
}

func allow() *loginv1.Directive { return verdict(loginv1.Verdict_DECISION_ALLOW, "totp", "") }
func skip() *loginv1.Directive  { return verdict(loginv1.Verdict_DECISION_SKIP, "not_enrolled", "") }
func deny() *loginv1.Directive  { return verdict(loginv1.Verdict_DECISION_DENY, "wrong_code", "") }

// asksForCode prompts for a code, visibly.
func (s *session) asksForCode(id uint32) {
	s.says(prompt(id, loginv1.Prompt_ECHO_VISIBLE, "Code: "))
}

// hearsAnswer takes the answer to prompt id.
func (s *session) hearsAnswer(id uint32) *loginv1.Answer {
	a := s.hears().GetAnswer()
	if a == nil || a.PromptId != id {
		s.fail("no answer to prompt %d: %v", id, a)
	}
	return a
}

func (s *session) hearsCode(id uint32, want string) {
	if a := s.hearsAnswer(id); string(a.Text) != want || a.IsPassword {
		s.fail("answer %q (password: %v), want %q", a.Text, a.IsPassword, want)
	}
}

// hearsNoMore waits for the hook to give up: by a Cancel, which the end of the
// connection right behind it may overtake.
func (s *session) hearsNoMore() {
	m, err := s.stream.Recv()
	if err == nil && m.GetCancel() != nil {
		return
	}
	if err == nil || (err != io.EOF && status.Code(err) != codes.Canceled) {
		s.fail("the hook did not cancel: %v %v", m, err)
	}
}

// says plays one directive and ends.
func says(d *loginv1.Directive) script { return func(s *session) { s.says(d) } }

// codeThen asks for the code 123456 and answers with d.
func codeThen(d *loginv1.Directive) script {
	return func(s *session) {
		s.asksForCode(1)
		s.hearsCode(1, "123456")
		s.says(d)
	}
}

// runPeer is an agent in a process of its own, for tests that stop it. It says
// on its standard output when it listens and when a login has begun.
func runPeer(socket string) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := grpc.NewServer()
	loginv1.RegisterLoginServiceServer(server, peer{})
	fmt.Println("listens")
	server.Serve(l)
}

type peer struct {
	loginv1.UnimplementedLoginServiceServer
}

// Converse asks for a code and allows whoever answers.
func (peer) Converse(stream loginv1.LoginService_ConverseServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(prompt(1, loginv1.Prompt_ECHO_VISIBLE, "Code: ")); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return stream.Send(allow())
}
