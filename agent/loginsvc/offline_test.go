package loginsvc

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/offline"
	"sallyport/internal/localsock"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// line is the one to the authority, in the test's hands.
type line struct {
	up      atomic.Bool
	plugged atomic.Bool // Reach has it up
	reached atomic.Int32
}

// cutOff is a world whose computer has joined, escrowed a key, and lost the
// authority just now. No phone is enrolled.
func cutOff(t *testing.T, limits policy.Offline) (*world, *line) {
	t.Helper()
	w, l := newWorld(t), new(line)
	w.enrols("root", 0)
	w.config.Policy.Offline = limits
	w.change(func(tx *vault.Tx) error {
		a := &store.Authority{DeviceID: deviceID, DeviceName: "mars", BypassKey: bypassKey, Escrowed: true}
		if err := store.PutAuthority(tx, a); err != nil {
			return err
		}
		return store.PutContact(tx, offline.Contact{}.New(tx.Now()))
	})
	w.plug(l)
	return w, l
}

const deviceID = "ATHNESSGRNI3SNDEBFZECXYBXE"

var bypassKey = []byte("thirty-two bytes of a device key")

// plug has the service ask the line; again after a restart.
func (w *world) plug(l *line) {
	w.service.Facts = Facts{Online: l.up.Load, Reach: func(context.Context) bool {
		l.reached.Add(1)
		l.up.Store(l.plugged.Load())
		return l.up.Load()
	}}
}

var shown = regexp.MustCompile(`challenge ([0-9A-Z]{4}-[0-9A-Z]{4})\.`)

// challenge is what the open prompt shows.
func (h *hook) challenge() string {
	h.Helper()
	m := shown.FindSubmatch(h.prompt.GetText())
	if m == nil {
		h.Fatalf("no challenge is shown: %q", h.prompt.GetText())
	}
	return string(m[1])
}

// answers is what the helpdesk reads out for it.
func answers(t *testing.T, challenge, user string, life time.Duration) string {
	t.Helper()
	c, err := offline.ParseChallenge(challenge, deviceID, user)
	if err != nil {
		t.Fatal(err)
	}
	a, err := offline.Answer(bypassKey, deviceID, user, c, life)
	if err != nil {
		t.Fatal(err)
	}
	return a.Reveal()
}

const tooLong = "This computer has been away from your organisation's network for too long, and takes no codes"

// in logs the person in with the code of now, and lets the next one come.
func (w *world) in(prompt string) {
	w.Helper()
	w.logsIn().prompts(prompt).types(w.code()).gets("allow code_accepted")
	w.later(30 * time.Second)
}

func TestLoginsWithoutContactAreCounted(t *testing.T) {
	w, l := cutOff(t, policy.Offline{Logins: 3, WarnLogins: 2})
	l.up.Store(true)
	for range 5 {
		w.in("Code from")
	}
	l.up.Store(false)
	w.in("Code from")
	w.logsIn().prompts("1 more login after this one, before this computer must reach the network").types("000000").gets("deny wrong_code") // counts nothing
	w.in("1 more login after this one")
	w.in("This is the last login before")
	h := w.logsIn().prompts(tooLong)
	if v := h.types(w.code()).gets("deny offline_limit"); !strings.Contains(string(v.GetText()), "took no code") {
		t.Errorf("%s", v.GetText())
	}
	// Another person has a count of their own, and whoever is not asked has none.
	w.enrols("daemon", 1)
	w.logsIn(func(b *loginv1.Begin, _ *localsock.Peer) { b.User = []byte("daemon") }).prompts("Code from").types(w.code()).gets("allow code_accepted")
	// Contact ends it: a new one, as the link has it.
	w.change(func(tx *vault.Tx) error {
		c, err := store.Contact(tx)
		if err != nil {
			return err
		}
		return store.PutContact(tx, c.New(tx.Now()))
	})
	w.later(30 * time.Second)
	w.in("Code from")
}

