package hosttest

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// kerbLogon is a packed KERB_INTERACTIVE_UNLOCK_LOGON, as the documentation of that
// structure lays it out; written without a look at the DLL's packing.
type kerbLogon struct {
	MessageType            uint32
	Domain, User, Password string
}

// The message types (KERB_LOGON_SUBMIT_TYPE).
const (
	interactiveLogon       = 2
	workstationUnlockLogon = 7
)

// layout is how wide a pointer is in a blob, and where that puts things.
type layout struct {
	name                  string
	pointer               int
	strings, logonID, end int // offsets of the first UNICODE_STRING, the LUID, what follows
}

var (
	wide64 = layout{"64 bit", 8, 8, 56, 64}
	wow32  = layout{"32 bit", 4, 4, 28, 36}
)

// unicodeStrings are where the three are: LogonDomainName, UserName, Password.
func (l layout) unicodeString(i int) int { return l.strings + i*(2*l.pointer) }

func toUTF16(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// pack lays a logon out with its strings behind the header, one after the other,
// and buffers as offsets from the beginning.
func (l layout) pack(k kerbLogon) []byte {
	b := make([]byte, l.end)
	binary.LittleEndian.PutUint32(b, k.MessageType)
	for i, s := range []string{k.Domain, k.User, k.Password} {
		text := toUTF16(s)
		at := l.unicodeString(i)
		binary.LittleEndian.PutUint16(b[at:], uint16(len(text)))
		binary.LittleEndian.PutUint16(b[at+2:], uint16(len(text)))
		l.putPointer(b[at+l.pointer:], uint64(len(b)))
		b = append(b, text...)
	}
	return b
}

func (l layout) putPointer(b []byte, v uint64) {
	if l.pointer == 4 {
		binary.LittleEndian.PutUint32(b, uint32(v))
	} else {
		binary.LittleEndian.PutUint64(b, v)
	}
}

func (l layout) takePointer(b []byte) uint64 {
	if l.pointer == 4 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// parse reads a blob as LSA does, and accounts for every byte: nothing may be
// there that is not named, no string may reach into another or the header.
func (l layout) parse(b []byte) (k kerbLogon, err error) {
	if len(b) < l.end {
		return k, fmt.Errorf("%d bytes, the header alone has %d", len(b), l.end)
	}
	k.MessageType = binary.LittleEndian.Uint32(b)
	used := make([]string, len(b))
	for i := range l.end {
		used[i] = "the header"
	}
	for i, to := range []*string{&k.Domain, &k.User, &k.Password} {
		name := []string{"LogonDomainName", "UserName", "Password"}[i]
		at := l.unicodeString(i)
		length, room := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint16(b[at+2:]))
		offset := l.takePointer(b[at+l.pointer:])
		switch {
		case length%2 != 0 || room < length:
			return k, fmt.Errorf("%s: length %d, maximum %d", name, length, room)
		case offset > uint64(len(b)) || offset+uint64(room) > uint64(len(b)):
			return k, fmt.Errorf("%s: %d bytes at %d, of %d", name, room, offset, len(b))
		case offset%2 != 0:
			return k, fmt.Errorf("%s: at the odd offset %d", name, offset)
		}
		if l.pointer == 8 && binary.LittleEndian.Uint32(b[at+4:]) != 0 {
			return k, fmt.Errorf("%s: padding is not zero", name)
		}
		var units []uint16
		for j := int(offset); j < int(offset)+room; j++ {
			if used[j] != "" {
				return k, fmt.Errorf("%s: byte %d is also of %s", name, j, used[j])
			}
			used[j] = name
		}
		for j := int(offset); j < int(offset)+length; j += 2 {
			units = append(units, binary.LittleEndian.Uint16(b[j:]))
		}
		*to = string(utf16.Decode(units))
	}
	for _, padding := range [][2]int{{4, l.strings}, {l.logonID, l.end}} { // nobody's session yet: LogonId is 0
		for j := padding[0]; j < padding[1]; j++ {
			if b[j] != 0 {
				return k, fmt.Errorf("byte %d is %#x, want 0", j, b[j])
			}
		}
	}
	for j, name := range used {
		if name == "" {
			return k, fmt.Errorf("byte %d is of nothing", j)
		}
	}
	return k, nil
}
