package statefile

import (
	"errors"
	"fmt"
	"strings"
)

// Who owns a file on Windows, and who has what right to it: as much of a security
// descriptor as the decision needs, so that it can be tested anywhere.
type security struct {
	owner string // a SID, as are all names here
	// everyone is set when there is no DACL: then all may do everything.
	everyone bool
	entries  []ace
}

// ace is one entry of a DACL ([MS-DTYP] 2.4.4).
type ace struct {
	kind  uint8
	flags uint8
	mask  rights
	sid   string // "" when the kind has none where all others have it
}

// rights is an ACCESS_MASK ([MS-DTYP] 2.4.3). The low half is what it is for
// files and directories.
type rights uint32

const (
	mayReadData       rights = 0x00000001 // of a directory: list it
	mayReadEA         rights = 0x00000008
	mayExecute        rights = 0x00000020 // of a directory: pass through it
	mayReadAttributes rights = 0x00000080
	mayReadControl    rights = 0x00020000
	maySynchronize    rights = 0x00100000
	genericExecute    rights = 0x20000000
	genericRead       rights = 0x80000000

	// harmless tells nothing of the content, and changes nothing.
	harmless = mayReadAttributes | mayReadControl | maySynchronize
	// reading changes nothing. Whatever else there is, attributes and extended
	// attributes included, is taken for writing: with FILE_WRITE_ATTRIBUTES
	// alone a file can be turned into a link to another.
	reading = harmless | mayReadData | mayReadEA | mayExecute | genericExecute | genericRead
)

const (
	aceAllowed         = 0x00
	aceDenied          = 0x01
	aceDeniedObject    = 0x06
	aceAllowedCallback = 0x09
	aceDeniedCallback  = 0x0A
	aceDeniedCallObj   = 0x0C

	aceInheritOnly = 0x08 // for what is made below, not for the directory itself
)

// The accounts that own the computer whatever a file says.
const (
	sidSystem         = "S-1-5-18"
	sidAdministrators = "S-1-5-32-544"
	sidOwnerRights    = "S-1-3-4" // whoever owns the file, and that was checked
)

// check refuses a file that is not owned by the system, by the administrators or
// by self, and one whose DACL gives anybody else more than others may have.
//
// What an entry denies is not counted: it only ever takes rights away, and from
// whom depends on groups that are not known here. An entry of a kind that is not
// known might allow anything.
func (s security) check(self string, others rights) error {
	trusted := func(sid string) bool {
		return sid != "" && (sid == sidSystem || sid == sidAdministrators || sid == self)
	}
	if !trusted(s.owner) {
		return fmt.Errorf("it belongs to %s, not to SYSTEM, the Administrators or %s (icacls FILE /setowner *S-1-5-32-544, after finding out why)", s.owner, self)
	}
	if s.everyone {
		return fmt.Errorf("it has no DACL, so that everybody may change it (%s)", resetIt)
	}
	var found []string
	for _, e := range s.entries {
		switch e.kind {
		case aceDenied, aceDeniedObject, aceDeniedCallback, aceDeniedCallObj:
			continue
		case aceAllowed, aceAllowedCallback:
			if e.flags&aceInheritOnly != 0 || trusted(e.sid) || e.sid == sidOwnerRights || e.mask&^others == 0 {
				continue
			}
			found = append(found, fmt.Sprintf("%s the rights %#x", e.sid, uint32(e.mask)))
		default:
			found = append(found, fmt.Sprintf("an entry of kind %d", e.kind))
		}
	}
	if found != nil {
		return fmt.Errorf("its DACL gives others rights: %s (%s)", strings.Join(found, ", "), resetIt)
	}
	return nil
}

const resetIt = "icacls FILE /inheritance:r /grant:r *S-1-5-18:F *S-1-5-32-544:F, and /remove what others have, after finding out why"

const (
	attributeDirectory    = 0x10
	attributeReparsePoint = 0x400
)

// checkType refuses what is not a directory, or not a regular file with one name.
func checkType(attributes, links uint32, dir bool) error {
	isDir := attributes&attributeDirectory != 0
	switch {
	case attributes&attributeReparsePoint != 0:
		return errors.New("it is a reparse point: a symbolic link, a junction, or a file that is kept elsewhere")
	case dir && !isDir:
		return errors.New("it is a file, not a directory")
	case !dir && isDir:
		return errors.New("it is a directory, not a file")
	case !dir && links != 1:
		return fmt.Errorf("it has %d names (hard links), of which we know one", links)
	}
	return nil
}
