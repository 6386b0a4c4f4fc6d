// Package device knows the facts of this computer that the policy's rules may
// go by: whether its system's volume is encrypted, whether it has a TPM, which
// system it runs, and which networks it is in.
//
// What cannot be told is unknown, never false. No login waits for it: facts are
// read in the background, when somebody asks and those known have become old.
package device

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fact is a yes, a no, or neither.
type Fact struct {
	Known bool
	Yes   bool
	Why   string // it is not known, for people
}

func yes(is bool) Fact        { return Fact{Known: true, Yes: is} }
func unknown(why string) Fact { return Fact{Why: why} }

// Facts are what is known of this computer.
type Facts struct {
	// Encrypted: the volume that the system runs from is.
	Encrypted Fact
	TPM       Fact
	OS        string // "linux", "windows" or "macos"
	// Version is the system's, such as "12.4" or "10.0.22631"; "" when unknown.
	Version string
}

const (
	// fresh is how old facts may be without being read again, and good how old
	// ones still count while that is under way.
	fresh = time.Minute
	good  = 15 * time.Minute
	// patience is how long whoever asks waits where none are good: programs of the
	// system take a second, and what is not known then requires a factor, which not
	// everybody has.
	patience = 2 * time.Second
	// readTime bounds a program of the system that is asked.
	readTime = 10 * time.Second
)

// Reader reads the facts of this computer. The zero value is ready.
type Reader struct {
	// Read replaces this system's way, in tests.
	Read func(ctx context.Context) Facts

	mu      sync.Mutex
	facts   Facts
	at      time.Duration // since boot, when they began to be read
	known   bool
	reading chan struct{} // closed when the read under way is over; nil: none is
}

// Facts returns what is known; now is the boot clock.
func (r *Reader) Facts(now time.Duration) Facts {
	r.mu.Lock()
	if r.known && now-r.at < fresh {
		defer r.mu.Unlock()
		return r.facts
	}
	if r.reading == nil {
		r.reading = make(chan struct{})
		go r.refresh(now, r.reading)
	}
	if r.known && now-r.at < good {
		defer r.mu.Unlock()
		return r.facts
	}
	reading := r.reading
	r.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-reading:
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known && now-r.at < good {
		return r.facts
	}
	const why = "the system has not said yet"
	return Facts{Encrypted: unknown(why), TPM: unknown(why), OS: osName}
}

func (r *Reader) refresh(now time.Duration, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	read := r.Read
	if read == nil {
		read = system
	}
	facts := read(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts, r.at, r.known, r.reading = facts, now, true, nil
	close(done)
}

// join names networks by what they are, in no order; "none" is a name as well.
func join(networks []string) string {
	slices.Sort(networks)
	return cmp.Or(strings.Join(slices.Compact(networks), " "), "none")
}
