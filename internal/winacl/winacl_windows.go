package winacl

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Of reads owner and access list of an open file or directory. The handle needs
// READ_CONTROL, which os.Open asks for.
func Of(h windows.Handle) (Object, error) {
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return Object{}, fmt.Errorf("who owns it cannot be read: %w", err)
	}
	return fromDescriptor(sd)
}

func fromDescriptor(sd *windows.SECURITY_DESCRIPTOR) (Object, error) {
	var o Object
	owner, _, err := sd.Owner()
	if err != nil {
		return Object{}, fmt.Errorf("its owner cannot be read: %w", err)
	}
	if owner != nil {
		o.Owner = owner.String()
	}
	acl, _, err := sd.DACL()
	switch {
	case err == windows.ERROR_OBJECT_NOT_FOUND || err == nil && acl == nil:
		o.NoDACL = true // absent, or NULL: "NULL DACLs and Empty DACLs"
		return o, nil
	case err != nil:
		return Object{}, fmt.Errorf("its access list cannot be read: %w", err)
	}
	for i := range uint32(acl.AceCount) {
		var e *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(acl, i, &e); err != nil {
			return Object{}, fmt.Errorf("entry %d of its access list cannot be read: %w", i, err)
		}
		ace := ACE{Type: e.Header.AceType, Flags: e.Header.AceFlags}
		switch ace.Type {
		case allow, deny, allowCallback, denyCallback: // the layout that ACCESS_ALLOWED_ACE has
			ace.Mask, ace.SID = uint32(e.Mask), (*windows.SID)(unsafe.Pointer(&e.SidStart)).String()
		}
		o.DACL = append(o.DACL, ace)
	}
	return o, nil
}

// Self is the SID of the user that this process runs as.
func Self() (string, error) {
	u, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("this process's user cannot be read: %w", err)
	}
	return u.User.Sid.String(), nil
}
