// Package people stands in for the accounts of a computer, so that a test means
// the same on every system.
package people

import (
	"context"

	"sallyport/internal/accounts"
	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// People are the accounts of a computer, by name, with their uids.
type People map[string]uint32

// Lookup finds an account by its name.
func (p People) Lookup(_ context.Context, name string) (accounts.User, error) {
	uid, ok := p[name]
	if !ok {
		return accounts.User{}, accounts.ErrUnknown
	}
	return accounts.User{Name: name, ID: identity.UID(uid)}, nil
}

// ByID finds an account by its uid.
func (p People) ByID(_ context.Context, id identity.ID) (accounts.User, error) {
	for name, uid := range p {
		if identity.UID(uid) == id {
			return accounts.User{Name: name, ID: id}, nil
		}
	}
	return accounts.User{}, accounts.ErrUnknown
}

// Resolver knows the people by themselves. Their groups are only those that the
// caller names: the real system knows none of it, as a directory that is down.
func (p People) Resolver(ctx context.Context, seen func(identity.ID, string) bool, who accounts.User, groups []identity.ID) policy.Resolver {
	return resolver{new(accounts.Names).Resolver(ctx, seen, who, groups), p}
}

type resolver struct {
	policy.Resolver
	people People
}

func (r resolver) IsUser(name string, id identity.ID) policy.Membership {
	if uid, ok := r.people[name]; ok && identity.UID(uid) == id {
		return policy.Member
	}
	return policy.NotMember
}
