package offline

import (
	"time"

	"sallyport/internal/clock"
)

// Limits are how long codes are taken without contact; 0 is without limit.
type Limits struct {
	For        time.Duration
	Logins     int
	WarnFor    time.Duration // before the end
	WarnLogins int           // logins that are left
}

// Any says whether there is a limit.
func (l Limits) Any() bool { return l.For > 0 || l.Logins > 0 }

// Contact is when this computer last had its organisation's authority on the line,
// as it is kept in the vault. The zero Contact is one that never had.
type Contact struct {
	// Serial counts contacts: what people logged in since is counted for one.
	Serial uint64 `json:"serial"`
	// At is the moment of the last contact, or a later one up to which Before is the
	// time without it. It adds up, so that a clock set back does not stop it.
	At     clock.Deadline `json:"at"`
	Before time.Duration  `json:"before,omitempty"`
}

// New is a contact that begins: who logged in before it does not count any more.
func (c Contact) New(now clock.Instant) Contact {
	return Contact{Serial: c.Serial + 1, At: now.In(0)}
}

// Still is the same contact, which there was until so long ago.
func (c Contact) Still(now clock.Instant, ago time.Duration) Contact {
	return Contact{Serial: c.Serial, At: now.In(-max(0, ago))}
}

// Known says whether there was a contact at all.
func (c Contact) Known() bool { return c.Serial > 0 }

// Since is how long it is over. Within a boot the boot clock says so; across one
// the wall clock, never below the highest time recorded. Where that was years
// ahead and was cleared, nothing is known of the time between, and it counts 0.
func (c Contact) Since(now clock.Instant) time.Duration { return c.Before + max(0, -c.At.Left(now)) }

// Carry is the same contact with the time without it counted up to now. What is
// kept so outlives this boot, whatever the clock is set to before the next.
func (c Contact) Carry(now clock.Instant) Contact {
	if !c.Known() {
		return c
	}
	return Contact{Serial: c.Serial, At: now.In(0), Before: c.Since(now)}
}

// Used is the logins of one person since the last contact, kept with the record.
type Used struct {
	Serial uint64 `json:"serial,omitempty"` // of the Contact
	Logins int    `json:"logins,omitempty"`
}

// Since is how many there were since that contact.
func (u Used) Since(c Contact) int {
	if u.Serial != c.Serial {
		return 0
	}
	return u.Logins
}

// Add counts one more.
func (u Used) Add(c Contact) Used { return Used{Serial: c.Serial, Logins: u.Since(c) + 1} }

// Standing is how one person stands on a computer without contact.
type Standing struct {
	Limited bool // there is a limit at all
	Reached bool // it is reached: no code is taken
	Warn    bool // it is near
	// Logins and Left are what is left, where that is limited.
	Logins  int
	Left    time.Duration
	ByCount bool // logins are limited
	ByTime  bool // days are
}

// Stand says how somebody stands who wants in now. The zero Limits, and a computer
// that never had contact, limit nothing.
func (l Limits) Stand(c Contact, u Used, now clock.Instant) Standing {
	if !l.Any() || !c.Known() {
		return Standing{}
	}
	s := Standing{Limited: true, ByCount: l.Logins > 0, ByTime: l.For > 0}
	if s.ByCount {
		s.Logins = max(0, l.Logins-u.Since(c))
		s.Reached = s.Logins == 0
		s.Warn = s.Logins <= l.WarnLogins
	}
	if s.ByTime {
		s.Left = max(0, l.For-c.Since(now))
		s.Reached = s.Reached || s.Left == 0
		s.Warn = s.Warn || s.Left <= l.WarnFor
	}
	return s
}
