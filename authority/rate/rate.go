// Package rate bounds how often somebody may do something: an address, or a session.
// The approver's page and the console share it.
package rate

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds what a Limiter remembers. Past it whoever is new shares one
// bucket.
const maxBuckets = 20_000

// Limiter lets each key do `burst` things at once and `rate` a second later on.
type Limiter struct {
	rate, burst float64

	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// New returns a Limiter.
func New(rate, burst float64) *Limiter {
	return &Limiter{rate: rate, burst: burst, buckets: map[string]bucket{}}
}

// Allow says whether the key may do one more thing now.
func (l *Limiter) Allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[key]
	if !known {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		if len(l.buckets) >= maxBuckets {
			key = ""
			b, known = l.buckets[key]
		}
	}
	if !known {
		b = bucket{left: l.burst, at: now}
	}
	b = l.fill(b, now)
	ok := b.left >= 1
	if ok {
		b.left--
	}
	l.buckets[key] = b
	return ok
}

// Knows says whether a key was there lately.
func (l *Limiter) Knows(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.buckets[key]
	return known
}

// fill is the bucket as it is by now. A clock that went back fills nothing.
func (l *Limiter) fill(b bucket, now time.Time) bucket {
	b.left = min(l.burst, b.left+max(0, now.Sub(b.at).Seconds())*l.rate)
	b.at = now
	return b
}

// forget drops buckets that are full again: they say nothing.
func (l *Limiter) forget(now time.Time) {
	for key, b := range l.buckets {
		if l.fill(b, now).left >= l.burst {
			delete(l.buckets, key)
		}
	}
}

// Key is who a request comes from, for limits: an IPv4 address, or an IPv6
// network, of which a customer has 2^64 addresses.
func Key(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// Peer is the address at the other end of the connection.
func Peer(r *http.Request) string {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return a.Addr().String()
	}
	return ""
}
