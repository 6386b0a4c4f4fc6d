// Package factor holds one person's account of factors and decides what an
// answer at the prompt is worth: Check is the whole rule.
//
// It is pure. The agent calls Check inside one vault transaction, which also
// records the outcome, and sends the verdict after that is on disk.
package factor

import (
	"fmt"
	"log/slog"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/factor/push"
	"sallyport/internal/factor/totp"
	"sallyport/internal/secret"
)

// Account is what the vault keeps of one person. Its key is the uid or SID,
// never the typed name: under SSSD "ALICE" and "alice@corp" are one uid.
type Account struct {
	Key         string          `json:"key"`  // "uid:1000"
	Name        string          `json:"name"` // the last name known, for people
	TOTP        *totp.State     `json:"totp,omitempty"`
	Recovery    []onetime.Hash  `json:"recovery,omitempty"`
	Bypass      *onetime.Spoken `json:"bypass,omitempty"`
	Enrolment   *Enrolment      `json:"enrolment,omitempty"`
	Lockout     Lockout         `json:"lockout"`
	Phones      []push.Approver `json:"phones,omitempty"` // enrolled at this computer; the authority's are kept apart
	Push        *push.State     `json:"push,omitempty"`
	Offline     Offline         `json:"offline,omitzero"`
	Enrolled    time.Time       `json:"enrolled,omitzero"`
	LastSuccess time.Time       `json:"last_success,omitzero"`
	Last        *Use            `json:"last,omitempty"`
	Remembered  []Remembered    `json:"remembered,omitempty"`
}

// Enrolment lets the person enrol at the login, until it expires.
type Enrolment struct {
	Expires clock.Deadline  `json:"expires"`
	Code    *onetime.Spoken `json:"code,omitempty"` // must be typed first
	Tries   int             `json:"tries,omitempty"`
	// Claimed: the code was typed, by a login that goes on to enrol. The window
	// is open to no other, and whoever closes it stops that one too.
	Claimed bool `json:"claimed,omitempty"`
}

// LogValue implements slog.LogValuer: an account in a log is its key.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.Key) }

// Format implements fmt.Formatter: an account in a text is its key.
func (a Account) Format(f fmt.State, _ rune) { fmt.Fprint(f, a.Key) }

// IsEnrolled says whether there is a second factor to ask for. A bypass alone
// is none: it must not make a person required who was not.
func (a *Account) IsEnrolled() bool { return a != nil && a.TOTP != nil }

// ClockWasAhead says whether the person logged in while the computer's clock was
// ahead of what it shows now. Steps are used up in their order, so no code is
// right until that time comes: only recovery codes, a bypass, or a new secret.
func (a *Account) ClockWasAhead(now clock.Instant) bool {
	return a != nil && a.TOTP != nil && a.TOTP.ClockWasAhead(now.Wall)
}

// EnrolmentOpen says whether a login may begin to enrol the person now.
func (a *Account) EnrolmentOpen(now clock.Instant) bool {
	return a != nil && a.Enrolment != nil && !a.Enrolment.Claimed && !a.Enrolment.Expires.Passed(now)
}

// MayConfirm says whether a login that has begun to enrol the person may still
// put the new secret in force. claimed: it is the one whose code was right; that
// one may finish after the window's end, but not once it was closed.
func (a *Account) MayConfirm(claimed bool, now clock.Instant) bool {
	if claimed {
		return a != nil && a.Enrolment != nil && a.Enrolment.Claimed
	}
	return a.EnrolmentOpen(now)
}

// Name says which factor.
type Name string

// The factors.
const (
	TOTP     Name = "totp"
	Recovery Name = "recovery"
	Bypass   Name = "bypass"
	Push     Name = "push"
	// OfflineBypass is the helpdesk's answer to the challenge on the screen.
	OfflineBypass Name = "offline_bypass"
)

// Reason says why an answer was taken or not; stable, for events.
type Reason string

// The reasons of an Outcome.
const (
	Accepted      Reason = "code_accepted"
	WrongCode     Reason = "wrong_code"
	AlreadyUsed   Reason = "code_already_used"
	Expired       Reason = "code_expired"
	Locked        Reason = "locked"
	Malformed     Reason = "malformed_code"
	PasswordTyped Reason = "password_typed_as_code"
	NotEnrolled   Reason = "not_enrolled"
	// ClockWasAhead: codes of the time now count as used up; see Account.ClockWasAhead.
	ClockWasAhead Reason = "clock_was_ahead"
	// NotAllowed: the policy takes other factors in this login.
	NotAllowed Reason = "wrong_factor"
	// OfflineLimit: the computer was without contact for too long.
	OfflineLimit Reason = "offline_limit"
)

// Outcome is what an answer was worth. The zero value lets nobody in.
type Outcome struct {
	OK        bool
	Factor    Name // which one the answer was for; "" when that cannot be told
	Reason    Reason
	LockedNow bool          // this answer locked the account
	LockedFor time.Duration // what is left, when Reason is Locked or LockedNow
}

