// Package push is the factor of a login that is approved on a phone: the
// challenge that the endpoint makes, the passkey's assertion that answers it,
// and how many may be asked for. It is pure.
//
// The endpoint trusts nobody on the way. It makes the challenge, keeps the
// number, and takes an approval only from a key that it pinned, over its own
// bytes, with its own number, in time, once. The authority relays.
package push

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"sallyport/internal/clock"
)

// Decision is what the person on the phone chose.
type Decision string

// The decisions.
const (
	Approve Decision = "approve"
	Deny    Decision = "deny"
	Report  Decision = "report" // "Not me"
)

// The domains keep a signature for one purpose from being one for another.
const (
	loginType       = "sallyport.login.v1"
	loginDomain     = "sallyport.push.login.v1\x00"
	sessionDomain   = "sallyport.push.session.v1\x00"
	enrolmentDomain = "sallyport.push.enrol.v1\x00"
)

// Challenge is one request to approve a login. Its JSON is what travels, what
// the page shows, and what is signed.
type Challenge struct {
	Type    string `json:"type"`    // "sallyport.login.v1"
	ID      string `json:"id"`      // 128 random bits, base64url: names it everywhere
	Nonce   string `json:"nonce"`   // 256 random bits, base64url
	Device  string `json:"device"`  // the endpoint's id
	Name    string `json:"name"`    // what people call the endpoint
	User    string `json:"user"`    //
	Service string `json:"service"` // "sshd"
	From    string `json:"from"`    // remote address as the hook gave it; "" = at the computer
	Issued  int64  `json:"issued"`  // seconds since 1970, by the endpoint's clock
	Expires int64  `json:"expires"`
}

// Live is a challenge that waits for its answer, in the endpoint's memory only.
type Live struct {
	Challenge Challenge
	Bytes     []byte // Challenge as JSON: exactly what is signed
	Number    string // shown at the login, typed on the phone, sent to nobody
	Until     clock.Deadline
}

// How many digits a number may have, and how many bytes a challenge.
const (
	MinDigits    = 2
	MaxDigits    = 6
	MaxChallenge = 2048
)

// NewChallenge fills in what makes a challenge one: id, nonce, time and number.
func NewChallenge(c Challenge, now clock.Instant, life time.Duration, digits int) (*Live, error) {
	if digits < MinDigits || digits > MaxDigits {
		return nil, fmt.Errorf("push: a number of %d digits", digits)
	}
	c.Type, c.ID, c.Nonce = loginType, NewID(), random(32)
	c.Issued, c.Expires = now.Wall.Unix(), now.Wall.Add(life).Unix()
	b, err := encode(c)
	if err != nil {
		return nil, err
	}
	// Without a leading zero, which people leave out.
	low := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits-1)), nil)
	n, err := rand.Int(rand.Reader, new(big.Int).Mul(low, big.NewInt(9)))
	if err != nil {
		return nil, err
	}
	return &Live{Challenge: c, Bytes: b, Number: n.Add(n, low).String(), Until: now.In(life)}, nil
}

// encode is the one spelling of a challenge.
func encode(c Challenge) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is no HTML, and would grow sixfold
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	b.Truncate(b.Len() - 1) // the line's end
	if b.Len() > MaxChallenge {
		return nil, fmt.Errorf("push: a challenge of %d bytes, over %d", b.Len(), MaxChallenge)
	}
	return b.Bytes(), nil
}

// ParseChallenge reads a challenge to be shown or limited, never to be trusted:
// only the endpoint that made it can tell whether it is its own. It takes only
// what NewChallenge writes, byte for byte, so that whoever reads it reads the same.
func ParseChallenge(b []byte) (c Challenge, err error) {
	if len(b) > MaxChallenge {
		return Challenge{}, fmt.Errorf("push: a challenge of %d bytes, over %d", len(b), MaxChallenge)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Challenge{}, fmt.Errorf("push: not a login challenge: %w", err)
	}
	again, err := encode(c)
	if err != nil || c.Type != loginType || !isRandom(c.ID, 16) || !isRandom(c.Nonce, 32) || c.Expires < c.Issued || !bytes.Equal(again, b) {
		return Challenge{}, errors.New("push: not a login challenge")
	}
	return c, nil
}

// isRandom says whether s is what random(n) returns.
func isRandom(s string, n int) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == n && len(s) == base64.RawURLEncoding.EncodedLen(n)
}

// NewID returns 128 random bits in base64url. It does not begin with "-", for which
// a command would take it for an option.
func NewID() string {
	for {
		if id := random(16); id[0] != '-' {
			return id
		}
	}
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}

// Digest is the WebAuthn challenge of an answer: SHA-256(domain || SHA-256(challenge)
// || decision || 0 || number). The number is "" unless the decision is Approve.
func Digest(challenge []byte, d Decision, number string) [32]byte {
	return sha256.Sum256(append(beforeNumber(challenge, d), number...))
}

// beforeNumber is what Digest hashes, up to the number.
func beforeNumber(challenge []byte, d Decision) []byte {
	inner := sha256.Sum256(challenge)
	return []byte(loginDomain + string(inner[:]) + string(d) + "\x00")
}

// SessionDigest is the WebAuthn challenge of a phone that opens the page: over
// another domain, so that no script can pass a login's off as one.
func SessionDigest(nonce []byte) [32]byte {
	return sha256.Sum256(append([]byte(sessionDomain), nonce...))
}
