// Package sessionguard notices who is in a Windows session without having come
// by us: through another credential provider, by an automatic logon, or while the
// agent was not running. The credential provider's filter is what keeps people
// out; this is the second look.
//
// It goes by what the sessions are, not by what their notifications say: a
// notification only means that it is worth looking.
package sessionguard

import (
	"maps"
	"sync"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/identity"
)

// Session is an interactive session with somebody in it.
type Session struct {
	ID     uint32
	User   identity.ID
	Name   string    // as Windows spells it: DOMAIN\user
	Logon  time.Time // when it began; session ids are used again
	Active bool      // somebody sees it: at the console or over the network
	Locked bool
	Remote bool
}

// How a person came into a session.
const (
	Logon     = "logon"
	Unlock    = "unlock"
	Reconnect = "reconnect"
)

// Arrival is a person who came into a session.
type Arrival struct {
	Session
	How string
}

// Finding is what is wrong with an arrival; the zero value: nothing.
type Finding int

// The findings.
const (
	None Finding = iota
	Unguarded
	BreakGlass
)

// Guard remembers who was let in, and which sessions are known. The zero value
// is ready; it is safe for concurrent use.
type Guard struct {
	// Since is when the agent was last known to run before its start, with some
	// allowance; zero when it never did. Who came later came while nobody looked.
	Since time.Time

	mu       sync.Mutex
	admitted map[identity.ID]time.Duration // boot time of the last verdict that let them in
	known    map[uint32]Session            // nil: nothing was seen yet
}

// Admitted notes that a login was let in, or that nothing was asked of it.
func (g *Guard) Admitted(id identity.ID, now clock.Instant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.admitted == nil {
		g.admitted = map[identity.ID]time.Duration{}
	}
	g.admitted[id] = now.Boot
}

// Seen takes the sessions as they are now, and returns who came into one since
// the last time; the first time, who did after Since. Not all of them: a session
// that is not there may still be.
func (g *Guard) Seen(sessions []Session, all bool) []Arrival {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.known == nil
	known := make(map[uint32]Session, len(sessions))
	if !all {
		maps.Copy(known, g.known)
	}
	var arrivals []Arrival
	for _, s := range sessions {
		known[s.ID] = s
		was, ok := g.known[s.ID]
		same := ok && was.User == s.User && was.Logon.Equal(s.Logon)
		if first && (g.Since.IsZero() || !s.Logon.After(g.Since)) || !s.Active || s.Locked {
			continue
		}
		switch {
		case !same:
			arrivals = append(arrivals, Arrival{s, Logon})
		case was.Locked:
			arrivals = append(arrivals, Arrival{s, Unlock})
		case !was.Active:
			arrivals = append(arrivals, Arrival{s, Reconnect})
		}
	}
	g.known = known
	return arrivals
}

// Judge says what is wrong with an arrival. breakGlass are the emergency
// accounts; asked says whether a login would ask this person for anything at all,
// and is consulted only when it matters. A verdict counts for as long as within.
func (g *Guard) Judge(a Arrival, now clock.Instant, within time.Duration, breakGlass func(identity.ID) bool, asked func(Session) bool) Finding {
	if breakGlass(a.User) {
		return BreakGlass
	}
	g.mu.Lock()
	at, ok := g.admitted[a.User]
	g.mu.Unlock()
	if ok && now.Boot-at <= within {
		return None
	}
	if !asked(a.Session) {
		return None
	}
	return Unguarded
}