// TestExplainSaysHowTheLimitStands, as the login that follows shows it; "as if it
// were offline" is said of a line that went just now.
func TestExplainSaysHowTheLimitStands(t *testing.T) {
	w, l := cutOff(t, policy.Offline{Days: 3, Logins: 2, WarnLogins: 2})
	explain := func(change func(*Imagined)) *Offline {
		t.Helper()
		i := Imagined{Begin: &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
			Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte("root"), Service: []byte("login")}}
		change(&i)
		e, err := w.service.Explain(t.Context(), i)
		if err != nil || e.Outcome != Asked && e.Offline != nil {
			t.Fatalf("%+v, %v", e, err)
		}
		return e.Offline
	}
	asItIs := func(*Imagined) {}
	asIf := func(online bool) func(*Imagined) { return func(i *Imagined) { i.Online = &online } }
	says := func(o *Offline, reached bool, logins int, left time.Duration) {
		t.Helper()
		if o == nil || !o.Limited || o.Reached != reached || o.Logins != logins || o.Left != left || !o.Challenge {
			t.Errorf("%+v", o)
		}
	}
	const day = 24 * time.Hour
	says(explain(asItIs), false, 2, 3*day)
	w.in("1 more login after this one")
	says(explain(asItIs), false, 1, 3*day-30*time.Second)
	w.in("This is the last login before")
	says(explain(asItIs), true, 0, 3*day-time.Minute)
	w.logsIn().prompts(tooLong).types(w.code()).gets("deny offline_limit")
	if o := explain(asIf(true)); o != nil {
		t.Errorf("as if online: %+v", o)
	}
	// By time, which an imagined moment has behind it.
	w.config.Policy.Offline.Logins = 0
	tomorrow := w.service.Clock.Now().Wall.Add(day)
	says(explain(func(i *Imagined) { i.At = tomorrow }), false, 0, 2*day-time.Minute)
	w.later(3*day - time.Minute)
	says(explain(asItIs), true, 0, 0)
	w.logsIn().prompts(tooLong).types("").gets("deny offline_limit")
	// The line is up, and its contact was written down long ago.
	l.up.Store(true)
	if o := explain(asItIs); o != nil {
		t.Errorf("online: %+v", o)
	}
	says(explain(asIf(false)), false, 0, 3*day)
	// Nobody could answer; nothing is limited; nothing is asked.
	l.up.Store(false)
	w.config.Authority.Accept = nil
	if o := explain(asItIs); o == nil || !o.Reached || o.Challenge {
		t.Errorf("no challenge: %+v", o)
	}
	w.config.Policy.Offline.Days = 0
	if o := explain(asItIs); o == nil || o.Limited {
		t.Errorf("no limit: %+v", o)
	}
	w.rule("all: skip")
	if o := explain(asItIs); o != nil {
		t.Errorf("not asked: %+v", o)
	}
}

// TestAtTheLimitTheAuthorityIsTriedOnceMore: whoever has just plugged the cable in
// is not told that they did not.
func TestAtTheLimitTheAuthorityIsTriedOnceMore(t *testing.T) {
	w, l := cutOff(t, policy.Offline{Days: 1})
	w.later(25 * time.Hour)
	w.logsIn().prompts(tooLong).types("").gets("deny offline_limit")
	if l.reached.Load() != 1 {
		t.Errorf("tried %d times", l.reached.Load())
	}
	l.plugged.Store(true)
	w.in("Code from your authenticator app: $")
	// It comes while the prompt is open, and counts when the code is compared.
	l.up.Store(false)
	l.plugged.Store(false)
	h := w.logsIn().prompts(tooLong)
	l.up.Store(true)
	h.types(w.code()).gets("allow code_accepted")
	w.later(30 * time.Second)
	// Or goes.
	h = w.logsIn().prompts("Code from")
	l.up.Store(false)
	h.types(w.code()).gets("deny offline_limit")
}

// TestDaysWithoutContact: the clock set back, in this boot or before the next, gives
// no more of them.
func TestDaysWithoutContact(t *testing.T) {
	w, l := cutOff(t, policy.Offline{Days: 30, WarnDays: 2})
	w.later(27 * 24 * time.Hour)
	w.in("Code from")
	w.later(2 * 24 * time.Hour)
	w.in(`Codes are taken until [A-Z][a-z]+day \d\d:\d\d, before this computer must reach the network\.`)
	w.boots++ // and the wall clock a month behind, while the boot's begins anew
	w.service.Store.Close()
	w.passed -= 29 * 24 * time.Hour
	w.starts()
	w.plug(l)
	w.change(store.CarryContact)
	w.later(23 * time.Hour)
	w.logsIn().prompts("Codes are taken until").types("").gets("deny cancelled")
	w.later(2 * time.Hour)
	w.logsIn().prompts(tooLong).types("").gets("deny offline_limit")
}

