// Package accounts asks the system who is who. On Linux that is the C library, so
// that accounts from SSSD, LDAP or systemd count like those in /etc/passwd
// (nsswitch.conf(5)); on macOS Open Directory; on Windows the local security authority.
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

// How long it is remembered whose a name on a policy's list is, and that it is
// nobody's or could not be looked up.
const (
	listTTL    = time.Minute
	failureTTL = 30 * time.Second
)

// ErrUnknown says that the system has no such user.
var ErrUnknown = errors.New("no such user")

// User is an account as the system knows it.
type User struct {
	Name string // as the system spells it, not as it was typed
	ID   identity.ID
	// Typed: the system could not be asked, and Name is what was typed after all.
	// The account may have another name.
	Typed bool
}

// Names looks names up. The zero value is ready.
type Names struct {
	calls  bounded.Calls
	users  listed
	groups listed
}

// ForOthers marks the look-ups of ctx as made for a caller that is not root's
// hook: when the directory hangs, only so many of them may wait for it.
func ForOthers(ctx context.Context) context.Context { return bounded.ForOthers(ctx) }

// listed are names on the policy's lists, and what came of looking them up.
type listed struct {
	mu    sync.Mutex
	known map[string]answer
}

type answer struct {
	id    identity.ID
	err   error
	until time.Time
}

// ask looks a name up unless that was done not long ago. With failures it also
// remembers those: on Windows, every name that a domain out of reach is asked for
// may take seconds, at each login. One that was found goes on to be that account
// while its directory is out of reach.
func (l *listed) ask(now time.Time, name string, failures bool, look func() (identity.ID, error)) (identity.ID, error) {
	l.mu.Lock()
	a, ok := l.known[name]
	l.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.id, a.err
	}
	id, err := look()
	switch {
	case err == nil:
		a = answer{id: id, until: now.Add(listTTL)}
	case !failures:
		return "", err
	case a.id != "" && !errors.Is(err, ErrUnknown):
		a.until = now.Add(failureTTL)
	default:
		a = answer{err: err, until: now.Add(failureTTL)}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) { // it was not waited for
		return a.id, a.err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]answer{}
	}
	l.known[name] = a
	return a.id, a.err
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

// IsUser says whether a name on a policy list is that account's.
func (n *Names) IsUser(ctx context.Context, name string, id identity.ID) policy.Membership {
	known, err := n.users.ask(time.Now(), name, domains, func() (identity.ID, error) {
		u, err := n.Lookup(ctx, name)
		return u.ID, err
	})
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
	return resolver{ctx, n, seen, who, groups, new(lost)}
}

type resolver struct {
	ctx    context.Context
	n      *Names
	seen   func(id identity.ID, group string) bool
	who    User
	groups []identity.ID
	lost   *lost
}

func (r resolver) IsUser(name string, id identity.ID) policy.Membership {
	if id == r.who.ID && domains {
		if m := alike(name, r.who.Name); m == policy.Member || m == policy.NotMember && !r.who.Typed {
			return m
		}
	}
	return r.lost.bound(r.ctx, func(ctx context.Context) policy.Membership { return r.n.IsUser(ctx, name, id) })
}

func (r resolver) Membership(user, group string) policy.Membership {
	return r.lost.bound(r.ctx, func(ctx context.Context) policy.Membership { return r.membership(ctx, user, group) })
}

func (r resolver) membership(ctx context.Context, user, group string) policy.Membership {
	if r.groups == nil {
		return r.n.Membership(ctx, user, group)
	}
	id, err := r.n.groupID(ctx, group)
	switch {
	case err != nil:
		return policy.Unknown
	case slices.Contains(r.groups, id):
		return policy.Member
	}
	return policy.NotMember
}

// lost is how long one login has waited for look-ups that came to nothing. A policy
// names any number of groups, and a login that takes too long is refused: once as
// much is lost as one look-up may take, each gets brief, in which /etc/group answers
// while a directory hangs, and the last of them end after extra.
type lost time.Duration

const (
	brief = 50 * time.Millisecond
	extra = 500 * time.Millisecond
)

func (l *lost) bound(ctx context.Context, look func(context.Context) policy.Membership) policy.Membership {
	left := limits.Patience - time.Duration(*l)
	if left <= -extra {
		return policy.Unknown
	}
	if *l > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(left, brief))
		defer cancel()
	}
	began := time.Now()
	m := look(ctx)
	if m == policy.Unknown {
		*l += lost(time.Since(began))
	}
	return m
}

func (r resolver) LastSeen(id identity.ID, group string) bool { return r.seen(id, group) }

// groupID finds a group of accounts, named or numbered.
func (n *Names) groupID(ctx context.Context, group string) (identity.ID, error) {
	if strings.ContainsRune(group, 0) { // see Lookup
		return "", ErrUnknown
	}
	return n.groups.ask(time.Now(), group, true, func() (identity.ID, error) {
		return bounded.Do(ctx, &n.calls, limits, func() (identity.ID, error) { return groupID(group) })
	})
}
