// Package password has the operating system check a password, where a hook stands
// before the system's own check (Windows). Elsewhere the system has checked it
// before the hook is asked, and there is no Checker.
package password

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport/internal/accounts"
	"sallyport/internal/bounded"
	"sallyport/internal/identity"
)

// Verdict is what the system says of a name and a password.
type Verdict int

// The zero value is Refused.
const (
	// Refused: whatever the password is, the system lets nobody in by it now.
	Refused Verdict = iota
	// Wrong: they do not belong together, or there is no such user. Nobody is to
	// learn which.
	Wrong
	// Right: they belong together.
	Right
)

// Result is what came of a check.
type Result struct {
	Verdict Verdict
	// User is whose password it is, and Groups are the groups of that account, as
	// the token says. Zero and nil where the system gave no token along: the
	// password has expired, say, and the system itself will say so next.
	User   accounts.User
	Groups []identity.ID
	Reason string // stable, such as "wrong_password"; "" when Right
	Text   string // for the person
	Detail string // for the log; holds neither name nor password
}

// Checker has the system check the password that was typed for a name. The caller
// wipes its own copy of it.
type Checker func(ctx context.Context, name string, typed []byte) Result

// Words for the person.
const (
	textWrong  = "The user name or password is not correct."
	textNotNow = "This computer cannot check your password right now."
)

// Reasons of a Result.
const (
	ReasonWrong       = "wrong_password"
	ReasonUnqualified = "name_not_qualified"
	ReasonFailed      = "password_check_failed"
)

func wrong() Result { return Result{Verdict: Wrong, Reason: ReasonWrong, Text: textWrong} }

func failed(detail string) Result {
	return Result{Reason: ReasonFailed, Text: textNotNow, Detail: detail}
}

// answers are what Windows' error codes mean to us ("System Error Codes" in
// Microsoft's documentation). A code that is not here refuses.
var answers = map[uint32]Result{
	86:   wrong(), // ERROR_INVALID_PASSWORD
	1317: wrong(), // ERROR_NO_SUCH_USER
	1323: wrong(), // ERROR_WRONG_PASSWORD
	1326: wrong(), // ERROR_LOGON_FAILURE
	1332: wrong(), // ERROR_NONE_MAPPED

	// The password was right; what else is the matter Windows says itself when
	// the provider hands it over.
	1330: {Verdict: Right}, // ERROR_PASSWORD_EXPIRED
	1907: {Verdict: Right}, // ERROR_PASSWORD_MUST_CHANGE
	1385: {Verdict: Right}, // ERROR_LOGON_TYPE_NOT_GRANTED

	accountRestriction: {Reason: "account_restricted", Text: "A restriction on your account keeps you from signing in here."},                            // what an authentication policy forbids
	1328:               {Reason: "outside_logon_hours", Text: "Your account may not sign in at this time of day."},                                       // ERROR_INVALID_LOGON_HOURS
	1329:               {Reason: "not_on_this_computer", Text: "Your account may not sign in on this computer."},                                         // ERROR_INVALID_WORKSTATION
	1331:               {Reason: "account_disabled", Text: "Your account is disabled."},                                                                  // ERROR_ACCOUNT_DISABLED
	1793:               {Reason: "account_expired", Text: "Your account has expired."},                                                                   // ERROR_ACCOUNT_EXPIRED
	1909:               {Reason: "account_locked_out", Text: "Windows has locked your account after too many wrong passwords. Please try again later."},  // ERROR_ACCOUNT_LOCKED_OUT
	1311:               {Reason: "directory_unreachable", Text: "Your organisation's directory cannot be reached to check your password."},               // ERROR_NO_LOGON_SERVERS
	1355:               {Reason: "directory_unreachable", Text: "Your organisation's directory cannot be reached to check your password."},               // ERROR_NO_SUCH_DOMAIN
	1786:               {Reason: "trust_broken", Text: "This computer's trust with your organisation's directory is broken. Please call your helpdesk."}, // ERROR_NO_TRUST_LSA_SECRET
	1787:               {Reason: "trust_broken", Text: "This computer's trust with your organisation's directory is broken. Please call your helpdesk."}, // ERROR_NO_TRUST_SAM_ACCOUNT
	1788:               {Reason: "trust_broken", Text: "This computer's trust with your organisation's directory is broken. Please call your helpdesk."}, // ERROR_TRUSTED_DOMAIN_FAILURE
	1789:               {Reason: "trust_broken", Text: "This computer's trust with your organisation's directory is broken. Please call your helpdesk."}, // ERROR_TRUSTED_RELATIONSHIP_FAILURE
}

// accountRestriction is ERROR_ACCOUNT_RESTRICTION.
const accountRestriction = 1327

// judge turns the code of a logon that failed into a result. A blank password that
// is right Windows takes at its own sign-in screen only (the security policy
// "Limit local account use of blank passwords to console logon only"), and here it
// says so instead of "wrong". It decides again when the provider hands it over.
func judge(code uint32, blank bool) Result {
	if blank && code == accountRestriction {
		return Result{Verdict: Right, Detail: "a blank password"}
	}
	r, ok := answers[code]
	if !ok {
		r = failed("")
	}
	if r.Verdict != Wrong {
		r.Detail = fmt.Sprintf("LogonUserW: error %d", code)
	}
	return r
}

// limits of the checks that a domain controller may hang in.
var limits = bounded.Limits{Patience: 20 * time.Second, Pending: 64, Others: 16}

// check has logon read the password and wipes it: behind the call, however long
// that takes, or at once where it is not made.
func check(ctx context.Context, calls *bounded.Calls, password []uint16, logon func() Result) Result {
	var taken atomic.Bool
	r, err := bounded.Do(ctx, calls, limits, func() (r Result, err error) {
		if taken.CompareAndSwap(false, true) {
			defer clear(password)
			r = logon()
		}
		return r, nil
	})
	if taken.CompareAndSwap(false, true) {
		clear(password)
	}
	if err != nil {
		return failed(err.Error())
	}
	return r
}

// logonName is a name as LogonUserW wants it: a user principal name is whole and
// has no domain, which hasDomain says; "." is this computer's own accounts.
//
// ok is false for a name without a domain. Whoever hands it to Windows afterwards
// says which is meant; here it could be checked against another account's password
// than it then is.
func logonName(s accounts.Spelling) (user, domain string, hasDomain, ok bool) {
	return s.User, s.Domain, s.Domain != "", !s.Bare()
}

// wide is b in UTF-16 with a NUL behind it, in memory of its own that is to be
// wiped; nil when b is not UTF-8 or has a NUL in it.
func wide(b []byte) []uint16 {
	// No character takes more units than it has bytes: the slice never grows, and
	// leaves no copy behind.
	w := make([]uint16, 0, len(b)+1)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == 0 || r == utf8.RuneError && n == 1 {
			clear(w)
			return nil
		}
		w = utf16.AppendRune(w, r)
		b = b[n:]
	}
	return append(w, 0)
}
