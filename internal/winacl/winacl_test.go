package winacl

import (
	"strings"
	"testing"
)

const self = "S-1-5-21-1-2-3-1001"

// full is what an ACE grants that says FA.
const full = 0x1f01ff

func TestWhoMayChangeIt(t *testing.T) {
	const other = "S-1-5-21-1-2-3-1002"
	own := []ACE{{Mask: full, SID: System, Flags: 3}, {Mask: full, SID: Administrators, Flags: 3}}
	with := func(more ...ACE) Object { return Object{Owner: Administrators, DACL: append(own[:2:2], more...)} }
	const readExecute = 0x1200a9
	for name, c := range map[string]struct {
		object Object
		rights uint32
		says   string // "" is accepted
	}{
		"the system's":                         {Object{Owner: System, DACL: own}, Write | Read, ""},
		"Administrators'":                      {Object{Owner: Administrators, DACL: own}, Write | Read, ""},
		"TrustedInstaller's":                   {Object{Owner: TrustedInstaller, DACL: own}, Write, ""},
		"our own":                              {Object{Owner: self, DACL: []ACE{{Mask: full, SID: self}}}, Write | Read, ""},
		"of nobody else, an empty list":        {Object{Owner: System}, Write | Read, ""},
		"somebody else's":                      {Object{Owner: other, DACL: own}, Write, "belongs to " + other + "; it must belong to Administrators: icacls \"P\" /setowner \"*S-1-5-32-544\""},
		"without an owner":                     {Object{DACL: own}, Write, "belongs to nobody"},
		"without a list":                       {Object{Owner: System, NoDACL: true}, Write, "can be changed by others (it has no access list): icacls"},
		"Users may read":                       {with(ACE{Mask: readExecute, SID: users}), Write, ""},
		"Users may read what is private":       {with(ACE{Mask: readExecute, SID: users}), Write | Read, "can be read or changed by others (Users, S-1-5-32-545)"},
		"Users may write":                      {with(ACE{Mask: 0x2, SID: users}), Write, "can be changed by others (Users, S-1-5-32-545)"},
		"Users may write, inherited":           {with(ACE{Mask: 0x116, SID: users, Flags: 0x12}), Write, "can be changed by others"}, // as below %ProgramData%
		"only what is in it inherits":          {with(ACE{Mask: full, SID: "S-1-3-0", Flags: 0xb}), Write, ""},
		"CREATOR OWNER, in force":              {with(ACE{Mask: full, SID: "S-1-3-0", Flags: 3}), Write, "(S-1-3-0)"},
		"somebody may write, by a condition":   {with(ACE{Type: 9, Mask: 0x2, SID: other}), Write, "(" + other + ")"},
		"somebody may not":                     {with(ACE{Type: 1, Mask: full, SID: other}, ACE{Type: 10, Mask: full, SID: other}), Write, ""},
		"what is denied is not counted":        {with(ACE{Type: 1, Mask: full, SID: other}, ACE{Mask: 0x2, SID: other}), Write, "(" + other + ")"},
		"an entry for an object":               {with(ACE{Type: 5}), Write, "unknown type 5"},
		"an entry of tomorrow":                 {with(ACE{Type: 200}), Write, "unknown type 200"},
		"two others, each named once":          {with(ACE{Mask: 2, SID: other}, ACE{Mask: 4, SID: "S-1-1-0"}, ACE{Mask: 0x10000, SID: other}), Write, "(" + other + ", Everyone, S-1-1-0)"},
		"a SID that is not written in the ACE": {with(ACE{Mask: 2}), Write, "(nobody)"},
	} {
		for _, dir := range []bool{false, true} {
			err := c.object.Check("P", dir, self, c.rights)
			prefix := map[bool]string{false: "P ", true: "the directory P "}[dir]
			switch {
			case c.says == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case c.says != "" && (err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		}
	}
}

// Each right alone is enough: with one forgotten, whoever has it could.
func TestEveryRightToWriteCounts(t *testing.T) {
	for name, mask := range map[string]uint32{"FILE_WRITE_DATA": 0x2, "FILE_APPEND_DATA": 0x4, "FILE_WRITE_EA": 0x10, "FILE_DELETE_CHILD": 0x40,
		"FILE_WRITE_ATTRIBUTES": 0x100, "DELETE": 0x10000, "WRITE_DAC": 0x40000, "WRITE_OWNER": 0x80000, "GENERIC_ALL": 0x10000000, "GENERIC_WRITE": 0x40000000} {
		if (Object{Owner: System, DACL: []ACE{{Mask: mask, SID: users}}}).Check("P", false, self, Write) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	for name, mask := range map[string]uint32{"FILE_READ_DATA": 0x1, "FILE_READ_EA": 0x8, "FILE_EXECUTE": 0x20, "FILE_READ_ATTRIBUTES": 0x80,
		"READ_CONTROL": 0x20000, "SYNCHRONIZE": 0x100000, "GENERIC_EXECUTE": 0x20000000, "GENERIC_READ": 0x80000000} {
		if err := (Object{Owner: System, DACL: []ACE{{Mask: mask, SID: users}}}).Check("P", false, self, Write); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
}

// No user of this process is known: then "" is not a user that everything
// without an owner belongs to.
func TestNobodyIsTrusted(t *testing.T) {
	if (Object{}).Check("P", false, "", Write) == nil {
		t.Error("what belongs to nobody is accepted")
	}
	if (Object{Owner: System, DACL: []ACE{{Mask: 2}}}).Check("P", false, "", Write) == nil {
		t.Error("an entry for nobody is accepted")
	}
}

func TestTheRemedy(t *testing.T) {
	o := Object{Owner: System, DACL: []ACE{{Mask: 2, SID: users}, {Mask: 2, SID: "S-1-1-0"}}}
	for _, c := range []struct {
		dir    bool
		rights uint32
		want   string
	}{
		{true, Write, `icacls "C:\x y" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" "*S-1-5-32-545:(OI)(CI)RX" /remove:g "*S-1-1-0"`},
		{true, Write | Read, `icacls "C:\x y" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" /remove:g "*S-1-5-32-545" /remove:g "*S-1-1-0"`},
		{false, Write, `icacls "C:\x y" /inheritance:r /grant:r "*S-1-5-18:F" "*S-1-5-32-544:F" "*S-1-5-32-545:RX" /remove:g "*S-1-1-0"`},
	} {
		if err := o.Check(`C:\x y`, c.dir, self, c.rights); err == nil || !strings.HasSuffix(err.Error(), "): "+c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
