package daemon

import (
	"context"
	"os"
	"path/filepath"

	"sallyport/authplugin/authdb"
	"sallyport/internal/config"
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
// taken them out. What a broken configuration wants is not known: then it does nothing.
func (d *daemon) repairRights(ctx context.Context, r *authdb.Rights) {
	if d.state().ConfigMissing {
		return
	}
	r.Answers = func(context.Context) error {
		_, err := d.store.Vault()
		return err
	}
	if e := r.Repair(ctx); e.Name != "" && ctx.Err() == nil {
		d.store.Record(ctx, e)
	}
}
