package sessionguard

import (
	"fmt"
	"log/slog"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/identity"
)

// Settings say what is done about a session without a verdict.
type Settings struct {
	// Action is "off", "report" or "lock": back to the login screen with it.
	Action string
	// Within is how long a verdict counts for the session that follows it.
	Within time.Duration
	// BreakGlass are the emergency accounts' SIDs.
	BreakGlass map[identity.ID]bool
}

// Watch looks at the computer's sessions, and carries out what the Guard finds.
type Watch struct {
	Guard
	Clock    clock.Clock
	Log      *slog.Logger
	Settings func() Settings
	Asked    func(Session) bool // whether a login would ask this person for anything
	Record   func(event.Event)
	// List returns the sessions that can be read, and why others cannot.
	List       func() ([]Session, error)
	Disconnect func(session uint32) error
}

// Look is called when something may have changed, and once at the start.
func (w *Watch) Look() {
	sessions, err := w.List()
	if err != nil {
		w.Log.Error("not all sessions of this computer can be listed, so that one without a second factor may not be noticed", "error", err)
	}
	arrivals := w.Seen(sessions, err == nil)
	settings := w.Settings()
	if settings.Action == "off" {
		return
	}
	for _, a := range arrivals {
		w.report(a, settings)
	}
}

func (w *Watch) report(a Arrival, settings Settings) {
	e := event.Event{User: a.Name, Key: string(a.User), Session: fmt.Sprint(a.ID)}
	switch w.Judge(a, w.Clock.Now(), settings.Within, func(id identity.ID) bool { return settings.BreakGlass[id] }, w.Asked) {
	case None:
		return
	case BreakGlass:
		e.Name, e.Text = event.BreakGlassUsed, a.How+" with an emergency account"
	case Unguarded:
		e.Name, e.Text = event.SessionUnguarded, a.How+" without a second factor, by another way than Sallyport's"
		if settings.Action == "lock" {
			e.Text += "; sent back to the login screen"
			if err := w.Disconnect(a.ID); err != nil {
				e.Text = a.How + " without a second factor; it could not be sent back to the login screen: " + err.Error()
			}
		}
	}
	w.Record(e)
}
