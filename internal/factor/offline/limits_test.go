package offline_test

import (
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/factor/offline"
)

const day = 24 * time.Hour

// boot is a moment of another boot, by what the wall clock says and the highest
// time seen.
func boot(id string, since time.Duration, wall, highest time.Time) clock.Instant {
	return clock.Instant{Wall: wall, Boot: since, BootID: id, Highest: highest}
}

func TestLimits(t *testing.T) {
	limits := offline.Limits{For: 30 * day, Logins: 5, WarnFor: 2 * day, WarnLogins: 3}
	contact := offline.Contact{}.New(start)
	used := func(n int) (u offline.Used) {
		for range n {
			u = u.Add(contact)
		}
		return u
	}
	for _, c := range []struct {
		what       string
		at         time.Duration
		logins     int
		warn, ends bool
		more       int
		left       time.Duration
	}{
		{"at once", 0, 0, false, false, 5, 30 * day},
		{"one login", 0, 1, false, false, 4, 30 * day},
		{"three are left", 0, 2, true, false, 3, 30 * day},
		{"the last", 0, 4, true, false, 1, 30 * day},
		{"none", 0, 5, true, true, 0, 30 * day},
		{"one too many", 0, 6, true, true, 0, 30 * day},
		{"two days before the end", 28 * day, 0, true, false, 5, 2 * day},
		{"a second before", 30*day - time.Second, 0, true, false, 5, time.Second},
		{"the end", 30 * day, 0, true, true, 5, 0},
		{"years later", 900 * day, 0, true, true, 5, 0},
	} {
		s := limits.Stand(contact, used(c.logins), after(c.at))
		if !s.Limited || s.Warn != c.warn || s.Reached != c.ends || s.Logins != c.more || s.Left != c.left {
			t.Errorf("%s: %+v", c.what, s)
		}
	}
	// Each by itself, and none.
	if s := (offline.Limits{Logins: 1}).Stand(contact, used(1), after(900*day)); !s.Reached || s.ByTime {
		t.Errorf("%+v", s)
	}
	if s := (offline.Limits{For: day}).Stand(contact, used(1000), start); s.Reached || s.ByCount {
		t.Errorf("%+v", s)
	}
	if s := (offline.Limits{WarnFor: day, WarnLogins: 3}).Stand(contact, used(1000), after(900*day)); s != (offline.Standing{}) {
		t.Errorf("no limit: %+v", s)
	}
	if s := limits.Stand(offline.Contact{}, used(1000), after(900*day)); s != (offline.Standing{}) {
		t.Errorf("a computer that never joined: %+v", s)
	}
}

// TestContactEndsTheCount of everybody, without their records being touched.
func TestContactEndsTheCount(t *testing.T) {
	first := offline.Contact{}.New(start)
	u := offline.Used{}.Add(first).Add(first)
	again := first.Still(after(9*day), 0).New(after(10 * day))
	if u.Since(first) != 2 || u.Since(again) != 0 || u.Add(again).Since(again) != 1 {
		t.Errorf("%+v, %+v", u, again)
	}
	if still := again.Still(after(11*day), 0); still.Since(after(12*day)) != day || u.Add(still).Since(still) != 1 {
		t.Errorf("%+v", still)
	}
}

// TestClockSetBackGivesNoMoreDays: not in the boot of the contact, not after the
// next, and not in many short ones.
func TestClockSetBackGivesNoMoreDays(t *testing.T) {
	c := offline.Contact{}.New(start)
	back := after(10 * day)
	back.Wall = start.Wall.Add(-900 * day)
	if d := c.Since(back); d != 10*day {
		t.Errorf("in the same boot: %v", d)
	}

	// A boot each day with the clock set back to before the contact. What passed
	// while a boot ran is kept as it is carried; what passed while the computer was off
	// nobody can know.
	highest := start.Wall.Add(10 * day)
	for i := range 5 {
		now := boot(string(rune('a'+i)), time.Minute, start.Wall.Add(-900*day), highest)
		c = c.Carry(now)
		now.Boot, now.Wall = now.Boot+day, now.Wall.Add(day)
		want := time.Duration(10+i+1) * day
		if d := c.Since(now); d != want {
			t.Errorf("boot %d: %v, want %v", i, d, want)
		}
		if c = c.Carry(now); c.Since(now) != want {
			t.Errorf("boot %d: carrying changed it to %v", i, c.Since(now))
		}
	}
	if s := (offline.Limits{For: 15 * day}).Stand(c, offline.Used{}, boot("z", 0, start.Wall, highest)); !s.Reached {
		t.Errorf("%+v", s)
	}
}

// TestATimeThatWasBogusIsForgotten: the helpdesk cleared a highest time that was
// years ahead, and nobody is kept out, or let in, for those years.
func TestATimeThatWasBogusIsForgotten(t *testing.T) {
	ahead := boot("one", time.Hour, start.Wall.AddDate(50, 0, 0), time.Time{})
	c := offline.Contact{}.New(ahead)
	now := boot("two", time.Hour, start.Wall, start.Wall)
	if d := c.Since(now); d != 0 {
		t.Errorf("%v", d)
	}
	c = c.Carry(now)
	now.Boot += 10 * day
	if d := c.Since(now); d != 10*day {
		t.Errorf("it counts from then: %v", d)
	}
}

// TestContactIsOverWhenNothingWasHeard, not when that is noticed.
func TestContactIsOverWhenNothingWasHeard(t *testing.T) {
	c := offline.Contact{}.New(start).Still(after(3*day), 2*day) // asleep for two days
	if d := c.Since(after(3 * day)); d != 2*day {
		t.Errorf("in the same boot: %v", d)
	}
	rebooted := boot("two", 0, start.Wall.Add(4*day), start.Wall.Add(3*day))
	if d := c.Since(rebooted); d != 3*day {
		t.Errorf("after a boot: %v", d)
	}
}
