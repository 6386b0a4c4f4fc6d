package accounts

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// How long a look-up waits for a domain controller, and how long an answer counts.
// A yes counts for names that are asked for together: it makes a name that is not
// found nobody's, which the next minute, with the cable out, it may not be.
const (
	reachPatience = 2 * time.Second
	yesTTL        = 5 * time.Second
	noTTL         = 30 * time.Second
)

// reach is whether a controller of this computer's domain answers. Where none does
// it takes seconds to find out; that is done once for many names and logins.
type reach struct {
	ask func(domain string) bool

	mu     sync.Mutex
	asking chan struct{} // closed when the question is answered; nil: none is open
	since  time.Time     // when it was put
	yes    bool          // the last answer,
	until  time.Time     // which counts until then
}

// controllers are those of this computer's own domain.
var controllers = reach{ask: findController}

// answer says whether one answers. No answer in time is a no.
func (r *reach) answer(domain string) bool {
	r.mu.Lock()
	if time.Now().Before(r.until) {
		defer r.mu.Unlock()
		return r.yes
	}
	if r.asking == nil {
		r.asking, r.since = make(chan struct{}), time.Now()
		go r.find(domain)
	}
	asking, left := r.asking, reachPatience-time.Since(r.since)
	r.mu.Unlock()
	timer := time.NewTimer(max(0, left))
	defer timer.Stop()
	select {
	case <-asking:
	case <-timer.C:
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.yes
}

func (r *reach) find(domain string) {
	yes := r.ask(domain)
	r.mu.Lock()
	defer r.mu.Unlock()
	ttl := noTTL
	if yes {
		ttl = yesTTL
	}
	r.yes, r.until = yes, time.Now().Add(ttl)
	close(r.asking)
	r.asking = nil
}

// findController asks for a domain controller that answers now (DsGetDcNameW).
// What Windows remembers may be hours old, and would make a domain out of reach
// one that does not know a name.
func findController(domain string) bool {
	const forceRediscovery = 1 // DS_FORCE_REDISCOVERY
	name, err := windows.UTF16PtrFromString(domain)
	if err != nil || procDsGetDcNameW.Find() != nil {
		return false
	}
	var info *byte
	code, _, _ := procDsGetDcNameW.Call(0, uintptr(unsafe.Pointer(name)), 0, 0, forceRediscovery, uintptr(unsafe.Pointer(&info)))
	if info != nil {
		_ = windows.NetApiBufferFree(info)
	}
	return code == 0
}
