package sessionguard

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/identity"
)

type stopped struct{ clock.Instant }

func (s stopped) Now() clock.Instant { return s.Instant }

func TestWhatIsDoneAboutASessionWithoutAVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		action   string
		who      Session
		cannot   bool // end the session
		want     event.Name
		says     string
		sentBack bool
	}{
		"reported":                     {"report", on(), false, event.SessionUnguarded, "without a second factor, by another way", false},
		"locked":                       {"lock", on(), false, event.SessionUnguarded, "sent back", true},
		"locked in vain":               {"lock", on(), true, event.SessionUnguarded, "could not be sent back to the login screen: no", true},
		"switched off":                 {"off", on(), false, "", "", false},
		"break-glass, reported":        {"report", on(bobs), false, event.BreakGlassUsed, "emergency", false},
		"break-glass is never locked":  {"lock", on(bobs), false, event.BreakGlassUsed, "emergency", false},
		"an unknown action is no lock": {"", on(), false, event.SessionUnguarded, "without", false},
	} {
		var got []event.Event
		var sentBack []uint32
		sessions := []Session{}
		w := &Watch{
			Clock: stopped{clock.Instant{Boot: time.Hour}}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Settings: func() Settings {
				return Settings{Action: c.action, Within: time.Minute, BreakGlass: map[identity.ID]bool{bob: true}}
			},
			Asked: func(Session) bool { return true }, Record: func(e event.Event) { got = append(got, e) },
			List: func() ([]Session, error) { return sessions, nil },
			Disconnect: func(id uint32) error {
				sentBack = append(sentBack, id)
				if c.cannot {
					return errors.New("no")
				}
				return nil
			},
		}
		w.Look()
		sessions = []Session{c.who}
		w.Look()
		w.Look()
		switch {
		case c.want == "" && len(got) != 0, c.want != "" && len(got) != 1:
			t.Errorf("%s: %+v", name, got)
		case c.want != "":
			if e := got[0]; e.Name != c.want || !strings.Contains(e.Text, c.says) || e.Key != string(c.who.User) || e.User != c.who.Name || e.Session != "1" {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if slices.Contains(sentBack, 1) != c.sentBack {
			t.Errorf("%s: sent back %v", name, sentBack)
		}
	}
}

func TestSessionsThatCannotBeListedAreLogged(t *testing.T) {
	var log strings.Builder
	w := &Watch{Log: slog.New(slog.NewTextHandler(&log, nil)), List: func() ([]Session, error) { return nil, errors.New("access denied") },
		Settings: func() Settings { return Settings{} }}
	w.Look()
	if !strings.Contains(log.String(), "access denied") {
		t.Errorf("%q", log.String())
	}
}
