package loginsvc

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/engine"
	"sallyport/internal/factor"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/password"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// atTheMac is a login by the authorization plug-in, from its privileged mechanism.
func atTheMac(scenario loginv1.Scenario, service string) func(*loginv1.Begin, *localsock.Peer) {
	return func(b *loginv1.Begin, _ *localsock.Peer) {
		b.Hook, b.Scenario, b.Service, b.RemoteHost = loginv1.HookKind_HOOK_KIND_AUTHORIZATION_PLUGIN, scenario, []byte(service), nil
		b.Capabilities = &loginv1.Capabilities{LiveNotices: true, CancelPrompt: true, Qr: true}
	}
}

var (
	loginWindow = atTheMac(loginv1.Scenario_SCENARIO_LOGIN, "loginwindow")
	screensaver = atTheMac(loginv1.Scenario_SCENARIO_UNLOCK, "screensaver")
	elevation   = atTheMac(loginv1.Scenario_SCENARIO_ELEVATE, "authorization")
)

// waits is the number that a view with a countdown shows.
func (h *hook) waits(number string) *hook {
	h.Helper()
	if d := h.next(); string(d.GetWaiting().GetDevice()) != "Pixel of maya" || number != fmt.Sprint(d.GetWaiting().GetNumber()) {
		h.Fatalf("the agent says %v, want the number %s", d, number)
	}
	return h
}

func (h *hook) isClosed() *hook {
	h.Helper()
	if d := h.next(); d.GetClosePrompt() == nil || d.GetClosePrompt().GetId() != h.prompt.GetId() {
		h.Fatalf("the agent says %v, want the prompt closed", d)
	}
	return h
}

// TestALoginAtTheLoginWindow: begin waits with the view up, and is told.
func TestALoginAtTheLoginWindow(t *testing.T) {
	w := newWorld(t)
	h := w.logsIn(loginWindow)
	s := w.rings()
	h.waits(s.live.Number).prompts("Type " + s.live.Number + " on your phone")
	if h.prompt.GetEcho() != loginv1.Prompt_ECHO_SECRET {
		t.Error("what is typed can be seen by whoever stands by")
	}
	s.approves(w.phone)
	h.isClosed().gets("allow push_approved")
	w.ends(s, "approved")
	if e := w.attempt(); e.User != "root" || e.Hook != "authorization_plugin" || e.Scenario != "login" || e.Service != "loginwindow" || e.Remote != "" {
		t.Errorf("%+v", e)
	}
	if c := s.live.Challenge; c.Service != "loginwindow" || c.From != "" {
		t.Errorf("the phone shows %+v", c)
	}
}

// TestACodeAtTheLoginWindow: each invocation of begin is a login of its own; the
// code that was right in one is none in the next.
func TestACodeAtTheLoginWindow(t *testing.T) {
	w := newWorld(t)
	w.config.Push.Enabled = false
	w.logsIn(loginWindow).prompts("Code").types("000000").gets("deny wrong_code")
	w.logsIn(loginWindow).prompts("Code").types(w.code()).gets("allow code_accepted")
	w.logsIn(screensaver).prompts("Code").types(w.code()).gets("deny code_already_used")
	if e := w.attempt(); e.Scenario != "unlock" || e.Service != "screensaver" {
		t.Errorf("%+v", e)
	}
	w.silent()
}

// TestAPluginIsRoots: everybody may connect, and say what they are.
func TestAPluginIsRoots(t *testing.T) {
	w := newWorld(t)
	own := func(_ *loginv1.Begin, p *localsock.Peer) { *p = localsock.Peer{ID: identity.UID(1)} }
	admin := func(_ *loginv1.Begin, p *localsock.Peer) { *p = localsock.Peer{ID: identity.UID(1), Admin: true} }
	securityAgent := func(_ *loginv1.Begin, p *localsock.Peer) { *p = localsock.Peer{ID: identity.UID(92)} }
	account := func(b *loginv1.Begin, _ *localsock.Peer) { b.Stage = loginv1.Stage_STAGE_ACCOUNT }
	far := func(b *loginv1.Begin, _ *localsock.Peer) { b.RemoteHost = []byte("192.0.2.7") }
	remote := func(b *loginv1.Begin, _ *localsock.Peer) { b.Scenario = loginv1.Scenario_SCENARIO_REMOTE }
	secret := func(b *loginv1.Begin, _ *localsock.Peer) { b.Password = []byte(rightPassword) }
	for name, change := range map[string][]func(*loginv1.Begin, *localsock.Peer){
		"prompt's process":      {loginWindow, securityAgent},
		"for itself":            {loginWindow, own, daemon},
		"an administrator":      {loginWindow, admin},
		"unlock":                {screensaver, own, daemon},
		"an account step":       {loginWindow, account},
		"from somewhere else":   {loginWindow, far},
		"a remote login":        {loginWindow, remote},
		"with a password":       {loginWindow, secret},
		"with one, not asked":   {elevation, secret, daemon},
		"not asked, not root's": {elevation, own, daemon},
	} {
		if v := w.logsIn(change...).gets("deny " + string(engine.ReasonProtocol)); len(v.GetText()) > 0 && strings.Contains(string(v.GetText()), "root") {
			t.Errorf("%s: %s", name, v.GetText())
		}
		if e := w.attempt(); e.User != "" || e.Key != "" || e.Text == "" || strings.Contains(e.Text, rightPassword) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	w.silent()
	// Windows has none, also when the system says so.
	w.windows(password.Result{Verdict: password.Right, User: isRoot})
	w.logsIn(loginWindow).gets("deny " + string(engine.ReasonProtocol))
}

// TestTheRulesKnowTheServicesOfMacOS: what root exempts by its name is not asked
// there, and everywhere else.
func TestTheRulesKnowTheServicesOfMacOS(t *testing.T) {
	w := newWorld(t)
	w.config.Push.Enabled = false
	w.config.Policy.Exempt.Services = []string{"screensaver"}
	w.logsIn(screensaver).gets("skip exempt")
	w.logsIn(loginWindow).prompts("Code")
	w.logsIn(elevation).prompts("Code")
	w.logsIn(loginWindow, daemon).gets("skip not_asked")
	w.config.Policy.Required.Services = []string{"authorization"}
	w.logsIn(elevation, daemon).prompts("Code").types("123456").gets("deny not_enrolled")
	w.logsIn(loginWindow, daemon).gets("skip not_asked")
}

// TestEnrolmentAtTheLoginWindow: the password was right before the plug-in is asked.
func TestEnrolmentAtTheLoginWindow(t *testing.T) {
	w := newWorld(t)
	w.config.Policy.Required.Users, w.config.Enrolment.AtLogin = []string{"daemon"}, true
	w.change(func(tx *vault.Tx) error {
		return store.Put(tx, &factor.Account{Key: string(identity.UID(1)), Name: "daemon", Enrolment: &factor.Enrolment{Expires: tx.Now().In(time.Hour)}})
	})
	h := w.logsIn(loginWindow, daemon)
	var shown []string
	for h.prompt == nil {
		d := h.next()
		if n := d.GetNotice(); n != nil {
			shown = append(shown, n.GetKind().String())
		}
		h.prompt = d.GetPrompt()
	}
	if !strings.Contains(strings.Join(shown, " "), "KIND_QR") {
		t.Errorf("%q, and then: %s", shown, h.prompt.GetText())
	}
	h.types("000000").prompts("") // another try
}
