// Package eventsout sends the events that the authority keeps to others: a syslog
// server (RFC 5424 over TLS) and a webhook, each in order and at least once. Who gets
// one twice knows it by its id. It also says what an event is in OCSF, and in CSV.
//
// How far each outlet is, the database knows; of several nodes one delivers.
package eventsout

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/textout"
)

const (
	// leaseTime is how long a node is the one that delivers; another takes over that
	// much after it died. It is more than twice what one delivery may take.
	leaseTime = 90 * time.Second
	sendTime  = 30 * time.Second
	// pollEvery is how often the database is looked at for new events.
	pollEvery = time.Second
	// waitMin and waitMax bound the wait after a failure, which doubles.
	waitMin = time.Second
	waitMax = time.Minute
	// slowly is the wait after an answer that time alone does not mend.
	slowly = 5 * time.Minute
	// longest bounds a wait that the other end asks for.
	longest  = time.Hour
	maxWhy   = 500
	partTime = 2 * time.Second // to tell the database that this node stops
	// lastTime is how long a delivery that was begun has at the end: one that is cut
	// off goes out again at the next start.
	lastTime = 5 * time.Second
)

// Late is how long an event may wait before status calls it a problem.
const Late = 15 * time.Minute

// Record is an event as it goes out. Names are stable: add, never rename.
type Record struct {
	ID      string          `json:"id"`                    // of this event alone, for whoever gets it twice
	Device  string          `json:"device,omitempty"`      // "" = the authority's own
	Name    string          `json:"device_name,omitempty"` //
	VaultID string          `json:"vault_id,omitempty"`    //
	Kept    time.Time       `json:"kept"`                  // when the authority had it
	Event   json.RawMessage `json:"event"`                 // internal/event.Event as the computer sent it
	event   event.Event
	pos     uint64
}

// NewRecord makes a record of an event and its computer's name.
func NewRecord(e store.Event, name string) Record {
	r := Record{Device: e.Device, Name: name, VaultID: e.VaultID, Kept: e.Kept.UTC(), Event: e.JSON, pos: e.Pos}
	// A computer's events are numbered by its vault; the authority's own numbers come
	// again when its database is put back from a backup.
	r.ID = fmt.Sprintf("%s/%s/%d", e.Device, e.VaultID, e.Seq)
	if e.Device == "" {
		r.ID = fmt.Sprintf("authority/%d/%d", e.Kept.UnixNano(), e.Seq)
	}
	if err := json.Unmarshal(e.JSON, &r.event); err != nil || !json.Valid(e.JSON) { // it is a device's own text
		r.Event, _ = json.Marshal(string(e.JSON))
		r.event.Text = textout.Clean(string(e.JSON))
	}
	// What the authority checked when it took it.
	r.event.Seq, r.event.Time, r.event.Name = e.Seq, e.Time.UTC(), event.Name(e.Name)
	return r
}

// Sink takes records.
type Sink interface {
	// Name is under which the database knows how far it is.
	Name() string
	// Send sends some of the records, in order, and returns how many the other end has
	// for certain. Those may have reached it also where there is an error.
	Send(ctx context.Context, records []Record) (int, error)
}

// retry is an error after which it is tried again only later.
type retry struct {
	error
	after time.Duration
}

// Options are what outlets need.
type Options struct {
	Store store.Store
	Sinks []Sink
	Now   func() time.Time                     // nil: time.Now
	After func(time.Duration) <-chan time.Time // nil: time.After
	Log   *slog.Logger
}

// Outlets deliver until their context ends.
type Outlets struct{ o Options }

// New returns outlets.
func New(o Options) *Outlets {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Outlets{o}
}

// Run delivers to every sink. It returns when ctx has ended, and what was begun with
// it, for which there is a while.
func (o *Outlets) Run(ctx context.Context) {
	begun, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	context.AfterFunc(ctx, func() {
		select {
		case <-o.o.After(lastTime):
			cancel()
		case <-begun.Done():
		}
	})
	var wg sync.WaitGroup
	for _, s := range o.o.Sinks {
		w := &worker{Options: o.o, sink: s, log: o.o.Log.With("outlet", s.Name()), names: map[string]string{}}
		wg.Go(func() { w.run(ctx, begun) })
	}
	wg.Wait()
}

// worker delivers to one sink.
type worker struct {
	Options
	sink  Sink
	log   *slog.Logger
	at    uint64    // the last that was delivered
	lease time.Time // until when this node is the one
	fails int       // in a row
	names map[string]string
}

// run ends with ctx, and a delivery with begun.
func (w *worker) run(ctx, begun context.Context) {
	defer w.part()
	for {
		wait, err := w.step(ctx, begun)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = w.failed(ctx, err)
		}
		if wait == 0 {
			continue
		}
		select {
		case <-w.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// part lets another node go on at once.
func (w *worker) part() {
	if w.lease.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), partTime)
	defer cancel()
	now := w.Now()
	_ = w.Store.Update(ctx, func(tx store.Tx) error { // else the lease runs out
		_, _, err := tx.LeaseDelivery(w.sink.Name(), now, now)
		return err
	})
}

