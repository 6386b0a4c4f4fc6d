package factor

import (
	"slices"

	"sallyport/internal/factor/onetime"
	"sallyport/internal/secret"
)

// Allowed are the factors that count in a login; nil: any. The helpdesk's bypass
// always does, or a rule could lock out everybody.
type Allowed []Name

// Has says whether a factor counts.
func (a Allowed) Has(name Name) bool {
	return a == nil || name == Bypass || name == OfflineBypass || slices.Contains(a, name)
}

// Refuse says that an answer is of a factor that does not count in this login.
// Such an answer is not compared: right or wrong, it is neither used up nor
// counted, and tells nobody which it was.
func (a Allowed) Refuse(answer secret.String) (o Outcome, refused bool) {
	name := TOTP
	switch code := onetime.Normalize(answer.Reveal()); {
	case onetime.IsSpoken(code):
		name = Bypass
	case onetime.IsRecovery(code):
		name = Recovery
	}
	if a.Has(name) {
		return Outcome{}, false
	}
	return Outcome{Factor: name, Reason: NotAllowed}, true
}
