package winacl

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
)

// Open opens a file or directory to read it, or to look at whose it is: what has
// that name, and not what a link in its place leads to.
func Open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
}

// Of reads whose an open file or directory is. By its name it might be another one
// by now. The handle needs READ_CONTROL, which Open asks for.
func Of(f *os.File) (Object, error) {
	h := windows.Handle(f.Fd())
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return Object{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return Object{}, fmt.Errorf("%s: who owns it cannot be read: %w", f.Name(), err)
	}
	o, err := fromDescriptor(sd)
	if err != nil {
		return Object{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	o.Path = f.Name()
	o.Dir = info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0
	o.Link = info.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0
	o.Self, _ = identity.Self().SID()
	return o, nil
}

func fromDescriptor(sd *windows.SECURITY_DESCRIPTOR) (o Object, err error) {
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
			ace.Mask, ace.SID = Access(e.Mask), (*windows.SID)(unsafe.Pointer(&e.SidStart)).String()
		}
		o.DACL = append(o.DACL, ace)
	}
	return o, nil
}

// Attributes are for what is to be made for the system and the administrators, who
// own it, and so that others have at most that access. Given at the creation: an
// access list that is set afterwards leaves a moment in which somebody opens the
// file, and keeps it open.
func Attributes(dir bool, others Access) (*windows.SecurityAttributes, error) {
	group, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return nil, err
	}
	// Under UAC a user who is an administrator often may not act as one.
	administrator, err := windows.Token(0).IsMember(group)
	if err != nil {
		return nil, fmt.Errorf("this process's groups cannot be told: %w", err)
	}
	self, _ := identity.Self().SID()
	sddl, err := descriptor(dir, others, self, administrator)
	if err != nil {
		return nil, err
	}
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return nil, fmt.Errorf("no security descriptor: %w", err)
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	return sa, nil
}
