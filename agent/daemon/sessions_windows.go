package daemon

import (
	"context"
	"time"

	"sallyport/agent/loginsvc"
	"sallyport/agent/sessionguard"
	"sallyport/internal/accounts"
	"sallyport/internal/event"
	"sallyport/internal/identity"
)

// watchSessions looks at the computer's sessions whenever one may have changed,
// until ctx ends. login tells whom it let in; ran is the last time known from
// before this start, zero when there is none.
func (d *daemon) watchSessions(ctx context.Context, login *loginsvc.Service, ran time.Time) {
	if d.options.Sessions == nil {
		return
	}
	if !ran.IsZero() { // a session begins behind its verdict
		ran = ran.Add(time.Duration(d.current().Config.SessionGuard.Within))
	}
	w := &sessionguard.Watch{
		Guard: sessionguard.Guard{Since: ran},
		Clock: d.options.Clock, Log: d.log, List: sessionguard.List, Disconnect: sessionguard.Disconnect,
		Settings: func() sessionguard.Settings {
			c := d.settings().Config
			s := sessionguard.Settings{Action: c.SessionGuard.Action, Within: time.Duration(c.SessionGuard.Within), BreakGlass: map[identity.ID]bool{}}
			for _, sid := range c.CredentialProvider.BreakGlass {
				if id, err := identity.SID(sid); err == nil { // the configuration was checked
					s.BreakGlass[id] = true
				}
			}
			return s
		},
		Asked: func(s sessionguard.Session) bool {
			user, err := d.names.ByID(ctx, s.User)
			if err != nil { // what the session says of the name may be cut short
				user = accounts.User{Name: s.Name, ID: s.User}
			}
			return login.Asked(ctx, user, s.Remote)
		},
		Record: func(e event.Event) { d.store.Record(ctx, e) },
	}
	login.Admitted = func(id identity.ID) { w.Admitted(id, d.options.Clock.Now()) }
	go func() {
		for {
			select {
			case <-d.options.Sessions:
				w.Look()
			case <-ctx.Done():
				return
			}
		}
	}()
}
