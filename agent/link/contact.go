package link

import (
	"context"
	"net"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/factor/offline"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	// contactEvery is how often a connection that lives is written down: where the
	// computer loses its power, the time without contact began up to this much before.
	contactEvery = time.Hour
	// silentAfter is how long a connection that lives can be silent: it is pinged.
	silentAfter = pingEvery + pingTime + 15*time.Second
)

// heardConn notes when something came.
type heardConn struct {
	net.Conn
	w *wire
}

func (c heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.w.heard.Store(int64(c.w.boot()))
	}
	return n, err
}

// silent is how long nothing came, time asleep included.
func (w *wire) silent() time.Duration { return w.boot() - time.Duration(w.heard.Load()) }

// Online says whether the authority is on the line. A connection of which nothing
// was heard since before the computer slept is none.
func (l *Link) Online() bool {
	l.mu.Lock()
	s := l.live
	l.mu.Unlock()
	return s != nil && s.wire.silent() < silentAfter
}

// Reach says whether the authority is on the line, and has an attempt made if it
// is not. A connection from before the computer slept is asked whether it lives.
func (l *Link) Reach(ctx context.Context) bool {
	if l.Online() {
		return true
	}
	s, err := l.await(ctx)
	if err != nil || l.Online() {
		return err == nil
	}
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Probe{Probe: &authorityv1.Probe{Nonce: s.heard.Load()}}})
	dead := time.NewTimer(l.dead)
	defer dead.Stop()
	look := time.NewTicker(deadAfter / 50)
	defer look.Stop()
	for !l.Online() {
		select {
		case <-look.C:
		case <-dead.C:
			s.end(errFrozen) // and Run dials anew
			<-s.ctx.Done()
			l.exit(s)
			_, err := l.await(ctx)
			return err == nil && l.Online()
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// keepContact writes down that there is contact: as it begins, while it lasts, and
// when it ends.
func (s *session) keepContact() {
	hourly := time.NewTicker(contactEvery)
	defer hourly.Stop()
	for begins := true; ; { // until it is on disk
		select {
		case w := <-s.welcomes:
			begins = !s.note(begins, w) && begins
		case <-hourly.C:
			begins = !s.note(begins, nil) && begins
		case <-s.ctx.Done():
			s.note(begins, nil)
			return
		}
	}
}

// note writes the contact down as of when something was last heard: a connection
// that breaks unnoticed, or while the computer sleeps, is none until it is noticed.
// Where the authority said something anew, it learns what it asked for. kept: it is
// on disk.
func (s *session) note(begins bool, w *authorityv1.Welcome) (kept bool) {
	// Not of the session's context, which may have ended.
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	var key []byte
	err := s.l.o.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.JoinedTo(tx)
		if err != nil {
			return err
		}
		if a == nil || a.DeviceID != s.a.DeviceID {
			return errLeft
		}
		changed := w != nil && escrow(a, w)
		if key = a.BypassKey; w != nil && !begins && !changed {
			return nil // nothing is written for it, however often it comes
		}
		if changed {
			if err := store.PutAuthority(tx, a); err != nil {
				return err
			}
		}
		c, err := store.Contact(tx)
		if err != nil {
			return err
		}
		if c = c.Still(tx.Now(), s.wire.silent()); begins {
			c = c.New(tx.Now())
		}
		return store.PutContact(tx, c)
	})
	switch {
	case err != nil && s.ctx.Err() == nil:
		s.l.o.Log.Warn("that the authority was reached could not be kept", "error", err)
	case err == nil && w.GetWantsBypassKey():
		s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Escrow{Escrow: &authorityv1.Escrow{BypassKey: key}}})
	}
	return err == nil
}

// carrying is when the time without contact was last carried.
type carrying struct {
	done bool
	at   time.Duration // of the boot clock
}

// contact keeps, at most hourly, how long there was none. It begins the count where
// a computer had joined before there was any.
func (k *carrying) contact(ctx context.Context, l *Link) {
	now := l.o.Clock.Now().Boot
	if k.done && now-k.at < contactEvery {
		return
	}
	k.done, k.at = true, now
	err := l.o.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.JoinedTo(tx)
		if err != nil || a == nil {
			return err
		}
		c, err := store.Contact(tx)
		switch {
		case err != nil:
			return err
		case c.Known():
			return store.CarryContact(tx)
		}
		return store.PutContact(tx, offline.Contact{}.New(tx.Now()))
	})
	if err != nil && ctx.Err() == nil {
		l.o.Log.Warn("how long the authority was not reached could not be kept", "error", err)
	}
}
