// Package clock says what time it is, in the three ways a login needs: the wall
// clock (what a TOTP code is made from), the boot clock (which nobody can set),
// and the highest wall time ever recorded (which outlives a reboot).
//
// Everything else in internal/ takes an Instant and never reads a clock.
package clock

import "time"

// Instant is one moment, as this computer knows it.
type Instant struct {
	Wall    time.Time     // the system's clock; may be wrong, may go back
	Boot    time.Duration // time since boot, suspend included; nobody can set it
	BootID  string        // names this boot; "" when unknown
	Highest time.Time     // the highest Wall ever recorded; filled in by the vault
}

// Clock gives the present Instant, without Highest.
type Clock interface{ Now() Instant }

// Floor is the earliest time it can be: the later of Wall and Highest.
func (i Instant) Floor() time.Time {
	if i.Highest.After(i.Wall) {
		return i.Highest
	}
	return i.Wall
}

// Behind is by how much the wall clock lies behind the highest time recorded;
// 0 when it does not.
func (i Instant) Behind() time.Duration { return i.Floor().Sub(i.Wall) }

// Deadline is a moment to come, kept in the vault. Within the boot that set it
// the boot clock decides, so that setting the clock ends no lockout and gives no
// bypass a longer life; after a reboot the wall clock does, but never below the
// highest time recorded.
type Deadline struct {
	Wall   time.Time     `json:"wall"`
	Boot   time.Duration `json:"boot"`
	BootID string        `json:"boot_id,omitempty"`
	// For is how far off it was when it was set.
	For time.Duration `json:"for"`
}

// In returns the deadline that is d from i.
func (i Instant) In(d time.Duration) Deadline {
	return Deadline{Wall: i.Floor().Add(d), Boot: i.Boot + d, BootID: i.BootID, For: d}
}

// Passed says whether the deadline has come. The zero Deadline has.
func (d Deadline) Passed(i Instant) bool { return d.Left(i) <= 0 }

// Left is the time until the deadline; 0 or less when it has passed.
func (d Deadline) Left(i Instant) time.Duration {
	if d.BootID != "" && d.BootID == i.BootID {
		return d.Boot - i.Boot
	}
	left := d.Wall.Sub(i.Floor())
	if left > d.For {
		// Time runs back only where the helpdesk cleared a highest time that was
		// years ahead. What was set under it would last for those years.
		return 0
	}
	return left
}

// IsZero says whether no deadline was set.
func (d Deadline) IsZero() bool { return d.Wall.IsZero() }
