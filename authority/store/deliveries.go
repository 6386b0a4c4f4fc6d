package store

import (
	"fmt"
	"time"
)

// MaxWaiting is how far the events that wait for an outlet are counted.
const MaxWaiting = 1_000_000

// A device may be hostile, and names vaults and numbers as it likes.
const (
	// MaxVaults is how many vaults of a device are remembered of which no event is kept.
	MaxVaults = 100
	// maxMissing is how many lost events one gap counts at most: they are added up, for
	// the whole fleet, and the sum has 63 bits.
	maxMissing = 1 << 32
)

// Delivery is how far an outlet is with the events.
type Delivery struct {
	Sink      string
	Pos       uint64    // of the last event that it has
	Sent      uint64    // how many it took
	Delivered time.Time // when it took the last
	// Missed is how many were removed from the database before it took them, MissedAt
	// when the last.
	Missed   uint64
	MissedAt time.Time
	Node     string    // that delivers
	Lease    time.Time // until when
	// Error is why the last attempt failed, FailedSince since when they do.
	Error       string
	FailedSince time.Time
	// Waiting are the events that it has not, at most MaxWaiting; Oldest is when the
	// first of them came.
	Waiting int
	Oldest  time.Time
}

const deliveryColumns = `sink, pos, sent, delivered, missed, missed_at, node, lease, failed_since, error`

func deliveryFields(d *Delivery) []any {
	return []any{&d.Sink, &d.Pos, &d.Sent, when{&d.Delivered}, &d.Missed, when{&d.MissedAt}, &d.Node, when{&d.Lease}, when{&d.FailedSince}, &d.Error}
}

// absurdLease is how far ahead a lease is that a node took whose clock was wrong: no
// other waits until then.
const absurdLease = time.Hour

// LeaseDelivery implements Tx.
func (t *tx) LeaseDelivery(sink string, now, until time.Time) (d Delivery, ours bool, err error) {
	n, err := t.q.exec(`INSERT INTO deliveries (sink, pos, sent, delivered, missed, told, missed_at, node, run, lease, failed_since, error)
		VALUES ($1, 0, 0, 0, 0, 0, 0, $2, $3, $4, 0, '')
		ON CONFLICT (sink) DO UPDATE SET node = excluded.node, run = excluded.run, lease = excluded.lease
		WHERE deliveries.run = $3 OR deliveries.node = $2 OR deliveries.lease <= $5 OR deliveries.lease > $6`, sink, t.node, t.run, nano(until), nano(now), nano(until.Add(absurdLease)))
	if err != nil {
		return d, false, err
	}
	return d, n > 0, t.one(deliveryFields(&d), `SELECT `+deliveryColumns+` FROM deliveries WHERE sink = $1`, sink)
}

// Delivered implements Tx.
func (t *tx) Delivered(sink string, pos uint64, n int, now time.Time) (missed uint64, err error) {
	if err := t.one([]any{&missed}, `SELECT missed - told FROM deliveries WHERE sink = $1 AND run = $2`+t.lock, sink, t.run); err != nil {
		return 0, err
	}
	return missed, t.change(ErrNotFound, `UPDATE deliveries SET pos = $3, sent = sent + $4, delivered = $5, told = missed, failed_since = 0, error = ''
		WHERE sink = $1 AND run = $2`, sink, t.run, pos, int64(n), nano(now))
}

// DeliveryFailed implements Tx.
func (t *tx) DeliveryFailed(sink, why string, now time.Time) error {
	return t.exec(`UPDATE deliveries SET error = $3, failed_since = CASE WHEN failed_since = 0 THEN $4 ELSE failed_since END
		WHERE sink = $1 AND run = $2`, sink, t.run, why, nano(now))
}

// Deliveries implements Tx.
func (t *tx) Deliveries() ([]Delivery, error) {
	list, err := all(t, deliveryFields, `SELECT `+deliveryColumns+` FROM deliveries ORDER BY sink`)
	if err != nil {
		return nil, err
	}
	for i := range list {
		d := &list[i]
		if err := t.one([]any{&d.Waiting}, fmt.Sprintf(`SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE pos > $1 LIMIT %d) waiting`, MaxWaiting), d.Pos); err != nil {
			return nil, err
		}
		err := t.one([]any{when{&d.Oldest}}, `SELECT kept FROM events WHERE pos > $1 ORDER BY pos LIMIT 1`, d.Pos)
		if err != nil && err != ErrNotFound {
			return nil, err
		}
	}
	return list, nil
}

// LastEvent implements Tx.
func (t *tx) LastEvent() (pos uint64, err error) {
	return pos, t.one([]any{&pos}, `SELECT COALESCE(MAX(pos), 0) FROM events`)
}

// TakeEvents implements Tx.
func (t *tx) TakeEvents(events []Event, dropped uint64) (last, missing uint64, err error) {
	if len(events) == 0 {
		return 0, 0, fmt.Errorf("%w: no events", ErrInvalid)
	}
	device, vault, first := events[0].Device, events[0].VaultID, events[0].Seq
	before := first - 1 - min(dropped, first-1) // what the computer believes is here
	if added, err := t.q.exec(`INSERT INTO event_heads (device, vault_id, seq, dropped) VALUES ($1, $2, $3, 0) ON CONFLICT (device, vault_id) DO NOTHING`, device, vault, before); err != nil {
		return 0, 0, err
	} else if added > 0 {
		err := t.exec(`DELETE FROM event_heads WHERE device = $1 AND vault_id <> $2 AND (SELECT COUNT(*) FROM event_heads h WHERE h.device = $1) > $3
			AND NOT EXISTS (SELECT 1 FROM events e WHERE e.device = $1 AND e.vault_id = event_heads.vault_id)`, device, vault, int64(MaxVaults))
		if err != nil {
			return 0, 0, err
		}
	}
	var head uint64
	if err := t.one([]any{&head}, `SELECT seq FROM event_heads WHERE device = $1 AND vault_id = $2`+t.lock, device, vault); err != nil {
		return 0, 0, err
	}
	for len(events) > 0 && events[0].Seq <= head {
		events = events[1:]
	}
	if len(events) == 0 {
		return head, 0, nil
	}
	missing = events[0].Seq - 1 - head
	if last, err = t.AddEvents(events); err != nil {
		return 0, 0, err
	}
	return last, missing, t.exec(`UPDATE event_heads SET seq = $3, dropped = dropped + $4 WHERE device = $1 AND vault_id = $2`, device, vault, last, min(missing, maxMissing))
}

// EventsDropped implements Tx.
func (t *tx) EventsDropped(device string) (n uint64, err error) {
	return n, t.one([]any{&n}, `SELECT CAST(COALESCE(SUM(dropped), 0) AS BIGINT) FROM event_heads WHERE device = $1`, device)
}
