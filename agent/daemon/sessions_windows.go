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
// until ctx ends. login tells whom it let in.
func (d *daemon) watchSessions(ctx context.Context, login *loginsvc.Service) {
	if d.options.Sessions == nil {
		return
	}
	w := &sessionguard.Watch{
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
			return login.Asked(ctx, accounts.User{Name: s.Name, ID: s.User})
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
