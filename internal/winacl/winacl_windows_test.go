package winacl

import (
	"slices"
	"testing"

	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
)

func object(t *testing.T, sddl string) Object {
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
	o := object(t, "O:SYG:SYD:(A;OICI;FA;;;BA)(A;OICIIO;0x1200a9;;;BU)(D;;0x10000;;;WD)")
	want := []ACE{{0, 3, full, administrators}, {0, 0xb, readAndExecute, users}, {1, 0, 0x10000, everyone}}
	if o.Owner != system || o.NoDACL || !slices.Equal(o.DACL, want) {
		t.Errorf("%+v", o)
	}
	if o := object(t, "O:SYG:SY"); !o.NoDACL {
		t.Errorf("no list: %+v", o)
	}
	if o := object(t, "O:SYG:SYD:"); o.NoDACL || len(o.DACL) != 0 {
		t.Errorf("an empty list: %+v", o)
	}
}

// What we make passes the check that it is made for, and no stricter one.
func TestOurOwnDescriptorsAreAccepted(t *testing.T) {
	self, ok := identity.Self().SID()
	if !ok {
		t.Fatal("who this is is not known")
	}
	for _, administrator := range []bool{true, false} {
		for _, dir := range []bool{true, false} {
			for _, others := range []Access{Private, Readable} {
				sddl, err := descriptor(dir, others, self, administrator)
				if err != nil {
					t.Fatal(err)
				}
				o := object(t, sddl)
				if !administrator {
					o.Owner, o.Self = self, self // Windows fills the owner in
				}
				if err := o.Check(others); err != nil {
					t.Error(err)
				}
				if err := o.Check(Private); (err == nil) != (others == Private) {
					t.Errorf("%s as private: %v", sddl, err)
				}
			}
		}
	}
	if _, err := Attributes(true, Readable); err != nil {
		t.Error(err)
	}
}
