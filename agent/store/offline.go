package store

import (
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
)

// contactSetting is when the authority was last on the line.
const contactSetting = "contact"

// Contact returns it; the zero Contact on a computer that never joined, or left.
func Contact(tx *vault.Tx) (c offline.Contact, err error) {
	_, err = tx.Get(vault.Settings, contactSetting, &c)
	return c, err
}

// PutContact keeps it.
func PutContact(tx *vault.Tx, c offline.Contact) error {
	return tx.Put(vault.Settings, contactSetting, c)
}

// CarryContact keeps how long the contact is over: to be called now and then, so
// that a clock set back does not stop the time.
func CarryContact(tx *vault.Tx) error {
	c, err := Contact(tx)
	if err != nil || !c.Known() {
		return err
	}
	return PutContact(tx, c.Carry(tx.Now()))
}

// ResetContactTime has the time without contact count from now: the highest time
// was bogus, and what was counted by it is too.
func ResetContactTime(tx *vault.Tx) error {
	c, err := Contact(tx)
	if err != nil || !c.Known() {
		return err
	}
	return PutContact(tx, c.Still(tx.Now(), 0))
}

// OfflineLimits are those of logins without contact: of root's and the
// organisation's the strictest.
func (p *Policy) OfflineLimits() offline.Limits {
	strictest := func(n, central int) int {
		if n == 0 || central != 0 && central < n {
			return central
		}
		return n
	}
	o, c := p.local.Offline, policy.Offline{}
	if p.Central != nil {
		c = p.Central.Offline
	}
	const day = 24 * time.Hour
	return offline.Limits{For: time.Duration(strictest(o.Days, c.Days)) * day, Logins: strictest(o.Logins, c.Logins),
		WarnFor: time.Duration(max(o.WarnDays, c.WarnDays)) * day, WarnLogins: max(o.WarnLogins, c.WarnLogins)}
}

// Standing says how a person stands who wants in while the authority is not on the
// line, since that contact. account may be nil.
func Standing(c offline.Contact, account *factor.Account, limits offline.Limits, now clock.Instant) offline.Standing {
	used := offline.Used{}
	if account != nil {
		used = account.Offline.Used
	}
	return limits.Stand(c, used, now)
}

// CountOffline counts a login that was let in without contact; the caller keeps
// the account.
func CountOffline(tx *vault.Tx, account *factor.Account) error {
	c, err := Contact(tx)
	if err != nil || !c.Known() {
		return err
	}
	account.Offline.Used = account.Offline.Used.Add(c)
	return PutContact(tx, c.Carry(tx.Now()))
}
