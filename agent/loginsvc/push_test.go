package loginsvc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/engine"
	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/passkey"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

func TestApprovedOnThePhone(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	c := s.live.Challenge
	if c.Device != "DEVICE" || c.Name != "mars" || c.User != "root" || c.Service != "sshd" || c.From != "192.0.2.7" || s.user != "root" {
		t.Errorf("the phone shows %+v", c)
	}
	s.approves(w.phone)
	h.gets("allow push_approved")
	w.ends(s, "approved")
	w.reported("login_attempt allow push_approved")
	if e := w.events()[len(w.events())-1]; e.Factor != "push" || e.Text != "Pixel of maya" {
		t.Errorf("%+v", e)
	}
	if a := w.account(); !a.LastSuccess.Equal(noon) || len(a.Push.Counters) != 1 {
		t.Errorf("%+v", a.Push)
	}
	// It was answered: another may follow at once.
	h, s = w.asksPhone()
	s.approves(w.phone)
	h.gets("allow push_approved")
}

func TestEnterBeforeAndRightBehindTheApproval(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	w.later(22 * time.Second)
	h.pressesEnter().prompts("Not approved yet, 38 s left. Type " + s.live.Number + " on your phone, then press Enter")
	s.approves(w.phone)
	h.gets("allow push_approved")
	w.ends(s, "approved")
}

func TestWrongNumberIsRefused(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	s.decides(w.phone, push.Approve, other(s.live.Number))
	h.gets("deny wrong_number")
	w.ends(s, "wrong_number")
	w.reported("login_attempt deny wrong_number")
}

// other is a number that is not on the screen.
func other(number string) string {
	if number == "10" {
		return "11"
	}
	return "10"
}

func TestDeniedOnThePhone(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	s.decides(w.phone, push.Deny, "")
	if v := h.gets("deny push_denied"); string(v.GetText()) != "You denied this login on your phone." {
		t.Error(string(v.GetText()))
	}
	w.ends(s, "denied")
}

func TestNotMeLocksPushAndTheCodeStillWorks(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	s.decides(w.phone, push.Report, "")
	h.gets("deny push_reported")
	w.ends(s, "reported")
	w.later(24 * time.Hour)
	w.logsIn().prompts("Push is off since a login was reported; your helpdesk can allow it again. Code from your authenticator app: $").
		types(w.code()).gets("allow code_accepted")
	w.silent()
	w.reported("login_attempt deny push_reported", "push_mfa_reported push_reported",
		"push_mfa_attempt_failed push_reported", "login_attempt allow code_accepted")
}

func TestWhenTheTimeIsUpEnterRingsAgain(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	w.expires()
	w.ends(s, "timed_out")
	s.approves(w.phone) // too late, and heard by nobody
	h.pressesEnter()
	again := w.rings()
	if again.live.Challenge.ID == s.live.Challenge.ID || again.live.Challenge.Nonce == s.live.Challenge.Nonce {
		t.Error("the same challenge again")
	}
	h.prompts("Type " + again.live.Number)
	again.approves(w.phone)
	h.gets("allow push_approved")
	w.ends(again, "approved")
	if a := w.account(); a.Push.Misses != 0 {
		t.Errorf("%+v", a.Push)
	}
}

func TestThreeUnansweredSwitchPushOffForAWhile(t *testing.T) {
	w := newWorld(t)
	w.config.Push.InFiveMinutes = 0
	h, s := w.asksPhone()
	for range 2 {
		w.expires()
		w.ends(s, "timed_out")
		h.pressesEnter()
		s = w.rings()
		h.prompts("Type " + s.live.Number)
	}
	w.expires()
	w.ends(s, "timed_out")
	h.pressesEnter().prompts("Push is off for some minutes: too many requests came to nothing. Code").
		types(w.code()).gets("allow code_accepted")
	w.reported("push_mfa_attempt_failed push_paused", "push_paused push_paused", "login_attempt allow code_accepted")
	w.later(15 * time.Minute)
	h, s = w.asksPhone()
	s.approves(w.phone)
	h.gets("allow push_approved")
}

// The person types a code while the approval comes: one verdict, whichever is
// heard first, and the other counts for nothing.
func TestAnApprovalInTheSameInstantAsACode(t *testing.T) {
	w := newWorld(t)
	w.config.Push.InAnHour = 0
	for range 20 {
		w.later(5 * time.Minute) // another code, and no limit
		h, s := w.asksPhone()
		approval := w.phone.Answer(s.live.Bytes, push.Approve, s.live.Number)
		go func() { s.answers <- approval }()
		h.types(w.code())
		v := h.next().GetVerdict()
		if v.GetDecision() != loginv1.Verdict_DECISION_ALLOW {
			t.Fatalf("%v", v)
		}
		h.isOver()
		if len(h.out) > 0 {
			t.Errorf("a second verdict: %v", <-h.out)
		}
		w.ends(s, map[string]string{"push_approved": "approved", "code_accepted": "code"}[string(v.GetReason())])
	}
	if n := len(w.events()); n != 1+20 {
		t.Errorf("%d events of 20 logins and a new vault", n)
	}
}

