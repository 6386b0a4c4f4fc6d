package password

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/accounts"
	"sallyport/internal/bounded"
)

var calls bounded.Calls

// System is Windows' own check.
func System() Checker { return logonUser }

// logonUser has Windows check a password.
//
// LogonUserW ("LogonUserW function" in Microsoft's documentation) is a logon like
// any other: it needs no right of the caller's, and LOGON32_LOGON_INTERACTIVE the
// user's right to log on locally; it also works from cached credentials when the
// domain is out of reach, and refreshes them when not, which
// LOGON32_LOGON_NETWORK does not. The security log says 4624, or 4625, of type 2
// with this process's name, beside those of the session itself. A wrong password
// counts for the account's lockout in the directory, once: the provider does not
// hand it to Windows again.
func logonUser(ctx context.Context, name string, password []byte) Result {
	s, ok := accounts.Spell(name)
	if !ok {
		return wrong()
	}
	user, domain, hasDomain, ok := logonName(s)
	if !ok {
		return Result{Reason: ReasonUnqualified, Text: `Please type your user name as DOMAIN\name or name@domain.`}
	}
	secret := wide(password)
	if secret == nil {
		return wrong()
	}
	userPtr, err := windows.UTF16PtrFromString(user)
	if err != nil {
		return wrong()
	}
	var domainPtr *uint16
	if hasDomain {
		if domainPtr, err = windows.UTF16PtrFromString(domain); err != nil {
			return wrong()
		}
	}
	return check(ctx, &calls, secret, func() Result { return logon(userPtr, domainPtr, secret) })
}

// logon tries one kind of logon after the other: on a server, who may come in by
// Remote Desktop only has no right to log on locally. The right comes after the
// password in the order of the checks.
func logon(user, domain *uint16, password []uint16) Result {
	var first Result
	for i, kind := range []uintptr{logonInteractive, logonNetwork} {
		var token windows.Token
		ok, _, err := procLogonUserW.Call(uintptr(unsafe.Pointer(user)), uintptr(unsafe.Pointer(domain)), uintptr(unsafe.Pointer(&password[0])),
			kind, providerDefault, uintptr(unsafe.Pointer(&token)))
		if ok != 0 {
			defer token.Close()
			return proven(token)
		}
		var code syscall.Errno
		if !errors.As(err, &code) {
			return failed("LogonUserW: " + err.Error())
		}
		r := judge(uint32(code), password[0] == 0)
		if i == 0 {
			first = r
		}
		if code != windows.ERROR_LOGON_TYPE_NOT_GRANTED {
			break
		}
	}
	return first
}

// proven is a right password, and what its token says. A token that says nothing
// leaves user and groups to be looked up; groups that cannot be require.
func proven(token windows.Token) Result {
	r := Result{Verdict: Right}
	user, groups, err := accounts.OfToken(token)
	if err != nil {
		r.Detail = fmt.Sprintf("the token of the logon: %v", err)
		return r
	}
	r.User, r.Groups = user, groups
	return r
}

const (
	logonInteractive = 2 // LOGON32_LOGON_INTERACTIVE
	logonNetwork     = 3 // LOGON32_LOGON_NETWORK
	providerDefault  = 0 // LOGON32_PROVIDER_DEFAULT
)

var procLogonUserW = windows.NewLazySystemDLL("advapi32.dll").NewProc("LogonUserW")
