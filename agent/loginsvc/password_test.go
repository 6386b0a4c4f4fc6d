package loginsvc

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/password"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// gap is longer than a push that was left is pending.
const gap = 5 * time.Minute

const rightPassword = "Canary-Passwörd-1"

var (
	wrong  = password.Result{Verdict: password.Wrong, Reason: password.ReasonWrong, Text: "The user name or password is not correct."}
	isRoot = accounts.User{Name: "root", ID: identity.Root}
)

// windows has the system of this computer check passwords: whoever gives the right
// one gets right. What was asked is returned.
func (w *world) windows(right password.Result) *[]string {
	var asked []string
	w.service.Password = func(_ context.Context, name string, typed []byte) password.Result {
		asked = append(asked, name)
		if string(typed) != rightPassword {
			return wrong
		}
		return right
	}
	return &asked
}

// atTheScreen is a login by the credential provider, with what was typed there.
func atTheScreen(typed string) func(*loginv1.Begin, *localsock.Peer) {
	return func(b *loginv1.Begin, _ *localsock.Peer) {
		b.Hook, b.Scenario, b.Service, b.RemoteHost = loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER, loginv1.Scenario_SCENARIO_LOGIN, []byte("logonui"), nil
		b.Session, b.Password = []byte("2"), []byte(typed)
	}
}

// byOthers: the hook runs as somebody who is neither root nor root's.
func byOthers(_ *loginv1.Begin, p *localsock.Peer) {
	*p = localsock.Peer{ID: identity.UID(4_000_000_123)}
}

func named(name string) func(*loginv1.Begin, *localsock.Peer) {
	return func(b *loginv1.Begin, _ *localsock.Peer) { b.User = []byte(name) }
}

// attempt is the last login_attempt.
func (w *world) attempt() event.Event {
	w.Helper()
	for list := w.events(); len(list) > 0; list = list[:len(list)-1] {
		if e := list[len(list)-1]; e.Name == event.LoginAttempt {
			return e
		}
	}
	w.Fatal("no login is reported")
	return event.Event{}
}

func TestThePasswordFirstThenTheCode(t *testing.T) {
	w := newWorld(t)
	asked := w.windows(password.Result{Verdict: password.Right, User: isRoot, Groups: []identity.ID{}})
	h, _ := w.asksPhone(atTheScreen(rightPassword))
	h.types(w.code()).gets("allow code_accepted")
	if len(*asked) != 1 || (*asked)[0] != w.person {
		t.Errorf("the system was asked about %q", *asked)
	}
	if e := w.attempt(); e.User != "root" || e.Key != "uid:0" || e.Hook != "credential_provider" || e.Service != "logonui" || e.Session != "2" {
		t.Errorf("%+v", e)
	}
}

// TestAWrongPasswordTellsNothing: nothing is asked, counted or rung, and an unknown
// name looks the same, on the wire and in the log.
func TestAWrongPasswordTellsNothing(t *testing.T) {
	w := newWorld(t)
	w.windows(password.Result{Verdict: password.Right, User: isRoot})
	var seen []string
	for _, name := range []string{w.person, "nosuchuser", "daemon", `CORP\alice`} {
		v := w.logsIn(atTheScreen("guess"), named(name)).gets("deny wrong_password")
		if string(v.GetText()) != wrong.Text {
			t.Errorf("%s is told %q", name, v.GetText())
		}
		e := w.attempt()
		e.Seq = 0
		if e.User != "" || e.Key != "" || e.Rule != "" || e.Text != "" {
			t.Errorf("%s: the event says %+v", name, e)
		}
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, string(line))
	}
	for _, line := range seen {
		if line != seen[0] {
			t.Errorf("%s\n%s", seen[0], line)
		}
	}
	for range 20 {
		w.logsIn(atTheScreen("guess")).gets("deny wrong_password")
	}
	if a := w.account(); a.Lockout != (factor.Lockout{}) {
		t.Errorf("a wrong password counts as a wrong code: %+v", a.Lockout)
	}
	w.silent()
}

