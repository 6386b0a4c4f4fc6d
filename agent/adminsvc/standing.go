package adminsvc

import (
	"context"
	"errors"

	"sallyport/agent/store"
	"sallyport/internal/factor"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// Standing is how this computer stands, as its authority is told: the same as
// Status and ListUsers say here.
type Standing struct {
	Status *adminv1.StatusResponse
	People []StandingPerson // with a record
	// Policy is the version of the organisation's policy in force; 0: none.
	Policy uint64
}

// StandingPerson is somebody's record.
type StandingPerson struct {
	*adminv1.User
	LastFactor factor.Name
}

// Standing looks. It asks no directory: names are those of the records.
func (s *Service) Standing(ctx context.Context) (*Standing, error) {
	status, err := s.Status(ctx, nil)
	if err != nil {
		return nil, err
	}
	release, err := s.heavy(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	out := &Standing{Status: status}
	f := s.pushFacts()
	err = s.Store.View(func(tx *vault.Tx) error {
		item, err := store.Signed(tx, organisation.KindPolicy, "")
		if err != nil {
			return err
		}
		out.Policy, out.People = item.Version, nil
		return f.eachUser(tx, func(u *adminv1.User, a *factor.Account) {
			p := StandingPerson{User: u}
			if a.Last != nil {
				p.LastFactor = a.Last.Factor
			}
			out.People = append(out.People, p)
		})
	})
	return out, err
}

// eachUser calls fn with each record, as the helpdesk sees it.
func (f *pushFacts) eachUser(tx *vault.Tx, fn func(u *adminv1.User, a *factor.Account)) error {
	if err := f.read(tx); err != nil {
		return err
	}
	now := tx.Now()
	return tx.Each(vault.Users, func(_ string, decode func(any) error) error {
		var a factor.Account
		if err := decode(&a); err != nil {
			return err
		}
		u := wireUser(&a, now)
		if err := errors.Join(f.addPush(tx, u, &a), f.addOffline(tx, u, &a)); err != nil {
			return err
		}
		fn(u, &a)
		return nil
	})
}