// errDatabase is of the database, and none of the sink's.
type errDatabase struct{ error }

// step delivers what there is, and says how long to wait.
func (w *worker) step(ctx, begun context.Context) (time.Duration, error) {
	if now := w.Now(); w.lease.Sub(now) < leaseTime/2 {
		var d store.Delivery
		var ours bool
		err := w.Store.Update(ctx, func(tx store.Tx) (err error) {
			d, ours, err = tx.LeaseDelivery(w.sink.Name(), now, now.Add(leaseTime))
			return err
		})
		if err != nil {
			return 0, errDatabase{err}
		}
		if !ours {
			w.lease = time.Time{}
			return leaseTime / 6, nil
		}
		w.at, w.lease = d.Pos, now.Add(leaseTime)
	}
	list, err := w.read(ctx)
	if err != nil {
		return 0, errDatabase{err}
	}
	if len(list) == 0 {
		return pollEvery, nil
	}
	sending, cancel := context.WithTimeout(begun, sendTime)
	n, err := w.sink.Send(sending, list)
	cancel()
	if n > 0 {
		if derr := w.delivered(begun, list[n-1].pos, n); derr != nil {
			return 0, derr
		}
		if err == nil && w.fails > 0 {
			w.log.Info("the outlet takes events again")
		}
	}
	if err != nil {
		return 0, err
	}
	w.fails = 0
	if n == len(list) && len(list) < store.MaxEvents {
		return pollEvery, nil
	}
	return 0, nil
}

// read returns the next events.
func (w *worker) read(ctx context.Context) (list []Record, err error) {
	err = w.Store.View(ctx, func(tx store.Tx) error {
		list = nil
		events, _, err := tx.Events(w.at, "", "", store.MaxEvents)
		if err != nil {
			return err
		}
		for _, e := range events {
			name, ok := w.names[e.Device]
			if !ok && e.Device != "" {
				d, err := tx.Device(e.Device)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				if name = d.Name; len(w.names) >= 10_000 {
					clear(w.names)
				}
				w.names[e.Device] = name
			}
			list = append(list, NewRecord(e, name))
		}
		return nil
	})
	return list, err
}

// delivered keeps how far the sink is, and reports what it never got.
func (w *worker) delivered(ctx context.Context, pos uint64, n int) error {
	now := w.Now()
	err := w.Store.Update(ctx, func(tx store.Tx) error {
		missed, err := tx.Delivered(w.sink.Name(), pos, n, now)
		if err != nil || missed == 0 {
			return err
		}
		return enrol.Record(tx, now, event.Event{Name: enrol.EventsMissed, Text: fmt.Sprintf(
			"%s were removed, being older than events_kept, before the %s outlet took them", textout.Plural(int(missed), "event", "events"), w.sink.Name())})
	})
	switch {
	case errors.Is(err, store.ErrNotFound): // another node delivers by now
		w.lease = time.Time{}
		return nil
	case err != nil:
		return errDatabase{err}
	}
	w.at = pos
	return nil
}

// failed keeps and logs why it failed, and says how long to wait.
func (w *worker) failed(ctx context.Context, err error) time.Duration {
	w.fails++
	wait := min(waitMin<<min(w.fails-1, 10), waitMax)
	var r retry
	if errors.As(err, &r) {
		wait = min(max(wait, r.after), longest)
	}
	wait = wait/2 + part(wait) // outlets that failed together come apart
	if d := (errDatabase{}); errors.As(err, &d) {
		if w.fails == 1 {
			w.log.Warn("events wait for the database; it is tried again", "error", err)
		}
		return wait
	}
	why := cut(validUTF8(textout.Clean(err.Error())), maxWhy)
	if w.fails == 1 {
		w.log.Warn("the outlet does not take events; they wait", "error", why)
	}
	now := w.Now()
	if derr := w.Store.Update(ctx, func(tx store.Tx) error { return tx.DeliveryFailed(w.sink.Name(), why, now) }); derr != nil && ctx.Err() == nil {
		w.log.Warn("why an outlet fails could not be kept", "error", derr)
	}
	return wait
}

// part is a random part of a time.
func part(d time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(d))
}

// Lazy is a sink that is made when it is first needed, and again until that succeeds:
// a file that is missing shall keep events waiting, and not the authority from running.
func Lazy(name string, make func() (Sink, error)) Sink { return &lazy{name: name, make: make} }

type lazy struct {
	name string
	make func() (Sink, error)
	sink Sink
}

// Name implements Sink.
func (l *lazy) Name() string { return l.name }

// Send implements Sink.
func (l *lazy) Send(ctx context.Context, records []Record) (int, error) {
	if l.sink == nil {
		s, err := l.make()
		if err != nil {
			return 0, err
		}
		l.sink = s
	}
	return l.sink.Send(ctx, records)
}
