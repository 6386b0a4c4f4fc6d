package keychain

import (
	"regexp"
	"testing"
)

// The tests keep nothing in this computer's System keychain.
func init() { holders[0].holder = systemKeychain{newFakeItems()} }

func TestAutoTakesTheSystemKeychain(t *testing.T) {
	for _, kind := range []Kind{"", Auto, SystemKeychain} {
		cfg, d := config(t), dir(t)
		cfg.Kind = kind
		if r, _ := newRecord(t, d, cfg); r.Current.Kind != SystemKeychain || r.Current.File != "" {
			t.Errorf("%+v", r.content)
		}
	}
}

func TestMacOSNamesTheComputer(t *testing.T) {
	id, err := machineID("")
	if err != nil || !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(id) {
		t.Errorf("%q %v", id, err)
	}
	if (Config{}).machine() == "" {
		t.Error("no name")
	}
}