// TestABlankPasswordIsOneLikeAnyOther: there are accounts that have it.
func TestABlankPasswordIsOneLikeAnyOther(t *testing.T) {
	w := newWorld(t)
	asked := w.windows(password.Result{Verdict: password.Right, User: isRoot})
	w.logsIn(atTheScreen("")).gets("deny wrong_password")
	if len(*asked) != 1 {
		t.Errorf("the system was asked about %q", *asked)
	}
	w.silent()
}

func TestWhatWindowsSaysBesides(t *testing.T) {
	w := newWorld(t)
	for _, r := range []password.Result{
		{Reason: "account_locked_out", Text: "Windows has locked your account.", Detail: "LogonUserW: error 1909"},
		{Reason: "directory_unreachable", Text: "The directory cannot be reached.", Detail: "LogonUserW: error 1311"},
		{Reason: password.ReasonFailed, Text: textNotNow, Detail: "LogonUserW: error 5"},
	} {
		w.windows(r)
		v := w.logsIn(atTheScreen(rightPassword)).gets("deny " + r.Reason)
		if e := w.attempt(); string(v.GetText()) != r.Text || e.Text != r.Detail || e.User != "" {
			t.Errorf("%q; %+v", v.GetText(), e)
		}
	}
	w.windows(password.Result{}) // an answer that is none
	w.logsIn(atTheScreen(rightPassword)).gets("deny password_check_failed")
	w.silent()
	// The password has expired: it was right, and Windows itself goes on from there.
	w.windows(password.Result{Verdict: password.Right, Detail: "LogonUserW: error 1330"})
	h, _ := w.asksPhone(atTheScreen(rightPassword))
	h.types(w.code()).gets("allow code_accepted")
}

func TestWhomRootExemptsHasAPasswordAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.windows(password.Result{Verdict: password.Right, User: isRoot, Groups: []identity.ID{}})
	w.config.Policy.Exempt.Users = []string{"root"}
	w.logsIn(atTheScreen("guess")).gets("deny wrong_password")
	w.logsIn(atTheScreen(rightPassword)).gets("skip exempt")
}

func TestTheGroupsOfTheTokenDecide(t *testing.T) {
	const staff, helpers = "S-1-5-21-1-2-3-1100", "S-1-5-21-1-2-3-1101"
	w := newWorld(t)
	someone, err := w.service.Names.Lookup(t.Context(), "daemon") // has no factor
	if err != nil {
		t.Fatal(err)
	}
	login := func(groups []identity.ID) *hook {
		w.windows(password.Result{Verdict: password.Right, User: someone, Groups: groups})
		return w.logsIn(atTheScreen(rightPassword), daemon)
	}
	w.config.Policy.Required.Groups = []string{staff}
	login([]identity.ID{}).gets("skip not_asked")
	login([]identity.ID{"sid:" + helpers}).gets("skip not_asked")
	// Not known is not "in none".
	login(nil).prompts("Code").types("123456").gets("deny not_enrolled")
	login([]identity.ID{"sid:" + helpers, "sid:" + staff}).prompts("Code").types("123456").gets("deny not_enrolled")
	// A group that was seen requires for a while, as everywhere.
	login([]identity.ID{}).prompts("Code")

	w = newWorld(t)
	w.config.Policy.Ask = policy.AskRequired
	w.config.Policy.Exempt.Groups = []string{helpers}
	login([]identity.ID{"sid:" + helpers}).gets("skip exempt")
	login([]identity.ID{"sid:" + staff}).prompts("Code")
	login(nil).prompts("Code")
	w.config.Policy.Exempt.Groups = []string{"nosuchgroup"}
	login([]identity.ID{"sid:" + helpers}).prompts("Code")
}

