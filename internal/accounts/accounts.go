// Package accounts asks the system who is who. On Linux that is the C library, so
// that accounts from SSSD, LDAP or systemd count like those in /etc/passwd
// (nsswitch.conf(5)); on Windows the local security authority.
package accounts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/internal/bounded"
	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// limits of the look-ups that the system may hang in.
var limits = bounded.Limits{Patience: 5 * time.Second, Pending: 512, Others: 64}

// listTTL is how long the account, or the group, of a name on a policy list is remembered.
const listTTL = time.Minute

// ErrUnknown says that the system has no such user.
var ErrUnknown = errors.New("no such user")

// User is an account as the system knows it.
type User struct {
	Name string // as the system spells it, not as it was typed
	ID   identity.ID
}

// Names looks names up. The zero value is ready.
type Names struct {
	calls  bounded.Calls
	mu     sync.Mutex
	listed map[string]cachedID // the users on the policy's lists
	groups map[string]cachedID // and the groups
}

// ForOthers marks the look-ups of ctx as made for a caller that is not root's
// hook: when the directory hangs, only so many of them may wait for it.
func ForOthers(ctx context.Context) context.Context { return bounded.ForOthers(ctx) }

type cachedID struct {
	id    identity.ID
	until time.Time
}

// Lookup finds a user by the name that was typed. ErrUnknown says that there is
// none; any other error is a failed look-up.
func (n *Names) Lookup(ctx context.Context, name string) (User, error) {
	// The C library would read a name up to the NUL: another user's, maybe.
	if name == "" || strings.ContainsRune(name, 0) {
		return User{}, ErrUnknown
	}
	return bounded.Do(ctx, &n.calls, limits, func() (User, error) { return lookup(name) })
}

// ByID finds a user by uid or SID.
func (n *Names) ByID(ctx context.Context, id identity.ID) (User, error) {
	return bounded.Do(ctx, &n.calls, limits, func() (User, error) { return byID(id) })
}

// IsUser says whether a name on a policy list is that account's; only a name that
// resolves is remembered.
func (n *Names) IsUser(ctx context.Context, name string, id identity.ID) policy.Membership {
	known, err := n.id(ctx, name)
	switch {
	case errors.Is(err, ErrUnknown):
		return policy.NotMember
	case err != nil:
		return policy.Unknown
	case known == id:
		return policy.Member
	}
	return policy.NotMember
}

func (n *Names) id(ctx context.Context, name string) (identity.ID, error) {
	n.mu.Lock()
	c, ok := n.listed[name]
	n.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.id, nil
	}
	u, err := n.Lookup(ctx, name)
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listed == nil {
		n.listed = map[string]cachedID{}
	}
	n.listed[name] = cachedID{u.ID, time.Now().Add(listTTL)}
	return u.ID, nil
}

// Membership says whether a user is in a group, named or numbered. A group that
// does not resolve is a failed look-up: the directory that has it may be down.
func (n *Names) Membership(ctx context.Context, name, group string) policy.Membership {
	if strings.ContainsRune(name+group, 0) { // see Lookup
		return policy.Unknown
	}
	m, err := bounded.Do(ctx, &n.calls, limits, func() (policy.Membership, error) { return membership(name, group) })
	if err != nil {
		return policy.Unknown
	}
	return m
}

// Resolver answers a policy's questions about who within ctx. seen is what is
// remembered of memberships. groups are those that the system named when it let who
// in (Windows' token); nil where they have to be looked up.
func (n *Names) Resolver(ctx context.Context, seen func(id identity.ID, group string) bool, who User, groups []identity.ID) policy.Resolver {
	return resolver{ctx, n, seen, who, groups}
}

type resolver struct {
	ctx    context.Context
	n      *Names
	seen   func(id identity.ID, group string) bool
	who    User
	groups []identity.ID
}

func (r resolver) IsUser(name string, id identity.ID) policy.Membership {
	if id == r.who.ID && domains {
		if m := alike(name, r.who.Name); m != policy.Unknown {
			return m
		}
	}
	return r.n.IsUser(r.ctx, name, id)
}

func (r resolver) Membership(user, group string) policy.Membership {
	if r.groups == nil {
		return r.n.Membership(r.ctx, user, group)
	}
	id, err := r.n.groupID(r.ctx, group)
	switch {
	case err != nil:
		return policy.Unknown
	case slices.Contains(r.groups, id):
		return policy.Member
	}
	return policy.NotMember
}

func (r resolver) LastSeen(id identity.ID, group string) bool { return r.seen(id, group) }

// groupID finds a group, named or numbered. One that was found goes on to be that
// group while its directory is out of reach.
func (n *Names) groupID(ctx context.Context, group string) (identity.ID, error) {
	if strings.ContainsRune(group, 0) { // see Lookup
		return "", ErrUnknown
	}
	if id, err := identity.SID(group); err == nil {
		return id, nil
	}
	n.mu.Lock()
	c, ok := n.groups[group]
	n.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.id, nil
	}
	id, err := bounded.Do(ctx, &n.calls, limits, func() (identity.ID, error) { return groupID(group) })
	switch {
	case err != nil && ok && !errors.Is(err, ErrUnknown):
		return c.id, nil
	case err != nil:
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.groups == nil {
		n.groups = map[string]cachedID{}
	}
	n.groups[group] = cachedID{id, time.Now().Add(listTTL)}
	return id, nil
}
