//go:build linux

package machine

import (
	"crypto/hmac"
	"crypto/sha1" // HMAC-SHA-1 is what TOTP is made of: RFC 6238
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"time"
)

const (
	step = 30 // seconds
	// maxDrift is how far the agent follows a phone's clock, in steps.
	maxDrift = 3
)

// Phone is an authenticator app (RFC 6238: SHA-1, 6 digits, 30 s). It is written
// from the RFC and shares no code with the product.
//
// A code is good once, and one step to each side of the phone's known drift is
// accepted, so a person with only one phone may log in every 30 s. Next gets
// several logins in a row out of it without waiting: it takes the codes of rising
// steps, and the agent takes the phone for one whose clock is fast.
type Phone struct {
	seed  []byte
	last  int64 // the newest step used
	drift int64 // what the agent has learnt
}

// NewPhone scans an otpauth URI.
func NewPhone(uri string) (*Phone, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("machine: no otpauth URI") // the text would hold the secret
	}
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	if err != nil || len(seed) == 0 {
		return nil, errors.New("machine: the otpauth URI has no base32 secret")
	}
	return &Phone{seed: seed}, nil
}

// Lag makes the phone's clock one step slow: that leaves one more code that is
// good right now. It waits out the last seconds of a step, in which such a code
// would not arrive in time.
func (p *Phone) Lag() {
	if left := step - time.Now().Unix()%step; left < 6 {
		time.Sleep(time.Duration(left) * time.Second)
	}
	p.drift = -1
}

// Peek is the code that Next will give, for a login that will not use it up.
func (p *Phone) Peek() string {
	s, _ := p.next()
	return p.code(s)
}

// Next is a code that is good now and was not used yet. It waits for the clock
// only when all the codes near now are used up.
func (p *Phone) Next() string {
	s, now := p.next()
	p.last, p.drift = s, max(-maxDrift, min(maxDrift, s-now))
	return p.code(s)
}

func (p *Phone) next() (s, now int64) {
	for {
		now = time.Now().Unix() / step
		s = max(p.last+1, now+p.drift)
		if s <= now+p.drift+1 {
			return s, now
		}
		time.Sleep(time.Until(time.Unix((now+1)*step, 0)))
	}
}

// Ready is when the code that the phone shows by itself is one not used yet.
func (p *Phone) Ready() time.Time { return time.Unix((p.last+1)*step, 0) }

// Wrong is a code that is right at no time near now; i tells several apart.
func (p *Phone) Wrong(i int) string {
	near := map[string]bool{}
	now := time.Now().Unix() / step
	for s := now - 10; s <= now+10; s++ {
		near[p.code(s)] = true
	}
	for n := i; ; n += 1000 {
		if code := fmt.Sprintf("%06d", (123456+7*n)%1_000_000); !near[code] {
			return code
		}
	}
}

// code is HOTP of one step (RFC 4226, section 5.3).
func (p *Phone) code(s int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(s))
	mac := hmac.New(sha1.New, p.seed)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[offset:offset+4])&0x7fffffff%1_000_000)
}
