package vault

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"sallyport/internal/clock"
	"sallyport/internal/event"
)

const (
	maxKey   = 512
	maxValue = 1 << 20
)

// Tx is a view of the vault at one moment and, inside Update, what shall change
// in it. It must not be kept after the function it was given to has returned.
type Tx struct {
	v        *Vault
	store    *store
	bolt     *bbolt.Tx
	keys     *keyring
	writable bool

	meta    meta // as of this transaction, the batch's earlier ones included
	hasMeta bool

	now    clock.Instant
	hasNow bool

	staged map[string]map[string][]byte // bucket, key: JSON, nil is deleted
	events [][]byte                     // JSON, numbered from meta.LastSeq+1
	reset  bool
	failed error // a damaged page or record was met: the transaction must not count
}

// Get decodes the record into what into points at, and says whether there is
// one.
func (tx *Tx) Get(bucket, key string, into any) (found bool, err error) {
	if err := checkPlace(bucket, key); err != nil {
		return false, err
	}
	raw, ok := tx.staged[bucket][key]
	if !ok {
		raw, err = tx.stored(bucket, key)
		if err != nil {
			return false, err
		}
	}
	if raw == nil {
		return false, nil
	}
	return true, tx.decode(bucket, raw, into)
}

// Put stores v, encoded as JSON, under the key.
func (tx *Tx) Put(bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(raw) > maxValue {
		return fmt.Errorf("a record in %q of %d bytes, at most %d are allowed", bucket, len(raw), maxValue)
	}
	return tx.stage(bucket, key, raw)
}

// Delete removes the record, if there is one.
func (tx *Tx) Delete(bucket, key string) error { return tx.stage(bucket, key, nil) }

func (tx *Tx) stage(bucket, key string, raw []byte) error {
	if !tx.writable {
		return errReadOnly
	}
	if err := checkPlace(bucket, key); err != nil {
		return err
	}
	if tx.staged == nil {
		tx.staged = map[string]map[string][]byte{}
	}
	if tx.staged[bucket] == nil {
		tx.staged[bucket] = map[string][]byte{}
	}
	tx.staged[bucket][key] = raw
	return nil
}

var errReadOnly = errors.New("vault: View cannot change anything")

func checkPlace(bucket, key string) error {
	if !slices.Contains(recordBuckets, bucket) {
		return fmt.Errorf("vault: there is no bucket %.40q", bucket)
	}
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("vault: a key of %d bytes, 1 to %d are allowed", len(key), maxKey)
	}
	return nil
}

// stored returns the committed record, or that of an earlier transaction of the
// same batch; nil when there is none.
func (tx *Tx) stored(bucket, key string) (raw []byte, err error) {
	err = tx.read(func() error {
		b := tx.bolt.Bucket([]byte(bucket))
		if b == nil {
			return fmt.Errorf("bucket %q is gone; %s: %w", bucket, restoreAll, ErrCorrupt)
		}
		if sealed := b.Get([]byte(key)); sealed != nil {
			raw, err = tx.keys.open(bucket, []byte(key), sealed)
		}
		return err
	})
	return raw, err
}

// read runs what touches bbolt's pages. A failure spoils the transaction, also
// when fn overlooks it.
func (tx *Tx) read(fn func() error) error {
	err := guard(fn)
	if errors.Is(err, errPage) {
		tx.store.suspect.Store(true)
	}
	if err != nil {
		tx.fail(err)
	}
	return err
}

func (tx *Tx) decode(bucket string, raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("vault: a record in %q does not decode: %w", bucket, err)
	}
	return nil
}