// TestTheWarningFollowsTheTimeZone: contact was at noon.
func TestTheWarningFollowsTheTimeZone(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{Days: 30, WarnDays: 2})
	w.later(29 * 24 * time.Hour)
	zone, broken := time.FixedZone("moved", 3*60*60), error(nil)
	w.service.Facts.Zone = func() (*time.Location, error) { return zone, broken }
	w.in(`Codes are taken until [A-Z][a-z]+day 15:00,`)
	zone, broken = nil, errors.New("half a file")
	w.in(`Codes are taken until [A-Z][a-z]+day 12:00,`)
}

func TestTheStricterLimitCounts(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{Days: 30})
	w.config.Authority.Accept = []string{"policy"}
	w.change(func(tx *vault.Tx) error {
		return store.PutSigned(tx, "policy", "", store.Item{Version: 1, Policy: []byte(`{"Ask":"enrolled","Offline":{"Days":1,"WarnLogins":5}}`)})
	})
	w.later(25 * time.Hour)
	w.logsIn().prompts(tooLong).types("").gets("deny offline_limit")
}

func TestAComputerThatNeverJoinedHasNoLimit(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{Days: 1, Logins: 1})
	w.change(store.ForgetAuthority)
	w.later(900 * 24 * time.Hour)
	for range 3 {
		w.in("Code from")
	}
	w.logsIn().prompts("Code").types("?").prompts("There is no challenge on this computer").types(w.code()).gets("allow code_accepted")
}

// HAZARD: contacts are numbered from 1 again after joining anew, and who had used up
// all logins after one of that number would be kept out at once.
func TestLoginsAreNotCountedForAContactOfTheAuthorityBefore(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{Logins: 2})
	w.in("Code from")
	w.in("Code from")
	w.logsIn().prompts(tooLong).types("").gets("deny offline_limit")
	w.change(store.ForgetAuthority)
	w.change(func(tx *vault.Tx) error {
		if err := store.PutAuthority(tx, &store.Authority{DeviceID: "B" + deviceID[1:], DeviceName: "mars", BypassKey: bypassKey, Escrowed: true}); err != nil {
			return err
		}
		return store.PutContact(tx, offline.Contact{}.New(tx.Now()))
	})
	w.in("Code from")
}

func TestTheHelpdeskAnswers(t *testing.T) {
	w, l := cutOff(t, policy.Offline{Logins: 1})
	w.in("This is the last login|Code")
	h := w.logsIn().prompts(tooLong)
	challenge := h.challenge()
	answer := answers(t, challenge, "root", time.Hour)
	w.service.Store.Close() // killed, with the prompt open
	h.cancel()
	w.starts()
	w.plug(l)
	if h = w.logsIn().prompts(tooLong); h.challenge() != challenge {
		t.Error("another challenge after a restart")
	}
	h.types(answer).gets("allow code_accepted")
	w.logsIn().prompts(tooLong).types(answer).gets("deny wrong_code")
	var last event.Event
	for _, e := range w.events() {
		if e.Verdict == "allow" {
			last = e
		}
	}
	if last.Name != event.LoginAttempt || last.Factor != "offline_bypass" || last.User != "root" {
		t.Errorf("%+v", last)
	}
	if a := w.account(); a.Offline.Used.Logins != 2 {
		t.Errorf("%+v", a.Offline)
	}
}

// TestAnAnswerThatCameTooLate: its life counts by this computer's clock, and setting
// that back prolongs nothing.
func TestAnAnswerThatCameTooLate(t *testing.T) {
	w, l := cutOff(t, policy.Offline{})
	h := w.logsIn().prompts("Code").types("?").prompts("To get a code, call your helpdesk and tell them: computer mars, challenge")
	answer := answers(t, h.challenge(), "root", 15*time.Minute)
	w.later(20 * time.Minute)
	w.logsIn().prompts("Code").types("").gets("deny cancelled") // so that the vault has seen this time
	w.boots++
	w.service.Store.Close()
	w.passed -= 19 * time.Minute
	w.starts()
	w.plug(l)
	w.logsIn().prompts("Code").types(answer).gets("deny code_expired")
	w.logsIn().prompts("Code").types(answer).gets("deny wrong_code")
}

