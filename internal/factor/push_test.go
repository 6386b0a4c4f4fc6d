package factor_test

import (
	"encoding/json"
	"testing"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/passkey"
)

var rp = push.RelyingParty{ID: "approve.example.com", Origin: "https://approve.example.com"}

// approver is a person of a world with a phone that can be asked.
type approver struct {
	*world
	key    *passkey.Key
	live   *push.Live
	limits push.Limits
	rules  push.Rules
}

func withPhone(t *testing.T) *approver {
	t.Helper()
	a := &approver{world: enrolled(t), key: passkey.New(rp), limits: push.DefaultLimits(), rules: push.Rules{RelyingParty: rp, AllowSynced: true}}
	a.account.Phones = []push.Approver{a.key.Approver("Pixel")}
	return a
}

// asks begins a request.
func (a *approver) asks(refused factor.Reason) *approver {
	a.Helper()
	live, err := push.NewChallenge(push.Challenge{User: "alice"}, a.now(), time.Minute, 2)
	if err != nil {
		a.Fatal(err)
	}
	got, _ := a.account.BeginPush(live.Challenge.ID, "sshd", a.now(), a.limits)
	if got != refused {
		a.Fatalf("%q, want %q", got, refused)
	}
	if refused == "" {
		a.live = live
	}
	a.throughJSON()
	return a
}

func (a *approver) decides(d push.Decision, number string, want factor.Reason) factor.PushOutcome {
	a.Helper()
	return a.checks(a.key.Answer(a.live.Bytes, d, number), want)
}

func (a *approver) checks(answer push.Answer, want factor.Reason) factor.PushOutcome {
	a.Helper()
	o := factor.CheckPush(a.account, a.live, answer, a.account.Approvers(nil, true), a.rules, a.now(), a.limits)
	a.throughJSON()
	if o.Reason != want || o.OK != (want == factor.PushApproved) || o.Factor != factor.Push {
		a.Fatalf("%+v, want %s", o, want)
	}
	return o
}

func TestAPushIsApprovedOnce(t *testing.T) {
	a := withPhone(t).asks("")
	answer := a.key.Answer(a.live.Bytes, push.Approve, a.live.Number)
	a.checks(answer, factor.PushApproved)
	if !a.account.LastSuccess.Equal(a.now().Wall) {
		t.Error("the success is not noted")
	}
	a.checks(answer, factor.PushRepeated)
	a.decides(push.Approve, a.live.Number, factor.PushRepeated)
	a.decides(push.Report, "", factor.PushRepeated)
	if a.account.Push.Reported {
		t.Error("an answer that is none locks push")
	}
}

func TestOneWrongNumberEndsTheChallenge(t *testing.T) {
	a := withPhone(t).asks("")
	a.decides(push.Approve, "99999"[:2+len(a.live.Number)], factor.PushWrongNumber)
	a.decides(push.Approve, a.live.Number, factor.PushRepeated)
}

func TestAForgedAnswerEndsTheChallenge(t *testing.T) {
	a := withPhone(t).asks("")
	stranger := passkey.New(rp)
	if o := a.checks(stranger.Answer(a.live.Bytes, push.Approve, a.live.Number), factor.PushForged); o.Detail == "" {
		t.Error("the log is not told why")
	}
	a.decides(push.Approve, a.live.Number, factor.PushRepeated)
}

func TestALateAnswerStaysPendingAndIsAMiss(t *testing.T) {
	a := withPhone(t).asks("")
	a.later(59 * time.Second)
	a.live.Until = a.now().In(0)
	a.decides(push.Approve, a.live.Number, factor.PushLate)
	a.asks(factor.PushTooMany).later(time.Second)
	a.asks("")
	if a.account.Push.Misses != 1 {
		t.Errorf("%+v", a.account.Push)
	}
}

