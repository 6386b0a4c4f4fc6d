// Package identity names accounts and groups as the system does: by uid or by
// SID, never by what somebody typed. The vault's records, the policy's lists and
// the events go by it.
package identity

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ID is an account: "uid:1000", or on Windows "sid:S-1-5-21-1-2-3-1001". The zero
// value is nobody.
type ID string

// The accounts that an agent runs as.
const (
	Root   ID = "uid:0"
	System ID = "sid:S-1-5-18" // LocalSystem: [MS-DTYP] 2.4.2.4
)

// Administrators is the group that owns what an administrator of Windows makes
// with all rights.
const Administrators ID = "sid:S-1-5-32-544"

// UID is the account with that number on Linux or macOS.
func UID(n uint32) ID { return ID("uid:" + strconv.FormatUint(uint64(n), 10)) }

// sidText is a SID in its string form ([MS-DTYP] 2.4.2.1); the identifier
// authority may be in hexadecimal.
var sidText = regexp.MustCompile(`^S-1-(0|[1-9][0-9]{0,9}|0x[0-9A-F]{12})(-(0|[1-9][0-9]{0,9})){1,15}$`)

// SID is the account with that SID, given in its string form.
func SID(text string) (ID, error) {
	text = strings.ToUpper(text)
	if rest, ok := strings.CutPrefix(text, "S-1-0X"); ok {
		text = "S-1-0x" + rest
	}
	if !sidText.MatchString(text) {
		return "", fmt.Errorf("%q is not a SID such as S-1-5-21-1-2-3-1001", text)
	}
	return ID("sid:" + text), nil
}

// Parse reads what String and the events write.
func Parse(text string) (ID, error) {
	if number, ok := strings.CutPrefix(text, "uid:"); ok {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return "", fmt.Errorf("%q is not uid: and a number", text)
		}
		return UID(uint32(n)), nil
	}
	if sid, ok := strings.CutPrefix(text, "sid:"); ok {
		return SID(sid)
	}
	return "", fmt.Errorf("%q is neither uid:NUMBER nor sid:SID", text)
}

// UID returns the number of an account on Linux or macOS.
func (id ID) UID() (n uint32, ok bool) {
	number, ok := strings.CutPrefix(string(id), "uid:")
	v, err := strconv.ParseUint(number, 10, 32)
	return uint32(v), ok && err == nil
}

// SID returns the SID of a Windows account, in its string form.
func (id ID) SID() (sid string, ok bool) { return strings.CutPrefix(string(id), "sid:") }

// IsRoot says whether the account is the system's own: root, or LocalSystem.
func (id ID) IsRoot() bool { return id == Root || id == System }
