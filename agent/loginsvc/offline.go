package loginsvc

import (
	"context"
	"slices"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/clock"
	"sallyport/internal/engine"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/policy"
	"sallyport/internal/secret"
	"sallyport/internal/vault"
)

// online says whether the authority is on the line.
func (l *login) online() bool {
	if l.imagined != nil && l.imagined.Online != nil {
		return *l.imagined.Online
	}
	return l.Facts.Online != nil && l.Facts.Online()
}

// stand finds out how the person stands where the authority is not on the line. At
// the limit it is tried once more: a computer that has just been connected is not
// to be told that it is not.
func (l *login) stand(begun *engine.Begun) error {
	effect := begun.Decision.Effect
	unasked := effect == policy.Deny || effect == policy.IfEnrolled && !begun.Enrolled || begun.AccountOnly || begun.Remembered
	l.limits = l.Store.Policy(&l.settings.Config).OfflineLimits()
	if unasked || !l.limits.Any() || l.online() {
		return nil
	}
	var s offline.Standing
	var now clock.Instant
	if err := l.Store.View(func(tx *vault.Tx) error {
		account, err := l.account(tx)
		if err != nil {
			return err
		}
		contact, err := store.Contact(tx)
		if err != nil {
			return err
		}
		if l.imagined != nil && contact.Known() && l.Facts.Online != nil && l.Facts.Online() {
			contact = contact.Still(tx.Now(), 0) // it would have gone just now
		}
		now = l.now(tx)
		s = store.Standing(contact, account, l.limits, now)
		return nil
	}); err != nil {
		return err
	}
	l.standing = s
	if s.Reached && l.imagined == nil && l.Facts.Reach != nil {
		ctx, cancel := context.WithTimeout(l.ctx, sendTime)
		defer cancel()
		if l.Facts.Reach(ctx) {
			return nil
		}
	}
	begun.Offline = engine.Offline{Reached: s.Reached, Warn: s.Warn, More: -1, Now: now.Wall}
	if s.ByCount {
		begun.Offline.More = max(0, s.Logins-1)
	}
	if s.ByTime {
		begun.Offline.Until = l.here(now.Wall.Add(s.Left))
	}
	return nil
}

// account is this user's record; nil: there is none, or the name does not resolve.
func (l *login) account(tx *vault.Tx) (*factor.Account, error) {
	if !l.resolved {
		return nil, nil
	}
	return store.Account(tx, string(l.user.ID))
}

// reached says whether the limit is, at the moment when a code is compared: the
// authority may have come or gone since the prompt was shown.
func (l *login) reached(tx *vault.Tx, account *factor.Account, online bool) (bool, error) {
	if online || !l.limits.Any() {
		return false, nil
	}
	contact, err := store.Contact(tx)
	if err != nil {
		return false, err
	}
	return store.Standing(contact, account, l.limits, tx.Now()).Reached, nil
}

// compare decides what a code is worth; nothing of it is kept yet.
func (l *login) compare(tx *vault.Tx, account *factor.Account, answer secret.String, online bool) (factor.Outcome, error) {
	if o, refused := l.allowed.Refuse(answer); refused {
		return o, nil
	}
	var line factor.Line
	var err error
	if line.Reached, err = l.reached(tx, account, online); err != nil {
		return factor.Outcome{}, err
	}
	if account == nil {
		return factor.CheckOffline(nil, answer, tx.Now(), nil, line), nil
	}
	if account.Offline.Open != nil && onetime.IsSpoken(onetime.Normalize(answer.Reveal())) {
		if line.Key, err = l.bypassKey(tx, account.Offline.Open.Device); err != nil {
			return factor.Outcome{}, err
		}
	}
	codeKey, err := store.CodeKey(tx)
	if err != nil {
		return factor.Outcome{}, err
	}
	o := factor.CheckOffline(account, answer, tx.Now(), codeKey, line)
	if o.OK && !online {
		err = store.CountOffline(tx, account)
	}
	return o, err
}

// takesOfflineBypass: root lets the helpdesk answer challenges.
func (l *login) takesOfflineBypass() bool {
	return slices.Contains(l.settings.Config.Authority.Accept, string(factor.OfflineBypass))
}

// bypassKey is the key of offline bypasses of this computer, as the device that it
// was when the challenge was made; nil: there is none, or root takes no such bypass.
func (l *login) bypassKey(tx *vault.Tx, device string) ([]byte, error) {
	if !l.takesOfflineBypass() {
		return nil, nil
	}
	a, err := store.JoinedTo(tx)
	if err != nil || a == nil || a.DeviceID != device {
		return nil, err
	}
	return a.BypassKey, nil
}

// answers is the authority whose helpdesk can answer a challenge of this computer;
// nil: there is none, or root takes no such bypass.
func (l *login) answers(tx *vault.Tx) (*store.Authority, error) {
	if !l.takesOfflineBypass() {
		return nil, nil
	}
	a, err := store.JoinedTo(tx)
	if err != nil || a == nil || !a.Escrowed || len(a.BypassKey) != offline.KeySize {
		return nil, err
	}
	return a, nil
}

// challenge is what the person reads to the helpdesk. It is on disk before it is
// shown. Nothing is shown that nobody could answer.
func (l *login) challenge() engine.Input {
	var a *store.Authority
	var pretend []byte
	if err := l.Store.View(func(tx *vault.Tx) (err error) {
		if a, err = l.answers(tx); err == nil && a != nil && !l.resolved {
			pretend, err = store.CodeKey(tx)
		}
		return err
	}); err != nil {
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonVault}
	}
	if a == nil {
		return engine.Challenged{}
	}
	device := string(cut(clean([]byte(a.DeviceName)), maxDevice))
	if !l.resolved {
		// As for anybody: who is known here is not for a guesser to learn.
		name := string(l.begin.GetUser())
		day := l.Store.Now().Floor().UTC().Format(time.DateOnly)
		return engine.Challenged{Text: offline.PretendChallenge(append(pretend, name+"\x00"+day...), a.DeviceID, name).String(), Device: device}
	}
	var c offline.Challenge
	if failed := l.change(func(tx *vault.Tx, account *factor.Account) ([]event.Event, error) {
		if account == nil { // required, and not enrolled yet
			account = &factor.Account{Key: string(l.user.ID), Name: l.user.Name}
		}
		before := account.Offline.Open
		c = account.Challenge(a.DeviceID, l.user.Name, tx.Now())
		if account.Offline.Open == before {
			return nil, nil // it is on disk already
		}
		return nil, store.Put(tx, account)
	}); failed != nil {
		return failed
	}
	return engine.Challenged{Text: c.String(), Device: device}
}
