package link

import (
	"runtime"
	"strings"
	"testing"

	"sallyport/authority/enrol"
)

// stacks are those of all goroutines.
func stacks() []string {
	b := make([]byte, 1<<20)
	for {
		if n := runtime.Stack(b, true); n < len(b) {
			return strings.Split(string(b[:n]), "\n\n")
		}
		b = make([]byte, 2*len(b))
	}
}

func TestAnIdleStreamIsOneGoroutineOfOurs(t *testing.T) {
	w := one(t)
	const n = 20
	for range n {
		d := w.join(enrol.Everyone)
		d.open()
	}
	count := func() (ours, grpcs int) {
		for _, s := range stacks() {
			switch {
			case strings.Contains(s, "link.(*Service).Connect("), strings.Contains(s, "link.(*stream)."):
				ours++
			case strings.Contains(s, "transport.(*http2Server)"), strings.Contains(s, "transport.NewServerTransport"):
				grpcs++
			}
		}
		return ours, grpcs
	}
	// Sending and working are over soon.
	w.eventually("one goroutine of ours and three of gRPC's for each stream", func() bool {
		ours, grpcs := count()
		return ours == n && grpcs <= 3*n
	})
}
