package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/internal/event"
)

const (
	queueLength = 1024
	maxBatch    = 256
	// markDelay is how long an idle writer waits before it flushes the anchor's
	// last mark.
	markDelay = 100 * time.Millisecond
	// clockTolerance is by how much the clock may go back without an event: that
	// much a time server may correct.
	clockTolerance = time.Minute
)

// request is one call of Update, or of something that the writer does alone.
type request struct {
	fn    func(*Tx) error
	alone func() error // instead of fn
	state atomic.Int32
	done  chan error // of one, so that the writer never waits for a caller
}

const (
	queued int32 = iota
	running
	withdrawn
)

// Update runs fn in a transaction of its own and returns when what it did is on
// the disk. If fn returns an error, that is returned and nothing is changed.
//
// One goroutine runs all of them, one after the other, and commits those that
// are waiting together. fn must not block, must not call Update or View, and
// must not end its goroutine.
//
// When ctx ends before fn has begun, fn is not run. Once it has begun, Update
// waits for the commit. After an error of the commit the caller must act as if
// nothing was stored; should the very last flush have failed, it may still turn
// out to be.
func (v *Vault) Update(ctx context.Context, fn func(*Tx) error) error {
	return v.enqueue(ctx, &request{fn: fn, done: make(chan error, 1)})
}

func (v *Vault) enqueue(ctx context.Context, r *request) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v.closing.RLock()
	if v.closed {
		v.closing.RUnlock()
		return ErrClosed
	}
	select {
	case v.queue <- r:
		v.closing.RUnlock()
	case <-ctx.Done():
		v.closing.RUnlock()
		return context.Cause(ctx)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(queued, withdrawn) {
			return context.Cause(ctx)
		}
		return <-r.done
	}
}

// write is the writer goroutine. It ends when the queue is closed and empty.
func (v *Vault) write() {
	defer close(v.written)
	idle := time.NewTimer(markDelay)
	defer idle.Stop()
	batch := make([]*request, 0, maxBatch)
	for {
		select {
		case r, ok := <-v.queue:
			if !ok {
				v.flushMark()
				return
			}
			batch = append(batch[:0], r)
		case <-idle.C:
			v.flushMark()
			continue
		}
	fill:
		for len(batch) < maxBatch && batch[len(batch)-1].alone == nil {
			select {
			case r, ok := <-v.queue:
				if !ok {
					break fill
				}
				batch = append(batch, r)
			default:
				break fill
			}
		}
		last := batch[len(batch)-1]
		if last.alone != nil {
			v.commit(batch[:len(batch)-1])
			if last.state.CompareAndSwap(queued, running) {
				last.done <- last.alone()
			}
		} else {
			v.commit(batch)
		}
		clear(batch)
		idle.Reset(markDelay)
	}
}

// commit runs a batch. The callers whose fn succeeded share the fate of the
// commit.
func (v *Vault) commit(batch []*request) {
	var waiting []*request
	answer := func(err error) {
		for _, r := range waiting {
			r.done <- err
		}
	}
	accepted := batch[:0]
	for _, r := range batch {
		if r.state.CompareAndSwap(queued, running) {
			accepted = append(accepted, r)
		}
	}
	if len(accepted) == 0 {
		return
	}
	if err := v.usable(); err != nil {
		waiting = accepted
		answer(err)
		return
	}

	next := v.meta.clone()
	hadSeq := next.LastSeq
	dirty := false
	bolt, err := v.store.begin(true)
	for _, r := range accepted {
		if err != nil {
			waiting = append(waiting, r)
			continue
		}
		tx := &Tx{v: v, store: v.store, bolt: bolt, keys: v.keys, writable: true, meta: next, hasMeta: true}
		if ferr := run(tx, r.fn); ferr != nil {
			r.done <- ferr
			continue
		}
		waiting = append(waiting, r)
		if tx.dirty() {
			dirty = true
			err = guard(func() error { return tx.apply(&next, v.toggler) })
		}
	}
	if err == nil && !dirty {
		err = v.store.rollback(bolt)
		answer(err)
		return
	}
	if err == nil {
		err = guard(func() error { return v.finish(bolt, &next) })
	}
	if err == nil {
		err = v.flush(bolt, next)
	}
	if err != nil {
		err = v.failed(bolt, err)
		answer(err)
		return
	}
	v.publish(next, next.LastSeq != hadSeq)
	answer(nil)
}

// run calls fn, and takes a panic for an error.
func run(tx *Tx, fn func(*Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if _, fault := p.(interface{ Addr() uintptr }); fault {
			// A sealed value lies in bbolt's mapping, of which a page is gone.
			tx.store.suspect.Store(true)
			err = fmt.Errorf("%w; %s: %w", errPage, restoreAll, ErrCorrupt)
		} else if p != nil {
			tx.v.log.Error("a vault transaction panicked", "panic", fmt.Sprintf("%.200v", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("vault: the transaction panicked and was not done")
		}
	}()
	err = fn(tx)
	if tx.failed != nil {
		err = tx.failed
	}
	return err
}

// finish adds to the batch what every commit carries: the time, the bound on the
// events, and the account of the whole.
func (v *Vault) finish(bolt *bbolt.Tx, m *meta) error {
	wall := v.clock.Now().Wall
	switch behind := m.Highest.Sub(wall); {
	case behind <= 0:
		m.Highest, m.Behind = wall, false
	case behind > clockTolerance && !m.Behind:
		m.Behind = true
		raw, err := json.Marshal(event.Event{
			Seq: m.LastSeq + 1, Time: wall, Name: event.ClockWentBack,
			Text: fmt.Sprintf("the clock says %s, but it was %s already; expiries count from the later", wall.UTC().Format(time.RFC3339), m.Highest.UTC().Format(time.RFC3339)),
		})
		if err != nil {
			return err
		}
		if err := putEvent(bolt, v.keys, m, raw); err != nil {
			return err
		}
	}
	if err := dropEvents(bolt, m, v.eventLimit); err != nil {
		return err
	}
	m.Generation++
	return putMeta(bolt, v.keys, *m)
}

func putMeta(tx *bbolt.Tx, k *keyring, m meta) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put(keyMeta, k.seal(bucketMeta, keyMeta, raw))
}

// flush puts the batch on the disk; see testimony.accepts for the order.
func (v *Vault) flush(bolt *bbolt.Tx, m meta) error {
	prepared := make(chan error, 1)
	go func() { prepared <- v.anchor.prepare(m.Generation, m.Digest) }()
	err := guard(bolt.Commit)
	if perr := <-prepared; err == nil {
		err = perr
	}
	if err != nil {
		return err
	}
	if err := v.anchor.mark(m.Generation); err != nil {
		return err
	}
	v.unmarked = true
	return nil
}

// flushMark puts the anchor's last mark on the disk.
func (v *Vault) flushMark() {
	if !v.unmarked || v.broken != nil {
		return
	}
	if err := v.anchor.flush(); err != nil {
		v.log.Error("the anchor cannot be flushed", "error", err)
		v.setBroken(err) // opened again, and checked, before the next commit
		return
	}
	v.unmarked = false
}
