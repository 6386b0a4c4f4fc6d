package winacl

import (
	"slices"
	"testing"

	"golang.org/x/sys/windows"
)

func descriptor(t *testing.T, sddl string) Object {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		t.Fatal(err)
	}
	o, err := fromDescriptor(sd)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDescriptorsAreReadAsTheyAreWritten(t *testing.T) {
	o := descriptor(t, "O:SYG:SYD:(A;OICI;FA;;;BA)(A;OICIIO;0x1200a9;;;BU)(D;;0x10000;;;WD)")
	want := []ACE{{0, 3, full, Administrators}, {0, 0xb, 0x1200a9, users}, {1, 0, 0x10000, "S-1-1-0"}}
	if o.Owner != System || o.NoDACL || !slices.Equal(o.DACL, want) {
		t.Errorf("%+v", o)
	}
	if o := descriptor(t, "O:SYG:SY"); !o.NoDACL {
		t.Errorf("no list: %+v", o)
	}
	if o := descriptor(t, "O:SYG:SYD:"); o.NoDACL || len(o.DACL) != 0 {
		t.Errorf("an empty list: %+v", o)
	}
}

// What we make passes the check that it is made for.
func TestOurOwnDescriptorsAreAccepted(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if err := descriptor(t, Private).Check("P", true, "", Write|Read); err != nil {
		t.Error(err)
	}
	if err := descriptor(t, Readable).Check("P", true, self, Write); err != nil {
		t.Error(err)
	}
	if descriptor(t, Readable).Check("P", true, "", Write|Read) == nil {
		t.Error("Users may read it, and it passes for private")
	}
}
