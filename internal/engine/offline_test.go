package engine

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/secret"
)

// away is a login on a computer that was without contact for too long.
var away = func() Begun {
	facts := asked
	facts.Offline = Offline{Reached: true, More: -1}
	return facts
}()

var answered12 = factor.Outcome{OK: true, Factor: factor.OfflineBypass, Reason: factor.Accepted}

// asksForAChallenge is what the agent is asked for.
func (l *login) asksForAChallenge() *login { l.Helper(); next[Challenge](l); return l }

func (l *login) isGiven(challenge string) *login {
	l.Helper()
	return l.step(Challenged{Text: challenge, Device: "laptop-12"})
}

func TestAtTheLimitTheScreenShowsTheChallenge(t *testing.T) {
	limit := func() *login {
		return begin(t, away).asksForAChallenge().isGiven("K7QF-9M2X").
			prompts("This computer has been away from your organisation's network for too long, and takes no codes.\n" +
				"Connect it and log in again.\nNo network? Then call your helpdesk and tell them: computer laptop-12, challenge K7QF-9M2X.\nCode from your helpdesk: ")
	}
	limit().types("1234-5678-9012").checks("1234-5678-9012").finds(answered12).allows(factor.Accepted)
	v := limit().types("123456").checks("123456").finds(factor.Outcome{Reason: factor.OfflineLimit}).denies(factor.OfflineLimit)
	if !strings.Contains(v.Text, "took no code") {
		t.Error(v.Text)
	}
	limit().types("").denies(factor.OfflineLimit)
	limit().step(Cancelled{}).denies(ReasonCancelled)
	limit().types("?").asksForAChallenge().isGiven("K7QF-9M2X").prompts("challenge K7QF-9M2X")
	v = limit().types("111111111111").checks("111111111111").finds(factor.Outcome{Factor: factor.OfflineBypass, Reason: factor.Locked, LockedFor: time.Minute}).denies(factor.Locked)
	if !strings.Contains(v.Text, "Wait a minute") || strings.Contains(v.Text, "recovery") {
		t.Error(v.Text)
	}
}

func TestAtTheLimitWithoutAKeyTheHelpdeskIsCalled(t *testing.T) {
	begin(t, away).asksForAChallenge().isGiven("").
		prompts("takes no codes.\nConnect it and log in again, or call your helpdesk.\nCode from your helpdesk: ").
		types("1234-5678-9012").checks("1234-5678-9012").finds(factor.Outcome{OK: true, Factor: factor.Bypass, Reason: factor.Accepted}).allows(factor.Accepted)
}

// TestAtTheLimitNobodyEnrols, and no phone rings: neither would count.
func TestAtTheLimitNobodyEnrols(t *testing.T) {
	for _, facts := range []Begun{mayEnrol, withPhone} {
		facts.Offline = away.Offline
		begin(t, facts).asksForAChallenge().isGiven("").prompts("helpdesk")
	}
	// Who is not asked for anything is not asked offline either.
	facts := askedIfEnrolled
	facts.Enrolled, facts.Offline = false, away.Offline
	begin(t, facts).skips(ReasonSkip)
	// A name that does not resolve reads the same, and never gets in.
	facts = Begun{Offline: away.Offline}
	v := begin(t, facts).asksForAChallenge().isGiven("K7QF-9M2X").prompts("challenge K7QF-9M2X").
		types("123456").checks("123456").finds(factor.Outcome{Reason: factor.OfflineLimit}).denies(ReasonUnknownUser)
	if v.Text != offlineText {
		t.Error(v.Text)
	}
	begin(t, facts).asksForAChallenge().isGiven("K7QF-9M2X").prompts("").types("123456789012").checks("123456789012").finds(answered12).denies(ReasonUnknownUser)
}

func TestAQuestionMarkAsksForAChallenge(t *testing.T) {
	begin(t, asked).prompts("Code").types(" ? ").asksForAChallenge().isGiven("K7QF-9M2X").
		prompts("To get a code, call your helpdesk and tell them: computer laptop-12, challenge K7QF-9M2X.\nCode: ").
		types("123456").checks("123456").finds(right).allows(factor.Accepted)
	begin(t, asked).prompts("Code").types("?").asksForAChallenge().isGiven("").
		prompts("There is no challenge on this computer: ask your helpdesk for a bypass code.\nCode: ")
	// Beside a phone, which rings no more.
	rings(t).types("?").endsPush(ReasonCancelled).asksForAChallenge().isGiven("K7QF-9M2X").prompts("K7QF-9M2X").
		types("1234-5678-9012").checks("1234-5678-9012").finds(answered12).allows(factor.Accepted)
	// A password is none, whatever it is.
	begin(t, asked).prompts("Code").step(Answered{PromptID: 1, Text: secret.New("?"), IsPassword: true}).denies(factor.PasswordTyped)
}

func TestAskingForChallengesEnds(t *testing.T) {
	l := begin(t, asked).prompts("Code")
	for range maxPrompts - 1 {
		l.types("?").asksForAChallenge().isGiven("K7QF-9M2X").prompts("K7QF-9M2X")
	}
	l.types("?").asksForAChallenge().isGiven("K7QF-9M2X").denies(ReasonPrompts)
}

func TestTheWarningBeforeTheEnd(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC) // a Sunday
	for _, c := range []struct {
		offline Offline
		want    string
	}{
		{Offline{Warn: true, More: 2, Until: now.Add(53 * time.Hour), Now: now}, "2 more logins after this one, or until Tuesday 14:00, before this computer must reach the network.\n"},
		{Offline{Warn: true, More: 1}, "1 more login after this one, before this computer must reach the network.\n"},
		{Offline{Warn: true, More: 0, Until: now.Add(time.Hour), Now: now}, "This is the last login before this computer must reach the network.\n"},
		{Offline{Warn: true, More: -1, Until: now.Add(10 * 24 * time.Hour), Now: now}, "Codes are taken until 2 December 09:00, before this computer must reach the network.\n"},
		{Offline{More: 2}, ""},
		{Offline{}, ""},
	} {
		facts := asked
		facts.Offline = c.offline
		l := begin(t, facts).prompts("Code from your authenticator app: ")
		if got, _, _ := strings.Cut(l.shown[0], "Code from"); got != c.want {
			t.Errorf("%+v: %q, want %q", c.offline, got, c.want)
		}
		l.types("123456").checks("123456").finds(right).allows(factor.Accepted)
	}
	// Where a phone could not be rung, both are said.
	facts := withPhone
	facts.Offline = Offline{Warn: true, More: 1}
	begin(t, facts).startsPush().step(PushRefused{factor.PushOffline}).prompts("network.\nYour phone cannot be reached. Code")
}
