// Package offline is what a computer does that cannot reach its organisation: how
// long codes are taken without contact, and the bypass that works with no network.
// It is pure: no clock, no disk.
//
// # The offline bypass
//
// The screen shows a challenge, the person reads it to the helpdesk, and the
// helpdesk's authority answers with a code to be typed:
//
//	challenge = 7 random characters (35 bits) and 1 of a checksum, Crockford's base32
//	answer    = L and the 11 digits HMAC-SHA-256(key, M) mod 10^11
//	M         = "sallyport offline bypass v1", device, user, challenge, L
//
// with a uint16 length before each field of M. L is the answer's life, one of
// Lives, counted from when the challenge was made and by the device's own clock:
// the two clocks need not agree. The key is 32 random bytes, made on the device
// when it joined and escrowed with the authority: it is this device's alone.
//
// The checksum is over the device and the user too, and has no key: it is for the
// helpdesk's eyes. A character misheard, or the wrong computer or person chosen,
// is found before anything is read out, in 31 of 32 cases.
//
// Strength: whoever guesses is right with 10^-11 a try, whichever L they choose
// (36.5 bits). Five wrong answers end a challenge, and ten in a row keep answers
// out for 15 minutes, doubling to a day, so that a year of guessing finds one with
// about 4 in 10^8. An answer seen tells nothing of another (HMAC, RFC 2104). mod
// 10^11 of 64 bits favours no code by more than 6 in 10^9.
package offline

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/secret"
)

const (
	// KeySize is of a device's key, in bytes.
	KeySize = 32
	// ChallengeLife is how long a challenge is shown and answered.
	ChallengeLife = 24 * time.Hour
	// Tries is how many wrong answers end it.
	Tries = 5

	alphabet     = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford's base32
	randomLength = 7
	length       = randomLength + 1
	answerLength = 12
	modulus      = 100_000_000_000 // 11 digits
	domain       = "sallyport offline bypass v1"
	checkDomain  = "sallyport offline challenge v1"
)

// Lives are how long an answer may be good for; its first digit is the place in
// here, from 1.
var Lives = []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, ChallengeLife}

// Challenge is what the screen shows, without the dash.
type Challenge string

// NewKey makes a device's key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand
	return key
}

// NewChallenge makes a challenge for one person on one device.
func NewChallenge(device, user string) Challenge {
	b := make([]byte, randomLength)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return challenge(b, device, user)
}

// PretendChallenge looks like one, and no answer to it is good: what somebody is
// shown whom this computer does not know, the same each time for the same seed.
func PretendChallenge(seed []byte, device, user string) Challenge {
	sum := sha256.Sum256(seed)
	return challenge(sum[:randomLength], device, user)
}

func challenge(random []byte, device, user string) Challenge {
	b := make([]byte, 0, length)
	for _, r := range random[:randomLength] {
		b = append(b, alphabet[r%32])
	}
	return Challenge(append(b, checksum(string(b), device, user)))
}

func checksum(random, device, user string) byte {
	sum := sha256.Sum256(fields(checkDomain, device, user, random))
	return alphabet[sum[0]%32]
}

// fields writes texts so that no two lists of them are the same bytes.
func fields(texts ...string) (b []byte) {
	for _, t := range texts {
		b = binary.BigEndian.AppendUint16(b, uint16(min(len(t), 1<<16-1)))
		b = append(b, t...)
	}
	return b
}

// Errors of what the helpdesk typed.
var (
	ErrChallenge = errors.New("a challenge has 8 letters and digits, as in K7QF-9M2X")
	ErrOther     = errors.New("this is no challenge of that computer for that person: have it read out again, and be sure of the computer and the user's name")
	ErrLife      = errors.New("an answer is good for 15m, 1h, 4h or 24h")
)

// ParseChallenge reads what somebody typed who heard a challenge: with or without
// the dash, in any case, and with Crockford's usual misreadings undone.
func ParseChallenge(typed, device, user string) (Challenge, error) {
	if len(typed) > 4*length {
		return "", ErrChallenge
	}
	c := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(typed))
	switch {
	case len(c) != length || strings.Trim(c, alphabet) != "":
		return "", ErrChallenge
	case checksum(c[:randomLength], device, user) != c[randomLength]:
		return "", ErrOther
	}
	return Challenge(c), nil
}

// String is the challenge to be read out.
func (c Challenge) String() string {
	if len(c) != length {
		return string(c)
	}
	return string(c[:length/2] + "-" + c[length/2:])
}

// Answer is the code that answers a challenge, grouped for reading out.
func Answer(key []byte, device, user string, c Challenge, life time.Duration) (secret.String, error) {
	i := slices.Index(Lives, life)
	if i < 0 {
		return secret.String{}, ErrLife
	}
	if len(key) != KeySize {
		return secret.String{}, fmt.Errorf("the key of offline bypasses has %d bytes, not %d", len(key), KeySize)
	}
	a := code(key, device, user, c, i)
	return secret.New(a[:4] + "-" + a[4:8] + "-" + a[8:]), nil
}

// code is the answer for the life in that place of Lives.
func code(key []byte, device, user string, c Challenge, life int) string {
	digit := string(rune('1' + life))
	mac := hmac.New(sha256.New, key)
	mac.Write(fields(domain, device, user, string(c), digit))
	return fmt.Sprintf("%s%011d", digit, binary.BigEndian.Uint64(mac.Sum(nil))%modulus)
}

// Open is a challenge that waits for its answer, as it is kept with the person's
// record.
type Open struct {
	Challenge Challenge      `json:"challenge"`
	Device    string         `json:"device"` // whose it is; a computer that joins anew is another
	User      string         `json:"user"`
	Expires   clock.Deadline `json:"expires"` // ChallengeLife from when it was made
	Wrong     int            `json:"wrong,omitempty"`
}

// NewOpen makes a challenge.
func NewOpen(device, user string, now clock.Instant) *Open {
	return &Open{Challenge: NewChallenge(device, user), Device: device, User: user, Expires: now.In(ChallengeLife)}
}

// Current says whether the challenge may still be shown to that person on that
// device. A nil one may not.
func (o *Open) Current(device, user string, now clock.Instant) bool {
	return o != nil && o.Device == device && o.User == user && o.Wrong < Tries && !o.Expires.Passed(now)
}

// Verify compares a normalized answer. late: it was right, and its life is over.
func (o *Open) Verify(key []byte, answer string, now clock.Instant) (right, late bool) {
	if o == nil || len(key) != KeySize || len(answer) != answerLength || o.Wrong >= Tries {
		return false, false
	}
	life := int(answer[0]) - '1'
	if life < 0 || life >= len(Lives) {
		return false, false
	}
	want := code(key, o.Device, o.User, o.Challenge, life)
	if subtle.ConstantTimeCompare([]byte(answer), []byte(want)) != 1 {
		return false, false
	}
	// What is left of a day tells how old the challenge is, in the one way in which
	// setting the clock does not help.
	if o.Expires.Left(now) <= ChallengeLife-Lives[life] {
		return false, true
	}
	return true, false
}
