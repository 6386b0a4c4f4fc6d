//go:build linux

package plugintest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// notVerdict is the end of a login without the agent's word: the window tells, the
// button leads back, and the log names the agent.
func (l *login) notVerdict(told string) {
	l.t.Helper()
	l.isTold(told)
	l.types("")
	l.isOut()
	l.log.says(l.t, "agent")
}

func TestAgentNotRunning(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		l := b.start(t, t.TempDir(), options{}).login(t, newAccount(t, "u"), atLogin).runs()
		l.notVerdict("Sallyport is not running on this computer")
		l.went(refused)
	})
}

// The agent is being updated: a login waits for it, for a moment. That is shorter than an
// agent takes to start on a busy machine, so here only its socket comes.
func TestAgentComesUpMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		at := ownAgent(t)
		p := enrolled(t, at)
		must(t, os.Rename(at.Socket(), at.Socket()+".away"))
		l := b.start(t, sockets(at), options{}).login(t, p.account, atLogin).runs()
		time.Sleep(300 * time.Millisecond) // for longer than between two tries of the plug-in's
		must(t, os.Rename(at.Socket()+".away", at.Socket()))
		l.isAsked(codePrompt)
		l.types(p.phone.Next())
		l.isIn()
	})
}

func TestAgentKilledMidLogin(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		at := ownAgent(t)
		p := enrolled(t, at)
		s := b.start(t, sockets(at), options{})
		l := s.login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		must(t, at.Kill())
		code := p.phone.Peek()
		l.types(code)
		l.notVerdict("Sallyport")
		l.closes()
		must(t, at.Start())
		l = s.login(t, p.account, atLogin).runs() // nothing opened, and the code is as good as ever
		l.isAsked(codePrompt)
		l.types(p.phone.Next())
		l.isIn()
	})
}

// SIGSTOP: it has the connection and says nothing, before and after the answer.
func TestAgentHangs(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		at := ownAgent(t)
		p := enrolled(t, at)
		s := b.start(t, sockets(at), options{})
		l := s.login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		must(t, at.Signal(syscall.SIGSTOP))
		defer at.Signal(syscall.SIGCONT)
		other := s.login(t, p.account, atLogin).runs()
		l.types(p.phone.Next())
		l.notVerdict("Sallyport does not answer")
		other.notVerdict("Sallyport")
	})
}

// listen makes a socket where the plug-in looks for the agent's.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "login.sock"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l, dir
}

// Whatever listens there and is no agent lets nobody in.
func TestGarbage(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for name, send := range map[string]string{
			"noise":           strings.Repeat("\x93\x00\xfe\x07garbage", 5000),
			"zeros":           strings.Repeat("\x00", 4096),
			"HTTP/1":          "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 0\r\n\r\n",
			"an SSH banner":   "SSH-2.0-OpenSSH_9.2\r\n",
			"its own preface": http2.ClientPreface,
			"closed at once":  "",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				socket, dir := listen(t)
				go func() {
					for {
						c, err := socket.Accept()
						if err != nil {
							return
						}
						go func() {
							defer c.Close()
							io.WriteString(c, send)
							if send != "" {
								io.Copy(io.Discard, c)
							}
						}()
					}
				}()
				l := b.start(t, dir, options{}).login(t, newAccount(t, "u"), atLogin).runs()
				l.notVerdict("Sallyport")
				l.went(refused)
			})
		}
	})
}

// scripted is an agent that plays a script at every login.
type scripted struct {
	loginv1.UnimplementedLoginServiceServer
	play func(s loginv1.LoginService_ConverseServer) error
}

func (a *scripted) Converse(s loginv1.LoginService_ConverseServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return a.play(s)
}

// plays starts one, and returns the directory of its socket.
func plays(t *testing.T, play func(s loginv1.LoginService_ConverseServer) error) string {
	t.Helper()
	socket, dir := listen(t)
	server := grpc.NewServer()
	loginv1.RegisterLoginServiceServer(server, &scripted{play: play})
	go server.Serve(socket)
	t.Cleanup(server.Stop)
	return dir
}

func asks(id uint32, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Prompt{Prompt: &loginv1.Prompt{Id: id, Text: []byte(text)}}}
}

func rings() *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Waiting{Waiting: &loginv1.Waiting{Number: 42, Device: []byte("Pixel"), ExpiresInMs: 60_000}}}
}

func decides(d loginv1.Verdict_Decision, reason string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Verdict{Verdict: &loginv1.Verdict{Decision: d, Reason: []byte(reason), Text: []byte("That code is not right.")}}}
}

// says sends directives, and then the verdict's end of the stream.
func says(list ...*loginv1.Directive) func(s loginv1.LoginService_ConverseServer) error {
	return func(s loginv1.LoginService_ConverseServer) error {
		for _, d := range list {
			if err := s.Send(d); err != nil {
				return err
			}
		}
		return nil
	}
}

// A verdict that is none denies: zero above all (PEERS: zero-valued success).
func TestVerdictsThatAreNone(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for name, play := range map[string]func(s loginv1.LoginService_ConverseServer) error{
			"zero":            says(decides(0, "totp")),
			"unknown":         says(decides(7, "totp")),
			"negative":        says(decides(-1, "totp")),
			"nothing":         says(),
			"only a notice":   says(&loginv1.Directive{Directive: &loginv1.Directive_Notice{Notice: &loginv1.Notice{Text: []byte("Welcome")}}}),
			"empty directive": says(&loginv1.Directive{}),
			"denied":          says(decides(loginv1.Verdict_DECISION_DENY, "locked")),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := b.start(t, plays(t, play), options{}).login(t, newAccount(t, "u"), atLogin).runs()
				l.isTold("")
				l.types("")
				l.isOut()
				l.went(refused)
			})
		}
	})
}

// An agent that asks for ever: the person's time is bounded, and every window can be left.
func TestAgentThatAsksForEver(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		dir := plays(t, func(s loginv1.LoginService_ConverseServer) error {
			for id := uint32(1); ; id++ {
				if err := s.Send(asks(id, "Again")); err != nil {
					return err
				}
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		})
		l := b.start(t, dir, options{}).login(t, newAccount(t, "u"), atLogin).runs()
		for range 30 {
			l.isAsked("Again")
			l.types("123456")
		}
		l.isAsked("Again")
		l.cancels()
		l.isOut()
	})
}

// What the agent has to say may be hostile: it is shown as text, at its length.
func TestHostileTexts(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, text := range []string{"\xff\xfe\x00\x1b[2J%s%n", strings.Repeat("é", 256), strings.Repeat("x", 512), "\u202emoc"} {
			dir := plays(t, says(rings(), asks(1, text)))
			l := b.start(t, dir, options{}).login(t, newAccount(t, "u"), atLogin).runs()
			for f := l.until("shown", "ended"); f[0] != "ended"; f = l.until("shown", "ended") {
				if strings.ContainsAny(l.shown.text, "\x00\x1b") || !utf8.ValidString(l.shown.text) {
					t.Errorf("shown: %q", l.shown.text)
				}
				if l.shown.kind == "tell" {
					l.cancels()
				}
			}
		}
	})
}
