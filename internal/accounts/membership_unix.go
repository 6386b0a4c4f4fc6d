//go:build unix

package accounts

import (
	"fmt"
	"os/user"
	"strconv"

	"sallyport/internal/policy"
)

// membershipBy is membership where the system is asked about one user and one group,
// as macOS is. getgrouplist(3) of macOS hides errors and leaves groups out.
// mbr_check_membership(3) says when it failed, but neither it nor
// mbr_gid_to_uuid(3) whether there is such a group; getgrnam(3) and getgrgid(3) do.
func membershipBy(isMember func(uid, gid uint32) (bool, error), name, group string) (policy.Membership, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return policy.Unknown, err
	}
	g, err := lookupGroup(group)
	if err != nil {
		return policy.Unknown, err
	}
	uid, err := number(u.Uid)
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
