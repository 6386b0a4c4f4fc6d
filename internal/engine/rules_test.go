package engine

import (
	"testing"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/policy"
)

// only is a login in which these factors count.
func only(facts Begun, factors ...string) Begun {
	facts.Decision = policy.Decision{Effect: policy.Ask, Factors: factors, Rule: "rule=admins"}
	return facts
}

func TestDeniedByThePolicy(t *testing.T) {
	for _, facts := range []Begun{asked, withPhone, mayEnrol, {}, {Resolved: true, AccountOnly: true}} {
		facts.Decision = policy.Decision{Effect: policy.Deny}
		begin(t, facts).denies(ReasonPolicy)
		facts.Remembered = true
		begin(t, facts).denies(ReasonPolicy)
	}
}

func TestRemembered(t *testing.T) {
	facts := withPhone
	facts.Remembered = true
	begin(t, facts).skips(ReasonRemembered)
	facts.AccountOnly = true
	begin(t, facts).skips(ReasonRemembered)
	// Of nobody, and of no factor, nothing can be remembered.
	facts = Begun{Decision: policy.Decision{Effect: policy.Ask}, Remembered: true, Resolved: true}
	begin(t, facts).prompts("Code")
	facts = Begun{Decision: policy.Decision{Effect: policy.Ask}, Remembered: true, Enrolled: true}
	begin(t, facts).prompts("Code")
}

func TestOnlyThePhoneCounts(t *testing.T) {
	notAllowed := factor.Outcome{Factor: factor.TOTP, Reason: factor.NotAllowed}
	l := begin(t, only(withPhone, "push"))
	next[StartPush](l)
	l.step(PushStarted{Number: "471", Phone: "Pixel", For: time.Minute}).prompts("Type 471 on your phone (Pixel) to approve, then press Enter here.\nOr type a bypass code from your helpdesk: ")
	l.types("123456").checks("123456").finds(notAllowed).denies(factor.NotAllowed)

	// Its phone cannot be reached, or there is none: the helpdesk still helps.
	l = begin(t, only(withPhone, "push"))
	next[StartPush](l)
	l.step(PushRefused{factor.PushOffline}).prompts("Your phone cannot be reached. Only a bypass code from your helpdesk counts now: ")
	l.types("123412341234").checks("123412341234").finds(factor.Outcome{OK: true, Factor: factor.Bypass, Reason: factor.Accepted}).allows(factor.Accepted)
	begin(t, only(asked, "push")).prompts("Your phone cannot be asked now. Only a bypass code from your helpdesk counts now: ")
	// Nobody enrols an authenticator app with a login that takes none.
	begin(t, only(mayEnrol, "push")).prompts("Only a bypass code")
	// Whom the system does not know sees the same.
	begin(t, only(Begun{Visible: true}, "push")).prompts("Your phone cannot be asked now. Only a bypass code from your helpdesk counts now: ").
		types("123456").checks("123456").finds(notAllowed).denies(ReasonUnknownUser)
}

func TestOtherNamedFactors(t *testing.T) {
	begin(t, only(withPhone, "totp")).prompts("Code from your authenticator app")
	begin(t, only(withPhone, "recovery")).prompts("One of your recovery codes")
	begin(t, only(withPhone, "totp", "recovery")).prompts("Code from your authenticator app")
	begin(t, only(withPhone, "bypass")).prompts("Only a bypass code")
	l := begin(t, only(withPhone, "push", "recovery"))
	next[StartPush](l)
	l.step(PushStarted{Number: "47", For: time.Minute}).prompts("Or type one of your recovery codes")
}
