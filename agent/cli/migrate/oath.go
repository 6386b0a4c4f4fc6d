package migrate

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxLine bounds one line of a users.oath.
const maxLine = 4096

// Refused is a line that cannot be taken over.
type Refused struct {
	Line   int
	User   string // empty when the line has none
	Reason string
}

// ParseOATH reads a users.oath, the UsersFile of OATH toolkit: type, user, PIN,
// secret in hex, and, after a login, counter, last code and local time of it.
// Each line goes to one of the two functions; an error of theirs ends it.
func ParseOATH(r io.Reader, now time.Time, take func(Entry) error, refuse func(Refused) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, maxLine), maxLine)
	for n := 1; s.Scan(); n++ {
		f := bytes.Fields(s.Bytes())
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		e, err := parseOATH(f, now)
		e.Line = n
		if err != nil {
			e.Wipe()
			err = refuse(Refused{Line: n, User: e.User, Reason: err.Error()})
		} else {
			err = take(e)
		}
		if err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than %d bytes: not a users.oath file", maxLine)
	}
	return s.Err()
}

var oathDigits = map[string]int{"HOTP/T30": 6, "HOTP/T30/6": 6, "HOTP/T30/8": 8}

func parseOATH(f [][]byte, now time.Time) (e Entry, err error) {
	if len(f) >= 2 {
		if !utf8.Valid(f[1]) || len(f[1]) > 320 {
			return e, errors.New("the user's name is not UTF-8, or too long")
		}
		e.User = string(f[1])
	}
	typ := string(f[0])
	digits, ok := oathDigits[typ]
	switch {
	case ok:
	case typ == "HOTP" || typ == "HOTP/E" || bytes.HasPrefix(f[0], []byte("HOTP/E/")):
		return e, errors.New("a counter-based code (HOTP); only time-based codes (HOTP/T30) can be taken over: enrol the user anew")
	case bytes.HasPrefix(f[0], []byte("HOTP/T60")):
		return e, errors.New("codes of 60 s (HOTP/T60) are not supported, only of 30 s: enrol the user anew")
	case typ == "HOTP/T30/7":
		return e, errors.New("codes of 7 digits are not supported, only 6 or 8: enrol the user anew")
	default:
		return e, errors.New("not a type of token that is known")
	}
	if len(f) < 4 {
		return e, errors.New("the line is cut short: type, user, PIN and secret are needed")
	}
	// "-" is no PIN, "+" a password that another module checks.
	if pin := string(f[2]); pin != "-" && pin != "+" {
		return e, errors.New("a PIN is set; PINs are not supported: set it to - if the login asks for the password anyway")
	}
	e.Secret = make([]byte, hex.DecodedLen(len(f[3])))
	if _, err := hex.Decode(e.Secret, f[3]); err != nil {
		return e, errors.New("the secret is not hexadecimal") // err holds a part of it
	}
	if err := checkLength(e.Secret); err != nil {
		return e, err
	}
	e.Algorithm, e.Digits, e.Period = "SHA1", digits, period
	if len(f) >= 7 {
		if e.LastStep, err = lastStep(e.Secret, f[5], f[6], digits, now); err != nil {
			return e, err
		}
	}
	return e, nil
}

// lastStep finds the time step of the last code used, so that nobody uses that
// code again here. The file's counter does not say it for time-based codes
// (liboath adds the code's position in the window at each login), but it keeps
// the last code and the local time it came at. The code is looked for around
// that time; pam_oath's window is the site's own, so the search is wide, nearest
// first. Where it is not found (another time zone) the time itself stands.
func lastStep(secret, code, local []byte, digits int, now time.Time) (int64, error) {
	at, err := time.ParseInLocation("2006-01-02T15:04:05L", string(local), time.Local)
	if err != nil {
		return 0, errors.New("the time of the last login is not one (YYYY-MM-DDThh:mm:ssL)")
	}
	if !isDigits(string(code), digits) {
		return 0, errors.New("the last code is not one")
	}
	want, err := strconv.ParseUint(string(code), 10, 32)
	if err != nil {
		return 0, errors.New("the last code is not one")
	}
	// A time in the future would keep the user out until then.
	newest := now.Unix()/period + 3
	base := at.Unix() / period
	if base <= 0 {
		return 0, nil
	}
	const window = 60 // half an hour either way
	for i := int64(0); i <= window; i++ {
		for _, step := range []int64{base - i, base + i} {
			if step > 0 && step <= newest && hotp(secret, step, digits) == uint32(want) {
				return step, nil
			}
		}
	}
	return min(base, newest), nil
}

// hotp is RFC 4226's code, section 5.3.
func hotp(secret []byte, step int64, digits int) uint32 {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	h := hmac.New(sha1.New, secret)
	h.Write(counter[:])
	sum := h.Sum(nil)
	v := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&0xf:]) & 0x7fffffff
	mod := uint32(1)
	for range digits {
		mod *= 10
	}
	return v % mod
}
