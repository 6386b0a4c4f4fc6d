package loginsvc

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/device"
	"sallyport/internal/factor"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/factor/push"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// rule puts one line in force.
func (w *world) rule(lines ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.config.Policy.Rules = lines
}

// sits has the computer in a network, and tells its sessions by their names.
func (w *world) sits(network string) {
	w.service.Facts.Networks = func() (string, error) {
		if network == "" {
			return "", errors.New("no network can be told")
		}
		return network, nil
	}
	w.service.Facts.Session = func(name string) string { return name }
}

// sudo is root's sudo of the person, on a terminal.
func sudo(terminal string) func(*loginv1.Begin, *localsock.Peer) {
	return func(b *loginv1.Begin, _ *localsock.Peer) {
		b.Service, b.Scenario, b.RemoteHost, b.Session = []byte("sudo"), loginv1.Scenario_SCENARIO_ELEVATE, nil, []byte(terminal)
	}
}

// recovery gives the person recovery codes, and a bypass.
func (w *world) codes() (recovery []string, bypass string) {
	w.Helper()
	w.change(func(tx *vault.Tx) error {
		a, err := store.Account(tx, string(identity.Root))
		if err != nil {
			return err
		}
		key, err := store.CodeKey(tx)
		if err != nil {
			return err
		}
		if recovery, a.Recovery, err = onetime.NewRecovery(key, a.Key); err != nil {
			return err
		}
		if bypass, a.Bypass, err = onetime.NewSpoken(key, a.Key, tx.Now().In(time.Hour)); err != nil {
			return err
		}
		return store.Put(tx, a)
	})
	return recovery, bypass
}

func TestOnlyThePhoneCounts(t *testing.T) {
	w := newWorld(t)
	recovery, bypass := w.codes()
	w.config.Push.Misses, w.config.Push.InFiveMinutes, w.config.Push.InAnHour = 100, 100, 100 // a push beside which something is typed is none that was answered
	w.rule("admins: push, number 3")
	asks := func() (*hook, *sending) {
		t.Helper()
		h := w.logsIn()
		s := w.rings()
		if len(s.live.Number) != 3 {
			t.Errorf("the number is %q", s.live.Number)
		}
		return h.prompts("Type " + s.live.Number + ` on your phone .*\nOr type a bypass code from your helpdesk: $`), s
	}
	for _, code := range []string{w.code(), "000000", recovery[0]} {
		h, s := asks()
		v := h.types(code).gets("deny wrong_factor")
		if !strings.Contains(string(v.GetText()), "does not count") {
			t.Errorf("the person reads %q", v.GetText())
		}
		w.ends(s, "cancelled")
		w.later(2 * time.Minute)
	}
	if a := w.account(); a.Lockout.Failures != 0 || len(a.Recovery) != len(recovery) {
		t.Errorf("%d failures, %d recovery codes left", a.Lockout.Failures, len(a.Recovery))
	}
	h, s := asks()
	s.approves(w.phone)
	h.gets("allow push_approved")
	h, _ = asks()
	h.types(bypass).gets("allow code_accepted")

	// Nothing was used up.
	w.rule()
	h, _ = w.asksPhone()
	h.types(recovery[0]).gets("allow code_accepted")

	// Where no phone can be asked the helpdesk still helps.
	w.rule("admins: push")
	w.courier.refuse = &PushRefused{Reason: PushOffline}
	w.logsIn().prompts("Your phone cannot be reached. Only a bypass code from your helpdesk counts now: $").types(w.code()).gets("deny wrong_factor")
}

func TestOnlyACodeCounts(t *testing.T) {
	w := newWorld(t)
	w.rule("servers: totp")
	w.logsIn().prompts("Code from your authenticator app: $").types(w.code()).gets("allow code_accepted")
	w.silent()
	w.rule("nobody: deny")
	w.logsIn().gets("deny denied_by_policy")
	w.logsIn(func(b *loginv1.Begin, _ *localsock.Peer) { b.Stage = loginv1.Stage_STAGE_ACCOUNT }).gets("deny denied_by_policy")
	if e := w.events()[len(w.events())-1]; e.Rule != "rule=nobody" {
		t.Errorf("%+v", e)
	}
}