// TestTheOwnerOfThePassword: who wants in is whose password it is. That needs no
// directory, and one that says otherwise ends the login.
func TestTheOwnerOfThePassword(t *testing.T) {
	w := newWorld(t)
	w.windows(password.Result{Verdict: password.Right, User: isRoot, Groups: []identity.ID{}})
	h, _ := w.asksPhone(atTheScreen(rightPassword), named("somebody@out.of.reach"))
	h.types(w.code()).gets("allow code_accepted")
	if e := w.attempt(); e.User != "root" || e.Key != "uid:0" {
		t.Errorf("%+v", e)
	}
	w.logsIn(atTheScreen(rightPassword), daemon).gets("deny identity_changed")
	if e := w.attempt(); e.User != "" || e.Key != "" {
		t.Errorf("%+v", e)
	}
	// The system did not say whose it is, and the name is nobody's.
	w.windows(password.Result{Verdict: password.Right})
	w.logsIn(atTheScreen(rightPassword), named("nosuchuser")).gets("deny unknown_user")
	w.silent()
}

// TestOthersAskForWhomTheyHaveThePassword: a credential prompt in somebody's session.
func TestOthersAskForWhomTheyHaveThePassword(t *testing.T) {
	w := newWorld(t)
	w.windows(password.Result{Verdict: password.Right, User: isRoot, Groups: []identity.ID{}})
	w.logsIn(atTheScreen("guess"), byOthers).gets("deny wrong_password")
	w.logsIn(atTheScreen(""), byOthers).gets("deny wrong_password")
	account := func(b *loginv1.Begin, _ *localsock.Peer) { b.Stage = loginv1.Stage_STAGE_ACCOUNT }
	w.logsIn(atTheScreen(rightPassword), byOthers, account).gets("deny protocol_error") // nobody checked it
	w.logsIn(byOthers).gets("deny protocol_error")                                      // another kind of hook
	w.silent()
	h, s := w.asksPhone(atTheScreen(rightPassword), byOthers)
	s.approves(w.phone)
	h.pressesEnter().gets("allow push_approved")
	// What such a hook says of itself exempts nobody, as ever.
	w.config.Policy.Exempt.Services = []string{"logonui"}
	h, _ = w.asksPhone(atTheScreen(rightPassword), byOthers)
	h.types(w.code()).gets("allow code_accepted")
	w.logsIn(atTheScreen(rightPassword)).gets("skip exempt")
}

func TestASystemThatChecksNoPasswordsHasNoProvider(t *testing.T) {
	w := newWorld(t)
	for _, typed := range []string{"", rightPassword} {
		w.logsIn(atTheScreen(typed)).gets("deny protocol_error")
		w.logsIn(atTheScreen(typed), byOthers).gets("deny protocol_error")
	}
	w.silent()
}

// TestNobodyComesByThePasswordAsAnotherHook: whoever says that it is PAM, or only
// asks about an account, would have come without one.
func TestNobodyComesByThePasswordAsAnotherHook(t *testing.T) {
	w := newWorld(t)
	asked := w.windows(wrong)
	asPAM := func(b *loginv1.Begin, _ *localsock.Peer) { b.Hook, b.Password = loginv1.HookKind_HOOK_KIND_PAM, nil }
	account := func(b *loginv1.Begin, _ *localsock.Peer) { b.Stage = loginv1.Stage_STAGE_ACCOUNT }
	itself := func(_ *loginv1.Begin, p *localsock.Peer) { *p = localsock.Peer{ID: isRoot.ID} }
	w.logsIn(atTheScreen(""), asPAM).gets("deny protocol_error")
	w.logsIn(atTheScreen(""), asPAM, itself).gets("deny protocol_error")
	w.logsIn(atTheScreen(""), account).gets("deny protocol_error")
	if len(*asked) > 0 {
		t.Error("the system was asked")
	}
	w.silent()
}

