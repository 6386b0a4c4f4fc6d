package link

import (
	"sync"
	"time"
)

// bucket lets burst through at once and one more every gap. The zero time makes
// it full. Not safe for concurrent use.
type bucket struct {
	free time.Time // when it will be full again
}

func (b *bucket) take(now time.Time, burst int, gap time.Duration) bool {
	return b.takeN(now, 1, burst, gap)
}

// takeN is take for n at once, all or none.
func (b *bucket) takeN(now time.Time, n, burst int, gap time.Duration) bool {
	if b.free.Before(now) {
		b.free = now
	}
	next := b.free.Add(time.Duration(n) * gap)
	if next.Sub(now) > time.Duration(burst)*gap {
		return false
	}
	b.free = next
	return true
}

// buckets are one each for addresses or devices, of which there may be any
// number: those that are full are forgotten.
type buckets struct {
	burst int
	gap   time.Duration

	mu    sync.Mutex
	by    map[string]*bucket
	sweep int // so many more until those that are full are looked for
}

// maxBuckets bounds what is remembered. Past it nobody who is new gets in, until
// the oldest are full again.
const maxBuckets = 200_000

func newBuckets(burst int, gap time.Duration) *buckets {
	return &buckets{burst: burst, gap: gap, by: map[string]*bucket{}, sweep: 1024}
}

func (l *buckets) take(key string, now time.Time) bool { return l.takeN(key, now, 1) }

func (l *buckets) takeN(key string, now time.Time, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.by[key]
	if b == nil {
		if l.sweep--; l.sweep <= 0 {
			for k, b := range l.by {
				if !b.free.After(now) {
					delete(l.by, k)
				}
			}
			l.sweep = max(1024, len(l.by))
		}
		if len(l.by) >= maxBuckets {
			l.sweep = min(l.sweep, 1024)
			return false
		}
		b = new(bucket)
		l.by[key] = b
	}
	return b.takeN(now, n, l.burst, l.gap)
}

// full says whether nothing was taken lately beyond what is left, without taking.
func (l *buckets) empty(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.by[key]
	return b != nil && b.free.Sub(now) > time.Duration(l.burst-1)*l.gap
}
