// Package migrate reads the secrets that other products keep, so that a site
// can move over: google-authenticator's ~/.google_authenticator and OATH
// toolkit's users.oath. It only parses; nothing in an error or a reason holds a
// secret.
package migrate

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What the agent takes: proto/sallyport/admin/v1/admin.proto, ImportEntry.
const (
	MinSecret = 10
	MaxSecret = 128
	period    = 30
)

// Entry is one secret to take over.
type Entry struct {
	User      string
	Secret    []byte // raw; Wipe it when it is sent
	Algorithm string // "SHA1"
	Digits    int
	Period    int   // seconds
	LastStep  int64 // the newest time step known to be used; 0: none
	Line      int
}

// Wipe overwrites the secret.
func (e *Entry) Wipe() { clear(e.Secret) }

// Google is what one ~/.google_authenticator holds, beside its secret.
type Google struct {
	Entry
	ScratchCodes int // emergency codes, which are not taken over
	Skew         int // TIME_SKEW: the learnt drift, in steps
}

// ParseGoogle reads a ~/.google_authenticator: the secret in base32 on the first
// line, then options, each behind a double quote and a space, then emergency
// codes of eight digits.
func ParseGoogle(data []byte) (Google, error) {
	var g Google
	if !utf8.Valid(data) {
		return g, errors.New("not a google-authenticator file: not text")
	}
	lines := strings.Split(string(data), "\n")
	secret, err := decodeBase32(lines[0])
	if err != nil {
		return g, fmt.Errorf("line 1: %w", err)
	}
	g.Entry = Entry{Secret: secret, Algorithm: "SHA1", Digits: 6, Period: period, Line: 1}
	fail := func(format string, args ...any) (Google, error) {
		g.Wipe()
		return Google{}, fmt.Errorf(format, args...)
	}
	totp := false
	for i, l := range lines[1:] {
		n := i + 2
		l = strings.TrimRight(l, " \t\r")
		option, isOption := strings.CutPrefix(l, `" `)
		switch {
		case l == "":
		case isOption:
			f := strings.Fields(option)
			if len(f) == 0 {
				continue
			}
			switch f[0] {
			case "TOTP_AUTH":
				totp = true
			case "HOTP_COUNTER":
				return fail("line %d: the code is counter-based (HOTP_COUNTER); only time-based codes can be taken over: enrol the user anew", n)
			case "STEP_SIZE":
				if len(f) != 2 || f[1] != strconv.Itoa(period) {
					return fail("line %d: STEP_SIZE other than %d s is not supported: enrol the user anew", n, period)
				}
			case "TIME_SKEW":
				if len(f) != 2 {
					return fail("line %d: TIME_SKEW without one number", n)
				}
				if g.Skew, err = strconv.Atoi(f[1]); err != nil {
					return fail("line %d: TIME_SKEW is not a number", n)
				}
			case "DISALLOW_REUSE":
				for _, s := range f[1:] {
					step, err := strconv.ParseInt(s, 10, 64)
					if err != nil || step < 0 {
						return fail("line %d: DISALLOW_REUSE with something that is not a time step", n)
					}
					g.LastStep = max(g.LastStep, step)
				}
			}
			// WINDOW_SIZE, RATE_LIMIT, RESETTING_TIME_SKEW and LAST0... are the other
			// product's own rules; ours replace them.
		case isDigits(l, 8):
			g.ScratchCodes++
		default:
			return fail("line %d: neither an option nor an emergency code", n)
		}
	}
	if !totp {
		return fail("there is no TOTP_AUTH line: not a time-based code")
	}
	return g, nil
}

func isDigits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789") == ""
}

// decodeBase32 reads a secret as google-authenticator does: without padding,
// blanks and dashes ignored, 0, 1 and 8 taken for O, L and B, and bits that do
// not fill a byte dropped.
func decodeBase32(s string) ([]byte, error) {
	s = strings.ToUpper(strings.NewReplacer(" ", "", "\t", "", "\r", "", "-", "", "0", "O", "1", "L", "8", "B").Replace(s))
	s = strings.TrimRight(s, "=")
	switch len(s) % 8 { // a length that base32 itself cannot have
	case 1, 3, 6:
		s = s[:len(s)-1]
	}
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(s)
	if err != nil {
		return nil, errors.New("the secret is not base32") // err holds a part of it
	}
	return b, checkLength(b)
}

func checkLength(secret []byte) error {
	if n := len(secret); n < MinSecret || n > MaxSecret {
		clear(secret)
		return fmt.Errorf("the secret has %d bytes; %d to %d are taken: enrol the user anew", n, MinSecret, MaxSecret)
	}
	return nil
}
