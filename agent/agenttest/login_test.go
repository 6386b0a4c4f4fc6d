//go:build linux

package agenttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// account is a local account.
type account struct {
	name string
	uid  uint32
}

func (u *account) key() string { return fmt.Sprintf("uid:%d", u.uid) }

var (
	passwdMu sync.Mutex
	nextUID  = uint32(20000)
)

// newUser adds an account to the sandbox's passwd(5).
func newUser(t *testing.T) *account { t.Helper(); return newUsers(t, 1)[0] }

func newUsers(t *testing.T, n int) []*account {
	t.Helper()
	passwdMu.Lock()
	defer passwdMu.Unlock()
	var list []*account
	var lines strings.Builder
	for range n {
		nextUID++
		u := &account{fmt.Sprintf("u%d", nextUID), nextUID}
		fmt.Fprintf(&lines, "%s:x:%d:100::/nonexistent:/bin/sh\n", u.name, u.uid)
		list = append(list, u)
	}
	appendTo(t, "/etc/passwd", lines.String())
	return list
}

// appendTo adds to a file of the sandbox in one write.
func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// editPasswd rewrites passwd(5), as usermod does.
func editPasswd(t *testing.T, edit func(string) string) {
	t.Helper()
	passwdMu.Lock()
	defer passwdMu.Unlock()
	replaceFile(t, "/etc/passwd", edit)
}

