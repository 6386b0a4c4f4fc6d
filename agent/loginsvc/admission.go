package loginsvc

import (
	"sync"
	"time"

	"sallyport/internal/config"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
)

const (
	// rootLogins bounds root's logins at once, for memory's sake; it is never
	// shared with anybody else.
	rootLogins = 16384
	// perAccount bounds the logins at once of one account: whoever holds many
	// prompts of their own (su, sudo) must not keep others out.
	perAccount = 128
	// unresolved bounds those of all names that the system does not know.
	unresolved = 1024
	// A user that is not root may begin burst logins in a row and then one every
	// pause: each leaves an event, and the events kept are bounded.
	burst = 30
	pause = 2 * time.Second
	// maxSpent is when bursts that are over are forgotten.
	maxSpent = 1000
)

// admission counts the logins under way. The zero value is ready.
type admission struct {
	mu       sync.Mutex
	owner    int // root's, and the agent's own user's
	others   int
	byID     map[identity.ID]int           // the others'
	spent    map[identity.ID]time.Duration // boot time until which a burst is used up
	accounts map[string]int                // by the key of whom they are for; "" for unknown names
}

// Open is how many logins are under way.
func (a *admission) Open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.owner + a.others
}

// enter counts a login of peer; ok is false when there are too many. now is the
// boot clock.
func (a *admission) enter(peer localsock.Peer, limits config.Limits, now time.Duration) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if peer.IsOwner() {
		if a.owner >= rootLogins {
			return nil, false
		}
		a.owner++
		return a.leaving(func() { a.owner-- }), true
	}
	if a.byID == nil {
		a.byID, a.spent = map[identity.ID]int{}, map[identity.ID]time.Duration{}
	}
	spent := max(a.spent[peer.ID], now) + pause
	if a.byID[peer.ID] >= limits.LoginsPerUID || a.others >= limits.LoginsTotal || spent-now > burst*pause {
		return nil, false
	}
	if len(a.spent) >= maxSpent {
		for id, until := range a.spent {
			if until <= now {
				delete(a.spent, id)
			}
		}
	}
	a.spent[peer.ID] = spent
	a.byID[peer.ID]++
	a.others++
	return a.leaving(func() {
		a.others--
		if a.byID[peer.ID]--; a.byID[peer.ID] == 0 {
			delete(a.byID, peer.ID)
		}
	}), true
}

// enterAccount counts a login for the account with that key, "" for a name that
// the system does not know.
func (a *admission) enterAccount(key string) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	bound := perAccount
	if key == "" {
		bound = unresolved
	}
	if a.accounts[key] >= bound {
		return nil, false
	}
	if a.accounts == nil {
		a.accounts = map[string]int{}
	}
	a.accounts[key]++
	return a.leaving(func() {
		if a.accounts[key]--; a.accounts[key] == 0 {
			delete(a.accounts, key)
		}
	}), true
}

func (a *admission) leaving(fn func()) func() {
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		fn()
	}
}
