//go:build linux

package agenttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sallyport/internal/event"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// preface opens an HTTP/2 connection: RFC 9113, 3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frame is an HTTP/2 frame: RFC 9113, 4.1.
func frame(kind, flags byte, streamID byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, streamID}) + payload
}

// noise is what may come in at a socket instead of gRPC.
func noise(t *testing.T) map[string]string {
	random := make([]byte, 64<<10)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	settings := frame(4, 0, 0, "")
	return map[string]string{
		"nothing":                  "",
		"one byte":                 "P",
		"half a preface":           preface[:12],
		"random bytes":             string(random),
		"zeros":                    string(make([]byte, 1<<20)),
		"HTTP/1":                   "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"TLS":                      "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
		"preface and noise":        preface + string(random),
		"preface and silence":      preface,
		"settings and silence":     preface + settings,
		"a frame that never ends":  preface + settings + "\xff\xff\xff\x01\x04\x00\x00\x00\x01abc",
		"headers without end":      preface + settings + frame(1, 0, 1, "\x82"),
		"endless continuation":     preface + settings + frame(1, 0, 1, "\x82") + strings.Repeat(frame(9, 0, 1, "\x82"), 5000),
		"data without a stream":    preface + settings + frame(0, 0, 1, "abc"),
		"ten thousand pings":       preface + settings + strings.Repeat(frame(6, 0, 0, "12345678"), 10000),
		"rapid reset":              preface + settings + strings.Repeat(frame(1, 4, 1, "\x82\x84\x86")+frame(3, 0, 1, "\x00\x00\x00\x08"), 2000),
		"a window of zero":         preface + frame(4, 0, 0, "\x00\x04\x00\x00\x00\x00"),
		"settings of a wrong size": preface + frame(4, 0, 0, "abc"),
	}
}

// What a connection says that is not gRPC, or stops saying halfway, ends that
// connection at most. Meanwhile everybody else logs in.
func TestNoiseOnTheSocketsHurtsNobody(t *testing.T) {
	need(t)
	a := startAgent(t, `admin_group = "users"`) // so that others may connect there too
	u, phone := a.enrolled()
	other, otherPhone := a.enrolled()
	var held []net.Conn
	for name, text := range noise(t) {
		for _, sock := range []string{loginSock, adminSock} {
			for _, uid := range []uint32{0, other.uid} {
				conn, err := dialAs(a.socket(sock), uid)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				held = append(held, conn)
				// The agent may hang up in the middle of it, or not read it.
				if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, text)
			}
		}
		want(t, a.login(0, begin(u.name), phone.wrong(t)), deny, "")
	}
	a.cli(nil, "unlock", u.name)
	want(t, a.as(u, phone.code(t, 0)), allow, "")
	a.wantStatus(0, "")
	for _, conn := range held {
		conn.Close()
	}
	a.eventually("the noisy user may log in again", func() bool {
		return a.login(other.uid, begin(other.name), otherPhone.code(t, 0)).decision == allow
	})
	a.wantStatus(0, "")
}

// A connection that is opened and says nothing is closed after a while.
func TestSilentConnectionsAreClosed(t *testing.T) {
	need(t)
	a := startAgent(t)
	u := newUser(t)
	for name, text := range map[string]string{"nothing": "", "half a preface": preface[:10], "preface": preface} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := dialAs(a.socket(loginSock), u.uid)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			// The agent speaks first (its SETTINGS), and then hangs up.
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("still open")
			}
		})
	}
}

