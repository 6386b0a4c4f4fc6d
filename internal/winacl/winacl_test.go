package winacl

import (
	"slices"
	"strings"
	"testing"
)

const (
	self         = "S-1-5-21-1-2-3-1001"
	other        = "S-1-5-21-1-2-3-1002"
	everyone     = "S-1-1-0"
	creatorOwner = "S-1-3-0"

	full           Access = 0x1f01ff // FILE_ALL_ACCESS
	read           Access = 0x120089 // FILE_GENERIC_READ
	readAndExecute Access = 0x1200a9 // FILE_GENERIC_READ | FILE_GENERIC_EXECUTE
	change         Access = 0x1301bf // what icacls calls M
)

func TestWhoMayReadAndChangeIt(t *testing.T) {
	grant := func(sid string, mask Access) ACE { return ACE{Mask: mask, SID: sid} }
	own := []ACE{{Mask: full, SID: system, Flags: 3}, {Mask: full, SID: administrators, Flags: 3}}
	with := func(more ...ACE) Object { return Object{Owner: administrators, DACL: slices.Concat(own, more)} }
	const refused = "|" // in any words: they are looked at in those for what is readable
	for name, c := range map[string]struct {
		object            Object
		private, readable string // what is said of it when it is to be that; "" is accepted
	}{
		"as we make it":                        {with(), "", ""},
		"the system's":                         {Object{Owner: system, DACL: own}, "", ""},
		"TrustedInstaller's":                   {Object{Owner: trustedInstaller, DACL: own}, "", ""},
		"TrustedInstaller may do everything":   {with(grant(trustedInstaller, full)), "", ""},
		"our own":                              {Object{Owner: self, DACL: []ACE{grant(self, full)}}, "", ""},
		"the owner named as such":              {with(grant(ownerRights, full)), "", ""},
		"of nobody else, an empty list":        {Object{Owner: system}, "", ""},
		"somebody else's":                      {Object{Owner: other, DACL: own}, refused, "belongs to " + other + "; it must belong to Administrators: icacls \"P\" /setowner \"*S-1-5-32-544\""},
		"the users'":                           {Object{Owner: users, DACL: own}, refused, "belongs to Users, S-1-5-32-545; it must"},
		"somebody else's, named as the owner":  {Object{Owner: other, DACL: []ACE{grant(ownerRights, full)}}, refused, "belongs to " + other},
		"without an owner":                     {Object{DACL: own}, refused, "belongs to nobody"},
		"without a list":                       {Object{Owner: system, NoDACL: true}, "can be read or changed by others (it has no access list): icacls", "can be changed by others (it has no access list): icacls"},
		"Users may read":                       {with(grant(users, read)), "can be read or changed by others (Users, S-1-5-32-545): icacls", ""},
		"Users may read and execute":           {with(grant(users, readAndExecute)), "(Users, S-1-5-32-545)", ""}, // as below C:\
		"everyone may read, in generic terms":  {with(grant(everyone, 0x80000000|0x20000000)), "(Everyone, S-1-1-0)", ""},
		"everyone may see attributes":          {with(grant(everyone, Private)), "", ""},
		"everyone may run it":                  {with(grant(everyone, 0x20)), "(Everyone, S-1-1-0)", ""},
		"another user may do everything":       {with(grant(other, full)), refused, "(" + other + ")"},
		"Users may change it":                  {with(grant(users, change)), refused, "can be changed by others (Users, S-1-5-32-545)"},
		"a right nobody has heard of":          {with(grant(users, 0x800000)), refused, "(Users, S-1-5-32-545)"},
		"Users may write, inherited":           {with(ACE{Mask: 0x116, SID: users, Flags: 0x12}), refused, "can be changed by others"}, // as below %ProgramData%
		"inherited from above":                 {with(ACE{Mask: change, SID: users, Flags: 0x10}), refused, "can be changed by others"},
		"only what is in it inherits":          {with(ACE{Mask: full, SID: creatorOwner, Flags: 0xb}), "", ""},
		"CREATOR OWNER, in force":              {with(ACE{Mask: full, SID: creatorOwner, Flags: 3}), refused, "(S-1-3-0)"},
		"somebody may, by a condition":         {with(ACE{Type: 0x9, Mask: full, SID: users}), refused, "(Users, S-1-5-32-545)"},
		"somebody may write, by a condition":   {with(ACE{Type: 0x9, Mask: 0x2, SID: other}), refused, "(" + other + ")"},
		"somebody may not":                     {with(ACE{Type: 0x1, Mask: full, SID: other}, ACE{Type: 0xa, Mask: full, SID: other}), "", ""},
		"somebody may not, by an object":       {with(ACE{Type: 0x6}, ACE{Type: 0xc}), "", ""},
		"what is denied is not counted":        {with(ACE{Type: 0x1, Mask: full, SID: other}, grant(other, 0x2)), refused, "(" + other + ")"},
		"an entry for an object":               {with(ACE{Type: 0x5}), refused, "unknown type 5"},
		"an entry of tomorrow":                 {with(ACE{Type: 0x77}), refused, "unknown type 119"},
		"one for what is made below only":      {with(ACE{Type: 0x77, Flags: 0xb}), refused, "unknown type 119"},
		"two others, each named once":          {with(grant(other, 2), grant(everyone, 4), grant(other, 0x10000)), refused, "(" + other + ", Everyone, S-1-1-0)"},
		"a SID that is not written in the ACE": {with(grant("", full)), refused, "(nobody)"},
	} {
		for _, dir := range []bool{false, true} {
			c.object.Path, c.object.Dir, c.object.Self = "P", dir, self
			prefix := map[bool]string{false: "P ", true: "the directory P "}[dir]
			for others, says := range map[Access]string{Private: c.private, Readable: c.readable} {
				err := c.object.Check(others)
				switch {
				case says == "" && err != nil:
					t.Errorf("%s, %#x: %v", name, others, err)
				case says != "" && (err == nil || !strings.HasPrefix(err.Error(), prefix) || says != refused && !strings.Contains(err.Error(), says) ||
					!strings.Contains(err.Error(), `: icacls "P" /`)):
					t.Errorf("%s, %#x: %v, want %q", name, others, err, says)
				}
			}
		}
	}
}

