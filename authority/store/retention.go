package store

import "time"

// EventSweeper is what every Tx can do beside: forget old events.
type EventSweeper interface {
	// SweepEvents removes events kept before, at most 2000: call it every minute. The
	// newest event stays, as the next is numbered after it.
	SweepEvents(before time.Time) error
}

// SweepEvents implements EventSweeper. It looks at the oldest only, in the order
// they are read in: most often none of them is old.
func (t *tx) SweepEvents(before time.Time) error {
	return t.exec(`DELETE FROM events WHERE id IN (SELECT id FROM (SELECT id, kept FROM events WHERE pos < (SELECT MAX(pos) FROM events) ORDER BY pos LIMIT $2) oldest WHERE kept < $1)`,
		nano(before), int64(sweepAtOnce))
}