func TestACodeEndsThePushAndFreesTheNext(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	h.types(w.code()).gets("allow code_accepted")
	w.ends(s, "code")
	h, s = w.asksPhone()
	// A wrong one does not: the phone rings for nobody who guesses.
	h.types("000000").gets("deny wrong_code")
	w.ends(s, "cancelled")
	w.logsIn().prompts("Too many push requests. Code from your authenticator app: $")
	w.silent()
}

func TestPushBombingASecondLoginAtOnceIsRefusedWithTheEvent(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	two := w.logsIn().prompts("Too many push requests. Code from your authenticator app: $")
	w.silent()
	s.approves(w.phone)
	h.gets("allow push_approved")
	two.types(w.code()).gets("allow code_accepted")
	w.reported("push_mfa_attempt_failed too_many_push_requests", "login_attempt allow push_approved", "login_attempt allow code_accepted")
	for _, e := range w.events() {
		if e.Name == "push_mfa_attempt_failed" && (e.Text != "too many concurrent push requests" || e.User != "root" || e.Service != "sshd" || e.Remote != "192.0.2.7") {
			t.Errorf("%+v", e)
		}
	}
}

func TestPushBombingTheFourthInFiveMinutesIsRefused(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		h, s := w.asksPhone()
		s.approves(w.phone)
		h.gets("allow push_approved")
		w.later(time.Minute)
	}
	w.logsIn().prompts("Too many push requests. Code")
	w.silent()
	w.later(2 * time.Minute)
	w.asksPhone()
}

func TestTheAgentIsKilledWhileAPhoneRings(t *testing.T) {
	w := newWorld(t)
	_, s := w.asksPhone()
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	w.starts()
	// It was on disk before it rang: the next has to wait, and counts it as missed.
	w.logsIn().prompts("Too many push requests. Code")
	w.silent()
	w.later(time.Minute)
	h, next := w.asksPhone()
	if w.account().Push.Misses != 1 {
		t.Errorf("%+v", w.account().Push)
	}
	// The answer to the first is none to the second.
	next.answers <- w.phone.Answer(s.live.Bytes, push.Approve, s.live.Number)
	w.ends(next, "cancelled")
	h.types(w.code()).gets("allow code_accepted")
}

func TestAHookThatVanishesStopsTheRinging(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	h.cancel()
	h.isOver()
	w.ends(s, "cancelled")
	w.reported("login_attempt deny hook_vanished")

	w.later(time.Minute)
	h, s = w.asksPhone()
	h.in <- &loginv1.HookMessage{Message: &loginv1.HookMessage_Cancel{Cancel: &loginv1.Cancel{}}}
	h.gets("deny cancelled")
	w.ends(s, "cancelled")

	w.later(time.Minute)
	h, s = w.asksPhone()
	close(w.stopping)
	h.gets("deny agent_stopping")
	w.ends(s, "cancelled")
}

func TestAnAuthorityThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.courier.hangs = true
	h := w.logsIn().prompts("Your phone cannot be reached. Code from your authenticator app: $")
	if d := w.courier.within; d <= 0 || d > 1500*time.Millisecond {
		t.Errorf("the authority is waited for for %s", d)
	}
	h.types(w.code()).gets("allow code_accepted")
	w.reported("login_attempt allow code_accepted") // offline is normal
	// What rang nobody counts for nothing.
	if a := w.account(); len(a.Push.Begun) != 0 || a.Push.Misses != 0 {
		t.Errorf("%+v", a.Push)
	}
	w.courier.hangs = false
	w.asksPhone()
}

func TestWhatTheAuthorityRefuses(t *testing.T) {
	for reason, text := range map[push.Reason]string{
		push.TooMany:         "Too many push requests. ",
		push.Paused:          "Push is off for some minutes",
		"user_not_allowed":   "Your phone cannot be asked now. ",
		"code_accepted":      "Your phone cannot be asked now. ",
		"\x1b[2J\n; DROP":    "Your phone cannot be asked now. ",
		push.Reason(longish): "Your phone cannot be asked now. ",
	} {
		w := newWorld(t)
		w.courier.refuse = &PushRefused{Reason: reason, Text: "why\x1b not"}
		w.logsIn().prompts(text).types(w.code()).gets("allow code_accepted")
		e := w.events()[1]
		if e.Name != "push_mfa_attempt_failed" || !slices.Contains([]string{"too_many_push_requests", "push_paused", "push_refused"}, e.Reason) {
			t.Errorf("%+v", e)
		}
		if want := "the authority: why? not"; e.Text != want && e.Text != "too many concurrent push requests; "+want {
			t.Errorf("%q", e.Text)
		}
		if a := w.account(); len(a.Push.Begun) != 0 {
			t.Errorf("%+v", a.Push)
		}
	}
}

