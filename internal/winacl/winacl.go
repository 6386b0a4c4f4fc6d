// Package winacl says whether a file or directory on Windows belongs to the
// system and nobody else can change it. The decision is about plain values, so
// that it is tested on every system; only reading them needs Windows.
package winacl

import (
	"fmt"
	"slices"
	"strings"
)

// Who may own and change what the agent relies on, besides the process's own
// user: [MS-DTYP] 2.4.2.4, and the SID of NT SERVICE\TrustedInstaller.
const (
	System           = "S-1-5-18"
	Administrators   = "S-1-5-32-544"
	TrustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
)

// users is the group BUILTIN\Users.
const users = "S-1-5-32-545"

// Rights that Check is asked about: "File Access Rights Constants" and "Access
// Mask Format". A directory's have the same numbers.
const (
	// Write is whatever lets somebody change, replace or take away a file, or what
	// is in a directory. Attributes are in it: they turn an empty directory into
	// a junction.
	Write uint32 = 0x2 | // FILE_WRITE_DATA, FILE_ADD_FILE
		0x4 | // FILE_APPEND_DATA, FILE_ADD_SUBDIRECTORY
		0x10 | // FILE_WRITE_EA
		0x40 | // FILE_DELETE_CHILD
		0x100 | // FILE_WRITE_ATTRIBUTES
		0x10000 | 0x40000 | 0x80000 | // DELETE, WRITE_DAC, WRITE_OWNER
		0x10000000 | 0x40000000 // GENERIC_ALL, GENERIC_WRITE
	// Read is whatever lets somebody see what is in it.
	Read uint32 = 0x1 | // FILE_READ_DATA, FILE_LIST_DIRECTORY
		0x8 | // FILE_READ_EA
		0x10000000 | 0x80000000 // GENERIC_ALL, GENERIC_READ
)

// Security descriptors, in SDDL, for directories made by us. Both are protected:
// they inherit nothing, for below %ProgramData% everybody may create files.
const (
	// Private is for what only the system and administrators may see.
	Private = "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
	// Readable is the same, and Users may read.
	Readable = Private + "(A;OICI;0x1200a9;;;BU)"
)

// ACE is one entry of an access control list: [MS-DTYP] 2.4.4.
type ACE struct {
	Type, Flags uint8
	Mask        uint32
	SID         string // of entries with the layout of an ACCESS_ALLOWED_ACE
}

const (
	allow         = 0x0  // ACCESS_ALLOWED_ACE_TYPE
	deny          = 0x1  // ACCESS_DENIED_ACE_TYPE
	allowCallback = 0x9  // ACCESS_ALLOWED_CALLBACK_ACE_TYPE: may allow
	denyCallback  = 0xa  // ACCESS_DENIED_CALLBACK_ACE_TYPE
	inheritOnly   = 0x08 // INHERIT_ONLY_ACE: says nothing of the object itself
)

// Object is a file or directory as its security descriptor has it.
type Object struct {
	Owner  string // its SID
	NoDACL bool   // there is no list: everybody may do everything
	DACL   []ACE
}

// Check refuses what does not belong to the system, its administrators or self,
// the SID of this process's user, and what anybody else has one of the rights
// to. Entries that deny are not counted: what they take away is not needed. The
// error begins with the path and ends with the command that mends it.
func (o Object) Check(path string, dir bool, self string, rights uint32) error {
	name := path
	if dir {
		name = "the directory " + path
	}
	if !trusted(o.Owner, self) {
		return fmt.Errorf(`%s belongs to %s; it must belong to Administrators: icacls "%s" /setowner "*%s"`, name, display(o.Owner), path, Administrators)
	}
	if o.NoDACL {
		return fmt.Errorf(`%s can be changed by others (it has no access list): %s`, name, remedy(path, dir, rights, nil))
	}
	var others []string
	for _, e := range o.DACL {
		switch {
		case e.Type == deny || e.Type == denyCallback:
		case e.Flags&inheritOnly != 0:
		case e.Type != allow && e.Type != allowCallback:
			return fmt.Errorf("%s can be changed by others (an entry of its access list is of the unknown type %d): %s", name, e.Type, remedy(path, dir, rights, nil))
		case e.Mask&rights != 0 && !trusted(e.SID, self) && !slices.Contains(others, e.SID):
			others = append(others, e.SID)
		}
	}
	if len(others) == 0 {
		return nil
	}
	verb := "changed"
	if rights&Read&^Write != 0 {
		verb = "read or changed"
	}
	shown := make([]string, len(others))
	for i, sid := range others {
		shown[i] = display(sid)
	}
	return fmt.Errorf("%s can be %s by others (%s): %s", name, verb, strings.Join(shown, ", "), remedy(path, dir, rights, others))
}

func trusted(sid, self string) bool {
	return sid != "" && slices.Contains([]string{System, Administrators, TrustedInstaller, self}, sid)
}

// remedy is the command after which Check has nothing to say. SIDs, because
// names are translated; quotes, because PowerShell runs what is in brackets.
func remedy(path string, dir bool, rights uint32, others []string) string {
	inherit := ""
	if dir {
		inherit = "(OI)(CI)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `icacls "%s" /inheritance:r /grant:r "*%s:%sF" "*%s:%sF"`, path, System, inherit, Administrators, inherit)
	readable := rights&Read&^Write == 0
	if readable {
		fmt.Fprintf(&b, ` "*%s:%sRX"`, users, inherit)
	}
	for _, sid := range others {
		if sid != users || !readable {
			fmt.Fprintf(&b, ` /remove:g "*%s"`, sid)
		}
	}
	return b.String()
}

// display adds the name of whom a SID most often is.
func display(sid string) string {
	name := map[string]string{"S-1-1-0": "Everyone", "S-1-5-11": "Authenticated Users", "S-1-5-4": "Interactive", users: "Users"}[sid]
	switch {
	case sid == "":
		return "nobody"
	case name == "":
		return sid
	}
	return name + ", " + sid
}