func TestRemembered(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	w.rule("sudo again: totp, remember 15m when service == \"sudo\"")
	asks := func(terminal string) *hook {
		t.Helper()
		return w.logsIn(sudo(terminal)).prompts("Code")
	}
	gives := func(terminal string) {
		t.Helper()
		w.later(time.Minute) // another code
		asks(terminal).types(w.code()).gets("allow code_accepted")
		w.logsIn(sudo(terminal)).gets("skip remembered")
	}
	gives("pts/1")
	w.logsIn(sudo("pts/1"), func(b *loginv1.Begin, _ *localsock.Peer) { b.Stage = loginv1.Stage_STAGE_ACCOUNT }).gets("skip remembered")
	if e := w.events()[len(w.events())-1]; e.Rule != "rule=sudo again" || e.Reason != "remembered" {
		t.Errorf("%+v", e)
	}
	// Bound to the session, and to where from.
	asks("pts/2")
	asks("")
	w.logsIn(sudo("pts/1"), func(b *loginv1.Begin, _ *localsock.Peer) { b.RemoteHost = []byte("192.0.2.9") }).prompts("Code")
	w.logsIn(sudo("pts/1"), func(b *loginv1.Begin, _ *localsock.Peer) { b.RemoteHost = []byte("a.example.com") }).prompts("Code")
	// To the network that the computer is in.
	w.sits("a train")
	asks("pts/1")
	w.sits("")
	asks("pts/1")
	w.sits("home")
	w.logsIn(sudo("pts/1")).gets("skip remembered")
	// It is not prolonged by being used.
	w.later(14 * time.Minute)
	w.logsIn(sudo("pts/1")).gets("skip remembered")
	w.later(time.Minute)
	asks("pts/1")

	// Another text of the rule, or any other change of the policy, remembers nothing.
	gives("pts/1")
	w.rule("sudo again: totp, remember 8h when service == \"sudo\"")
	asks("pts/1")
	gives("pts/1")
	w.config.Authority.AllowExemptions = true
	w.signsPolicy(`{"Ask":"enrolled"}`)
	asks("pts/1")
}

// PEERS: a trusted session survives a reboot (CVE-2024-20301).
func TestNothingIsRememberedInAnotherBoot(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	w.rule("again: totp, remember 8h")
	w.logsIn(sudo("pts/1")).prompts("Code").types(w.code()).gets("allow code_accepted")
	w.logsIn(sudo("pts/1")).gets("skip remembered")
	w.mu.Lock()
	w.boots++
	w.mu.Unlock()
	w.logsIn(sudo("pts/1")).prompts("Code")
}

// PEERS: what a caller says that is not root's earns and uses nothing.
func TestNothingIsRememberedForAProgramOfTheUsersOwn(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	w.rule("again: totp, remember 8h")
	w.enrols("daemon", 1)
	own := func(b *loginv1.Begin, p *localsock.Peer) {
		b.User, *p = []byte("daemon"), localsock.Peer{ID: identity.UID(1)}
	}
	w.logsIn(sudo("pts/1"), own).prompts("Code").types(w.code()).gets("allow code_accepted")
	w.logsIn(sudo("pts/1"), own).prompts("Code")
	w.logsIn(sudo("pts/1"), daemon).prompts("Code") // nor was it earned for root's
	w.later(time.Minute)
	w.logsIn(sudo("pts/1"), daemon).prompts("Code").types(w.code()).gets("allow code_accepted")
	w.logsIn(sudo("pts/1"), daemon).gets("skip remembered")
	w.logsIn(sudo("pts/1"), own).prompts("Code")
}

