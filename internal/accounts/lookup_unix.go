//go:build unix

package accounts

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"sallyport/internal/identity"
)

// domains: a name is not DOMAIN\user.
const domains = false

// On Linux all of this needs cgo: Go's own look-up reads only /etc/passwd. On macOS
// it always is the C library's, which asks Open Directory.

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
		return User{}, errors.New("the look-up failed (" + directory + ")")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return User{}, fmt.Errorf("uid %q of %s is not a number", u.Uid, u.Username)
	}
	return User{Name: u.Username, ID: identity.UID(uint32(uid))}, nil
}

// groupID: a login here brings no groups along that a name could be compared with.
func groupID(string) (identity.ID, error) {
	return "", errors.New("groups are looked up by the user's name")
}
