package identity

import "testing"

func TestWhichGroupsAreALogonsAndNotTheAccounts(t *testing.T) {
	for sid, want := range map[string]bool{
		"S-1-2-0": true, "S-1-2-1": true, "S-1-5-1": true, "S-1-5-2": true, "S-1-5-3": true, "S-1-5-4": true, "S-1-5-6": true, "S-1-5-13": true, "s-1-5-14": true,
		"S-1-5-5-0-77": true, "S-1-5-64-10": true, "S-1-5-64-99": true, "S-1-5-65-1": true, "S-1-16-8192": true, "S-1-18-1": true, "S-1-18-99": true,
		"S-1-5-21-0-0-0-496": true, "S-1-5-21-0-0-0-497": true,
		// The account's: its kind, its directory, its groups.
		"S-1-1-0": false, "S-1-5-11": false, "S-1-5-15": false, "S-1-5-113": false, "S-1-5-114": false, "S-1-5-18": false, "S-1-5-32-544": false, "S-1-5-32-555": false,
		"S-1-5-21-0-0-0-1000": false, "S-1-5-21-1-2-3-4": false, "S-1-5-21-1-2-3-496": false, "S-1-5-64": false, "S-1-5-40": false, "S-1-12-1-1-2-3-4": false, "S-1-2-2": false,
	} {
		id, err := SID(sid)
		if err != nil || id.IsLogonGroup() != want {
			t.Errorf("%s: %v, %v", sid, !want, err)
		}
	}
	if UID(4).IsLogonGroup() || ID("").IsLogonGroup() {
		t.Error("a number, or nobody, is a group of logons")
	}
	for _, id := range LogonGroups() {
		if sid, ok := id.SID(); !ok {
			t.Errorf("%s is no SID", sid)
		} else if parsed, err := SID(sid); err != nil || parsed != id || !id.IsLogonGroup() {
			t.Errorf("%s: %s, %v", id, parsed, err)
		}
	}
}
