package loginsvc

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminalPair opens a pts(4), and returns its name.
func terminalPair(t *testing.T) (master *os.File, name string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal is to be had: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

// coarse is the clock that files get their times from (clock_gettime(2)).
func coarse(t *testing.T) unix.Timespec {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		t.Fatal(err)
	}
	return now
}

// The number of a terminal goes to the next who opens one; its session does not.
func TestATerminalsNumberIsNotItsSession(t *testing.T) {
	for end := time.Now().Add(patience); !usedAgain(t); {
		if time.Now().After(end) {
			t.Fatal("the number of a terminal is not used again")
		}
	}
}

// usedAgain opens a terminal, closes it, and opens the next of the same number. False:
// somebody else on this machine has that one.
func usedAgain(t *testing.T) bool {
	t.Helper()
	master, name := terminalPair(t)
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := SessionOf(name)
	if _, err := slave.WriteString("work\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("typed\n"); err != nil {
		t.Fatal(err)
	}
	if again := SessionOf(name); first == "" || again != first || SessionOf(name[len("/dev/"):]) != first {
		t.Errorf("%s is %q, and then %q", name, first, again)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	// The kernel's clock for files goes in steps of a timer's tick: within one, two
	// terminals are as old as each other.
	for range 2 { // the tick that is just being counted is seen here a little earlier
		for began := coarse(t); coarse(t) == began; {
		}
	}
	for range 16 { // others open terminals, too
		m, other := terminalPair(t)
		defer m.Close()
		if other == name {
			if second := SessionOf(other); second == first {
				t.Errorf("%s is still %q", other, second)
			}
			return true
		}
	}
	return false
}

// HAZARD: everybody who comes by ssh from behind one address, or sits down at one
// screen, is in "the same session" as whoever gave a factor there.
func TestSessionsThatAreNoTerminal(t *testing.T) {
	for _, session := range []string{"", "ssh", ":0", "0", "/", "/dev", "/dev/", "/etc/passwd", "/dev/../etc/passwd", "/dev/no-such-terminal", "../etc/passwd",
		"/dev/tty", "tty", "//dev/./tty", "/dev/tty0", "/dev/null", "/dev/zero", "/dev/full"} {
		if got := SessionOf(session); got != "" {
			t.Errorf("%q is %q", session, got)
		}
	}
}
