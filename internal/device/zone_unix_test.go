//go:build unix

package device

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tzif is a file of tzfile(5) for a zone that follows a rule, as TZ has it (RFC 9636,
// sections 3.1 to 3.3).
func tzif(rule string) []byte {
	var block []byte
	block = append(block, "TZif2"...)
	block = append(block, make([]byte, 15)...)
	for _, count := range []uint32{0, 0, 0, 0, 1, 4} { // one type, of "UTC"
		block = binary.BigEndian.AppendUint32(block, count)
	}
	block = append(block, 0, 0, 0, 0, 0, 0, 'U', 'T', 'C', 0)
	return append(append(block, block...), "\n"+rule+"\n"...)
}

const (
	berlin  = "CET-1CEST,M3.5.0,M10.5.0/3"
	newYork = "EST5EDT,M3.2.0,M11.1.0"
	kolkata = "IST-5:30"
	howe    = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0" // half an hour
)

func TestTheHourAtTheChanges(t *testing.T) {
	for _, c := range []struct {
		rule, at string
		hour     int
		weekday  time.Weekday
	}{
		{berlin, "2026-03-29T00:59:59Z", 1, time.Sunday},
		{berlin, "2026-03-29T01:00:00Z", 3, time.Sunday}, // there is no hour 2
		{berlin, "2026-10-25T00:30:00Z", 2, time.Sunday},
		{berlin, "2026-10-25T01:30:00Z", 2, time.Sunday}, // there are two
		{berlin, "2026-10-25T02:00:00Z", 3, time.Sunday},
		{berlin, "2026-10-24T21:59:59Z", 23, time.Saturday},
		{berlin, "2026-10-24T22:00:00Z", 0, time.Sunday},
		{newYork, "2026-03-08T06:59:59Z", 1, time.Sunday},
		{newYork, "2026-03-08T07:00:00Z", 3, time.Sunday},
		{newYork, "2026-11-01T05:59:59Z", 1, time.Sunday},
		{newYork, "2026-11-01T06:00:00Z", 1, time.Sunday},
		{newYork, "2026-11-01T07:00:00Z", 2, time.Sunday},
		{kolkata, "2026-03-29T18:29:59Z", 23, time.Sunday},
		{kolkata, "2026-03-29T18:30:00Z", 0, time.Monday},
		{howe, "2026-10-03T15:29:59Z", 1, time.Sunday},
		{howe, "2026-10-03T15:30:00Z", 2, time.Sunday}, // half of it
		{howe, "2026-10-03T16:00:00Z", 3, time.Sunday},
	} {
		z := Zone{File: filepath.Join(t.TempDir(), "localtime")}
		if err := os.WriteFile(z.File, tzif(c.rule), 0o600); err != nil {
			t.Fatal(err)
		}
		location, err := z.Location()
		if err != nil {
			t.Fatalf("%s: %v", c.rule, err)
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if local := at.In(location); local.Hour() != c.hour || local.Weekday() != c.weekday {
			t.Errorf("%s in %s: %d on %s, want %d on %s", c.at, c.rule, local.Hour(), local.Weekday(), c.hour, c.weekday)
		}
	}
}

// TestTheZoneIsFollowed, however it is changed; what cannot be read is not known, and
// not the zone before.
func TestTheZoneIsFollowed(t *testing.T) {
	dir := t.TempDir()
	for name, rule := range map[string]string{"berlin": berlin, "kolkata": kolkata} {
		if err := os.WriteFile(filepath.Join(dir, name), tzif(rule), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	z := Zone{File: filepath.Join(dir, "localtime")}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	is := func(want int) {
		t.Helper()
		for range 2 {
			if location, err := z.Location(); err != nil || noon.In(location).Hour() != want {
				t.Errorf("%v, %v; want %d", location, err, want)
			}
		}
	}
	leads := func(to string) {
		t.Helper()
		next := z.File + ".new" // as systemd-timedated does
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, z.File); err != nil {
			t.Fatal(err)
		}
	}
	is(12) // there is none: UTC
	leads("berlin")
	is(13)
	leads("kolkata")
	is(17)
	leads("berlin")
	is(13)
	if err := os.Remove(z.File); err != nil {
		t.Fatal(err)
	}
	is(12)
	if err := os.WriteFile(z.File, tzif(newYork), 0o600); err != nil { // a copy
		t.Fatal(err)
	}
	is(7)
	if err := os.WriteFile(z.File, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if location, err := z.Location(); err == nil {
			t.Errorf("%v", location)
		}
	}
	leads("berlin")
	is(13)
}
