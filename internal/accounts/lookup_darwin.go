package accounts

import (
	"fmt"
	"os/user"
	"strconv"

	"sallyport/internal/policy"
)

// ListCommand is what shows the accounts that the system knows: those of the
// computer. A directory's are below its own node (dscl(1)).
const ListCommand = "dscl . -list /Users UniqueID"

// directory is where to look when a look-up fails.
const directory = "Open Directory: odutil show nodenames?"

// membership says whether a user is in a group, named or numbered, directly or by
// a group within it.
//
// getgrouplist(3) is not asked: it hides errors and leaves groups out.
// mbr_check_membership(3) says when it failed, but neither it nor
// mbr_gid_to_uuid(3) whether there is such a group; getgrnam(3) and getgrgid(3) do.
func membership(name, group string) (policy.Membership, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return policy.Unknown, err
	}
	uid, err := number(u.Uid)
	if err != nil {
		return policy.Unknown, err
	}
	g, err := lookupGroup(group)
	if err != nil {
		return policy.Unknown, err
	}
	gid, err := number(g.Gid)
	if err != nil {
		return policy.Unknown, err
	}
	member, err := isMember(uid, gid)
	switch {
	case err != nil:
		return policy.Unknown, err
	case member:
		return policy.Member, nil
	}
	return policy.NotMember, nil
}

// lookupGroup finds a group by its name or its number.
func lookupGroup(group string) (*user.Group, error) {
	if _, err := number(group); err == nil {
		return user.LookupGroupId(group)
	}
	return user.LookupGroup(group)
}

// number reads a uid or gid.
func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a uid or gid", text)
	}
	return uint32(n), nil
}
