package store

import (
	"context"
	"time"
)

const (
	beatEvery = 15 * time.Second
	leaveTime = 2 * time.Second // that Close waits for the database
)

// live has the node's heart beat until Close, beginning now or, if it just has,
// a while later. A node begins to live when it listens or gets its first stream;
// a command that only changes something never does.
func (c *core) live(s Store, now bool) {
	if c.beating.Load() || !c.mayBegin() {
		return
	}
	defer c.stopping.Unlock()
	if !c.beating.CompareAndSwap(false, true) {
		return
	}
	beat := func(ctx context.Context) {
		err := s.Update(ctx, func(t Tx) error { return t.(*tx).beat() })
		if err != nil && ctx.Err() == nil {
			c.log.Warn("the node's heartbeat did not reach the database", "node", c.node, "error", err)
		}
	}
	c.tasks.Go(func() {
		ctx, cancel := c.untilStop()
		defer cancel()
		if now {
			beat(ctx)
		}
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				beat(ctx)
			case <-c.stop:
				return
			}
		}
	})
}

// mayBegin locks stopping for a task to be added; false when the store is closed.
func (c *core) mayBegin() bool {
	c.stopping.Lock()
	select {
	case <-c.stop:
		c.stopping.Unlock()
		return false
	default:
		return true
	}
}

// end ends the tasks, once; false when that was done already.
func (c *core) end() bool {
	if !c.mayBegin() {
		return false
	}
	close(c.stop)
	c.stopping.Unlock()
	c.tasks.Wait()
	return true
}

// untilStop is a context that ends with Close.
func (c *core) untilStop() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-c.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// part says that this node's streams are over, if the database can be told.
func (c *core) part(s Store) {
	if !c.beating.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	if err := s.Update(ctx, func(t Tx) error { return t.(*tx).leave() }); err != nil {
		c.log.Warn("the database was not told that the node stops", "node", c.node, "error", err)
	}
}
