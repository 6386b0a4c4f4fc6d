package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	// coalesce is how long new events wait for others.
	coalesce = 2 * time.Second
	// maxBatch and maxBatchBytes bound one call.
	maxBatch      = 500
	maxBatchBytes = 256 << 10
	// maxEvent is the longest that the authority takes, maxEventText what is left of
	// a text that makes an event longer.
	maxEvent     = 8 << 10
	maxEventText = 1 << 10
	// saveEvery is how often the position is kept at most: a login is to cost no
	// second write. What is sent again after a crash the authority has already.
	saveEvery = time.Minute
	// uploadRetry is when a batch that the authority did not take is tried again.
	uploadRetry = time.Minute
)

// position is how far the authority that knows this computer as device has the
// events of a vault.
type position struct {
	device string
	vault  string
	seq    uint64
}

// upload sends the events of the local file, and then those that come.
func (s *session) upload() {
	var save <-chan time.Time
	for {
		v, err := s.l.o.Store.Vault()
		if err != nil {
			s.end(errReplaced)
			return
		}
		changed := v.Changed() // before reading: what comes meanwhile wakes us
		for more := true; more && err == nil; {
			more, err = s.uploadBatch(v)
		}
		if s.ctx.Err() != nil {
			return
		}
		if s.replaced(v) { // while it was read, maybe
			s.end(errReplaced)
			return
		}
		var retry <-chan time.Time
		if err != nil {
			s.l.o.Log.Warn("the authority did not take the events; it is tried again", "error", err)
			changed, retry = nil, s.l.after(uploadRetry/2+s.l.jitter(uploadRetry))
		}
		if save == nil && s.l.unsaved() {
			save = s.l.after(saveEvery)
		}
		for waiting := true; waiting; {
			select {
			case <-s.ctx.Done():
				return
			case <-save:
				save = nil
				s.l.savePosition()
				continue
			case <-retry:
			case <-changed:
			}
			waiting = false
		}
		if s.replaced(v) {
			s.end(errReplaced)
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.l.after(coalesce):
		}
	}
}

// replaced says whether the agent has another vault by now, or none.
func (s *session) replaced(v *vault.Vault) bool {
	now, err := s.l.o.Store.Vault()
	return err != nil || now != v
}

// uploadBatch sends the next events; more says that there are others.
func (s *session) uploadBatch(v *vault.Vault) (more bool, err error) {
	m := &authorityv1.UploadEventsRequest{VaultId: v.Info().VaultID}
	at := s.l.uploaded(s.a, m.GetVaultId())
	var first, last, newest uint64
	size := 0
	err = v.View(func(tx *vault.Tx) error {
		newest = tx.LastSeq()
		return tx.Events(at, func(e event.Event) bool {
			b := encode(e)
			if more = len(m.GetEvents()) == maxBatch || size+len(b) > maxBatchBytes && size > 0; more {
				return false
			}
			if first == 0 {
				first = e.Seq
			}
			last, size = e.Seq, size+len(b)
			m.Events = append(m.Events, b)
			return true
		})
	})
	if err != nil || len(m.GetEvents()) == 0 {
		return false, err
	}
	m.Dropped = first - at - 1
	ctx, cancel := context.WithTimeout(s.ctx, callTime)
	defer cancel()
	r, err := s.client.UploadEvents(ctx, m)
	if err != nil {
		return false, s.wire.explain(err)
	}
	if r.GetLastSeq() < last {
		return false, fmt.Errorf("of %d events up to number %d it says to have those up to %d", len(m.GetEvents()), last, r.GetLastSeq())
	}
	// It may have more than was remembered here.
	s.l.mu.Lock()
	s.l.sent = position{s.a.DeviceID, m.GetVaultId(), min(r.GetLastSeq(), newest)}
	s.l.mu.Unlock()
	return more, nil
}

// uploaded is the last event that the authority has.
func (l *Link) uploaded(a *store.Authority, vaultID string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent.device == a.DeviceID && l.sent.vault == vaultID {
		return l.sent.seq
	}
	l.sent = position{device: a.DeviceID, vault: vaultID}
	if a.EventsVault == vaultID {
		l.sent.seq = a.EventsSent
	}
	l.saved = l.sent
	return l.sent.seq
}

// encode is an event as it travels: one that is too long must not hold up those
// behind it.
func encode(e event.Event) []byte {
	b, err := json.Marshal(e)
	if err == nil && len(b) > maxEvent {
		e.Text = clean(e.Text, maxEventText)
		b, err = json.Marshal(e)
	}
	if err != nil || len(b) > maxEvent { // names of kilobytes: of no hook that we know
		b, _ = json.Marshal(event.Event{Seq: e.Seq, Time: e.Time, Name: e.Name, Key: clean(e.Key, 64), Verdict: clean(e.Verdict, 64), Text: "too long to be sent"})
	}
	return b
}

func (l *Link) unsaved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent != l.saved
}

// savePosition keeps how far the events are.
func (l *Link) savePosition() {
	l.mu.Lock()
	at := l.sent
	same := at == l.saved
	l.mu.Unlock()
	if same {
		return
	}
	err := l.o.Store.Update(context.Background(), func(tx *vault.Tx) error {
		a, err := store.JoinedTo(tx)
		if err != nil || a == nil || a.DeviceID != at.device {
			return err
		}
		a.EventsVault, a.EventsSent = at.vault, at.seq
		return store.PutAuthority(tx, a)
	})
	if err != nil {
		if !errors.Is(err, vault.ErrClosed) {
			l.o.Log.Warn("how far the events were sent could not be kept; some are sent twice", "error", err)
		}
		return
	}
	l.mu.Lock()
	l.saved = at
	l.mu.Unlock()
}
