package factor

import (
	"time"

	"sallyport/internal/clock"
)

const (
	maxFailures  = 10 // wrong codes in a row
	firstLockout = 15 * time.Minute
	maxLockout   = 24 * time.Hour
	// calm is how long after a lockout the next one is as short as the first
	// again. A success alone does not shorten it: whoever alternates guesses
	// with a stolen session's logins would start afresh each time.
	calm = 24 * time.Hour
)

// Lockout counts wrong codes in a row and locks the TOTP factor after ten.
type Lockout struct {
	Failures int            `json:"failures"`
	Until    clock.Deadline `json:"until"`
	Level    int            `json:"level"` // lockouts so far; each doubles the next
}

// Locked says whether it is on.
func (l *Lockout) Locked(now clock.Instant) bool { return !l.Until.IsZero() && !l.Until.Passed(now) }

// fail counts a wrong code. While locked nothing is counted, and nothing
// extends the lock.
func (l *Lockout) fail(now clock.Instant) (lockedNow bool) {
	if l.Locked(now) {
		return false
	}
	l.relax(now)
	l.Failures++
	if l.Failures < maxFailures {
		return false
	}
	d := maxLockout
	if l.Level < 7 { // 15 min << 7 is over a day
		d = min(maxLockout, firstLockout<<l.Level)
	}
	l.Failures, l.Until = 0, now.In(d)
	l.Level++
	return true
}

func (l *Lockout) succeed(now clock.Instant) {
	l.Failures = 0
	l.relax(now)
}

func (l *Lockout) relax(now clock.Instant) {
	if l.Level > 0 && l.Until.Left(now) <= -calm {
		l.Level, l.Until = 0, clock.Deadline{}
	}
}

// Clear is the helpdesk's unlock.
func (l *Lockout) Clear() { *l = Lockout{} }