// What is not a login by the rules of the wire is denied, even for a user whom
// policy exempts; and nothing of what it said is repeated.
func TestMalformedLoginsAreDenied(t *testing.T) {
	need(t)
	s := newSite(t).open()
	good := func(f func(*loginv1.Begin)) *loginv1.Begin { return begin(s.exempt.name, f) }
	long := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	for name, messages := range map[string][]any{
		"nothing in it":         {nil},
		"an empty Begin":        {&loginv1.Begin{}},
		"Answer first":          {&loginv1.Answer{PromptId: 1, Text: []byte("123456")}},
		"Cancel first":          {&loginv1.Cancel{}},
		"protocol version 0":    {good(func(b *loginv1.Begin) { b.ProtocolVersion = 0 })},
		"protocol version 2":    {good(func(b *loginv1.Begin) { b.ProtocolVersion = 2 })},
		"protocol version high": {good(func(b *loginv1.Begin) { b.ProtocolVersion = 1 << 31 })},
		"no hook":               {good(func(b *loginv1.Begin) { b.Hook = 0 })},
		"unknown hook":          {good(func(b *loginv1.Begin) { b.Hook = 99 })},
		"negative hook":         {good(func(b *loginv1.Begin) { b.Hook = -1 })},
		"no scenario":           {good(func(b *loginv1.Begin) { b.Scenario = 0 })},
		"unknown scenario":      {good(func(b *loginv1.Begin) { b.Scenario = 99 })},
		"no stage":              {good(func(b *loginv1.Begin) { b.Stage = 0 })},
		"unknown stage":         {good(func(b *loginv1.Begin) { b.Stage = 99 })},
		"no user":               {good(func(b *loginv1.Begin) { b.User = nil })},
		"long user":             {good(func(b *loginv1.Begin) { b.User = long(1025) })},
		"long caller":           {good(func(b *loginv1.Begin) { b.Caller = long(321) })},
		"long service":          {good(func(b *loginv1.Begin) { b.Service = long(129) })},
		"long remote host":      {good(func(b *loginv1.Begin) { b.RemoteHost = long(256) })},
		"long session":          {good(func(b *loginv1.Begin) { b.Session = long(129) })},
		"long locale":           {good(func(b *loginv1.Begin) { b.Locale = long(33) })},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := s.agent.open(0)
			if err != nil {
				t.Fatal(err)
			}
			defer st.close()
			for _, m := range messages {
				if err := st.tell(m); err != nil {
					t.Fatal(err)
				}
			}
			var r result
			if p := st.until(&r); p != nil {
				t.Fatalf("asked %q", p.GetText())
			}
			want(t, r, deny, "protocol_error")
		})
	}
	s.wantLog("install both from the same package") // what to do about another version
	if strings.Contains(s.log.String(), "xxxx") {
		t.Error("the log repeats what a hook sent")
	}
	s.well()
}