// TestWhoIsLetInIsTold: whom a provider of the system's may let in, once it is on
// the disk.
func TestWhoIsLetInIsTold(t *testing.T) {
	w := newWorld(t)
	w.windows(password.Result{Verdict: password.Right, User: isRoot, Groups: []identity.ID{}})
	var told []identity.ID
	w.service.Admitted = func(id identity.ID) {
		told = append(told, id)
		if e := w.attempt(); e.Verdict == "deny" || e.Key != string(id) {
			t.Errorf("%s may come in, and the last login on disk is %+v", id, e)
		}
	}
	logins := func(want int) {
		t.Helper()
		if len(told) != want {
			t.Errorf("told of %v, want %d", told, want)
		}
	}
	w.logsIn(atTheScreen("guess")).gets("deny wrong_password")
	h, _ := w.asksPhone(atTheScreen(rightPassword))
	h.types("000000").gets("deny wrong_code")
	w.later(gap)
	h = w.logsIn(byOthers, atTheScreen(rightPassword)) // says that it is the login screen
	s := w.rings()
	h.prompts("Type")
	s.approves(w.phone)
	h.pressesEnter().gets("allow push_approved")
	logins(0)
	w.later(gap)
	h, s = w.asksPhone(atTheScreen(rightPassword))
	s.approves(w.phone)
	h.pressesEnter().gets("allow push_approved")
	logins(1)
	h, _ = w.asksPhone(atTheScreen(rightPassword))
	h.types(w.code()).gets("allow code_accepted")
	logins(2)
	w.config.Policy.Exempt.Users = []string{"root"}
	w.logsIn(atTheScreen(rightPassword)).gets("skip exempt")
	logins(3)
	for _, id := range told {
		if id != identity.Root {
			t.Errorf("told of %v", told)
		}
	}
}

// TestThePasswordIsNowhere: not in an event, the log, or what the hook is sent; and
// the message that it came in is wiped.
func TestThePasswordIsNowhere(t *testing.T) {
	w := newWorld(t)
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	w.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	w.starts()
	var out strings.Builder
	login := func(want string, change ...func(*loginv1.Begin, *localsock.Peer)) {
		t.Helper()
		var b *loginv1.Begin
		h := w.logsIn(append(change, func(begin *loginv1.Begin, _ *localsock.Peer) { b = begin })...)
		if strings.HasPrefix(want, "allow") {
			s := w.rings()
			h.prompts("Type")
			s.approves(w.phone)
			h.pressesEnter()
		}
		out.WriteString(h.gets(want).String())
		for _, c := range b.GetPassword() {
			if c != 0 {
				t.Errorf("%s: the message still holds %q", want, b.GetPassword())
				break
			}
		}
	}
	login("deny protocol_error", atTheScreen(rightPassword)) // no check
	w.windows(password.Result{Verdict: password.Right, User: isRoot, Groups: []identity.ID{}})
	login("allow push_approved", atTheScreen(rightPassword))
	login("deny wrong_password", atTheScreen(rightPassword+"2"))
	login("deny wrong_password", atTheScreen(rightPassword+"2"), named(rightPassword)) // typed into the wrong field
	login("deny identity_changed", atTheScreen(rightPassword), daemon)
	login("deny protocol_error", atTheScreen(rightPassword), func(b *loginv1.Begin, _ *localsock.Peer) { b.Hook = loginv1.HookKind_HOOK_KIND_PAM })
	login("deny protocol_error", atTheScreen(strings.Repeat(rightPassword, 100)))
	login("deny protocol_error", atTheScreen(rightPassword), func(b *loginv1.Begin, _ *localsock.Peer) { b.Stage = loginv1.Stage_STAGE_ACCOUNT })
	for _, e := range w.events() {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
	}
	if err := w.service.Store.View(func(tx *vault.Tx) error {
		a, err := store.Account(tx, string(identity.Root))
		if err != nil {
			return err
		}
		line, err := json.Marshal(a)
		out.Write(line)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "wrong_password") || !strings.Contains(out.String(), "wrong_password") {
		t.Fatal("this test reads nothing")
	}
	for where, text := range map[string]string{"the log": log.String(), "what was sent and kept": out.String()} {
		if strings.Contains(text, "Canary") {
			t.Errorf("%s holds the password:\n%s", where, text)
		}
	}
}