func TestOthersAnswersAreRefused(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{})
	w.enrols("daemon", 1)
	as := func(user string) func(*loginv1.Begin, *localsock.Peer) {
		return func(b *loginv1.Begin, _ *localsock.Peer) { b.User = []byte(user) }
	}
	h := w.logsIn(as("daemon")).prompts("Code").types("?").prompts("")
	theirs := answers(t, h.challenge(), "daemon", time.Hour)
	h = w.logsIn().prompts("Code").types("?").prompts("")
	mine := answers(t, h.challenge(), "root", time.Hour)
	h.types(theirs).gets("deny wrong_code")
	w.logsIn(as("daemon")).prompts("Code").types(mine).gets("deny wrong_code")
	// Root takes no such bypass any more.
	accept := w.config.Authority.Accept
	w.config.Authority.Accept = []string{"bypass"}
	w.logsIn().prompts("Code").types("?").prompts("There is no challenge").types(mine).gets("deny wrong_code")
	w.config.Authority.Accept = accept
	// Another device, by joining anew: the key ends with the old one.
	w.change(func(tx *vault.Tx) error {
		return store.PutAuthority(tx, &store.Authority{DeviceID: "B" + deviceID[1:], DeviceName: "mars", BypassKey: bypassKey, Escrowed: true})
	})
	w.logsIn().prompts("Code").types(mine).gets("deny wrong_code")
	// Where the authority has no key, nobody is sent to the helpdesk with a challenge.
	w.change(func(tx *vault.Tx) error {
		return store.PutAuthority(tx, &store.Authority{DeviceID: deviceID, DeviceName: "mars", BypassKey: bypassKey})
	})
	w.logsIn().prompts("Code").types("?").prompts("There is no challenge").types("").gets("deny cancelled")
}

// TestNobodyKnownIsShownAChallengeToo: who is known is not for a guesser to learn.
func TestNobodyKnownIsShownAChallengeToo(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{Days: 1})
	w.config.Policy.Ask = policy.AskRequired
	ghost := func(b *loginv1.Begin, _ *localsock.Peer) { b.User = []byte("ghost") }
	h := w.logsIn(ghost).prompts("Code").types("?").prompts("To get a code, call your helpdesk")
	challenge := h.challenge()
	h.types(answers(t, challenge, "ghost", time.Hour)).gets("deny unknown_user")
	if h = w.logsIn(ghost).prompts("Code").types("?").prompts(""); h.challenge() != challenge {
		t.Error("it changes from one moment to the next, which a real one does not")
	}
	w.later(25 * time.Hour)
	v := w.logsIn(ghost).prompts(tooLong).types("123456").gets("deny unknown_user")
	if !strings.Contains(string(v.GetText()), "took no code") {
		t.Errorf("%s", v.GetText())
	}
	// Nobody gets a record for it.
	if err := w.service.Store.View(func(tx *vault.Tx) error {
		return tx.Each(vault.Users, func(key string, _ func(any) error) error {
			if key != "uid:0" {
				t.Errorf("a record for %s", key)
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
}

// TestWhoIsRequiredAndNotEnrolledIsLetInByTheHelpdesk.
func TestWhoIsRequiredAndNotEnrolledIsLetInByTheHelpdesk(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{})
	w.config.Policy.Ask = policy.AskRequired
	daemon := func(b *loginv1.Begin, _ *localsock.Peer) { b.User = []byte("daemon") }
	h := w.logsIn(daemon).prompts("Code").types("?").prompts("To get a code")
	h.types(answers(t, h.challenge(), "daemon", time.Hour)).gets("allow code_accepted")
	w.config.Policy.Ask = policy.AskEnrolled // and a record is no second factor
	w.logsIn(daemon).gets("skip not_asked")
}

// TestNoPhoneIsAskedAtTheLimit, which could not be reached.
func TestNoPhoneIsAskedAtTheLimit(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{Days: 1})
	w.enrols("root", 0, w.phone.Approver("Pixel of maya"))
	w.later(25 * time.Hour)
	w.logsIn().prompts(tooLong).types("").gets("deny offline_limit")
	w.silent()
}

// TestAVaultThatCannotBeWrittenShowsNoChallenge: it would be another one next time.
func TestAVaultThatCannotBeWrittenShowsNoChallenge(t *testing.T) {
	w, _ := cutOff(t, policy.Offline{})
	h := w.logsIn().prompts("Code")
	_ = w.service.Store.Close()
	h.types("?").gets("deny vault_unavailable")
}