func TestWhatEndsWhatIsRemembered(t *testing.T) {
	for name, end := range map[string]func(*world){
		"unlock": func(w *world) {
			w.change(func(tx *vault.Tx) error {
				a, err := store.Account(tx, string(identity.Root))
				if err != nil {
					return err
				}
				a.Unlock()
				return store.Put(tx, a)
			})
		},
		"removed and enrolled again": func(w *world) {
			w.change(func(tx *vault.Tx) error { return tx.Delete(vault.Users, string(identity.Root)) })
			w.enrols("root", 0, w.phone.Approver("Pixel of maya"))
		},
		"\"not me\" on the phone": func(w *world) {
			h, s := w.asksPhone(sudo("pts/9"))
			s.decides(w.phone, push.Report, "")
			h.gets("deny push_reported")
		},
		"a lockout": func(w *world) {
			w.rule("again: any, remember 8h")
			for range 10 {
				h, _ := w.asksPhone(sudo("pts/9"))
				h.types("000000").gets("deny wrong_code")
				w.later(2 * time.Minute)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.sits("home")
			w.config.Push.Misses, w.config.Push.InFiveMinutes, w.config.Push.InAnHour = 100, 100, 100
			w.rule("again: any, remember 8h")
			h, s := w.asksPhone(sudo("pts/1"))
			s.approves(w.phone)
			h.gets("allow push_approved")
			w.logsIn(sudo("pts/1")).gets("skip remembered")
			end(w)
			if h := w.logsIn(sudo("pts/1")); h.next().GetVerdict() != nil {
				t.Error("it is remembered still")
			}
		})
	}
}

// A bypass is good once, for one login.
func TestABypassIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	_, bypass := w.codes()
	w.rule("again: totp, remember 8h")
	w.logsIn(sudo("pts/1")).prompts("Code").types(bypass).gets("allow code_accepted")
	w.logsIn(sudo("pts/1")).prompts("Code")
}

// HAZARD: the agent is killed right behind the verdict, or before it.
func TestKilledAroundAFactorThatIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	w.rule("again: totp, remember 8h")
	open := w.logsIn(sudo("pts/1")).prompts("Code")
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	open.types(w.code()).gets("deny vault_unavailable") // nothing was kept: neither the step nor a place
	w.starts()
	w.sits("home")
	w.logsIn(sudo("pts/1")).prompts("Code").types(w.code()).gets("allow code_accepted")
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	w.starts()
	w.sits("home")
	w.logsIn(sudo("pts/1")).gets("skip remembered") // with the verdict, in one transaction
	w.logsIn(sudo("pts/2")).prompts("Code").types(w.code()).gets("deny code_already_used")
}

// HAZARD: logins at once. Once an unlock is on disk, nobody goes by what was
// remembered before it; and what one login gave does not let in one that was asked.
func TestRacesOfWhatIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	w.rule("again: totp, remember 8h")
	w.logsIn(sudo("pts/1")).prompts("Code").types(w.code()).gets("allow code_accepted")
	w.later(time.Minute)
	waiting := w.logsIn(sudo("pts/7")).prompts("Code")
	w.logsIn(sudo("pts/7")).prompts("Code").types(w.code()).gets("allow code_accepted")
	waiting.types("000000").gets("deny wrong_code")

	results := make(chan string, 64)
	var wg sync.WaitGroup
	unlocked := make(chan struct{})
	for i := range 64 {
		wg.Go(func() {
			if i >= 32 {
				<-unlocked
			}
			what := "before"
			select {
			case <-unlocked:
				what = "after"
			default:
			}
			d := w.logsIn(sudo("pts/1")).next()
			if d.GetVerdict() != nil {
				results <- what + " " + string(d.GetVerdict().GetReason())
			} else {
				results <- what + " asked"
			}
		})
	}
	w.change(func(tx *vault.Tx) error {
		a, err := store.Account(tx, string(identity.Root))
		if err != nil {
			return err
		}
		a.Unlock()
		return store.Put(tx, a)
	})
	close(unlocked)
	wg.Wait()
	close(results)
	n := 0
	for r := range results {
		if strings.HasPrefix(r, "after") && r != "after asked" || strings.HasPrefix(r, "before") && r != "before asked" && r != "before remembered" {
			t.Errorf("a login was %q", r)
		}
		if r == "after asked" {
			n++
		}
	}
	if n < 32 {
		t.Errorf("only %d logins began after the unlock", n)
	}
}

