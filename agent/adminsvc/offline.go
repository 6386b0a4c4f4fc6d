package adminsvc

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/agent/store"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/textout"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// standing says how a person stands where the authority is not on the line; nobody
// stands badly where it is.
func (f *pushFacts) standing(tx *vault.Tx, a *factor.Account) (offline.Standing, error) {
	if f.link.Connected || f.joined == nil {
		return offline.Standing{}, nil
	}
	c, err := store.Contact(tx)
	if err != nil {
		return offline.Standing{}, err
	}
	return store.Standing(c, a, f.limits, tx.Now()), nil
}

// addOffline adds what counts while there is no contact.
func (f *pushFacts) addOffline(tx *vault.Tx, u *adminv1.User, a *factor.Account) error {
	c, err := store.Contact(tx)
	if err != nil || !c.Known() {
		return err
	}
	s, err := f.standing(tx, a)
	used := a.Offline.Used.Since(c)
	u.OfflineLogins, u.OfflineReached = uint32(used), s.Reached
	if f.limits.Logins > 0 {
		u.OfflineLeft = wrapperspb.UInt32(uint32(max(0, f.limits.Logins-used)))
	}
	u.OfflineReady = u.GetOfflineReady() && !s.Reached
	return err
}

// addContact adds how long there has been none.
func (f *pushFacts) addContact(tx *vault.Tx, out *adminv1.AuthorityStatus) error {
	out.OfflineBypass = f.joined.Escrowed && slices.Contains(f.config.Authority.Accept, string(factor.OfflineBypass))
	c, err := store.Contact(tx)
	if err != nil || !c.Known() || f.link.Connected {
		return err
	}
	since := c.Since(tx.Now())
	out.WithoutContact = durationpb.New(since)
	if f.limits.For > 0 {
		out.CodesLeft = durationpb.New(max(0, f.limits.For-since))
	}
	return nil
}

// offlineProblems are those of people whose codes are refused, or soon will be, as
// the computer has no contact.
func (f *pushFacts) offlineProblems(a *adminv1.AuthorityStatus, reached []string, add func(code, text, remedy string)) {
	const remedy = "Let this computer reach its authority. Until then the helpdesk can answer the challenge that the prompt shows: sallyport-authority bypass answer."
	left := a.GetCodesLeft()
	switch without := textout.HowLong(a.GetWithoutContact().AsDuration()); {
	case left != nil && left.AsDuration() == 0:
		add(string(factor.OfflineLimit), fmt.Sprintf("No code is taken: this computer has had no contact to its authority for %s, and %s are allowed (policy.offline.days).", without, textout.HowLong(f.limits.For)), remedy)
	case left != nil && left.AsDuration() <= f.limits.WarnFor:
		add("offline_limit_near", fmt.Sprintf("This computer has had no contact to its authority for %s; in %s no code is taken any more.", without, textout.HowLong(left.AsDuration())), remedy)
	case len(reached) > 0:
		add(string(factor.OfflineLimit), fmt.Sprintf("No code is taken from %d who have logged in %s without contact to the authority: %s.",
			len(reached), textout.Plural(f.limits.Logins, "time", "times"), strings.Join(reached[:min(len(reached), maxLocked)], ", ")), remedy)
	}
}