func TestTheCounterIsRememberedAsLongAsThePhone(t *testing.T) {
	a := withPhone(t)
	a.key.Counter = 7
	a.asks("").decides(push.Approve, a.live.Number, factor.PushApproved)
	a.key.Counter = 7 // a copy, made before
	a.asks("").decides(push.Approve, a.live.Number, factor.PushForged)
	// A denial counts too, and a forgery does not.
	a.later(10 * time.Minute)
	a.key.Counter = 8
	a.asks("").decides(push.Deny, "", factor.PushDenied)
	if n := a.account.Push.Counters[push.CounterKey(a.key.ID)]; n != 9 {
		t.Errorf("the counter is %d", n)
	}
	// With another phone the old one's is forgotten.
	a.key = passkey.New(rp)
	a.account.Phones = []push.Approver{a.key.Approver("new")}
	a.later(10 * time.Minute)
	a.asks("").decides(push.Approve, a.live.Number, factor.PushApproved)
	if len(a.account.Push.Counters) != 1 {
		t.Errorf("%v", a.account.Push.Counters)
	}
	// One that has no counter keeps none.
	a.key = passkey.NewSynced(rp)
	a.account.Phones = []push.Approver{a.key.Approver("synced")}
	a.asks("").decides(push.Approve, a.live.Number, factor.PushApproved)
	if len(a.account.Push.Counters) != 0 {
		t.Errorf("%v", a.account.Push.Counters)
	}
}

func TestThePauseIsToldOnce(t *testing.T) {
	a := withPhone(t)
	for i := range 3 {
		a.asks("")
		if o := a.decides(push.Deny, "", factor.PushDenied); o.PausedNow != (i == 2) {
			t.Errorf("denial %d: %+v", i+1, o)
		}
	}
	if refused, now := a.account.BeginPush("x", "sshd", a.now(), a.limits); refused != factor.PushPaused || now {
		t.Error(refused, now)
	}
	// By what was not answered it is told when the next is begun.
	a = withPhone(t)
	for range 2 {
		a.asks("").later(2 * time.Minute)
	}
	a.asks("").later(2 * time.Minute)
	if refused, now := a.account.BeginPush("x", "sshd", a.now(), a.limits); refused != factor.PushPaused || !now {
		t.Error(refused, now)
	}
}

func TestNobodyIsPushOnly(t *testing.T) {
	a := withPhone(t).asks("")
	if list := a.account.Approvers(nil, true); len(list) != 1 {
		t.Fatalf("%d approvers", len(list))
	}
	a.account.TOTP = nil
	if list := a.account.Approvers([]push.Approver{a.key.Approver("Pixel")}, true); list != nil {
		t.Errorf("%d phones of whoever has no code", len(list))
	}
	a.decides(push.Approve, a.live.Number, factor.PushRepeated)
	if o := factor.CheckPush(nil, a.live, push.Answer{}, nil, a.rules, a.now(), a.limits); o.OK {
		t.Errorf("%+v", o)
	}
	if (*factor.Account)(nil).Approvers([]push.Approver{a.key.Approver("Pixel")}, true) != nil {
		t.Error("phones of nobody")
	}
}

func TestWhoseAnswerIsTaken(t *testing.T) {
	a := withPhone(t)
	synced, signed := passkey.NewSynced(rp).Approver("iPhone"), passkey.New(rp).Approver("Tablet")
	impostor := passkey.New(rp).Approver("impostor")
	impostor.CredentialID = a.key.ID // the organisation cannot replace what was pinned here
	names := func(list []push.Approver) (s []string) {
		for _, k := range list {
			s = append(s, k.Phone)
		}
		return s
	}
	for _, c := range []struct {
		signed      []push.Approver
		allowSynced bool
		want        string
	}{
		{nil, true, `["Pixel"]`},
		{[]push.Approver{signed, synced}, true, `["Pixel","Tablet","iPhone"]`},
		{[]push.Approver{synced, signed}, false, `["Pixel","Tablet"]`},
		{[]push.Approver{impostor}, true, `["Pixel"]`},
	} {
		if got, _ := json.Marshal(names(a.account.Approvers(c.signed, c.allowSynced))); string(got) != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	many := make([]push.Approver, 40)
	for i := range many {
		many[i] = passkey.New(rp).Approver("one of many")
	}
	if n := len(a.account.Approvers(many, true)); n != 16 {
		t.Errorf("%d approvers", n)
	}
}

func TestALockoutOfTheCodeDoesNotBlockPush(t *testing.T) {
	a := withPhone(t)
	a.locksItself(15 * time.Minute)
	a.asks("").decides(push.Approve, a.live.Number, factor.PushApproved)
}

func TestTheZeroOutcomeOfAPushLetsNobodyIn(t *testing.T) {
	if (factor.PushOutcome{}).OK || (push.Verified{}).OK {
		t.Error("zero lets in")
	}
}