// Explain is the same function as a login's, and changes nothing.
func TestExplainChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.sits("home")
	w.service.Facts.Device = func(time.Duration) device.Facts {
		return device.Facts{Encrypted: device.Fact{Known: true, Yes: true}, OS: "linux"}
	}
	w.rule("sudo again: totp, remember 15m when service == \"sudo\"", "disk: skip when device.encrypted && hour < 6 && online", "night: deny when hour >= 22")
	begin := func(service string) *loginv1.Begin {
		return &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
			Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte("root"), Service: []byte(service), Session: []byte("pts/1")}
	}
	w.later(time.Minute)
	w.logsIn(sudo("pts/1")).prompts("Code").types(w.code()).gets("allow code_accepted")
	state := func() (seq uint64, a factor.Account) {
		if err := w.service.Store.View(func(tx *vault.Tx) error { seq = tx.LastSeq(); return nil }); err != nil {
			t.Fatal(err)
		}
		return seq, *w.account()
	}
	seq, before := state()
	yes, no := true, false
	noonToday := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	for name, c := range map[string]struct {
		i                     Imagined
		outcome, rule, effect string
	}{
		"remembered":       {Imagined{Begin: begin("sudo")}, NotAsked, "rule=sudo again", "ask"},
		"when it is over":  {Imagined{Begin: begin("sudo"), At: noon.Add(17 * time.Minute)}, Asked, "rule=sudo again", "ask"},
		"as a user's own":  {Imagined{Begin: begin("sudo"), NotRoot: true}, NotAsked, "rule=sudo again", "ask"}, // root's own is root's
		"at night":         {Imagined{Begin: begin("login"), At: noonToday.Add(11 * time.Hour)}, Denied, "rule=night", "deny"},
		"early, online":    {Imagined{Begin: begin("login"), At: noonToday.Add(15 * time.Hour), Online: &yes}, NotAsked, "rule=disk", "skip"},
		"early, offline":   {Imagined{Begin: begin("login"), At: noonToday.Add(15 * time.Hour), Online: &no}, Asked, "default=enrolled", "ask_if_enrolled"},
		"online as it is":  {Imagined{Begin: begin("login"), At: noonToday.Add(15 * time.Hour)}, Asked, "default=enrolled", "ask_if_enrolled"},
		"in the afternoon": {Imagined{Begin: begin("login"), At: noonToday}, Asked, "default=enrolled", "ask_if_enrolled"},
	} {
		e, err := w.service.Explain(t.Context(), c.i)
		if err != nil || e.Outcome != c.outcome || e.Rule != c.rule || e.Effect.String() != c.effect || len(e.Steps) == 0 || e.User.Name != "root" {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if e, err := w.service.Explain(t.Context(), Imagined{Begin: &loginv1.Begin{}}); err == nil {
		t.Errorf("a login of nobody: %+v", e)
	}
	if s, a := state(); s != seq || len(a.Remembered) != len(before.Remembered) || *a.Last != *before.Last {
		t.Error("explaining changed something")
	}
	w.silent()
}

// What a clock says that lies behind is not the time.
func TestAClockThatLiesBehindDoesNotTellTheTime(t *testing.T) {
	w := newWorld(t)
	w.rule("by day: skip when hour >= 0")
	w.logsIn().gets("skip exempt")
	w.later(-time.Hour)
	h, _ := w.asksPhone()
	h.cancel()
	h.isOver()
	if e := w.events()[len(w.events())-1]; !strings.Contains(e.Rule, "cannot tell") {
		t.Errorf("%+v", e)
	}
}

// The zone is asked for at each login; one that cannot be read tells no hour.
func TestTheHourFollowsTheTimeZone(t *testing.T) {
	w := newWorld(t)
	zone, broken := time.UTC, error(nil)
	w.service.Facts.Zone = func() (*time.Location, error) { return zone, broken }
	w.rule("here: skip when hour == " + strconv.Itoa(w.service.Clock.Now().Wall.UTC().Hour()))
	w.logsIn().gets("skip exempt")
	zone = time.FixedZone("moved", 3*60*60)
	h, _ := w.asksPhone()
	h.cancel()
	h.isOver()
	w.later(2 * time.Minute)
	zone, broken = time.UTC, errors.New("half a file")
	h, _ = w.asksPhone()
	h.cancel()
	h.isOver()
	if e := w.events()[len(w.events())-1]; !strings.Contains(e.Rule, "cannot tell") {
		t.Errorf("%+v", e)
	}
	e, err := w.service.Explain(t.Context(), Imagined{Begin: &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
		Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte("root"), Service: []byte("login")}})
	if err != nil || !strings.Contains(e.Steps[0].Text, "the time zone cannot be read: half a file") {
		t.Errorf("%+v, %v", e.Steps, err)
	}
}

