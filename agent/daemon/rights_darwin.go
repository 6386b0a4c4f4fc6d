package daemon

import "context"

// watchRights looks at the login rights, behind the start alone: an upgrade of macOS
// ends in one. wait waits until what it changes is whole, once ctx has ended.
func (d *daemon) watchRights(ctx context.Context) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.repairRights(ctx, Rights)
	}()
	return func() { <-done }
}