// Each right alone is enough: with one forgotten, whoever has it could.
func TestEveryRightCounts(t *testing.T) {
	for name, c := range map[string]struct {
		mask              Access
		private, readable bool // accepted
	}{
		"FILE_READ_DATA": {0x1, false, true}, "FILE_READ_EA": {0x8, false, true}, "FILE_EXECUTE": {0x20, false, true},
		"GENERIC_EXECUTE": {0x20000000, false, true}, "GENERIC_READ": {0x80000000, false, true},
		"FILE_READ_ATTRIBUTES": {0x80, true, true}, "READ_CONTROL": {0x20000, true, true}, "SYNCHRONIZE": {0x100000, true, true},
		"FILE_WRITE_DATA": {mask: 0x2}, "FILE_APPEND_DATA": {mask: 0x4}, "FILE_WRITE_EA": {mask: 0x10}, "FILE_DELETE_CHILD": {mask: 0x40},
		"FILE_WRITE_ATTRIBUTES": {mask: 0x100}, "DELETE": {mask: 0x10000}, "WRITE_DAC": {mask: 0x40000}, "WRITE_OWNER": {mask: 0x80000},
		"ACCESS_SYSTEM_SECURITY": {mask: 0x1000000}, "MAXIMUM_ALLOWED": {mask: 0x2000000}, "GENERIC_ALL": {mask: 0x10000000}, "GENERIC_WRITE": {mask: 0x40000000},
	} {
		o := Object{Owner: system, DACL: []ACE{{Mask: c.mask, SID: users}}, Self: self}
		if err := o.Check(Private); (err == nil) != c.private {
			t.Errorf("%s of what is private: %v", name, err)
		}
		if err := o.Check(Readable); (err == nil) != c.readable {
			t.Errorf("%s of what is readable: %v", name, err)
		}
	}
}