func TestTerminals(t *testing.T) {
	for session, want := range map[string]string{"/dev/pts/3": "/dev/pts/3", "pts/3": "/dev/pts/3", "tty1": "/dev/tty1"} {
		if got, ok := terminal(session); got != want || !ok {
			t.Errorf("%q: %q, %v", session, got, ok)
		}
	}
	for _, session := range []string{"/etc/passwd", "../etc/passwd", "/dev/../etc/passwd", "/dev/tty", "tty", "//dev/./tty", "tty0", "/dev/null", "/dev", ""} {
		if got, ok := terminal(session); ok {
			t.Errorf("%q is the terminal %q", session, got)
		}
	}
}

// HAZARD: who came into a Windows session without us is taken for somebody of whom
// nothing is asked, as the rules do not see what kind of login it would have been.
func TestARuleOfTheLoginScreenIsSeenByWhoWatchesTheSessions(t *testing.T) {
	w := newWorld(t)
	who := accounts.User{Name: "daemon", ID: identity.UID(1)}
	for rule, asks := range map[string]struct{ here, afar bool }{
		`any when scenario == "login"`:             {true, false},
		`any when scenario == "remote"`:            {false, true},
		`any when hook == "credential_provider"`:   {true, true},
		`any when service == "logonui"`:            {true, true},
		`any when remote.within("192.0.2.0/24")`:   {false, true}, // from where is not known
		`any when local && scenario != "elevate"`:  {true, false},
		`deny when scenario == "login" && uid > 0`: {true, false},
	} {
		w.rule("rule: " + rule)
		if here, afar := w.service.Asked(t.Context(), who, false), w.service.Asked(t.Context(), who, true); here != asks.here || afar != asks.afar {
			t.Errorf("%s: %v here, %v from afar", rule, here, afar)
		}
	}
}

// HAZARD: the organisation's number is shorter than the one that root wants.
func TestARulesNumberIsNeverShorterThanPushDigits(t *testing.T) {
	w := newWorld(t)
	w.config.Push.Digits = 4
	for rule, want := range map[string]int{"all: any, number 2": 4, "all: any, number 6": 6, "all: any": 4} {
		w.rule(rule)
		h := w.logsIn()
		s := w.rings()
		if len(s.live.Number) != want {
			t.Errorf("%s: the number is %q", rule, s.live.Number)
		}
		if e, err := w.service.Explain(t.Context(), Imagined{Begin: &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
			Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte("root"), Service: []byte("sshd")}}); err != nil || e.Digits != want && rule != "all: any" {
			t.Errorf("%s: it is explained as %d digits, %v", rule, e.Digits, err)
		}
		h.prompts("Type ").cancel()
		h.isOver()
		w.ends(s, "cancelled")
		w.later(2 * time.Minute)
	}
}

func TestExplainSaysWhereNothingIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.rule("again: any, remember 1h")
	for place, c := range map[string]struct{ session, network, says string }{
		"a terminal":       {"pts/1", "home", ""},
		"sshd":             {"", "home", "no terminal or session is named"},
		"unknown networks": {"pts/1", "", "the networks cannot be told"},
	} {
		w.sits(c.network)
		b := &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN, Stage: loginv1.Stage_STAGE_AUTHENTICATE,
			User: []byte("root"), Service: []byte("sudo"), Session: []byte(c.session)}
		e, err := w.service.Explain(t.Context(), Imagined{Begin: b})
		if err != nil || strings.Contains(e.Why, "but nothing is remembered") != (c.says != "") || !strings.Contains(e.Why, c.says) {
			t.Errorf("%s: %q, %v", place, e.Why, err)
		}
	}
}
