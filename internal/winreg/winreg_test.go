package winreg

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestNumbers(t *testing.T) {
	if n, err := (Value{Type: DWORD, Data: []byte{1, 2, 0, 0x80}}).Number(); n != 0x80000201 || err != nil {
		t.Errorf("%#x, %v", n, err)
	}
	for _, v := range []Value{{Type: SZ, Data: utf16le("1\x00")}, {Type: DWORD}, {Type: DWORD, Data: make([]byte, 3)}, {Type: DWORD, Data: make([]byte, 5)},
		{Type: 11, Data: make([]byte, 8)}, {Type: 5, Data: make([]byte, 4)}, {Type: 3, Data: make([]byte, 4)}, {}} {
		if n, err := v.Number(); err == nil {
			t.Errorf("%+v is %d", v, n)
		}
	}
}

func TestText(t *testing.T) {
	for data, want := range map[string]string{"": "", "\x00": "", "90s\x00": "90s", "90s": "90s", "grün 😀\x00": "grün 😀"} {
		if s, err := (Value{Type: SZ, Data: utf16le(data)}).Text(); s != want || err != nil {
			t.Errorf("%q is %q, %v", data, s, err)
		}
	}
	for says, v := range map[string]Value{
		"is REG_EXPAND_SZ; it must be REG_SZ": {Type: 2, Data: utf16le("x")},
		"is REG_MULTI_SZ; it must be REG_SZ":  {Type: MultiSZ, Data: utf16le("x\x00\x00")},
		"is of type 77; it must be REG_SZ":    {Type: 77},
		"is 3 bytes long":                     {Type: SZ, Data: []byte{1, 0, 1}},
		"has a NUL in it":                     {Type: SZ, Data: utf16le("a\x00b\x00")},
		"is no UTF-16":                        {Type: SZ, Data: []byte{0x3d, 0xd8}},
		"is no UTF-16: half":                  {Type: SZ, Data: []byte{0x3d, 0xd8, 'a', 0}},
		"is no UTF-16: half a":                {Type: SZ, Data: []byte{0x00, 0xde, 'a', 0}},
	} {
		if s, err := v.Text(); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%+v is %q, %v; want %s", v, s, err, says)
		}
	}
	// A replacement character that is really there is a character.
	if s, err := (Value{Type: SZ, Data: utf16le("\uFFFD")}).Text(); s != "\uFFFD" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
}

func TestTexts(t *testing.T) {
	for data, want := range map[string][]string{"": {}, "\x00": {}, "\x00\x00": {}, "a\x00b c\x00\x00": {"a", "b c"}, "a\x00": {"a"}, "a": {"a"}} {
		if list, err := (Value{Type: MultiSZ, Data: utf16le(data)}).Texts(); !reflect.DeepEqual(list, want) || err != nil {
			t.Errorf("%q is %q, %v", data, list, err)
		}
	}
	for _, v := range []Value{{Type: SZ, Data: utf16le("a")}, {Type: MultiSZ, Data: []byte{1}}, {Type: MultiSZ, Data: utf16le("a\x00\x00b\x00\x00")},
		{Type: MultiSZ, Data: []byte{0x3d, 0xd8, 0, 0}}} {
		if list, err := v.Texts(); err == nil {
			t.Errorf("%+v is %q", v, list)
		}
	}
}

func TestValuesAreReadAsTheyAreMade(t *testing.T) {
	if v := NewNumber("n", 0x80000201); v.Name != "n" || !bytes.Equal(v.Data, []byte{1, 2, 0, 0x80}) {
		t.Errorf("%+v", v)
	}
	if v := NewText("t", "a😀"); v.Name != "t" || !bytes.Equal(v.Data, []byte{'a', 0, 0x3d, 0xd8, 0, 0xde, 0, 0}) {
		t.Errorf("%+v", v)
	}
	for _, want := range [][]string{{}, {"a"}, {"a", "b c"}} {
		if list, err := NewTexts("l", want...).Texts(); !reflect.DeepEqual(list, want) || err != nil {
			t.Errorf("%q, %v", list, err)
		}
	}
	if v := NewTexts("l", "a"); !bytes.Equal(v.Data, []byte{'a', 0, 0, 0, 0, 0}) {
		t.Errorf("%+v", v)
	}
}
