package identity

import "testing"

func TestWhatIsAnIdentity(t *testing.T) {
	for text, want := range map[string]ID{
		"uid:0":          Root,
		"uid:4294967295": "uid:4294967295",
		"uid:0001":       "uid:1", // one account has one name
		"sid:S-1-5-18":   System,
		"sid:s-1-5-18":   System,
		"sid:S-1-5-21-3623811015-3361044348-30300820-1013": "sid:S-1-5-21-3623811015-3361044348-30300820-1013",
		"sid:S-1-0x00000005AB12-21":                        "sid:S-1-0x00000005AB12-21",
		"":                                                 "",
		"root":                                             "",
		"0":                                                "",
		"uid:":                                             "",
		"uid:-1":                                           "",
		"uid:4294967296":                                   "",
		"uid:1 ":                                           "",
		"sid:":                                             "",
		"sid:S-1-5":                                        "",
		"sid:S-2-5-18":                                     "",
		"sid:S-1-5-18\n":                                   "",
		"sid:S-1-5-018":                                    "",
		"sid:S-1-5-99999999999":                            "",
		"sid:S-1-5-18-":                                    "",
		"S-1-5-18":                                         "",
		"sid:uid:0":                                        "",
		"sid:S-1-5-21-1-2-3-x":                             "",
		"sid:S-1-5-21-1-2-3-500":                           "sid:S-1-5-21-1-2-3-500",
	} {
		got, err := Parse(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestOnlyRootAndLocalSystemAreTheSystems(t *testing.T) {
	for id, want := range map[ID]bool{Root: true, System: true, "": false, "uid:1": false, "uid:00": false, "sid:S-1-5-19": false, "sid:S-1-5-32-544": false} {
		if id.IsRoot() != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
	if n, ok := UID(7).UID(); n != 7 || !ok {
		t.Error(n, ok)
	}
	if _, ok := System.UID(); ok {
		t.Error("a SID has a number")
	}
	if _, ok := Root.SID(); ok {
		t.Error("a number has a SID")
	}
	if _, ok := ID("").UID(); ok {
		t.Error("nobody has a number")
	}
}
