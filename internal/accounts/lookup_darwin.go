package accounts

import "sallyport/internal/policy"

// ListCommand is what shows the accounts that the system knows: those of the
// computer. A directory's are below its own node (dscl(1)).
const ListCommand = "dscl . -list /Users UniqueID"

// directory is where to look when a look-up fails.
const directory = "Open Directory: odutil show nodenames?"

// membership says whether a user is in a group, named or numbered, directly or by
// a group within it.
func membership(name, group string) (policy.Membership, error) {
	return membershipBy(isMember, name, group)
}