const longish = "a_reason_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on"

func TestAForgedAnswerIsAnEventAndLeavesTheCode(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	w.phone.AfterSigning = func(a *push.Assertion) { a.Signature[8] ^= 1 }
	s.approves(w.phone)
	w.phone.AfterSigning = nil
	w.ends(s, "cancelled")
	// One answer is looked at, not one after the other until one fits.
	s.approves(w.phone)
	h.pressesEnter().prompts("What came from your phone could not be verified. Code from your authenticator app: $").
		types(w.code()).gets("allow code_accepted")
	w.reported("push_mfa_attempt_failed push_answer_forged", "login_attempt allow code_accepted")
}

func TestReplayASecondAnswerIsNotHeard(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	a := w.phone.Answer(s.live.Bytes, push.Approve, s.live.Number)
	s.answers <- a
	s.answers <- a
	h.gets("allow push_approved")
	// And the same answer opens no other login.
	h, s = w.asksPhone()
	s.answers <- a
	w.ends(s, "cancelled")
	h.types(w.code()).gets("allow code_accepted")
	w.reported("login_attempt allow push_approved", "push_mfa_attempt_failed push_answer_forged", "login_attempt allow code_accepted")
}

func TestWhoIsNotRootAsksNoPhone(t *testing.T) {
	w := newWorld(t)
	w.enrols("daemon", 1, w.phone.Approver("Pixel of maya"))
	asDaemon := func(uid uint32) func(*loginv1.Begin, *localsock.Peer) {
		return func(b *loginv1.Begin, p *localsock.Peer) {
			b.User, p.ID, p.Admin = []byte("daemon"), identity.UID(uid), false
		}
	}
	w.logsIn(asDaemon(1)).prompts("Code from your authenticator app: $").types(w.code()).gets("allow code_accepted")
	w.silent()
	w.asksPhone(asDaemon(0)) // the same person, by root's hook
}

