package accounts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// ListCommand is what shows the accounts that the system knows: this computer's
// own. (Those of a domain: net user /domain.)
const ListCommand = "net user"

// domains: the names of users are DOMAIN\user.
const domains = true

// Kinds of accounts (SID_NAME_USE), by what a name is looked up for.
var (
	users  = []uint32{windows.SidTypeUser}
	groups = []uint32{windows.SidTypeGroup, windows.SidTypeAlias, windows.SidTypeWellKnownGroup}
)

// errAmbiguous is a failed look-up: whoever was meant, the other must not be taken
// for them.
var errAmbiguous = errors.New(`more than one account may have that name: write it as DOMAIN\name, or .\name for this computer's own`)

// lookup finds a user. The name that comes back is DOMAIN\user as Windows spells
// it, with this computer's name for its own accounts: what whoami shows.
func lookup(name string) (User, error) {
	sid, err := resolve(name, users)
	if err != nil {
		return User{}, err
	}
	return userOf(sid)
}

func byID(id identity.ID) (User, error) {
	text, ok := id.SID()
	if !ok {
		return User{}, ErrUnknown
	}
	sid, err := windows.StringToSid(text)
	if err != nil { // too many parts for a SID
		return User{}, ErrUnknown
	}
	return userOf(sid)
}

