// Package nss asks the C library who is who, so that accounts from SSSD, LDAP
// or systemd count like those in /etc/passwd (nsswitch.conf(5)). It needs cgo:
// Go's own look-up reads only the files.
package nss

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/internal/policy"
)

const (
	// patience is how long a directory may take. A look-up that takes longer
	// has failed.
	patience = 5 * time.Second
	// maxPending bounds the look-ups that hang in the C library.
	maxPending = 512
	// maxOthers bounds those made for callers that are not root: whoever they
	// are, they leave room for root's hooks.
	maxOthers = 64
	// listTTL is how long the uid of a name on a policy list is remembered.
	listTTL = time.Minute
)

// ErrUnknown says that the system has no such user.
var ErrUnknown = errors.New("no such user")

// User is an account as the system knows it.
type User struct {
	Name string // as the system spells it, not as it was typed
	UID  uint32
}

// Names looks names up. The zero value is ready.
type Names struct {
	mu      sync.Mutex
	pending int // of all
	others  int // of them, for callers that are not root
	uids    map[string]cachedUID
}

// ForOthers marks the look-ups of ctx as made for a caller that is not root's
// hook: when the directory hangs, only so many of them may wait for it.
func ForOthers(ctx context.Context) context.Context { return context.WithValue(ctx, others{}, true) }

type others struct{}

type cachedUID struct {
	uid   uint32
	until time.Time
}

// Lookup finds a user by the name that was typed. ErrUnknown says that there is
// none; any other error is a failed look-up.
func (n *Names) Lookup(ctx context.Context, name string) (User, error) {
	// The C library would read a name up to the NUL: another user's, maybe.
	if name == "" || strings.ContainsRune(name, 0) {
		return User{}, ErrUnknown
	}
	return bounded(ctx, n, func() (User, error) { return convert(user.Lookup(name)) })
}

// ByUID finds a user by number.
func (n *Names) ByUID(ctx context.Context, uid uint32) (User, error) {
	return bounded(ctx, n, func() (User, error) { return convert(user.LookupId(strconv.FormatUint(uint64(uid), 10))) })
}

func convert(u *user.User, err error) (User, error) {
	var noName user.UnknownUserError
	var noID user.UnknownUserIdError
	if errors.As(err, &noName) || errors.As(err, &noID) {
		return User{}, ErrUnknown
	}
	if err != nil {
		// The library's text names the user; a mistyped password would be in it.
		return User{}, errors.New("the look-up failed (nsswitch.conf, SSSD?)")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("uid %q of %s is not a number", u.Uid, u.Username)
	}
	return User{u.Username, uint32(uid)}, nil
}

// IsUser says whether a name on a policy list is the user with that uid; only a
// name that resolves is remembered.
func (n *Names) IsUser(ctx context.Context, name string, uid uint32) policy.Membership {
	known, err := n.uid(ctx, name)
	switch {
	case errors.Is(err, ErrUnknown):
		return policy.NotMember
	case err != nil:
		return policy.Unknown
	case known == uid:
		return policy.Member
	}
	return policy.NotMember
}

func (n *Names) uid(ctx context.Context, name string) (uint32, error) {
	n.mu.Lock()
	c, ok := n.uids[name]
	n.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.uid, nil
	}
	u, err := n.Lookup(ctx, name)
	if err != nil {
		return 0, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.uids == nil {
		n.uids = map[string]cachedUID{}
	}
	n.uids[name] = cachedUID{u.UID, time.Now().Add(listTTL)}
	return u.UID, nil
}

// Membership says whether a user is in a group, named or numbered. A group that
// does not resolve is a failed look-up: the directory that has it may be down.
func (n *Names) Membership(ctx context.Context, name, group string) policy.Membership {
	if strings.ContainsRune(name+group, 0) { // see Lookup
		return policy.Unknown
	}
	m, err := bounded(ctx, n, func() (policy.Membership, error) {
		gid := group
		if _, err := strconv.ParseUint(group, 10, 32); err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return policy.Unknown, err
			}
			gid = g.Gid
		}
		u, err := user.Lookup(name)
		if err != nil {
			return policy.Unknown, err
		}
		gids, err := u.GroupIds()
		if err != nil {
			return policy.Unknown, err
		}
		if slices.Contains(gids, gid) {
			return policy.Member, nil
		}
		return policy.NotMember, nil
	})
	if err != nil {
		return policy.Unknown
	}
	return m
}

// bounded runs a look-up that the C library may hang in.
func bounded[T any](ctx context.Context, n *Names, look func() (T, error)) (T, error) {
	var zero T
	if ctx.Err() != nil {
		return zero, ctx.Err()
	}
	other := 0
	if ctx.Value(others{}) != nil {
		other = 1
	}
	n.mu.Lock()
	if n.pending >= maxPending || other == 1 && n.others >= maxOthers {
		n.mu.Unlock()
		return zero, errors.New("too many look-ups hang; is the directory (SSSD, LDAP) reachable?")
	}
	n.pending++
	n.others += other
	n.mu.Unlock()
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := look()
		n.mu.Lock()
		n.pending--
		n.others -= other
		n.mu.Unlock()
		done <- result{v, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-timer.C:
		return zero, fmt.Errorf("the directory did not answer within %s", patience)
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// Resolver answers a policy's questions within ctx. seen is what is remembered of
// memberships.
func (n *Names) Resolver(ctx context.Context, seen func(uid uint32, group string) bool) policy.Resolver {
	return resolver{ctx, n, seen}
}

type resolver struct {
	ctx  context.Context
	n    *Names
	seen func(uid uint32, group string) bool
}

func (r resolver) IsUser(name string, uid uint32) policy.Membership {
	return r.n.IsUser(r.ctx, name, uid)
}

func (r resolver) Membership(user, group string) policy.Membership {
	return r.n.Membership(r.ctx, user, group)
}

func (r resolver) LastSeen(uid uint32, group string) bool { return r.seen(uid, group) }
