// Package people stands in for the accounts of a computer, so that a test means
// the same on every system.
package people

import (
	"context"
	"slices"

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

// Resolver knows the people by themselves. Of groups it knows only those that the
// caller names, by their SIDs; it is not known who else is in which.
func (p People) Resolver(_ context.Context, seen func(identity.ID, string) bool, _ accounts.User, groups []identity.ID) policy.Resolver {
	return resolver{p, groups, seen}
}

type resolver struct {
	people People
	groups []identity.ID
	seen   func(identity.ID, string) bool
}

func (r resolver) IsUser(name string, id identity.ID) policy.Membership {
	if uid, ok := r.people[name]; ok && identity.UID(uid) == id {
		return policy.Member
	}
	return policy.NotMember
}

func (r resolver) Membership(_, group string) policy.Membership {
	id, err := identity.SID(group)
	switch {
	case err != nil, r.groups == nil:
		return policy.Unknown
	case slices.Contains(r.groups, id):
		return policy.Member
	}
	return policy.NotMember
}

func (r resolver) LastSeen(id identity.ID, group string) bool { return r.seen(id, group) }
