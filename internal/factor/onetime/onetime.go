// Package onetime is the codes that are good once and need no clock on the
// phone: recovery codes, the helpdesk's bypass codes, and codes to enrol with.
//
// They are long enough that guessing needs no lockout (50 and 40 bits, the
// shorter ones for days at most), and are kept only as keyed hashes.
package onetime

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"sallyport/internal/clock"
)

// RecoveryCodes is how many are issued at once.
const RecoveryCodes = 10

// recoveryAlphabet is Crockford's base32: no I, L, O or U to mistake or read out.
const recoveryAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	recoveryLength = 10 // of 32 characters: 50 bits
	spokenLength   = 12 // digits: 40 bits, easy to read out
)

// Hash is what is kept of a code.
type Hash []byte

// Spoken is a code that somebody reads out: a bypass, or a code to enrol with.
type Spoken struct {
	Hash    Hash           `json:"hash"`
	Expires clock.Deadline `json:"expires"`
}

// IsSpoken says whether a normalized answer has the shape of a spoken code.
func IsSpoken(code string) bool { return len(code) == spokenLength && allDigits(code) }

// IsRecovery says whether a normalized answer has the shape of a recovery code.
func IsRecovery(code string) bool {
	return len(code) == recoveryLength && strings.Trim(code, recoveryAlphabet) == ""
}

// Normalize takes out what people put between the characters, and undoes the
// usual misreadings (Crockford): o is 0, i and l are 1.
func Normalize(answer string) string {
	return strings.NewReplacer("-", "", " ", "", "\t", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(answer))
}

// NewRecovery makes the codes to show, and the hashes to keep, for one account.
func NewRecovery(key []byte, account string) (codes []string, hashes []Hash, err error) {
	for range RecoveryCodes {
		code, err := random(recoveryAlphabet, recoveryLength)
		if err != nil {
			return nil, nil, err
		}
		codes = append(codes, code[:5]+"-"+code[5:])
		hashes = append(hashes, hash(key, account, code))
	}
	return codes, hashes, nil
}

// NewSpoken makes a code to read out and what to keep of it.
func NewSpoken(key []byte, account string, expires clock.Deadline) (string, *Spoken, error) {
	code, err := random("0123456789", spokenLength)
	if err != nil {
		return "", nil, err
	}
	return code[:4] + "-" + code[4:8] + "-" + code[8:], &Spoken{hash(key, account, code), expires}, nil
}

// KeepRecovery returns the hashes to keep of recovery codes that were made
// elsewhere.
func KeepRecovery(key []byte, account string, codes []string) ([]Hash, error) {
	if len(codes) == 0 || len(codes) > 2*RecoveryCodes {
		return nil, fmt.Errorf("%d recovery codes; 1 to %d are taken", len(codes), 2*RecoveryCodes)
	}
	var hashes []Hash
	for _, code := range codes {
		if code = Normalize(code); !IsRecovery(code) {
			return nil, errors.New("a recovery code has not 10 letters and digits")
		}
		hashes = append(hashes, hash(key, account, code))
	}
	return hashes, nil
}

// KeepSpoken returns what to keep of a spoken code that was made elsewhere.
func KeepSpoken(key []byte, account, code string, expires clock.Deadline) (*Spoken, error) {
	if code = Normalize(code); !IsSpoken(code) {
		return nil, errors.New("the code has not 12 digits")
	}
	return &Spoken{hash(key, account, code), expires}, nil
}

// Take looks for a normalized code among the hashes and returns the ones left;
// ok is false when it is not there.
func Take(key []byte, account, code string, hashes []Hash) (left []Hash, ok bool) {
	want := hash(key, account, code)
	for _, h := range hashes {
		if subtle.ConstantTimeCompare(h, want) == 1 {
			ok = true
			continue
		}
		left = append(left, h)
	}
	return left, ok
}

// Matches says whether the normalized code is this one; it may have expired.
func (s *Spoken) Matches(key []byte, account, code string) bool {
	return s != nil && subtle.ConstantTimeCompare(s.Hash, hash(key, account, code)) == 1
}

// hash binds the code to the account, so that a hash moved to another record
// is good for nothing.
func hash(key []byte, account, code string) Hash {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(account + "\x00" + code))
	return mac.Sum(nil)
}

func random(alphabet string, n int) (string, error) {
	b := make([]byte, n)
	for i := range b {
		j, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", err
		}
		b[i] = alphabet[j.Int64()]
	}
	return string(b), nil
}

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
