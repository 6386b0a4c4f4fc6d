package clock

import (
	"testing"
	"time"
)

func TestDeadlines(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(boot string, sinceBoot, wall, highest time.Duration) Instant {
		return Instant{Wall: noon.Add(wall), Boot: sinceBoot, BootID: boot, Highest: noon.Add(highest)}
	}
	set := at("a", time.Hour, 0, 0).In(15 * time.Minute)
	for name, c := range map[string]struct {
		now    Instant
		passed bool
	}{
		"a minute later":                                  {at("a", 61*time.Minute, time.Minute, time.Minute), false},
		"when it has come":                                {at("a", 75*time.Minute, 15*time.Minute, 0), true},
		"clock set forward within the boot":               {at("a", 61*time.Minute, 24*time.Hour, 0), false},
		"clock set back within the boot":                  {at("a", 75*time.Minute, -24*time.Hour, 0), true},
		"rebooted, too early":                             {at("b", time.Minute, 14*time.Minute, 0), false},
		"rebooted, late enough":                           {at("b", time.Minute, 15*time.Minute, 0), true},
		"rebooted with the clock back, time was seen":     {at("b", time.Minute, -time.Hour, 16*time.Minute), true},
		"rebooted with the clock back, nothing seen":      {at("b", time.Minute, -time.Hour, 0), false},
		"boot id unknown, long uptime counts for nothing": {at("", 100*time.Hour, 0, 0), false},
	} {
		if got := set.Passed(c.now); got != c.passed {
			t.Errorf("%s: passed %v, want %v (left %v)", name, got, c.passed, set.Left(c.now))
		}
	}
	if !(Deadline{}).Passed(at("a", 0, 0, 0)) {
		t.Error("the zero deadline has not passed")
	}
	// A deadline set while the clock lies behind starts at the highest time.
	if d := at("a", 0, -time.Hour, 0).In(time.Minute); !d.Wall.Equal(noon.Add(time.Minute)) {
		t.Errorf("set from %v", d.Wall)
	}
}

func TestSystemClockMoves(t *testing.T) {
	a := System().Now()
	b := System().Now()
	if a.BootID == "" || a.BootID != b.BootID || b.Boot < a.Boot || a.Boot == 0 {
		t.Errorf("%+v then %+v", a, b)
	}
}
