package push

import (
	"encoding/base64"
	"slices"
	"time"

	"sallyport/internal/clock"
)

// Limits bound how often phones ring. The endpoint counts per user in its vault,
// the authority per user and device in its database, by the same rules.
type Limits struct {
	// Concurrent is how many may be pending at once; PerResource the same for one
	// resource (a PAM service). 0 turns the limit off.
	Concurrent  int
	PerResource int
	// Gap is how long one that is not answered counts as pending.
	Gap time.Duration
	// InFiveMinutes and InAnHour bound how many may be begun; 0 turns it off.
	InFiveMinutes int
	InAnHour      int
	// Misses is how many denials or time-outs in a row switch push off for Pause.
	Misses int
	Pause  time.Duration
}

// DefaultLimits returns the limits of an installation that sets none.
func DefaultLimits() Limits {
	return Limits{Concurrent: 1, PerResource: 1, Gap: time.Minute, InFiveMinutes: 3, InAnHour: 10, Misses: 3, Pause: 15 * time.Minute}
}

// State is what is kept of one person's push requests.
type State struct {
	// Begun are the requests of the last hour, oldest first.
	Begun    []Request         `json:"begun,omitempty"`
	Misses   int               `json:"misses,omitempty"`   // denied or not answered, in a row
	Paused   clock.Deadline    `json:"paused,omitzero"`    // push is off until then
	Reported bool              `json:"reported,omitempty"` // "Not me": off until the helpdesk clears it
	Counters map[string]uint32 `json:"counters,omitempty"` // of the passkeys, by CounterKey
}

// CounterKey is a credential id as Counters has it.
func CounterKey(credentialID []byte) string {
	return base64.RawURLEncoding.EncodeToString(credentialID)
}

// Request is one challenge that was sent.
type Request struct {
	ID       string         `json:"id"`
	Resource string         `json:"resource,omitempty"`
	Hour     clock.Deadline `json:"hour"` // an hour after it began
	// Pending until then, unless Ended.
	Pending clock.Deadline `json:"pending"`
	Ended   bool           `json:"ended,omitempty"`
}

// maxBegun bounds what is kept of one person, also where no limit is set.
const maxBegun = 1000

// Begin counts a request, or says why there can be none now: Reported, Paused or
// TooMany.
func (s *State) Begin(id, resource string, now clock.Instant, l Limits) Reason {
	s.settle(now, l)
	pending, here, five := 0, 0, 0
	for _, r := range s.Begun {
		if !r.Ended {
			pending++
			if r.Resource == resource {
				here++
			}
		}
		if r.Hour.Left(now) > 55*time.Minute {
			five++
		}
	}
	over := func(n, limit int) bool { return limit > 0 && n >= limit }
	switch {
	case s.Reported:
		return Reported
	case s.IsPaused(now):
		return Paused
	case over(pending, l.Concurrent), over(here, l.PerResource), over(five, l.InFiveMinutes), over(len(s.Begun), l.InAnHour),
		len(s.Begun) >= maxBegun:
		return TooMany
	}
	s.Begun = append(s.Begun, Request{ID: id, Resource: resource, Hour: now.In(time.Hour), Pending: now.In(l.Gap)})
	return ""
}

// IsPaused says whether push is off because too many in a row came to nothing.
func (s *State) IsPaused(now clock.Instant) bool { return !s.Paused.Passed(now) }

// Open says whether a request is there and has not ended: its answer may count.
func (s *State) Open(id string) bool { return s != nil && s.find(id) >= 0 }

// find returns the index of a request that has not ended, or -1.
func (s *State) find(id string) int {
	return slices.IndexFunc(s.Begun, func(r Request) bool { return r.ID == id && !r.Ended })
}

// End records how a request was answered, once; false when it had ended, or never
// was. An answer frees the person's next request. Time-outs are not ended so: they
// stay pending until the gap is over, and are then a miss. The empty reason ends
// one whose login was decided by a code: it frees, and is no miss.
func (s *State) End(id string, why Reason, now clock.Instant, l Limits) bool {
	i := s.find(id)
	if i < 0 {
		return false
	}
	if why == TimedOut {
		return true
	}
	s.Begun[i].Ended = true
	switch why {
	case Approved:
		s.Misses = 0
	case Reported:
		s.Reported = true
		for i := range s.Begun { // no other that rings now lets anybody in either
			s.Begun[i].Ended = true
		}
	case "":
	default:
		s.miss(now, l)
	}
	return true
}

// Withdraw takes back a request that reached no phone: it counts for nothing.
func (s *State) Withdraw(id string) {
	s.Begun = slices.DeleteFunc(s.Begun, func(r Request) bool { return r.ID == id && !r.Ended })
}

// Clear is the helpdesk's: push works again.
func (s *State) Clear() { s.Misses, s.Paused, s.Reported, s.Begun = 0, clock.Deadline{}, false, nil }

// settle ends requests that nobody answered in time, each a miss, and forgets
// those of more than an hour ago.
func (s *State) settle(now clock.Instant, l Limits) {
	for i := range s.Begun {
		if r := &s.Begun[i]; !r.Ended && r.Pending.Passed(now) {
			r.Ended = true
			s.miss(now, l)
		}
	}
	s.Begun = slices.DeleteFunc(s.Begun, func(r Request) bool { return r.Hour.Passed(now) })
}

func (s *State) miss(now clock.Instant, l Limits) {
	if s.Misses++; l.Misses > 0 && s.Misses >= l.Misses {
		s.Misses, s.Paused = 0, now.In(l.Pause)
	}
}
