package factor

import (
	"slices"
	"time"

	"sallyport/internal/clock"
)

// Use is when a factor was last given, and which.
type Use struct {
	Factor Name           `json:"factor"`
	At     clock.Deadline `json:"at"` // a deadline that had passed when it was set
}

// LastUse says which factor the person gave last, and how long ago; "" when they
// never did. known is false where the clock does not tell: it was given in another boot,
// and the clock lies behind.
func (a *Account) LastUse(now clock.Instant) (name Name, ago time.Duration, known bool) {
	if a == nil || a.Last == nil {
		return "", 0, a == nil || a.LastSuccess.IsZero()
	}
	at := a.Last.At
	if at.BootID != "" && at.BootID == now.BootID {
		ago = now.Boot - at.Boot
		return a.Last.Factor, ago, ago >= 0
	}
	ago = now.Wall.Sub(at.Wall)
	return a.Last.Factor, ago, ago >= 0 && now.Behind() == 0
}

// Place is what a remembered factor is bound to, beside the person.
type Place struct {
	BootID  string `json:"boot_id"`
	Session string `json:"session"`
	Network string `json:"network"`
	// Rule names the rule, and the policy that it is in: another text of it
	// remembers nothing of this one.
	Rule string `json:"rule"`
}

// known says whether everything is: what is not known is nowhere twice.
func (p Place) known() bool {
	return p.BootID != "" && p.Session != "" && p.Network != "" && p.Rule != ""
}

// Remembered spares the person the factor in one place until a time.
type Remembered struct {
	Place
	Until clock.Deadline `json:"until"`
}

// maxRemembered bounds the places of one person; the oldest goes first.
const maxRemembered = 16

// Remember spares the person the factor that was just given, in this place, for so
// long. It does not begin anew where nothing was asked.
func (a *Account) Remember(p Place, now clock.Instant, d time.Duration) {
	if !p.known() || d <= 0 {
		return
	}
	a.Remembered = slices.DeleteFunc(a.Remembered, func(r Remembered) bool { return r.Place == p || r.Until.Passed(now) })
	a.Remembered = append(a.Remembered, Remembered{p, now.In(d)})
	a.Remembered = a.Remembered[max(0, len(a.Remembered)-maxRemembered):]
}

// Remembers says whether a factor that was given in this place still counts.
func (a *Account) Remembers(p Place, now clock.Instant) bool {
	if a == nil || !p.known() || p.BootID != now.BootID {
		return false
	}
	return slices.ContainsFunc(a.Remembered, func(r Remembered) bool {
		return r.Place == p && !r.Until.Passed(now)
	})
}
