// Package winreg reads keys of the Windows registry whole, as plain values, and
// decodes those values strictly. Only reading and watching need Windows; on other
// systems there are no keys.
package winreg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Types of values: "Registry Value Types".
const (
	SZ       = 1
	ExpandSZ = 2
	DWORD    = 4
	MultiSZ  = 7
)

// Key is a key with what is in it.
type Key struct {
	Values []Value
	Keys   []Subkey
}

// Subkey is a key below another one.
type Subkey struct {
	Name string
	Key  Key
}

// Value is a value as it is stored.
type Value struct {
	Name string
	Type uint32
	Data []byte
}

// NewNumber is a number as the registry stores it.
func NewNumber(name string, n uint32) Value {
	return Value{name, DWORD, binary.LittleEndian.AppendUint32(nil, n)}
}

// NewText is a text as the registry stores it.
func NewText(name, text string) Value { return Value{name, SZ, utf16le(text + "\x00")} }

// NewTexts are several texts as the registry stores them. None of them is empty.
func NewTexts(name string, list ...string) Value {
	return Value{name, MultiSZ, utf16le(strings.Join(append(slices.Clip(list), "", ""), "\x00"))}
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// typeNames are what the registry's tools show.
var typeNames = map[uint32]string{0: "REG_NONE", SZ: "REG_SZ", ExpandSZ: "REG_EXPAND_SZ", 3: "REG_BINARY", DWORD: "REG_DWORD", 5: "REG_DWORD_BIG_ENDIAN",
	6: "REG_LINK", MultiSZ: "REG_MULTI_SZ", 11: "REG_QWORD"}

// must says whether the value is of the type that is wanted.
func (v Value) must(want uint32) error {
	if v.Type == want {
		return nil
	}
	is := typeNames[v.Type]
	if is == "" {
		is = fmt.Sprintf("of type %d", v.Type)
	}
	return fmt.Errorf("is %s; it must be %s", is, typeNames[want])
}

// Number is the number of a REG_DWORD.
func (v Value) Number() (uint32, error) {
	if err := v.must(DWORD); err != nil {
		return 0, err
	}
	if len(v.Data) != 4 {
		return 0, fmt.Errorf("is a REG_DWORD of %d bytes; it must have 4", len(v.Data))
	}
	return binary.LittleEndian.Uint32(v.Data), nil
}

// Text is the text of a REG_SZ.
func (v Value) Text() (string, error) {
	if err := v.must(SZ); err != nil {
		return "", err
	}
	units, err := v.units()
	if err != nil {
		return "", err
	}
	// The NUL at the end may be missing: "Registry Value Types".
	if n := len(units); n > 0 && units[n-1] == 0 {
		units = units[:n-1]
	}
	return text(units)
}

// Texts are the texts of a REG_MULTI_SZ.
func (v Value) Texts() ([]string, error) {
	if err := v.must(MultiSZ); err != nil {
		return nil, err
	}
	units, err := v.units()
	if err != nil {
		return nil, err
	}
	list := []string{}
	for len(units) > 0 && units[0] != 0 {
		n := 0
		for n < len(units) && units[n] != 0 {
			n++
		}
		s, err := text(units[:n])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		units = units[min(n+1, len(units)):]
	}
	for _, u := range units {
		if u != 0 {
			return nil, errors.New("has an empty text in the middle, where the list ends")
		}
	}
	return list, nil
}

func (v Value) units() ([]uint16, error) {
	if len(v.Data)%2 != 0 {
		return nil, fmt.Errorf("is %d bytes long, which is no UTF-16", len(v.Data))
	}
	units := make([]uint16, len(v.Data)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(v.Data[2*i:])
	}
	return units, nil
}

// text refuses what utf16.Decode would replace, and a NUL, at which others stop.
func text(units []uint16) (string, error) {
	for i := 0; i < len(units); i++ {
		switch u := rune(units[i]); {
		case u == 0:
			return "", errors.New("has a NUL in it")
		case utf16.IsSurrogate(u) && (i+1 == len(units) || utf16.DecodeRune(u, rune(units[i+1])) == '\uFFFD'):
			return "", errors.New("is no UTF-16: half a character is missing")
		case utf16.IsSurrogate(u):
			i++
		}
	}
	return string(utf16.Decode(units)), nil
}
