package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

func newSystem() Clock {
	// The kernel makes it at each boot. Without one deadlines go by the wall clock.
	// (kern.boottime is no name of a boot: it moves when the clock is set.)
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return system{id}
}

type system struct{ bootID string }

// Now takes the boot clock from CLOCK_MONOTONIC_RAW, which counts on while the
// system is asleep, unlike CLOCK_UPTIME_RAW, and which no adjustment of the time
// affects, unlike CLOCK_MONOTONIC (clock_gettime(3) of macOS).
func (s system) Now() Instant {
	i := Instant{Wall: time.Now().Round(0), BootID: s.bootID}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		i.BootID = ""
		return i
	}
	i.Boot = time.Duration(ts.Nano())
	return i
}
