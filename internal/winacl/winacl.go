// Package winacl says who owns a file or directory on Windows and who has what
// right to it: it refuses what others could have changed, and is what is made here
// made for. The decision is about plain values, so that it is tested on every
// system; only reading them needs Windows.
package winacl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Access is the rights that others than the system, its administrators and this
// process's own user may have: an ACCESS_MASK ([MS-DTYP] 2.4.3), whose low half is
// what it is for files and directories ("File Access Rights Constants").
type Access uint32

// Those that are used.
const (
	// Private: nobody else may see what is in it. What it is called and how long it
	// is tells nothing.
	Private Access = 0x80 | // FILE_READ_ATTRIBUTES
		0x20000 | 0x100000 // READ_CONTROL, SYNCHRONIZE
	// Readable: others may read it and change nothing. Whatever else there is,
	// attributes and extended attributes included, is taken for writing: with
	// FILE_WRITE_ATTRIBUTES alone an empty directory becomes a junction.
	Readable = Private |
		0x1 | 0x8 | 0x20 | // FILE_READ_DATA, FILE_READ_EA, FILE_EXECUTE; of a directory: to list it and pass through
		0x20000000 | 0x80000000 // GENERIC_EXECUTE, GENERIC_READ
	// Shared is a directory in which others may make what is theirs, and neither
	// remove nor rename what is not: %ProgramData% is one.
	Shared = Readable |
		0x2 | 0x4 | 0x10 | 0x100 // FILE_ADD_FILE, FILE_ADD_SUBDIRECTORY, FILE_WRITE_EA, FILE_WRITE_ATTRIBUTES
)

// Who may own and change what the agent relies on, besides the process's own
// user: [MS-DTYP] 2.4.2.4, and the SID of NT SERVICE\TrustedInstaller.
const (
	system           = "S-1-5-18"
	administrators   = "S-1-5-32-544"
	trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	ownerRights      = "S-1-3-4" // whoever owns it, and that was checked
)

// users is the group BUILTIN\Users.
const users = "S-1-5-32-545"

// Object is a file or directory, as much of it as the decision needs.
type Object struct {
	Path   string
	Dir    bool
	Link   bool   // a reparse point: a junction, a symbolic link, or kept elsewhere
	Owner  string // a SID, as are all names here
	NoDACL bool   // there is no list: everybody may do everything
	DACL   []ACE
	Self   string // the user of this process, whose own it may be; "": only the system's
}

// ACE is one entry of an access control list: [MS-DTYP] 2.4.4.
type ACE struct {
	Type, Flags uint8
	Mask        Access
	SID         string // of entries with the layout of an ACCESS_ALLOWED_ACE
}

const (
	allow              = 0x0  // ACCESS_ALLOWED_ACE_TYPE
	deny               = 0x1  // ACCESS_DENIED_ACE_TYPE
	denyObject         = 0x6  // ACCESS_DENIED_OBJECT_ACE_TYPE
	allowCallback      = 0x9  // ACCESS_ALLOWED_CALLBACK_ACE_TYPE: may allow
	denyCallback       = 0xa  // ACCESS_DENIED_CALLBACK_ACE_TYPE
	denyCallbackObject = 0xc  // ACCESS_DENIED_CALLBACK_OBJECT_ACE_TYPE
	inheritOnly        = 0x08 // INHERIT_ONLY_ACE: says nothing of the object itself
)

// Check refuses a link, what does not belong to the system, its administrators or
// o.Self, and what anybody else has a right to that others may not have. The error
// begins with the path and ends with what mends it.
//
// What an entry denies is not counted: it only takes rights away, and from whom
// depends on groups that are not known here. An entry of a type that is not known
// might allow anything.
func (o Object) Check(others Access) error {
	name := o.Path
	if o.Dir {
		name = "the directory " + name
	}
	if o.Link {
		// Whoever made a link can turn it elsewhere, whatever it leads to now.
		return fmt.Errorf("%s is a link (a reparse point), not the thing itself: remove it, and put there what belongs there", o.Path)
	}
	if !o.trusts(o.Owner) {
		return fmt.Errorf(`%s belongs to %s; it must belong to Administrators: icacls "%s" /setowner "*%s"`, name, display(o.Owner), o.Path, administrators)
	}
	var who, shown []string
	if o.NoDACL {
		shown = append(shown, "it has no access list")
	}
	for _, e := range o.DACL {
		switch e.Type {
		case deny, denyObject, denyCallback, denyCallbackObject:
		case allow, allowCallback:
			if e.Flags&inheritOnly == 0 && e.Mask&^others != 0 && !o.trusts(e.SID) && e.SID != ownerRights && !slices.Contains(who, e.SID) {
				who, shown = append(who, e.SID), append(shown, display(e.SID))
			}
		default:
			shown = append(shown, fmt.Sprintf("an entry of its access list is of the unknown type %d", e.Type))
		}
	}
	if shown == nil {
		return nil
	}
	if others&Shared == Shared {
		return fmt.Errorf("%s lets others (%s) remove what is in it: take that right from them, or choose another directory", name, strings.Join(shown, ", "))
	}
	verb := "read or changed"
	if others == Readable {
		verb = "changed"
	}
	return fmt.Errorf("%s can be %s by others (%s): %s", name, verb, strings.Join(shown, ", "), o.remedy(others, who))
}

func (o Object) trusts(sid string) bool {
	return sid != "" && slices.Contains([]string{system, administrators, trustedInstaller, o.Self}, sid)
}

// remedy is the command after which Check has nothing to say. SIDs, because
// names are translated; quotes, because PowerShell runs what is in brackets.
func (o Object) remedy(others Access, who []string) string {
	inherit := ""
	if o.Dir {
		inherit = "(OI)(CI)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `icacls "%s" /inheritance:r /grant:r "*%s:%sF" "*%s:%sF"`, o.Path, system, inherit, administrators, inherit)
	if others == Readable {
		fmt.Fprintf(&b, ` "*%s:%sRX"`, users, inherit)
	}
	for _, sid := range who {
		if sid != "" && (sid != users || others != Readable) {
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

// descriptor is the security descriptor, in SDDL, of what is made here: full access
// for the system and the administrators, who own it; Users read what others may. A
// process that is not one of them, which the agent never is, keeps what it makes
// for itself. It is protected (P): nothing comes down from the directories above,
// of which %ProgramData% lets every user make files.
func descriptor(dir bool, others Access, self string, administrator bool) (string, error) {
	inherit := ""
	if dir {
		inherit = "OICI" // and for all that is made below
	}
	owner, list := "O:BA", fmt.Sprintf("(A;%[1]s;FA;;;SY)(A;%[1]s;FA;;;BA)", inherit)
	if !administrator {
		if self == "" {
			return "", errors.New("whom this process runs as cannot be told")
		}
		owner, list = "", list+fmt.Sprintf("(A;%s;FA;;;%s)", inherit, self)
	}
	if others == Readable {
		list += fmt.Sprintf("(A;%s;0x1200a9;;;BU)", inherit) // FILE_GENERIC_READ, FILE_GENERIC_EXECUTE
	}
	return owner + "D:P" + list, nil
}