func replaceFile(t *testing.T, path string, edit func(string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(edit(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// phone shows the codes of one enrolment.
type phone struct {
	secret   string
	recovery []string
}

// code is what the phone shows, so many steps from now.
func (p phone) code(t *testing.T, steps int64) string { return p.codeAt(t, settled(time.Now), steps) }

// settled is the time by a clock, when a step has some time left: what is typed right
// before its end is of the step before when it arrives, and the phone seems to be slow.
func settled(now func() time.Time) time.Time {
	const step, enough = 30 * time.Second, 5 * time.Second
	if left := step - time.Duration(now().UnixNano())%step; left < enough {
		time.Sleep(left)
	}
	return now()
}

func (p phone) codeAt(t *testing.T, now time.Time, steps int64) string {
	t.Helper()
	code, err := hotp.GenerateCodeCustom(p.secret, uint64(now.Unix()/30+steps), hotp.ValidateOpts{Digits: otp.DigitsSix})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// wrong is a code that the phone shows in none of the steps around now.
func (p phone) wrong(t *testing.T) string { t.Helper(); return p.wrongAt(t, time.Now()) }

func (p phone) wrongAt(t *testing.T, now time.Time) string {
	t.Helper()
	right := map[string]bool{}
	for step := int64(-10); step <= 10; step++ {
		right[p.codeAt(t, now, step)] = true
	}
	for n := 0; ; n++ {
		if code := fmt.Sprintf("%06d", n); !right[code] {
			return code
		}
	}
}

func secretOf(t *testing.T, uri string) string {
	t.Helper()
	key, err := otp.NewKeyFromURL(uri)
	if err != nil {
		t.Fatalf("not an otpauth URI: %v", err)
	}
	return key.Secret()
}

// enrol gives an account a second factor.
func (a *agent) enrol(u *account) phone {
	a.t.Helper()
	conn := a.dial(adminSock, 0)
	defer conn.Close()
	got, err := adminv1.NewAdminServiceClient(conn).Enrol(within(a.t), &adminv1.EnrolRequest{User: u.name, NoConfirm: true, Replace: true})
	if err != nil {
		a.t.Fatalf("enrol %s: %v\n%s", u.name, err, a.log)
	}
	return phone{secretOf(a.t, got.GetOtpauthUri()), got.GetRecoveryCodes()}
}

// enrolled is a new account with a second factor.
func (a *agent) enrolled() (*account, phone) {
	a.t.Helper()
	u := newUser(a.t)
	return u, a.enrol(u)
}

// --- through the PAM module ---

// writePAM writes the services: sshd and login as they are shipped, and one
// that only asks us.
func (a *agent) writePAM() {
	a.t.Helper()
	module := program("pam_sallyport.so") + " socket=" + a.socket(loginSock)
	for service, options := range map[string]string{"login": "", "sshd": "", "quick": " timeout=1", "chatty": " debug"} {
		// A login that nothing is asked of is IGNOREd; what is below decides.
		text := "auth required " + module + options + "\nauth required pam_permit.so\n" +
			"account required " + module + options + "\naccount required pam_permit.so\n"
		if err := os.MkdirAll(filepath.Join(a.dir, "pam.d"), 0o755); err != nil {
			a.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(a.dir, "pam.d", service), []byte(text), 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
}

const (
	pamAuthErr = pam.ErrAuth
	pamUnavail = pam.ErrAuthinfoUnavail
	pamDenied  = pam.ErrPermDenied
)

// pamLogin is a login program's use of PAM.
type pamLogin struct {
	confDir string
	service string
	user    string
	rhost   string
	answer  func(prompt string) (string, error)
	keyOnly bool // as sshd after a public key alone: the auth stack never runs

	prompts []string
	notices []string
}

// run returns what pam_authenticate and then pam_acct_mgmt say.
func (p *pamLogin) run() error {
	tx, err := pam.StartConfDir(p.service, p.user, pam.ConversationFunc(func(style pam.Style, text string) (string, error) {
		if style == pam.ErrorMsg || style == pam.TextInfo {
			p.notices = append(p.notices, text)
			return "", nil
		}
		p.prompts = append(p.prompts, text)
		return p.answer(text)
	}), p.confDir)
	if err != nil {
		return err
	}
	defer func() { _ = tx.End() }() // what it says of the end is no part of the login
	if p.rhost != "" {
		if err := tx.SetItem(pam.Rhost, p.rhost); err != nil {
			return err
		}
	}
	if !p.keyOnly {
		if err := tx.Authenticate(0); err != nil {
			return err
		}
	}
	return tx.AcctMgmt(0)
}

// pam logs in through libpam and the module with one answer, in this process.
func (a *agent) pam(service string, u *account, answer string) error {
	p := a.pamLogin(service, u.name, answer)
	return p.run()
}

func (a *agent) pamLogin(service, user, answer string) *pamLogin {
	return &pamLogin{confDir: filepath.Join(a.dir, "pam.d"), service: service, user: user,
		answer: func(string) (string, error) { return answer, nil }}
}

// wantPAM wants the login to end so; pam.Error(0) is in.
func wantPAM(t *testing.T, got error, want pam.Error) {
	t.Helper()
	if want == 0 && got == nil || want != 0 && errors.Is(got, want) {
		return
	}
	t.Errorf("the PAM login ended with %v, want %v", got, want)
}

// --- straight to the socket ---

// dialAs connects as another user: the kernel notes who calls connect(2), and
// on Linux one thread can be somebody else for that long.
func dialAs(path string, uid uint32) (net.Conn, error) {
	if uid == 0 {
		return net.Dial("unix", path)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(uid uintptr) unix.Errno {
		_, _, err := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uid, ^uintptr(0))
		return err
	}
	if err := become(uintptr(uid)); err != 0 {
		return nil, fmt.Errorf("setresuid %d: %w", uid, err)
	}
	defer func() {
		if err := become(0); err != 0 {
			panic("this thread can be root no more: " + err.Error())
		}
	}()
	return net.Dial("unix", path)
}

// begin is what a hook of a console login says.
func begin(user string, change ...func(*loginv1.Begin)) *loginv1.Begin {
	b := &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
		Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte(user), Service: []byte("login"), Session: []byte("/dev/tty1")}
	for _, f := range change {
		f(b)
	}
	return b
}

func hookMessage(m any) *loginv1.HookMessage {
	switch m := m.(type) {
	case *loginv1.Begin:
		return &loginv1.HookMessage{Message: &loginv1.HookMessage_Begin{Begin: m}}
	case *loginv1.Answer:
		return &loginv1.HookMessage{Message: &loginv1.HookMessage_Answer{Answer: m}}
	case *loginv1.Cancel:
		return &loginv1.HookMessage{Message: &loginv1.HookMessage_Cancel{Cancel: m}}
	}
	return &loginv1.HookMessage{}
}

// stream is one open login.
type stream struct {
	grpc.BidiStreamingClient[loginv1.HookMessage, loginv1.Directive]
	conn   *grpc.ClientConn
	cancel context.CancelFunc
}

// open begins a conversation as a user; nothing is said yet.
func (a *agent) open(uid uint32) (*stream, error) {
	conn := a.dial(loginSock, uid)
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	s, err := loginv1.NewLoginServiceClient(conn).Converse(ctx)
	if err != nil {
		cancel()
		conn.Close()
		return nil, err
	}
	return &stream{s, conn, cancel}, nil
}

// close hangs up, as a hook that was killed does.
func (s *stream) close() {
	s.cancel()
	s.conn.Close()
}

// tell sends a message.
func (s *stream) tell(m any) error { return s.Send(hookMessage(m)) }

// result is how a login ended. The zero value is no verdict: out.
type result struct {
	decision loginv1.Verdict_Decision
	reason   string
	text     string
	prompts  []string
	notices  []string
	err      error // the stream ended before a verdict
}

func (r result) in() bool {
	return r.err == nil && (r.decision == allow || r.decision == skip)
}

func (r result) String() string {
	if r.err != nil {
		return fmt.Sprintf("no verdict: %v", r.err)
	}
	return fmt.Sprintf("%v %s %q", r.decision, r.reason, r.text)
}

const (
	allow = loginv1.Verdict_DECISION_ALLOW
	deny  = loginv1.Verdict_DECISION_DENY
	skip  = loginv1.Verdict_DECISION_SKIP
)

// until reads directives up to the next prompt (not nil) or the login's end.
func (s *stream) until(r *result) *loginv1.Prompt {
	for {
		d, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			r.err = err
			return nil
		}
		switch d := d.GetDirective().(type) {
		case *loginv1.Directive_Prompt:
			r.prompts = append(r.prompts, string(d.Prompt.GetText()))
			return d.Prompt
		case *loginv1.Directive_Notice:
			r.notices = append(r.notices, string(d.Notice.GetText()))
		case *loginv1.Directive_Verdict:
			r.decision, r.reason, r.text = d.Verdict.GetDecision(), string(d.Verdict.GetReason()), string(d.Verdict.GetText())
			return nil
		}
	}
}

// converse gives the answers, one for each prompt, and then hangs up.
func (s *stream) converse(b *loginv1.Begin, answers ...string) (r result) {
	defer s.close()
	if r.err = s.tell(b); r.err != nil && !errors.Is(r.err, io.EOF) {
		return r
	}
	r.err = nil // on EOF the status comes with Recv
	for {
		p := s.until(&r)
		if p == nil {
			return r
		}
		if len(answers) == 0 {
			r.err = fmt.Errorf("asked %q, and there is no answer left", p.GetText())
			return r
		}
		r.err = s.tell(&loginv1.Answer{PromptId: p.GetId(), Text: []byte(answers[0])})
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return r
		}
		r.err = nil
		answers = answers[1:]
	}
}

// login is one login by a user's hook (0: root's, as sshd's is).
func (a *agent) login(uid uint32, b *loginv1.Begin, answers ...string) result {
	s, err := a.open(uid)
	if err != nil {
		return result{err: err}
	}
	return s.converse(b, answers...)
}

// as logs a user in through a root hook.
func (a *agent) as(u *account, answers ...string) result {
	return a.login(0, begin(u.name), answers...)
}

// want wants this verdict for this reason.
func want(t *testing.T, got result, decision loginv1.Verdict_Decision, reason string) {
	t.Helper()
	if got.err != nil || got.decision != decision || reason != "" && got.reason != reason {
		t.Errorf("got %s, want %v %s", got, decision, reason)
	}
}

// ask begins a login and leaves it open at its first prompt.
func (a *agent) ask(uid uint32, b *loginv1.Begin) (*stream, *loginv1.Prompt) {
	a.t.Helper()
	s, err := a.open(uid)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := s.tell(b); err != nil {
		a.t.Fatal(err)
	}
	var r result
	p := s.until(&r)
	if p == nil {
		a.t.Fatalf("no prompt: %s", r)
	}
	return s, p
}

// reply answers an open prompt and takes the verdict.
func (s *stream) reply(p *loginv1.Prompt, answer string) (r result) {
	defer s.close()
	if r.err = s.tell(&loginv1.Answer{PromptId: p.GetId(), Text: []byte(answer)}); r.err != nil {
		return r
	}
	if s.until(&r) != nil {
		r.err = errors.New("asked again")
	}
	return r
}
