//go:build windows || darwin

package daemon

import (
	"context"
	"time"

	"sallyport/internal/config"
)

// lookAgain is how often policies are looked at that cannot be watched.
const lookAgain = 30 * time.Second

// watchPolicies takes the managed settings when they changed, until ctx ends. (A
// changed file is seen at the next login, as everywhere.)
func (d *daemon) watchPolicies(ctx context.Context) {
	warned := false
	for {
		err := config.Watch(ctx, func() { d.takePolicies(ctx) })
		if ctx.Err() != nil {
			return
		}
		if !warned {
			d.log.Warn("the policies cannot be watched: they are looked at now and then", "error", err)
			warned = true
		}
		d.takePolicies(ctx)
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return
		}
	}
}