// No user of this process is known: then "" is not a user that everything
// without an owner belongs to.
func TestNobodyIsTrusted(t *testing.T) {
	if (Object{}).Check(Readable) == nil {
		t.Error("what belongs to nobody is accepted")
	}
	if (Object{Owner: system, DACL: []ACE{{Mask: 2}}}).Check(Readable) == nil {
		t.Error("an entry for nobody is accepted")
	}
	if (Object{Owner: self}).Check(Readable) == nil {
		t.Error("what belongs to a user is accepted where only the system is trusted")
	}
}

func TestTheRemedy(t *testing.T) {
	for _, c := range []struct {
		dir    bool
		others Access
		want   string
	}{
		{true, Readable, `icacls "C:\x y" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" "*S-1-5-32-545:(OI)(CI)RX" /remove:g "*S-1-1-0"`},
		{true, Private, `icacls "C:\x y" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" /remove:g "*S-1-5-32-545" /remove:g "*S-1-1-0"`},
		{false, Readable, `icacls "C:\x y" /inheritance:r /grant:r "*S-1-5-18:F" "*S-1-5-32-544:F" "*S-1-5-32-545:RX" /remove:g "*S-1-1-0"`},
	} {
		o := Object{Path: `C:\x y`, Dir: c.dir, Owner: system, DACL: []ACE{{Mask: 2, SID: users}, {Mask: 2, SID: everyone}, {Mask: 2}}}
		if err := o.Check(c.others); err == nil || !strings.HasSuffix(err.Error(), "): "+c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestWhatIsMadeIsForUsAlone(t *testing.T) {
	for _, c := range []struct {
		dir           bool
		others        Access
		administrator bool
		want          string
	}{
		{false, Private, true, "O:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)"},
		{true, Private, true, "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"},
		{true, Readable, true, "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)"},
		{false, Private, false, "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + self + ")"},
	} {
		if got, err := descriptor(c.dir, c.others, self, c.administrator); err != nil || got != c.want {
			t.Errorf("%s, %v, want %s", got, err, c.want)
		}
	}
	if got, err := descriptor(false, Private, "", false); err == nil {
		t.Errorf("for nobody: %s", got)
	}
}

func TestALinkIsNoFileAndNoDirectory(t *testing.T) {
	for _, dir := range []bool{false, true} {
		o := Object{Path: "P", Dir: dir, Link: true, Owner: system, DACL: []ACE{{Mask: full, SID: system}}}
		for _, others := range []Access{Private, Readable, Shared} {
			if err := o.Check(others); err == nil || !strings.HasPrefix(err.Error(), "P is a link") {
				t.Error(err)
			}
		}
	}
}

func TestWhatOthersMayDoInASharedDirectory(t *testing.T) {
	for mask, ok := range map[Access]bool{read: true, 0x116: true, 0x1201bf: true, change: false, 0x40: false, 0x10000: false, 0x40000: false, 0x80000: false,
		full: false, 0x10000000: false, 0x40000000: false, 0x2000000: false} {
		o := Object{Path: "P", Dir: true, Owner: administrators, DACL: []ACE{{Mask: mask, SID: users}}}
		err := o.Check(Shared)
		if (err == nil) != ok || err != nil && !strings.HasPrefix(err.Error(), "the directory P lets others (Users, S-1-5-32-545) remove what is in it: ") {
			t.Errorf("%#x: %v", mask, err)
		}
	}
	if err := (Object{Path: "P", Dir: true, Owner: other}).Check(Shared); err == nil {
		t.Error("somebody else's directory")
	}
}
