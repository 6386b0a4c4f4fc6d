package accounts

import (
	"os/user"
	"slices"
	"strconv"

	"sallyport/internal/policy"
)

// ListCommand is what shows the accounts that the system knows.
const ListCommand = "getent passwd"

// directory is where to look when a look-up fails.
const directory = "nsswitch.conf, SSSD?"

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
