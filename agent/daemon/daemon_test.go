package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"google.golang.org/grpc"

	"sallyport/internal/clock"
	"sallyport/internal/localsock"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// agent is a daemon in this process, so that the race detector sees it.
type agent struct {
	t      *testing.T
	config string
	run    string // its sockets
	admin  adminv1.AdminServiceClient
	login  loginv1.LoginServiceClient
	me     string
	stop   func() error
}

func start(t *testing.T, config string) *agent {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "sallyport.toml")
	run := runtimeDir(dir)
	base := fmt.Sprintf("state_dir = %q\nruntime_dir = %q\n", filepath.Join(dir, "state"), run)
	if err := os.WriteFile(path, []byte(base+config), 0o600); err != nil {
		t.Fatal(err)
	}
	return startAt(t, path, run)
}

// startAt starts an agent whose file says that its sockets are in run.
func startAt(t *testing.T, path, run string, heard ...func(State)) *agent {
	t.Helper()
	ready, done := make(chan struct{}), make(chan error, 1)
	isReady := sync.OnceFunc(func() { close(ready) })
	tell := func(s State) {
		for _, f := range heard {
			f(s)
		}
		if s == Ready {
			isReady()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Version: "test", Clock: clock.System(), Password: checker, Tell: tell})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the agent ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the agent never became ready")
	}
	a := &agent{t: t, config: path, run: run, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Errorf("the agent ended with: %v", err)
		}
	})
	dial := func(name string) *grpc.ClientConn {
		path := filepath.Join(run, name)
		listened(t, path)
		c, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(localsock.Credentials(localsock.TrustAgent)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return localsock.Dial(ctx, path) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	a.admin, a.login = adminv1.NewAdminServiceClient(dial(localsock.AdminName)), loginv1.NewLoginServiceClient(dial(localsock.LoginName))
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	a.me = me.Username
	return a
}

// enrol returns the secret of a fresh enrolment.
func (a *agent) enrol() string {
	a.t.Helper()
	r, err := a.admin.Enrol(a.t.Context(), &adminv1.EnrolRequest{User: a.me, NoConfirm: true, Replace: true})
	if err != nil {
		a.t.Fatal(err)
	}
	key, err := otp.NewKeyFromURL(r.GetOtpauthUri())
	if err != nil {
		a.t.Fatal(err)
	}
	return key.Secret()
}

func (a *agent) code(secret string) string {
	a.t.Helper()
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		a.t.Fatal(err)
	}
	return code
}

// try is one login that answers its prompt with answer.
func (a *agent) try(answer string) (*loginv1.Verdict, error) {
	stream, err := a.login.Converse(a.t.Context())
	if err != nil {
		return nil, err
	}
	b := &loginv1.Begin{ProtocolVersion: 1, Scenario: loginv1.Scenario_SCENARIO_LOGIN, Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte(a.me)}
	asHook(b)
	err = stream.Send(&loginv1.HookMessage{Message: &loginv1.HookMessage_Begin{Begin: b}})
	for err == nil {
		var d *loginv1.Directive
		if d, err = stream.Recv(); err != nil {
			break
		}
		if d.GetVerdict() != nil {
			return d.GetVerdict(), nil
		}
		if p := d.GetPrompt(); p != nil {
			err = stream.Send(&loginv1.HookMessage{Message: &loginv1.HookMessage_Answer{Answer: &loginv1.Answer{PromptId: p.GetId(), Text: []byte(answer)}}})
		}
	}
	return nil, err
}

func (a *agent) expect(answer, want string) {
	a.t.Helper()
	v, err := a.try(answer)
	if err != nil {
		a.t.Fatal(err)
	}
	if got := strings.ToLower(strings.TrimPrefix(v.GetDecision().String(), "DECISION_")) + " " + string(v.GetReason()); got != want {
		a.t.Errorf("got %q, want %q", got, want)
	}
}

func TestALoginFromFirstStartToLast(t *testing.T) {
	a := start(t, "")
	a.expect("", "skip not_asked")
	secret := a.enrol()
	code := a.code(secret)
	a.expect(code, "allow code_accepted")
	a.expect(code, "deny code_already_used")
	a.expect("not a code", "deny malformed_code")

	bypass, err := a.admin.CreateBypass(t.Context(), &adminv1.CreateBypassRequest{User: a.me, Reason: "test", ValidFor: nil})
	if err == nil {
		t.Errorf("a bypass without a time: %v", bypass.GetExpires())
	}
	recovery, err := a.admin.NewRecoveryCodes(t.Context(), &adminv1.UserRequest{User: a.me})
	if err != nil {
		t.Fatal(err)
	}
	a.expect(recovery.GetRecoveryCodes()[0], "allow code_accepted")
	a.expect(recovery.GetRecoveryCodes()[0], "deny wrong_code")
}

func TestOneCodeLetsInOnce(t *testing.T) {
	a := start(t, "")
	for range 5 {
		code := a.code(a.enrol())
		var wg sync.WaitGroup
		var mu sync.Mutex
		verdicts := map[string]int{}
		for range 32 {
			wg.Go(func() {
				v, err := a.try(code)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				verdicts[string(v.GetReason())]++
			})
		}
		wg.Wait()
		if verdicts["code_accepted"] != 1 || verdicts["code_already_used"] != 31 {
			t.Errorf("%v", verdicts)
		}
	}
}

func TestAChangedPolicyHoldsFromTheNextLogin(t *testing.T) {
	a := start(t, "")
	a.enrol()
	text, err := os.ReadFile(a.config)
	if err != nil {
		t.Fatal(err)
	}
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(a.config, append(append([]byte(nil), text...), more...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf("[policy.exempt]\nusers = [%q]\n", a.me))
	a.expect("", "skip exempt")
	// Broken: the last good one stays, and status says so.
	write("[policy.exempt]\nuserz = []\n")
	a.expect("", "skip exempt")
	st, err := a.admin.Status(t.Context(), &adminv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(st.GetProblems()) != 1 || st.GetProblems()[0].GetCode() != "config_broken" || !strings.Contains(st.GetProblems()[0].GetText(), "line 4") {
		t.Errorf("problems: %v", st.GetProblems())
	}
	write("")
	a.expect("", "deny cancelled")
}

func TestMalformedConfigurationAtAColdStartDenies(t *testing.T) {
	a := start(t, "")
	a.enrol()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(a.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.config, append(text, "\nnonsense = \n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startAt(t, a.config, a.run)
	b.expect("", "deny config_broken")
	if err := os.WriteFile(a.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.expect("", "deny cancelled") // mended: asked again
}