// userOf asks by LookupAccountSidW.
func userOf(sid *windows.SID) (User, error) {
	user, domain, kind, err := sid.LookupAccount("")
	if errors.Is(err, windows.ERROR_NONE_MAPPED) {
		home, homeErr := joined()
		if homeErr == nil && (home == "" || controllers.answer(home)) && !strings.HasPrefix(sid.String(), "S-1-12-") { // Entra ID's
			return User{}, ErrUnknown
		}
	}
	switch {
	case err != nil:
		return User{}, failed("LookupAccountSidW", err)
	case !slices.Contains(users, kind) || strings.HasSuffix(user, "$"):
		return User{}, ErrUnknown
	}
	id, err := identity.SID(sid.String())
	if err != nil {
		return User{}, err
	}
	return User{Name: domain + `\` + user, ID: id}, nil
}

// resolve asks by LookupAccountNameW, which looks for a bare name among the well
// known, on this computer, in its domain, and in those that one trusts, and takes
// the first. Winlogon takes a bare name for the domain's. So that one person is not
// taken for another, a bare name counts only where it can mean but one account.
func resolve(name string, kinds []uint32) (*windows.SID, error) {
	s, ok := Spell(name)
	if !ok {
		return nil, ErrUnknown
	}
	computer, err := windows.ComputerName()
	if err != nil {
		return nil, failed("GetComputerNameW", err)
	}
	home, err := joined()
	if err != nil {
		return nil, err
	}
	if s.Domain == local {
		s.Domain = computer
	}
	sid, domain, kind, err := windows.LookupSID("", s.String())
	switch {
	case errors.Is(err, windows.ERROR_NONE_MAPPED) && s.certain(computer, home, func() bool { return controllers.answer(home) }):
		return nil, ErrUnknown
	case err != nil:
		return nil, failed("LookupAccountNameW", err)
	case !slices.Contains(kinds, kind):
		return nil, ErrUnknown
	}
	inDomain := strings.HasPrefix(sid.String(), "S-1-5-21-") // and not BUILTIN's, say
	if !s.Bare() || home == "" || !inDomain || strings.EqualFold(domain, home) {
		return sid, nil
	}
	if !strings.EqualFold(domain, computer) {
		return nil, errAmbiguous
	}
	switch _, err := resolve(home+`\`+s.User, kinds); {
	case err == nil:
		return nil, errAmbiguous
	case !errors.Is(err, ErrUnknown):
		return nil, err
	}
	return sid, nil
}

// groupID is the SID of a group of accounts: given, or looked up.
func groupID(group string) (identity.ID, error) {
	id, err := identity.SID(group)
	if err != nil {
		sid, err := resolve(group, groups)
		if err != nil {
			return "", err
		}
		if id, err = identity.SID(sid.String()); err != nil {
			return "", err
		}
	}
	if id.IsLogonGroup() {
		return "", policy.LogonGroupError(group)
	}
	return id, nil
}

// IsLogonGroup says whether a name on a policy's list is that of a group of logons
// (identity.ID.IsLogonGroup), in the language of this Windows. No directory is
// asked: Windows has those names itself.
func IsLogonGroup(name string) bool {
	s, ok := Spell(name)
	return ok && slices.ContainsFunc(logonGroupNames(), func(known Spelling) bool {
		return strings.EqualFold(s.User, known.User) && (s.Domain == "" || strings.EqualFold(s.Domain, known.Domain))
	})
}

var logonGroupNames = sync.OnceValue(func() (names []Spelling) {
	for _, id := range identity.LogonGroups() {
		text, _ := id.SID()
		sid, err := windows.StringToSid(text)
		if err != nil {
			continue
		}
		if name, domain, _, err := sid.LookupAccount(""); err == nil { // older versions lack the newer ones
			names = append(names, Spelling{domain, name})
		}
	}
	return names
})

// membership asks the directory, for where there is no token of the user's to read
// (OfToken): what Windows reckons the groups of a token would be.
func membership(name, group string) (policy.Membership, error) {
	id, err := groupID(group)
	if err != nil {
		return policy.Unknown, err
	}
	sid, err := resolve(name, users)
	if err != nil {
		return policy.Unknown, err
	}
	ids, err := reckoned(sid)
	switch {
	case err != nil:
		return policy.Unknown, err
	case slices.Contains(ids, id):
		return policy.Member, nil
	}
	return policy.NotMember, nil
}

// OfToken says whose a token is, and in which groups that account is.
func OfToken(token windows.Token) (User, []identity.ID, error) {
	owner, err := token.GetTokenUser()
	if err != nil {
		return User{}, nil, failed("GetTokenInformation", err)
	}
	info, err := token.GetTokenGroups()
	if err != nil {
		return User{}, nil, failed("GetTokenInformation", err)
	}
	ids, err := members(info)
	if err != nil {
		return User{}, nil, err
	}
	user, err := userOf(owner.User.Sid)
	if err != nil { // the domain may be out of reach; the session knows its user
		user, err = sessionUser(token, owner.User.Sid)
	}
	return user, ids, err
}

// members are the groups that a user is in. That includes those that only deny:
// the token of an administrator whom User Account Control has yet to ask holds
// Administrators so. A token's logon session and integrity level are no groups, and
// what tells of the logon tells nothing here: the token is that of a logon which the
// agent made to check a password, or of none.
func members(info *windows.Tokengroups) ([]identity.ID, error) {
	ids := []identity.ID{} // nil would be "not known"
	for _, g := range info.AllGroups() {
		if g.Attributes&windows.SE_GROUP_LOGON_ID == windows.SE_GROUP_LOGON_ID || g.Attributes&windows.SE_GROUP_INTEGRITY != 0 ||
			g.Attributes&(windows.SE_GROUP_MANDATORY|windows.SE_GROUP_ENABLED|windows.SE_GROUP_USE_FOR_DENY_ONLY) == 0 {
			continue
		}
		id, err := identity.SID(g.Sid.String())
		if err != nil {
			return nil, err
		}
		if !id.IsLogonGroup() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

var errNoName = errors.New("the logon session has no name")

// sessionUser asks the logon session of a token who logged on. It spells the name
// as it was typed.
func sessionUser(token windows.Token, sid *windows.SID) (User, error) {
	var statistics struct { // TOKEN_STATISTICS
		TokenID, AuthenticationID windows.LUID
		_                         [40]byte
	}
	var size uint32
	if err := windows.GetTokenInformation(token, windows.TokenStatistics, (*byte)(unsafe.Pointer(&statistics)), uint32(unsafe.Sizeof(statistics)), &size); err != nil {
		return User{}, failed("GetTokenInformation", err)
	}
	var data *struct { // SECURITY_LOGON_SESSION_DATA, as far as it is read here
		Size             uint32
		LogonID          windows.LUID
		UserName, Domain windows.NTUnicodeString
	}
	if status, _, _ := procLsaGetLogonSessionData.Call(uintptr(unsafe.Pointer(&statistics.AuthenticationID)), uintptr(unsafe.Pointer(&data))); status != 0 || data == nil {
		return User{}, failed("LsaGetLogonSessionData", windows.NTStatus(status))
	}
	defer procLsaFreeReturnBuffer.Call(uintptr(unsafe.Pointer(data)))
	id, err := identity.SID(sid.String())
	if err != nil {
		return User{}, err
	}
	user, domain := data.UserName.String(), data.Domain.String()
	if user == "" || domain == "" {
		return User{}, errNoName
	}
	return User{Name: domain + `\` + user, ID: id, Typed: true}, nil
}

// reckoned are the groups that a token of the user's would have
// (AuthzInitializeContextFromSid), those of this computer included.
func reckoned(sid *windows.SID) ([]identity.ID, error) {
	const (
		noAudit    = 1 // AUTHZ_RM_FLAG_NO_AUDIT
		groupsSids = 2 // AuthzContextInfoGroupsSids
	)
	var manager, context uintptr
	if ok, _, err := procAuthzInitializeResourceManager.Call(noAudit, 0, 0, 0, 0, uintptr(unsafe.Pointer(&manager))); ok == 0 {
		return nil, failed("AuthzInitializeResourceManager", err)
	}
	defer procAuthzFreeResourceManager.Call(manager)
	if ok, _, err := procAuthzInitializeContextFromSid.Call(0, uintptr(unsafe.Pointer(sid)), manager, 0, 0, 0, uintptr(unsafe.Pointer(&context))); ok == 0 {
		return nil, failed("AuthzInitializeContextFromSid", err)
	}
	defer procAuthzFreeContext.Call(context)
	for size := uint32(4096); ; {
		b := make([]uint64, (size+7)/8) // aligned for pointers
		had := uint32(len(b) * 8)
		ok, _, err := procAuthzGetInformationFromContext.Call(context, groupsSids, uintptr(had), uintptr(unsafe.Pointer(&size)), uintptr(unsafe.Pointer(&b[0])))
		switch {
		case ok != 0:
			return members((*windows.Tokengroups)(unsafe.Pointer(&b[0])))
		case !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) || size <= had:
			return nil, failed("AuthzGetInformationFromContext", err)
		}
	}
}

// joined is the NetBIOS name of the domain that this computer is in, or "". The
// local security authority knows it (LsaQueryInformationPolicy), which is there in
// safe mode, too; NetGetJoinInformation asks the Workstation service, which is not.
func joined() (string, error) {
	const (
		viewLocalInformation     = 1 // POLICY_VIEW_LOCAL_INFORMATION
		primaryDomainInformation = 3 // PolicyPrimaryDomainInformation
	)
	var attributes windows.OBJECT_ATTRIBUTES // LSA_OBJECT_ATTRIBUTES, of which nothing is used
	var handle uintptr
	if status, _, _ := procLsaOpenPolicy.Call(0, uintptr(unsafe.Pointer(&attributes)), viewLocalInformation, uintptr(unsafe.Pointer(&handle))); status != 0 {
		return "", failed("LsaOpenPolicy", windows.NTStatus(status))
	}
	defer procLsaClose.Call(handle)
	var info *struct { // POLICY_PRIMARY_DOMAIN_INFO
		Name windows.NTUnicodeString
		SID  *windows.SID // nil in a workgroup, whose name Name is then
	}
	if status, _, _ := procLsaQueryInformationPolicy.Call(handle, primaryDomainInformation, uintptr(unsafe.Pointer(&info))); status != 0 || info == nil {
		return "", failed("LsaQueryInformationPolicy", windows.NTStatus(status))
	}
	defer procLsaFreeMemory.Call(uintptr(unsafe.Pointer(info)))
	if info.SID == nil {
		return "", nil
	}
	if name := info.Name.String(); name != "" {
		return name, nil
	}
	return "", errors.New("it is not known which domain this computer is in")
}

// failed is the error of a look-up that told nothing. Windows' own texts hold no
// names.
func failed(call string, err error) error { return fmt.Errorf("%s: %w", call, err) }

// What x/sys/windows lacks.
var (
	authz    = windows.NewLazySystemDLL("authz.dll")
	advapi32 = windows.NewLazySystemDLL("advapi32.dll")
	netapi32 = windows.NewLazySystemDLL("netapi32.dll")
	secur32  = windows.NewLazySystemDLL("secur32.dll")

	procAuthzFreeContext               = authz.NewProc("AuthzFreeContext")
	procAuthzFreeResourceManager       = authz.NewProc("AuthzFreeResourceManager")
	procAuthzGetInformationFromContext = authz.NewProc("AuthzGetInformationFromContext")
	procAuthzInitializeContextFromSid  = authz.NewProc("AuthzInitializeContextFromSid")
	procAuthzInitializeResourceManager = authz.NewProc("AuthzInitializeResourceManager")
	procDsGetDcNameW                   = netapi32.NewProc("DsGetDcNameW")
	procLsaClose                       = advapi32.NewProc("LsaClose")
	procLsaFreeMemory                  = advapi32.NewProc("LsaFreeMemory")
	procLsaFreeReturnBuffer            = secur32.NewProc("LsaFreeReturnBuffer")
	procLsaGetLogonSessionData         = secur32.NewProc("LsaGetLogonSessionData")
	procLsaOpenPolicy                  = advapi32.NewProc("LsaOpenPolicy")
	procLsaQueryInformationPolicy      = advapi32.NewProc("LsaQueryInformationPolicy")
)
