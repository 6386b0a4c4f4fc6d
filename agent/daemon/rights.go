//go:build unix

package daemon

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"sallyport/authplugin/authdb"
	"sallyport/internal/config"
	"sallyport/internal/event"
)

// Rights is macOS's rights database, as a configuration wants it.
func Rights(c *config.Config) *authdb.Rights {
	p := c.AuthorizationPlugin
	r := &authdb.Rights{
		StateDir: c.StateDir, Bundle: authdb.DefaultBundle, MayRepair: p.Repair,
		Wanted: authdb.Wanted{Login: p.Login, Unlock: p.Unlock, Elevate: p.Elevate},
	}
	// Not by a link for people, which others may be able to point elsewhere.
	if program, err := os.Executable(); err == nil {
		if r.Program, err = filepath.EvalSymlinks(program); err != nil {
			r.Program = program
		}
	}
	return r
}

// repairRights puts the plug-in's mechanisms back where an upgrade of the system has
// taken them out. What a broken configuration wants is not known: then it is what was
// installed, as else such a file would let in by the password alone.
func (d *daemon) repairRights(ctx context.Context, rights func(*config.Config) *authdb.Rights) {
	var said event.Name
	for n := 0; ; n++ {
		s := d.settings()
		r := rights(&s.Config)
		if s.Broken {
			r.Wanted = authdb.Wanted{Login: true, Unlock: true, Elevate: true} // a repair installs nothing
		}
		r.Answers = func(context.Context) error {
			_, err := d.store.Vault()
			return err
		}
		e := r.Repair(ctx)
		if ctx.Err() != nil {
			return
		}
		if e.Name != "" && e.Name != said {
			d.store.Record(ctx, e)
			said = e.Name
		}
		if e.Name != event.RightsMissing || !r.MayRepair || n == len(repairAgain) {
			return
		}
		select {
		case <-time.After(repairAgain[n]):
		case <-ctx.Done():
			return
		}
	}
}

// repairAgain are the pauses behind a repair that failed. Just behind an upgrade the
// system is slow, and what is not put back then stays out until the next start.
var repairAgain = []time.Duration{time.Minute, 10 * time.Minute}
