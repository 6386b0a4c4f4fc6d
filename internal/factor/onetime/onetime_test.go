package onetime_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor/onetime"
)

var (
	key = []byte("a key")
	now = clock.Instant{Wall: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Boot: time.Hour, BootID: "a"}
)

func TestTenRecoveryCodesEachOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		codes, hashes, err := onetime.NewRecovery(key, "uid:1000")
		if err != nil || len(codes) != 10 || len(hashes) != 10 {
			t.Fatalf("%d codes, %d hashes, %v", len(codes), len(hashes), err)
		}
		for i, code := range codes {
			if len(code) != 11 || code[5] != '-' || strings.ContainsAny(code, "ILOU") || seen[code] {
				t.Errorf("a code of the wrong shape, or a second time")
			}
			seen[code] = true
			bare := onetime.Normalize(code)
			if !onetime.IsRecovery(bare) || onetime.IsSpoken(bare) || bare != strings.ReplaceAll(code, "-", "") {
				t.Errorf("a fresh code is not seen as one")
			}
			left, ok := onetime.Take(key, "uid:1000", bare, hashes)
			if !ok || len(left) != 9 {
				t.Errorf("code %d: taken %v, %d left", i, ok, len(left))
			}
			if _, again := onetime.Take(key, "uid:1000", bare, left); again {
				t.Errorf("code %d is good twice", i)
			}
		}
	}
}

func TestTakeOfWhatIsNotThere(t *testing.T) {
	codes, hashes, err := onetime.NewRecovery(key, "uid:1000")
	if err != nil {
		t.Fatal(err)
	}
	bare := onetime.Normalize(codes[0])
	for name, take := range map[string]func() ([]onetime.Hash, bool){
		"another code":    func() ([]onetime.Hash, bool) { return onetime.Take(key, "uid:1000", "ABCDEFGHJK", hashes) },
		"another account": func() ([]onetime.Hash, bool) { return onetime.Take(key, "uid:100", "0"+bare, hashes) },
		"another key":     func() ([]onetime.Hash, bool) { return onetime.Take([]byte("b key"), "uid:1000", bare, hashes) },
		"no code":         func() ([]onetime.Hash, bool) { return onetime.Take(key, "uid:1000", "", hashes) },
	} {
		if left, ok := take(); ok || len(left) != 10 {
			t.Errorf("%s: taken %v, %d left", name, ok, len(left))
		}
	}
	if _, ok := onetime.Take(key, "uid:1000", bare, nil); ok {
		t.Error("taken from nothing")
	}
	if _, ok := onetime.Take(key, "uid:1000", "", []onetime.Hash{nil, {}}); ok {
		t.Error("an empty hash matches")
	}
}

func TestSpokenCodes(t *testing.T) {
	until := now.In(time.Hour)
	code, spoken, err := onetime.NewSpoken(key, "uid:1000", until)
	if err != nil {
		t.Fatal(err)
	}
	if len(code) != 14 || code[4] != '-' || code[9] != '-' || !onetime.IsSpoken(onetime.Normalize(code)) || onetime.IsRecovery(onetime.Normalize(code)) {
		t.Error("not three groups of four digits")
	}
	if spoken.Expires != until {
		t.Errorf("expires %v", spoken.Expires)
	}
	bare := onetime.Normalize(code)
	if !spoken.Matches(key, "uid:1000", bare) {
		t.Error("does not match itself")
	}
	var none *onetime.Spoken
	if none.Matches(key, "uid:1000", bare) || (&onetime.Spoken{}).Matches(key, "uid:1000", "") ||
		spoken.Matches(key, "uid:1001", bare) || spoken.Matches([]byte("b key"), "uid:1000", bare) || spoken.Matches(key, "uid:1000", "") {
		t.Error("matches what it is not")
	}
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		typed            string
		spoken, recovery bool
	}{
		{"1234-5678-9012", true, false},
		{"123456789012", true, false},
		{"12345678901O", true, false}, // O for 0
		{"1234 5678 9012 ", true, false},
		{"ABCDE-FGHJK", false, true},
		{"abcde fghjk", false, true},
		{"01234-56789", false, true},
		{"ILOab-cdefg", false, true}, // read as 110AB
		{"ABCDE-FGHJU", false, false},
		{"ABCDE-FGHJ", false, false},
		{"ABCDE-FGHJKM", false, false},
		{"12345678901A", false, false},
		{"١٢٣٤٥٦", false, false}, // twelve bytes
		{"ÄÖÜÄÖ", false, false},  // ten bytes
		{"123456", false, false},
		{"", false, false},
	} {
		n := onetime.Normalize(c.typed)
		if onetime.IsSpoken(n) != c.spoken || onetime.IsRecovery(n) != c.recovery {
			t.Errorf("%q is read as %q: spoken %v, recovery %v", c.typed, n, onetime.IsSpoken(n), onetime.IsRecovery(n))
		}
	}
}

func TestNormalizeTwiceIsNormalizeOnce(t *testing.T) {
	for _, s := range []string{"oO0 iI1 lL1", "aé-ß", "ŀ", "ı", "\xff-\xfe", "ABCDE-FGHJK"} {
		once := onetime.Normalize(s)
		if onetime.Normalize(once) != once {
			t.Errorf("%q: %q, then %q", s, once, onetime.Normalize(once))
		}
	}
}
