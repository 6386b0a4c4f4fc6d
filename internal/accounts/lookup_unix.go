//go:build unix

package accounts

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// ListCommand is what shows the accounts that the system knows.
const ListCommand = "getent passwd"

// domains: a name is not DOMAIN\user.
const domains = false

// All of this needs cgo: Go's own look-up reads only /etc/passwd.

func lookup(name string) (User, error) { return convert(user.Lookup(name)) }

func byID(id identity.ID) (User, error) {
	uid, ok := id.UID()
	if !ok {
		return User{}, ErrUnknown
	}
	return convert(user.LookupId(strconv.FormatUint(uint64(uid), 10)))
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
	return User{Name: u.Username, ID: identity.UID(uint32(uid))}, nil
}

// membership says whether a user is in a group, named or numbered.
func membership(name, group string) (policy.Membership, error) {
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
}

// groupID: a login here brings no groups along that a name could be compared with.
func groupID(string) (identity.ID, error) {
	return "", errors.New("groups are looked up by the user's name")
}
