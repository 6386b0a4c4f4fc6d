package localsock

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sallyport/internal/identity"
)

// token is what Windows says of a pipe's client: the token that it connected
// with. What it means is decided here, without Windows.
type token struct {
	user         string // SID
	groups       []tokenGroup
	level        uint32 // SECURITY_IMPERSONATION_LEVEL
	integrity    uint32 // the last number of the mandatory label's SID
	appContainer bool
	// member: CheckTokenMembership finds the token in the administrators. Unlike the
	// groups it heeds restricting SIDs (CreateRestrictedToken).
	member bool
}

type tokenGroup struct {
	sid        string
	attributes uint32 // SE_GROUP_...
}

// TOKEN_GROUPS, SECURITY_IMPERSONATION_LEVEL (winnt.h), and the integrity levels
// of [MS-DTYP] 2.4.4.13.1's SYSTEM_MANDATORY_LABEL_ACE.
const (
	groupEnabled  = 0x4
	groupDenyOnly = 0x10

	levelIdentification = 1

	integrityMedium = 0x2000
	integrityHigh   = 0x3000
)

// Well-known SIDs: [MS-DTYP] 2.4.2.4.
const (
	sidNetwork        = "S-1-5-2"
	sidAnonymous      = "S-1-5-7"
	sidAdministrators = "S-1-5-32-544"
	sidGuests         = "S-1-5-32-546"
)

// peerOfToken says who a client is, or why it is nobody to talk to.
func peerOfToken(t token) (Peer, error) {
	if t.level < levelIdentification {
		return Peer{}, errors.New("the client does not let itself be identified")
	}
	id, err := identity.SID(t.user)
	if err != nil {
		return Peer{}, fmt.Errorf("the client's user: %w", err)
	}
	switch {
	case t.user == sidAnonymous:
		return Peer{}, errors.New("the client is anonymous")
	case t.has(sidNetwork):
		return Peer{}, fmt.Errorf("%s is logged on over the network, not at this computer", id)
	case t.has(sidGuests), strings.HasPrefix(t.user, "S-1-5-21-") && strings.HasSuffix(t.user, "-501"):
		return Peer{}, fmt.Errorf("%s is a guest", id)
	case t.appContainer, t.integrity < integrityMedium:
		return Peer{}, fmt.Errorf("the program of %s runs in a sandbox", id)
	case id.IsRoot() && !t.admin():
		return Peer{}, fmt.Errorf("%s without its rights", id)
	}
	return Peer{ID: id, Admin: t.admin()}, nil
}

// has says whether a group is in the token, switched on or not.
func (t token) has(sid string) bool {
	return slices.ContainsFunc(t.groups, func(g tokenGroup) bool { return g.sid == sid })
}

// admin says whether the token has an administrator's rights. Without elevation,
// User Account Control leaves the group in the token, for denials only.
func (t token) admin() bool {
	return t.member && t.integrity >= integrityHigh && slices.ContainsFunc(t.groups, func(g tokenGroup) bool {
		return g.sid == sidAdministrators && g.attributes&(groupEnabled|groupDenyOnly) == groupEnabled
	})
}

// trustOwner is what a client on Windows accepts as the agent, by who owns the
// pipe: the system, the administrators, or its own user. A program that has an
// administrator's rights does not trust what the same user made without them.
func trustOwner(owner, self identity.ID, elevated bool) error {
	switch {
	case owner == "":
		return errors.New("the pipe is nobody's")
	case owner == identity.System, owner == identity.Administrators, owner == self && !elevated:
		return nil
	case owner == self:
		return fmt.Errorf("the pipe belongs to %s without an administrator's rights, and this program has them", owner)
	}
	return fmt.Errorf("the pipe belongs to %s, neither the system nor you", owner)
}

// clientRights is FILE_GENERIC_READ and FILE_GENERIC_WRITE without
// FILE_CREATE_PIPE_INSTANCE, which is the same bit as FILE_APPEND_DATA: whoever
// has it can answer in the agent's place ("Named Pipe Security and Access
// Rights").
const clientRights = 0x12019b

// descriptor is a pipe's security descriptor, in SDDL: who may connect to the
// pipe that self serves. Clients trust its owner.
//
// There is no mandatory label: without one, what runs below medium integrity
// cannot write.
func descriptor(access Access, self identity.ID, elevated bool) (string, error) {
	sid, ok := self.SID()
	if !ok {
		return "", errors.New("whom this process runs as cannot be told")
	}
	owner, allow := sid, "(A;;GA;;;"+sid+")"
	switch {
	case self == identity.System:
		owner, allow = "SY", ""
	case elevated: // clients that have those rights, too, are BA's
		owner, allow = "BA", ""
	}
	if access == Everyone {
		allow += fmt.Sprintf("(A;;%#x;;;IU)", clientRights)
	}
	// Network logons, the anonymous, guests; the system, the administrators.
	return "O:" + owner + "D:P(D;;GA;;;NU)(D;;GA;;;AN)(D;;GA;;;BG)(A;;GA;;;SY)(A;;GA;;;BA)" + allow, nil
}

// pipePrefix is what a local pipe's name begins with.
const pipePrefix = `\\.\pipe\`

// protectedPrefix is what a pipe's name begins with that only administrators can
// make.
const protectedPrefix = pipePrefix + `ProtectedPrefix\Administrators\`

func isProtected(path string) bool {
	return len(path) > len(protectedPrefix) && strings.EqualFold(path[:len(protectedPrefix)], protectedPrefix)
}

// checkPipeName refuses what is not a pipe of this computer: Windows opens files,
// devices and other computers' pipes in the same way, and the owner of those is
// said by somebody else.
func checkPipeName(path string) error {
	if len(path) <= len(pipePrefix) || !strings.EqualFold(path[:len(pipePrefix)], pipePrefix) ||
		strings.ContainsAny(path[len(pipePrefix):], "/\x00") {
		return fmt.Errorf(`%q is not a pipe's name such as \\.\pipe\sallyport\login`, path)
	}
	for part := range strings.SplitSeq(path[len(pipePrefix):], `\`) {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q is not a pipe's name: it has an empty, . or .. part", path)
		}
	}
	return nil
}