func TestWhenNoPhoneIsAsked(t *testing.T) {
	for name, change := range map[string]func(*world){
		"no courier":   func(w *world) { w.service.Courier = nil },
		"switched off": func(w *world) { w.config.Push.Enabled = false },
		"no phone":     func(w *world) { w.enrols("root", 0) },
		"only a synced one where they do not count": func(w *world) {
			w.config.Push.AllowSynced = false
			w.enrols("root", 0, passkey.NewSynced(rp).Approver("iPhone"))
		},
		"not joined": func(w *world) {
			w.change(func(tx *vault.Tx) error { return tx.Delete(vault.Settings, "authority") })
		},
		"joined, and the settings did not come yet": func(w *world) {
			w.change(func(tx *vault.Tx) error {
				return store.PutSigned(tx, organisation.KindSettings, "", store.Item{Version: 2})
			})
		},
		"a signed phone where root takes none": func(w *world) {
			w.enrols("root", 0)
			w.signs("root", w.phone.Approver("Pixel"))
			w.config.Authority.Accept = []string{"policy"}
		},
		"somebody else's signed phone": func(w *world) {
			w.enrols("root", 0)
			w.signs("daemon", w.phone.Approver("Pixel"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change(w)
			w.logsIn().prompts("Code from your authenticator app: $").types(w.code()).gets("allow code_accepted")
			w.silent()
			w.reported("login_attempt allow code_accepted")
		})
	}
}

func (w *world) signs(user string, phones ...push.Approver) {
	w.Helper()
	w.change(func(tx *vault.Tx) error {
		return store.PutSigned(tx, organisation.KindApprovers, user, store.Item{Version: 1, Approvers: phones})
	})
}

func TestAPhoneThatTheOrganisationSigned(t *testing.T) {
	w := newWorld(t)
	w.enrols("root", 0)
	w.signs("root", w.phone.Approver("Pixel of maya"))
	h, s := w.asksPhone()
	s.approves(w.phone)
	h.gets("allow push_approved")
}

func TestAPhoneRemovedWhileItRingsCountsNoMore(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	w.change(func(tx *vault.Tx) error {
		a, err := store.Account(tx, string(identity.Root))
		if err == nil {
			a.Phones = nil
			err = store.Put(tx, a)
		}
		return err
	})
	s.approves(w.phone)
	w.ends(s, "cancelled")
	h.types(w.code()).gets("allow code_accepted")
	w.reported("push_mfa_attempt_failed push_answer_forged", "login_attempt allow code_accepted")
}

func TestThePushOutlivesALockoutOfTheCode(t *testing.T) {
	w := newWorld(t)
	w.change(func(tx *vault.Tx) error {
		a, err := store.Account(tx, string(identity.Root))
		if err == nil {
			a.Lockout = factor.Lockout{Until: tx.Now().In(time.Hour)}
			err = store.Put(tx, a)
		}
		return err
	})
	h, s := w.asksPhone()
	s.approves(w.phone)
	h.gets("allow push_approved")
}

func TestALiveHookSeesTheNumberAndHasItsPromptClosed(t *testing.T) {
	w := newWorld(t)
	h := w.logsIn(func(b *loginv1.Begin, _ *localsock.Peer) {
		b.Capabilities = &loginv1.Capabilities{CancelPrompt: true, LiveNotices: true}
	})
	s := w.rings()
	d := h.next().GetWaiting()
	if string(d.GetDevice()) != "Pixel of maya" || s.live.Number != fmt.Sprint(d.GetNumber()) || d.GetExpiresInMs() != 60_000 {
		t.Errorf("%v, on the screen %s", d, s.live.Number)
	}
	h.prompts("Type " + s.live.Number)
	s.approves(w.phone)
	if d := h.next(); d.GetClosePrompt().GetId() != h.prompt.GetId() {
		t.Errorf("%v", d)
	}
	h.gets("allow push_approved")
}

func TestTheVaultIsGoneWhenTheApprovalComes(t *testing.T) {
	w := newWorld(t)
	h, s := w.asksPhone()
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	s.approves(w.phone)
	h.gets("deny vault_unavailable")
	w.ends(s, "cancelled")
}

func TestLimitsCanBeRaisedAndTurnedOff(t *testing.T) {
	w := newWorld(t)
	w.config.Push.Concurrent, w.config.Push.PerService, w.config.Push.InFiveMinutes, w.config.Push.InAnHour = 2, 1, 0, 0
	_, _ = w.asksPhone()
	w.logsIn().prompts("Too many push requests. ") // sshd's one is pending
	sudo := func(b *loginv1.Begin, _ *localsock.Peer) { b.Service = []byte("sudo") }
	h, s := w.asksPhone(sudo)
	s.approves(w.phone)
	h.gets("allow push_approved")
	w.config.Push.Concurrent, w.config.Push.PerService = 0, 0
	_, one := w.asksPhone()
	h, two := w.asksPhone()
	// Each answer opens its own login only.
	two.answers <- w.phone.Answer(one.live.Bytes, push.Approve, one.live.Number)
	w.ends(two, "cancelled")
	h.types(w.code()).gets("allow code_accepted")
}

func TestAuthorityPutsATextBeforeThePerson(t *testing.T) {
	phones := []push.Approver{{Phone: "Pixel"}, {Phone: "iPad"}, {Phone: "Pixel"}}
	for said, want := range map[string]string{
		"": "Pixel, iPad", "iPad": "iPad", "Pixel, iPad": "Pixel, iPad", "Pixel,iPad": "Pixel, iPad",
		"or type your password at evil.example.com": "Pixel, iPad", "Pixel, call 555-1234": "Pixel, iPad", "\x1b[2J": "Pixel, iPad",
	} {
		if got := phoneNames(said, phones); got != want {
			t.Errorf("%q: the screen says %q, want %q", said, got, want)
		}
	}
	if got := phoneNames("", []push.Approver{{Phone: strings.Repeat("\u00fc", 60) + "\x1b"}}); len(got) > maxDevice || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
}

// The name means another account now than when the login began (CVE-2024-9313).
func TestAnApprovalIsForWhomTheLoginBeganWith(t *testing.T) {
	w := newWorld(t)
	live, err := push.NewChallenge(push.Challenge{User: "root"}, w.Now(), time.Minute, 2)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(user accounts.User) *login {
		return &login{Service: w.service, ctx: t.Context(), settings: w.service.Settings(), begin: &loginv1.Begin{User: []byte("root")}, user: user, resolved: true,
			push: &pushing{live: live, answer: w.phone.Answer(live.Bytes, push.Approve, live.Number)}}
	}
	w.change(func(tx *vault.Tx) error {
		a, err := store.Account(tx, string(identity.Root))
		if err == nil {
			a.BeginPush(live.Challenge.ID, "sshd", tx.Now(), push.DefaultLimits())
			err = store.Put(tx, a)
		}
		return err
	})
	if in := begin(accounts.User{Name: "root", ID: identity.UID(1)}).verifyPush(); in != (engine.Failed{Reason: reasonIdentity}) {
		t.Errorf("%+v", in)
	}
	if in, ok := begin(accounts.User{Name: "root", ID: identity.UID(0)}).verifyPush().(engine.PushChecked); !ok || !in.Outcome.OK {
		t.Errorf("%+v", in)
	}
}
