// Package totp is the TOTP factor (RFC 6238): when a code is right, and what is
// remembered of it so that it is right only once.
//
// It is pure: the caller passes the record and the time in, and keeps what it
// gets back. The codes themselves come from pquerna/otp.
package totp

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

const (
	// window is how many steps to each side of the learnt drift are looked at.
	window = 1
	// maxDrift bounds what is learnt: a phone's clock may be off by this many
	// steps (90 s at the usual period), not by more.
	maxDrift = 3
	// seedBytes is the length of a new seed: RFC 4226 section 4, R6 recommends
	// 160 bits.
	seedBytes = 20
)

// Seed is the shared secret. It never formats as its content.
type Seed []byte

// Format implements fmt.Formatter, for every verb.
func (Seed) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// LogValue implements slog.LogValuer: a handler would write the bytes.
func (Seed) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// State is what is kept of one person's TOTP.
type State struct {
	Seed      Seed   `json:"seed"`
	Algorithm string `json:"algorithm"` // "SHA1", "SHA256", "SHA512"
	Digits    int    `json:"digits"`    // 6 or 8
	Period    int    `json:"period"`    // seconds: 30
	// LastStep is the newest time step a code was accepted for. No code of this
	// step or an earlier one is accepted again, whatever the clock says.
	LastStep int64 `json:"last_step"`
	// Drift is how many steps the phone was ahead at the last success.
	Drift int `json:"drift"`
}

// Format implements fmt.Formatter: how the codes are made, never of what.
func (s State) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "TOTP %s, %d digits, %d s", s.Algorithm, s.Digits, s.Period)
}

// LogValue implements slog.LogValuer: a JSON handler would marshal the seed.
func (s State) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// Result says how a code compared.
type Result int

// The results. The zero value is none of them.
const (
	Wrong   Result = iota + 1
	Used           // right once, and that once is over
	Correct        // State has been changed: the caller must keep it
	// ClockWasAhead: no code can be right before the time of the last success
	// comes again. It says nothing of this code.
	ClockWasAhead
)

// New makes a State with a fresh seed. An empty algorithm is SHA1 and 0 digits
// are 6, which is what every authenticator app can do.
func New(algorithm string, digits int) (*State, error) {
	seed := make([]byte, seedBytes)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	return FromSeed(seed, algorithm, digits, 30)
}

// FromSeed makes a State of a seed from elsewhere.
func FromSeed(seed []byte, algorithm string, digits, period int) (*State, error) {
	s := &State{Seed: seed, Algorithm: strings.ToUpper(algorithm), Digits: digits, Period: period}
	if s.Algorithm == "" {
		s.Algorithm = "SHA1"
	}
	if s.Digits == 0 {
		s.Digits = 6
	}
	if s.Period == 0 {
		s.Period = 30
	}
	switch {
	case len(seed) < 10 || len(seed) > 128:
		return nil, fmt.Errorf("the TOTP secret has %d bytes; 10 to 128 are accepted", len(seed))
	case s.algorithm() < 0:
		// Not quoted: in a URI that was put together wrongly it may be the secret.
		return nil, errors.New("the TOTP algorithm is not one of SHA1, SHA256, SHA512")
	case s.Digits != 6 && s.Digits != 8:
		return nil, fmt.Errorf("TOTP codes of %d digits are not accepted, only 6 or 8", digits)
	case s.Period != 30:
		return nil, fmt.Errorf("a TOTP period of %d seconds is not accepted, only 30", period)
	}
	return s, nil
}

// FromURI reads an otpauth://totp/ URI (the key URI format of Google
// Authenticator). Its errors never contain the URI.
func FromURI(uri string) (*State, error) {
	bad := errors.New("not an otpauth://totp/ URI")
	u, err := url.Parse(strings.TrimSpace(uri))
	if err != nil || u.Scheme != "otpauth" {
		return nil, bad
	}
	if u.Host != "totp" {
		return nil, errors.New("an otpauth URI of another type than totp; hotp, which counts logins, is not accepted")
	}
	q := u.Query()
	seed, err := DecodeSeed(q.Get("secret"))
	if err != nil {
		return nil, err
	}
	number := func(name string) (int, error) {
		if q.Get(name) == "" {
			return 0, nil
		}
		n, err := strconv.Atoi(q.Get(name))
		if err != nil || n <= 0 {
			return 0, fmt.Errorf("the otpauth URI's %s is not a number above 0", name)
		}
		return n, nil
	}
	digits, err := number("digits")
	if err != nil {
		return nil, err
	}
	period, err := number("period")
	if err != nil {
		return nil, err
	}
	return FromSeed(seed, q.Get("algorithm"), digits, period)
}

// DecodeSeed reads base32 as people write it: any case, with spaces or dashes,
// with or without padding.
func DecodeSeed(text string) ([]byte, error) {
	text = strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "=", "").Replace(text))
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil || len(seed) == 0 {
		return nil, errors.New("the TOTP secret is not base32")
	}
	return seed, nil
}

// SeedText returns the seed in base32, for typing it into a phone.
func (s *State) SeedText() string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s.Seed)
}

// URI returns the otpauth URI an authenticator app scans.
func (s *State) URI(issuer, name string) string {
	q := url.Values{"secret": {s.SeedText()}, "issuer": {issuer}, "algorithm": {s.Algorithm},
		"digits": {strconv.Itoa(s.Digits)}, "period": {strconv.Itoa(s.Period)}}
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + name,
		// Some apps show a + for a space: write %20.
		RawQuery: strings.ReplaceAll(q.Encode(), "+", "%20")}
	return u.String()
}

// Verify compares a code with the steps around now, the learnt drift included.
// Only Correct changes s: it uses the step up and learns the drift.
func (s *State) Verify(code string, now time.Time) Result {
	if len(s.Seed) == 0 || s.Period <= 0 || s.algorithm() < 0 {
		return Wrong // no State that was made: anybody could reckon its codes
	}
	if s.ClockWasAhead(now) {
		return ClockWasAhead
	}
	current := now.Unix() / int64(s.Period)
	result := Wrong
	for offset := s.Drift + window; offset >= s.Drift-window; offset-- {
		step := current + int64(offset)
		if step < 0 || !s.matches(code, step) {
			continue
		}
		if step <= s.LastStep {
			result = Used // an unused step may still follow
			continue
		}
		s.LastStep = step
		s.Drift = max(-maxDrift, min(maxDrift, offset))
		return Correct
	}
	return result
}

// ClockWasAhead says whether the newest used step is one that no phone can be at
// now: the computer's clock was ahead then, or is behind now. Until that step no
// code is right.
func (s *State) ClockWasAhead(now time.Time) bool {
	return s.Period > 0 && s.LastStep > 0 && s.LastStep > now.Unix()/int64(s.Period)+maxDrift+window
}

func (s *State) matches(code string, step int64) bool {
	want, err := hotp.GenerateCodeCustom(s.SeedText(), uint64(step),
		hotp.ValidateOpts{Digits: otp.Digits(s.Digits), Algorithm: s.algorithm()})
	return err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1
}

func (s *State) algorithm() otp.Algorithm {
	switch s.Algorithm {
	case "SHA1":
		return otp.AlgorithmSHA1
	case "SHA256":
		return otp.AlgorithmSHA256
	case "SHA512":
		return otp.AlgorithmSHA512
	}
	return -1
}