// Check decides what an answer is worth to an account and changes the account
// accordingly; the caller keeps it in the same transaction. account may be nil:
// nobody known under that key.
//
// The shape of the answer says which factor it is for, so there is one prompt:
// 6 or 8 digits are TOTP, 10 letters and digits a recovery code, 12 digits a
// bypass, or the answer to the open challenge. Only what could have been a code is
// counted as a failure: a password typed at the wrong prompt locks nobody out.
func Check(account *Account, answer secret.String, now clock.Instant, codeKey []byte) Outcome {
	return CheckOffline(account, answer, now, codeKey, Line{})
}

// CheckOffline is Check on a computer whose line to the authority is as line says.
func CheckOffline(account *Account, answer secret.String, now clock.Instant, codeKey []byte, line Line) Outcome {
	code := onetime.Normalize(answer.Reveal())
	switch {
	case line.Reached && !onetime.IsSpoken(code):
		return Outcome{Reason: OfflineLimit} // nothing is counted, and nothing used up
	case account == nil:
		return Outcome{Reason: NotEnrolled}
	case onetime.IsSpoken(code):
		if account.Bypass.Matches(codeKey, account.Key, code) {
			expired := account.Bypass.Expires.Passed(now)
			account.Bypass = nil
			if expired {
				return Outcome{Factor: Bypass, Reason: Expired}
			}
			return account.accept(Bypass, now)
		}
		if account.Offline.Open != nil && line.Key != nil {
			return account.checkOfflineBypass(code, line.Key, now)
		}
		return account.refuse(Bypass, now)
	case onetime.IsRecovery(code):
		left, ok := onetime.Take(codeKey, account.Key, code, account.Recovery)
		if ok {
			account.Recovery = left
			return account.accept(Recovery, now)
		}
		return account.refuse(Recovery, now)
	case account.TOTP == nil:
		return Outcome{Reason: NotEnrolled}
	case len(code) != account.TOTP.Digits || !isDigits(code):
		return Outcome{Reason: Malformed}
	case account.Lockout.Locked(now):
		return Outcome{Factor: TOTP, Reason: Locked, LockedFor: account.Lockout.Until.Left(now)}
	}
	switch account.TOTP.Verify(code, now.Wall) {
	case totp.Correct:
		return account.accept(TOTP, now)
	case totp.Used:
		return Outcome{Factor: TOTP, Reason: AlreadyUsed}
	case totp.ClockWasAhead:
		// Not counted: nothing that could be typed would be right.
		return Outcome{Factor: TOTP, Reason: ClockWasAhead}
	default:
		return account.refuse(TOTP, now)
	}
}

func (a *Account) accept(name Name, now clock.Instant) Outcome {
	a.Lockout.succeed(now)
	a.LastSuccess = now.Wall
	a.Last = &Use{name, now.In(0)}
	return Outcome{OK: true, Factor: name, Reason: Accepted}
}

func (a *Account) refuse(name Name, now clock.Instant) Outcome {
	o := Outcome{Factor: name, Reason: WrongCode, LockedNow: a.Lockout.fail(now)}
	if o.LockedNow {
		o.LockedFor = a.Lockout.Until.Left(now)
		a.Remembered = nil
	}
	return o
}

// maxEnrolmentTries is how many wrong one-time codes end an enrolment code.
const maxEnrolmentTries = 5

// CheckEnrolmentCode compares the one-time code that lets the person enrol at
// the login. A right code is used up and claims the window for the login that
// typed it; after five wrong ones the window closes.
func CheckEnrolmentCode(a *Account, answer secret.String, now clock.Instant, codeKey []byte) Outcome {
	if !a.EnrolmentOpen(now) || a.Enrolment.Code == nil {
		return Outcome{Reason: Expired}
	}
	if a.Enrolment.Code.Matches(codeKey, a.Key, onetime.Normalize(answer.Reveal())) {
		a.Enrolment.Code, a.Enrolment.Claimed = nil, true
		return Outcome{OK: true, Reason: Accepted}
	}
	if a.Enrolment.Tries++; a.Enrolment.Tries >= maxEnrolmentTries {
		a.Enrolment = nil
	}
	return Outcome{Reason: WrongCode}
}

// SetSecret puts a TOTP state into the account. A lockout ends: it was counted
// against the old secret. So do a window to enrol in and, with a secret that is
// replaced, a bypass: both are for who had the old one, which may be stolen.
func (a *Account) SetSecret(state *totp.State, now clock.Instant) {
	if a.IsEnrolled() {
		a.Bypass, a.Offline.Open = nil, nil
	}
	a.TOTP, a.Enrolment, a.Enrolled = state, nil, now.Wall
	a.Unlock()
}

// Unlock ends a lockout. Whoever ends one asks again, too.
func (a *Account) Unlock() {
	a.Lockout.Clear()
	a.Offline.Lockout.Clear()
	a.Remembered = nil
}

// Enrol is SetSecret with fresh recovery codes, which it returns to be shown.
func (a *Account) Enrol(state *totp.State, now clock.Instant, codeKey []byte) ([]string, error) {
	codes, hashes, err := onetime.NewRecovery(codeKey, a.Key)
	if err != nil {
		return nil, err
	}
	a.SetSecret(state, now)
	a.Recovery = hashes
	return codes, nil
}

func isDigits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
