package factor

import (
	"sallyport/internal/clock"
	"sallyport/internal/factor/offline"
)

// Offline is what an account keeps for a computer without contact.
type Offline struct {
	Used offline.Used  `json:"used,omitzero"`
	Open *offline.Open `json:"open,omitempty"` // the challenge that was shown
	// Lockout keeps answers to challenges out. Another one than of codes, which
	// keeps no bypass out: whoever mistyped ten codes needs the helpdesk.
	Lockout Lockout `json:"lockout,omitzero"`
}

// Line is how the computer stands to its authority. The zero Line is one of which
// nothing depends on it.
type Line struct {
	Reached bool   // the limit without contact is: only a bypass counts
	Key     []byte // of the offline bypass; nil: none is taken
}

// Challenge is the open challenge of that person on that device, or a new one. The
// caller keeps the account before it is shown.
func (a *Account) Challenge(device, user string, now clock.Instant) offline.Challenge {
	if !a.Offline.Open.Current(device, user, now) {
		a.Offline.Open = offline.NewOpen(device, user, now)
	}
	return a.Offline.Open.Challenge
}

// checkOfflineBypass compares the answer to the open challenge, which a right one
// uses up. A wrong one counts as a wrong code does, and five end the challenge.
func (a *Account) checkOfflineBypass(code string, key []byte, now clock.Instant) Outcome {
	o := &a.Offline
	if o.Lockout.Locked(now) {
		return Outcome{Factor: OfflineBypass, Reason: Locked, LockedFor: o.Lockout.Until.Left(now)}
	}
	right, late := o.Open.Verify(key, code, now)
	switch {
	case right:
		o.Open = nil
		o.Lockout.succeed(now)
		return a.accept(OfflineBypass, now)
	case late:
		o.Open = nil
		return Outcome{Factor: OfflineBypass, Reason: Expired}
	}
	if o.Open.Wrong++; o.Open.Wrong >= offline.Tries {
		o.Open = nil
	}
	o.Lockout.fail(now)
	return a.refuse(OfflineBypass, now)
}
