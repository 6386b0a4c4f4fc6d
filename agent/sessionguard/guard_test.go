package sessionguard

import (
	"slices"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/identity"
)

const (
	alice identity.ID = "sid:S-1-5-21-1-2-3-1001"
	bob   identity.ID = "sid:S-1-5-21-1-2-3-1002"
)

var morning = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// on is alice's session on the console.
func on(change ...func(*Session)) Session {
	s := Session{ID: 1, User: alice, Name: `CORP\alice`, Logon: morning, Active: true}
	for _, c := range change {
		c(&s)
	}
	return s
}

func locked(s *Session)   { s.Locked = true }
func away(s *Session)     { s.Active = false }
func later(s *Session)    { s.Logon = s.Logon.Add(time.Hour) }
func bobs(s *Session)     { s.User, s.Name = bob, `CORP\bob` }
func session2(s *Session) { s.ID = 2 }

func TestWhoCameIntoASession(t *testing.T) {
	type sessions = []Session
	for name, c := range map[string]struct {
		before, now sessions
		want        []string
	}{
		"somebody logs on":     {sessions{}, sessions{on()}, []string{"1 logon"}},
		"nothing happens":      {sessions{on()}, sessions{on()}, nil},
		"the screen is locked": {sessions{on()}, sessions{on(locked)}, nil},
		"and unlocked":         {sessions{on(locked)}, sessions{on()}, []string{"1 unlock"}},
		"unlocked and seen only when connected again":    {sessions{on(locked, away)}, sessions{on()}, []string{"1 unlock"}},
		"a remote screen goes away":                      {sessions{on()}, sessions{on(away)}, nil},
		"and comes back":                                 {sessions{on(away)}, sessions{on()}, []string{"1 reconnect"}},
		"it comes back to a locked screen":               {sessions{on(away)}, sessions{on(locked)}, nil},
		"another person has the session's number":        {sessions{on()}, sessions{on(bobs)}, []string{"1 logon"}},
		"the same person anew, in the same number":       {sessions{on()}, sessions{on(later)}, []string{"1 logon"}},
		"a session that began locked is not in yet":      {sessions{}, sessions{on(locked)}, nil},
		"a session that nobody sees is not in yet":       {sessions{}, sessions{on(away)}, nil},
		"a second person, while the first stays":         {sessions{on()}, sessions{on(), on(session2, bobs)}, []string{"2 logon"}},
		"two at once":                                    {sessions{}, sessions{on(), on(session2, bobs)}, []string{"1 logon", "2 logon"}},
		"somebody logs off":                              {sessions{on()}, sessions{}, nil},
		"what was there before the agent came by nobody": {nil, sessions{on()}, nil},
	} {
		var g Guard
		if c.before != nil {
			g.Seen(c.before, true)
		}
		var got []string
		for _, a := range g.Seen(c.now, true) {
			got = append(got, string(rune('0'+a.ID))+" "+a.How)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestALogonIsNoticedOnce(t *testing.T) {
	var g Guard
	g.Seen(nil, true)
	if len(g.Seen([]Session{on()}, true)) != 1 || len(g.Seen([]Session{on()}, true)) != 0 {
		t.Error("one logon is not one arrival")
	}
}

func TestWhatIsWrongWithAnArrival(t *testing.T) {
	at := func(d time.Duration) clock.Instant {
		return clock.Instant{Wall: morning.Add(d), Boot: time.Hour + d, BootID: "1"}
	}
	const within = 2 * time.Minute
	everybody := func(Session) bool { return true }
	nobody := func(Session) bool { return false }
	emergency := func(id identity.ID) bool { return id == bob }
	for name, c := range map[string]struct {
		admitted identity.ID
		who      Session
		after    time.Duration
		asked    func(Session) bool
		want     Finding
	}{
		"let in just before":               {alice, on(), time.Second, everybody, None},
		"let in as long ago as counts":     {alice, on(), within, everybody, None},
		"let in too long ago":              {alice, on(), within + 1, everybody, Unguarded},
		"never let in":                     {"", on(), 0, everybody, Unguarded},
		"somebody else was let in":         {bob, on(), time.Second, everybody, Unguarded},
		"of whom nothing would be asked":   {"", on(), 0, nobody, None},
		"an emergency account":             {"", on(bobs), 0, everybody, BreakGlass},
		"an emergency account, let in too": {bob, on(bobs), 0, nobody, BreakGlass},
		"an account that is nobody's":      {alice, Session{ID: 1, Active: true}, 0, everybody, Unguarded},
	} {
		var g Guard
		if c.admitted != "" {
			g.Admitted(c.admitted, at(0))
		}
		if got := g.Judge(Arrival{c.who, Logon}, at(c.after), within, emergency, c.asked); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestWhoCameWhileTheAgentWasAway: by an automatic logon at the start of Windows,
// or by another way while the agent was down.
func TestWhoCameWhileTheAgentWasAway(t *testing.T) {
	for name, c := range map[string]struct {
		since time.Time
		want  int
	}{
		"an agent that never ran before knows nothing": {time.Time{}, 0},
		"it ran when the session began":                {morning, 0},
		"it ran before, not after":                     {morning.Add(-1), 1},
	} {
		g := Guard{Since: c.since}
		if got := g.Seen([]Session{on(), on(session2, bobs, locked)}, true); len(got) != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestASessionThatCouldNotBeReadIsNotNewAfterwards: Windows may fail to tell of
// one that is just ending or beginning.
func TestASessionThatCouldNotBeReadIsNotNewAfterwards(t *testing.T) {
	var g Guard
	g.Seen([]Session{on()}, true)
	if got := g.Seen([]Session{on(session2, bobs)}, false); len(got) != 1 || got[0].User != bob {
		t.Errorf("%+v", got)
	}
	if got := g.Seen([]Session{on(), on(session2, bobs)}, true); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
