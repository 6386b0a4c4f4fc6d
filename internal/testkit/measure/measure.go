//go:build linux

// Package measure is what the benches have in common: quantiles, targets, and on what
// machine it was measured.
package measure

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Quantile returns the value below which the share q of the samples lies.
func Quantile[T cmp.Ordered](samples []T, q float64) T {
	var zero T
	if len(samples) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// MS is a duration in milliseconds.
func MS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Bound says on which side of the limit what was measured has to be.
type Bound int

// The bounds.
const (
	AtMost Bound = iota
	AtLeast
	Under // the limit itself is missed
)

// Target is one line of what the product is held to; docs/benchmarks.md says why.
type Target struct {
	Name            string
	Measured, Limit float64
	Digits          int
	Bound           Bound
}

func (t Target) String() string {
	missed := t.Measured > t.Limit
	switch t.Bound {
	case AtLeast:
		missed = t.Measured < t.Limit
	case Under:
		missed = t.Measured >= t.Limit
	}
	verdict := "ok"
	if missed {
		verdict = "MISSED"
	}
	return fmt.Sprintf("target %s %.*f %.*f %s", t.Name, t.Digits, t.Measured, t.Digits, t.Limit, verdict)
}

// Machine says on what, and with its state on which disk, this was measured.
func Machine(disk string) string {
	var kernel unix.Utsname
	_ = unix.Uname(&kernel) // then its fields are empty
	var fs unix.Statfs_t
	_ = unix.Statfs(disk, &fs)
	types := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs: syncing costs nothing here, the figures flatter", unix.OVERLAYFS_SUPER_MAGIC: "overlay"}
	kind := types[int64(fs.Type)]
	if kind == "" {
		kind = fmt.Sprintf("file system type %#x", fs.Type)
	}
	return fmt.Sprintf("%s, %s, Linux %s, %d processors, state on %s", time.Now().UTC().Format("2006-01-02"),
		cpuModel(), unix.ByteSliceToString(kernel.Release[:]), runtime.NumCPU(), kind)
}

func cpuModel() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "processor unknown"
	}
	for line := range strings.Lines(string(content)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor unknown"
}