// Each calls fn with each key of the bucket in order, and a way to decode its
// record, until fn returns an error. fn must not change the bucket.
func (tx *Tx) Each(bucket string, fn func(key string, decode func(any) error) error) error {
	if err := checkPlace(bucket, "-"); err != nil {
		return err
	}
	overlay := tx.staged[bucket]
	fresh := make([]string, 0, len(overlay))
	for k := range overlay {
		fresh = append(fresh, k)
	}
	slices.Sort(fresh)
	call := func(key string, raw []byte) error {
		if raw == nil {
			return nil
		}
		return fn(key, func(into any) error { return tx.decode(bucket, raw, into) })
	}
	err := tx.scan(bucket, nil, func(key, sealed []byte) error {
		for len(fresh) > 0 && fresh[0] < string(key) {
			if err := call(fresh[0], overlay[fresh[0]]); err != nil {
				return err
			}
			fresh = fresh[1:]
		}
		if len(fresh) > 0 && fresh[0] == string(key) {
			raw := overlay[fresh[0]]
			fresh = fresh[1:]
			return call(string(key), raw)
		}
		return fn(string(key), func(into any) error {
			raw, err := tx.keys.open(bucket, key, sealed)
			if err != nil {
				tx.fail(err)
				return err
			}
			return tx.decode(bucket, raw, into)
		})
	})
	if err != nil {
		return err
	}
	for _, k := range fresh {
		if err := call(k, overlay[k]); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) fail(err error) {
	if tx.failed == nil {
		tx.failed = err
	}
}

// scan walks a bucket from a key on. Only the walking is guarded: a panic of
// fn is fn's own.
func (tx *Tx) scan(bucket string, from []byte, fn func(key, sealed []byte) error) error {
	var c *bbolt.Cursor
	var key, sealed []byte
	step := func() error {
		if c != nil {
			key, sealed = c.Next()
			return nil
		}
		b := tx.bolt.Bucket([]byte(bucket))
		if b == nil {
			return fmt.Errorf("bucket %q is gone; %s: %w", bucket, restoreAll, ErrCorrupt)
		}
		c = b.Cursor()
		key, sealed = c.Seek(from)
		return nil
	}
	for {
		if err := tx.read(step); err != nil {
			return err
		}
		if key == nil {
			return nil
		}
		if err := fn(bytes.Clone(key), sealed); err != nil {
			return err
		}
	}
}

// Now is the moment at which the transaction runs: the clock, read once, and the
// highest time that the vault has seen.
func (tx *Tx) Now() clock.Instant {
	if !tx.hasNow {
		tx.now = tx.v.clock.Now()
		tx.hasNow = true
		if m, err := tx.account(); err == nil {
			tx.now.Highest = m.Highest
		}
	}
	return tx.now
}

// ResetHighest forgets the highest time seen: from now on the present wall clock
// is it. The helpdesk does this after the clock was far ahead by mistake.
func (tx *Tx) ResetHighest() {
	if !tx.writable {
		tx.fail(errReadOnly)
		return
	}
	now := tx.Now()
	tx.now.Highest = now.Wall
	tx.reset = true
}

// Append adds an event to the vault's log, as part of the same commit. It numbers
// the event and, if it has no time, takes Now's.
func (tx *Tx) Append(e event.Event) {
	if !tx.writable {
		tx.fail(errReadOnly)
		return
	}
	e.Seq = tx.meta.LastSeq + uint64(len(tx.events)) + 1
	if e.Time.IsZero() {
		e.Time = tx.Now().Wall
	}
	raw, err := json.Marshal(e)
	if err != nil { // a year beyond 9999
		tx.fail(err)
		return
	}
	tx.events = append(tx.events, raw)
}

// Events calls fn with the kept events whose number is above after, oldest
// first, until it returns false.
func (tx *Tx) Events(after uint64, fn func(event.Event) bool) error {
	var e event.Event
	err := tx.scan(bucketEvents, seqKey(after+1), func(key, sealed []byte) error {
		raw, err := tx.keys.open(bucketEvents, key, sealed)
		if err != nil {
			tx.fail(err)
			return err
		}
		e = event.Event{}
		if err := tx.decode(bucketEvents, raw, &e); err != nil {
			return err
		}
		if e.Seq != binary.BigEndian.Uint64(key) {
			err := fmt.Errorf("an event's number is not its key's; %s: %w", restoreAll, ErrCorrupt)
			tx.fail(err)
			return err
		}
		if !fn(e) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, raw := range tx.events {
		e = event.Event{}
		if err := tx.decode(bucketEvents, raw, &e); err != nil {
			return err
		}
		if e.Seq > after && !fn(e) {
			break
		}
	}
	return nil
}

var errStop = errors.New("stop")

// LastSeq is the number of the latest event, 0 before the first.
func (tx *Tx) LastSeq() uint64 {
	m, err := tx.account()
	if err != nil {
		return 0 // and the transaction has failed
	}
	return m.LastSeq + uint64(len(tx.events))
}

func (tx *Tx) account() (meta, error) {
	if tx.hasMeta {
		return tx.meta, nil
	}
	err := tx.read(func() error {
		m, err := metaOf(tx.bolt, tx.keys)
		tx.meta = m
		return err
	})
	tx.hasMeta = err == nil
	return tx.meta, err
}

// dirty says whether the transaction changes anything.
func (tx *Tx) dirty() bool { return len(tx.staged) > 0 || len(tx.events) > 0 || tx.reset }

// apply puts what was staged into the batch. After an error the batch is spoilt.
func (tx *Tx) apply(m *meta, t *toggler) error {
	for _, name := range recordBuckets { // in order, so that a batch is reproducible
		changes := tx.staged[name]
		if len(changes) == 0 {
			continue
		}
		b := tx.bolt.Bucket([]byte(name))
		for k, raw := range changes {
			key := []byte(k)
			had := b.Get(key) != nil
			switch {
			case raw != nil && !had:
				t.toggle(&m.Digest, name, key)
				m.Counts[name]++
			case raw == nil && had:
				t.toggle(&m.Digest, name, key)
				m.Counts[name]--
			}
			var err error
			if raw == nil {
				err = b.Delete(key)
			} else {
				err = b.Put(key, tx.keys.seal(name, key, raw))
			}
			if err != nil {
				return err
			}
		}
	}
	for _, raw := range tx.events {
		if err := putEvent(tx.bolt, tx.keys, m, raw); err != nil {
			return err
		}
	}
	if tx.reset {
		m.Highest, m.Behind = tx.now.Wall, false
	} else if tx.hasNow && tx.now.Wall.After(m.Highest) {
		m.Highest = tx.now.Wall
	}
	return nil
}

func putEvent(tx *bbolt.Tx, k *keyring, m *meta, raw []byte) error {
	b := tx.Bucket([]byte(bucketEvents))
	b.FillPercent = 0.95 // only ever appended to
	key := seqKey(m.LastSeq + 1)
	if err := b.Put(key, k.seal(bucketEvents, key, raw)); err != nil {
		return err
	}
	m.LastSeq++
	m.Events++
	return nil
}

// dropEvents removes the oldest events beyond limit, and counts them.
func dropEvents(tx *bbolt.Tx, m *meta, limit uint64) error {
	b := tx.Bucket([]byte(bucketEvents))
	for m.Events > limit {
		if err := b.Delete(seqKey(m.firstSeq())); err != nil {
			return err
		}
		m.Events--
		m.Dropped++
	}
	return nil
}
