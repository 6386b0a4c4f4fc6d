//go:build testclock

package clock

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// testClock is this computer's clock, off by what a file says. It exists only in
// builds with the tag testclock, which the tests make and nobody ships: no
// variable and no file moves the shipped agent's clock.
type testClock struct {
	Clock
	path string
}

// System returns the clock that the file named by SALLYPORT_TESTCLOCK bends:
//
//	{"wall": "-1h", "boot": "-30m", "boot_id": "another boot"}
func System() Clock { return testClock{newSystem(), os.Getenv("SALLYPORT_TESTCLOCK")} }

func (c testClock) Now() Instant {
	i := c.Clock.Now()
	text, err := os.ReadFile(c.path)
	if err != nil {
		panic(fmt.Sprintf("a build with the tag testclock needs SALLYPORT_TESTCLOCK: %v", err))
	}
	var bend struct {
		Wall   string `json:"wall"`
		Boot   string `json:"boot"`
		BootID string `json:"boot_id"`
	}
	if err := json.Unmarshal(text, &bend); err != nil {
		panic(fmt.Sprintf("%s: %v", c.path, err))
	}
	i.Wall = i.Wall.Add(duration(bend.Wall))
	i.Boot += duration(bend.Boot)
	if bend.BootID != "" {
		i.BootID = bend.BootID
	}
	return i
}

func duration(text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err.Error())
	}
	return d
}
