package daemon

import "context"

// watchRights looks at the login rights once: an upgrade of macOS ends in a start.
func (d *daemon) watchRights(ctx context.Context) {
	c := d.settings().Config
	go d.repairRights(ctx, Rights(&c))
}