func TestMalformedConversationsAreDenied(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	code := []byte(phone.code(t, 0))
	for name, m := range map[string]any{
		"answer to prompt 0":         &loginv1.Answer{PromptId: 0, Text: code},
		"answer to the next prompt":  &loginv1.Answer{PromptId: 2, Text: code},
		"answer to no prompt at all": &loginv1.Answer{PromptId: 1 << 31, Text: code},
		"a second Begin":             begin(u.name),
		"nothing in it":              nil,
		"an answer over the bound":   &loginv1.Answer{PromptId: 1, Text: bytes.Repeat(code, 22)},
	} {
		t.Run(name, func(t *testing.T) {
			st, _ := a.ask(0, begin(u.name))
			defer st.close()
			if err := st.tell(m); err != nil {
				t.Fatal(err)
			}
			var r result
			st.until(&r)
			want(t, r, deny, "protocol_error")
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		st, _ := a.ask(0, begin(u.name))
		defer st.close()
		if err := st.tell(&loginv1.Cancel{}); err != nil {
			t.Fatal(err)
		}
		var r result
		st.until(&r)
		want(t, r, deny, "cancelled")
	})
	t.Run("empty answer", func(t *testing.T) { want(t, a.as(u, ""), deny, "cancelled") })
	t.Run("answer with a NUL", func(t *testing.T) { want(t, a.as(u, string(code)+"\x00"), deny, "malformed_code") })
	t.Run("answer not UTF-8", func(t *testing.T) { want(t, a.as(u, "\xff\xfe\xfd"), deny, "malformed_code") })
	t.Run("password for a code", func(t *testing.T) {
		st, p := a.ask(0, begin(u.name))
		defer st.close()
		if err := st.tell(&loginv1.Answer{PromptId: p.GetId(), IsPassword: true}); err != nil {
			t.Fatal(err)
		}
		var r result
		st.until(&r)
		want(t, r, deny, "password_typed_as_code")
	})
	if got := a.user(u); got.GetFailures() != 0 {
		t.Errorf("%d failures were counted", got.GetFailures())
	}
	want(t, a.as(u, string(code)), allow, "") // none of it used the code up
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "proto" }

// CVE-2025-53013 and its kind: whatever the transport makes of a message, no
// error is a success.
func TestUndecodableMessagesAreDenied(t *testing.T) {
	need(t)
	s := newSite(t).open()
	good, err := proto.Marshal(hookMessage(begin(s.exempt.name)))
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 2000)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"empty":               {},
		"random":              random,
		"unknown fields only": {0xfa, 0x3f, 0x03, 'a', 'b', 'c'},
		"cut short":           good[:len(good)-3],
		"length too long":     {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"wrong wire type":     {0x08, 0x01},
		"17 KB":               append(bytes.Clone(good), bytes.Repeat([]byte{0xfa, 0x3f, 0x00}, 6000)...),
		"5 MB":                append(bytes.Clone(good), bytes.Repeat([]byte{0xfa, 0x3f, 0x00}, 5<<20/3)...),
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dial(loginSock, 0)
			defer conn.Close()
			st, err := conn.NewStream(within(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
				loginv1.LoginService_Converse_FullMethodName, grpc.ForceCodecV2(rawCodec{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := st.SendMsg(&raw); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			var got []byte
			if err := st.RecvMsg(&got); err != nil {
				return // an error is no verdict: the hook denies
			}
			var d loginv1.Directive
			if err := proto.Unmarshal(got, &d); err != nil {
				t.Fatal(err)
			}
			if d.GetVerdict().GetDecision() != deny {
				t.Errorf("got %v", &d)
			}
		})
	}
	s.well()
}

// A hook that goes away ends its login; one that says nothing is not waited for
// for ever.
func TestVanishedAndSilentHooks(t *testing.T) {
	need(t)
	a := startAgent(t, "[limits]", `prompt_time = "10s"`)
	u, phone := a.enrolled()
	t.Run("vanished at the prompt", func(t *testing.T) {
		st, _ := a.ask(0, begin(u.name))
		st.close()
		a.eventually("the event", func() bool { return count(a.events(), event.LoginAttempt, u, "hook_vanished") == 1 })
	})
	t.Run("vanished before Begin", func(t *testing.T) {
		st, err := a.open(0)
		if err != nil {
			t.Fatal(err)
		}
		st.close()
	})
	var silent sync.WaitGroup
	silent.Go(func() { // no Begin within 5 s
		st, err := a.open(0)
		if err != nil {
			t.Error(err)
			return
		}
		defer st.close()
		var r result
		st.until(&r)
		want(t, r, deny, "timed_out")
	})
	silent.Go(func() { // nor an answer within prompt_time
		st, err := a.open(0)
		if err != nil {
			t.Error(err)
			return
		}
		defer st.close()
		if err := st.tell(begin(u.name)); err != nil {
			t.Error(err)
			return
		}
		var r result
		if st.until(&r) == nil || st.until(&r) != nil {
			t.Errorf("not one prompt: %s", r)
		}
		want(t, r, deny, "timed_out")
	})
	silent.Wait()
	if n := a.user(u).GetFailures(); n != 0 {
		t.Errorf("%d failures were counted", n)
	}
	want(t, a.as(u, phone.code(t, 0)), allow, "")
}

// A stopped agent (SIGSTOP) must hit the hook's deadline, and be a denial: it is
// there, so it is not 'unavailable'.
func TestStoppedAgentDenies(t *testing.T) {
	need(t)
	s := newSite(t).open()
	s.signal(syscall.SIGSTOP)
	begun := time.Now()
	for _, u := range []*account{s.enrolled, s.exempt, s.plain} {
		wantPAM(t, s.pam("quick", u, s.phone.code(t, 0)), pamAuthErr)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("three logins with timeout=1 took %s", took)
	}
	if got := s.command("", "status"); got.exit != 2 {
		t.Errorf("status of a stopped agent: exit %d\n%s", got.exit, got.out)
	}
	s.signal(syscall.SIGCONT)
	s.eventually("logins work again", func() bool { return s.pam("sshd", s.exempt, "") == nil })
	want(t, s.as(s.enrolled, s.phone.code(t, 0)), allow, "")
}

// Stopped in the middle of a login.
func TestAgentStoppedMidLoginDenies(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	p := a.pamLogin("quick", u.name, "")
	p.answer = func(string) (string, error) {
		a.signal(syscall.SIGSTOP)
		return phone.code(t, 0), nil
	}
	wantPAM(t, p.run(), pamAuthErr)
	a.signal(syscall.SIGCONT)
	// The code was on its way: it is used up, or it never arrived.
	if r := a.as(u, phone.code(t, 0)); r.decision != allow && r.reason != "code_already_used" {
		t.Error(r)
	}
}

// No service but the two, and each only on its own socket.
func TestNothingElseIsServed(t *testing.T) {
	need(t)
	a := startAgent(t)
	for sock, methods := range map[string][]string{
		loginSock: {"/sallyport.admin.v1.AdminService/Status", "/sallyport.admin.v1.AdminService/Enrol",
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Check", "/x/y", "/", "//"},
		adminSock: {"/sallyport.login.v1.LoginService/Converse", "/sallyport.admin.v1.AdminService/Nothing", "/x/y"},
	} {
		conn := a.dial(sock, 0)
		defer conn.Close()
		for _, method := range methods {
			var none []byte
			err := conn.Invoke(within(t), method, &none, &none, grpc.ForceCodecV2(rawCodec{}))
			if c := status.Code(err); c != codes.Unimplemented {
				t.Errorf("%s on %s: %v", method, sock, err)
			}
		}
	}
}

// Many connections of root's at once, all of them idle: sshd has that many
// children. None keeps the next one out.
func TestManyOpenLoginsOfRoot(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	var open []*stream
	for range 5 {
		other, _ := a.enrolled()
		for range 50 {
			st, _ := a.ask(0, begin(other.name))
			open = append(open, st)
		}
	}
	want(t, a.as(u, phone.code(t, 0)), allow, "")
	var v struct {
		LoginsOpen int `json:"logins_open"`
	}
	a.eventually("the login that is over is not counted, and the others are", func() bool { // a verdict comes before the end
		a.cli(&v, "status")
		return v.LoginsOpen == len(open)
	})
	for _, st := range open {
		st.close()
	}
	a.eventually("all of them are over", func() bool {
		a.cli(&v, "status")
		return v.LoginsOpen == 0
	})
}

// An open login hears that the agent stops, and is denied.
func TestGracefulStopDeniesOpenLogins(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	st, _ := a.ask(0, begin(u.name))
	defer st.close()
	asked, answer := make(chan struct{}), make(chan string)
	p := a.pamLogin("sshd", u.name, "")
	p.answer = func(string) (string, error) { close(asked); return <-answer, nil }
	done := make(chan error, 1)
	go func() { done <- p.run() }()
	<-asked
	a.signal(syscall.SIGTERM)
	var r result
	st.until(&r)
	want(t, r, deny, "agent_stopping")
	a.wait()
	answer <- phone.code(t, 0)
	if err := <-done; err == nil {
		t.Error("in, though the agent was gone before the answer")
	}
	for _, sock := range []string{loginSock, adminSock} {
		if _, err := os.Lstat(a.socket(sock)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", sock, err)
		}
	}
	wantPAM(t, a.pam("sshd", u, phone.code(t, 0)), pamUnavail)
	if got := a.command("", "status"); got.exit != 2 {
		t.Errorf("status without an agent: exit %d", got.exit)
	}
	a.start()
	want(t, a.as(u, phone.code(t, 0)), allow, "")
	events := a.events()
	if count(events, event.AgentStopped, nil, "") != 1 || count(events, event.AgentStarted, nil, "") != 2 {
		t.Errorf("events of start and stop: %v", events)
	}
	if n := count(events, event.LoginAttempt, u, "agent_stopping"); n != 2 {
		t.Errorf("%d events of logins ended by the stop, want 2", n)
	}
}

// A follower of the events does not hold up the stop, and hears of it.
func TestGracefulStopEndsFollowers(t *testing.T) {
	need(t)
	a := startAgent(t)
	conn, err := dialAs(a.socket(adminSock), 0) // silent
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	follow := a.follow(ctx)
	follow.want("agent_started")
	a.stop()
	if err := <-follow.done; err == nil || !strings.Contains(fmt.Sprint(err), "exit status 2") {
		t.Errorf("events --follow ended with %v", err)
	}
}

// CVE-2021-31924: empty, missing and impossible answers at the prompt.
func TestPromptWithoutAnAnswerDenies(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	for name, answer := range map[string]func(string) (string, error){
		"empty":      func(string) (string, error) { return "", nil },
		"spaces":     func(string) (string, error) { return "   ", nil },
		"no answer":  func(string) (string, error) { return "", pam.ErrConv },
		"very long":  func(string) (string, error) { return strings.Repeat("1", 400), nil },
		"129 digits": func(string) (string, error) { return strings.Repeat("1", 129), nil },
	} {
		p := a.pamLogin("sshd", u.name, "")
		p.answer = answer
		if err := p.run(); err == nil {
			t.Errorf("%s: in", name)
		}
	}
	if n := a.user(u).GetFailures(); n != 0 {
		t.Errorf("%d failures were counted", n)
	}
	wantPAM(t, a.pam("sshd", u, phone.code(t, 0)), 0)
}

// sshd with a public key alone never runs the auth stack.
func TestPublicKeyAloneIsDenied(t *testing.T) {
	need(t)
	required := newUser(t)
	s := newSite(t, "[policy.required]", fmt.Sprintf("uids = [%d]", required.uid)).open()
	for _, c := range []struct {
		u    *account
		want pam.Error
	}{{s.enrolled, pamDenied}, {required, pamDenied}, {s.plain, 0}, {s.exempt, 0}, {&account{name: "nobody-of-that-name"}, pamDenied}} {
		p := s.pamLogin("sshd", c.u.name, "")
		p.keyOnly = true
		wantPAM(t, p.run(), c.want)
		if len(p.prompts) != 0 {
			t.Errorf("%s: asked %q", c.u.name, p.prompts)
		}
	}
	s.stop()
	p := s.pamLogin("sshd", s.plain.name, "")
	p.keyOnly = true
	wantPAM(t, p.run(), pamUnavail)
}
