//go:build linux

package eventsout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
	"sallyport/internal/event"
)

// fill keeps events first to last of one computer.
func fill(t testing.TB, s store.Store, first, last uint64) {
	t.Helper()
	for n := first; n <= last; {
		var list []store.Event
		for ; n <= last && len(list) < store.MaxEvents; n++ {
			list = append(list, store.Event{Device: "d1", VaultID: "v1", Seq: n, Time: noon, Kept: noon, Name: "login_attempt", User: "maya",
				JSON: fmt.Appendf(nil, `{"seq":%d,"event":"login_attempt","user":"maya","verdict":"deny","reason":"wrong_code"}`, n)})
		}
		ok(t, s.Change(t.Context(), func(tx store.Tx) error { _, err := tx.AddEvents(list); return err }))
	}
}

// clock is what nodes go by.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time       { return noon.Add(time.Duration(c.offset.Load())) }
func (c *clock) pass(d time.Duration) { c.offset.Add(int64(d)) }

// soon waits a fiftieth.
func soon(d time.Duration) <-chan time.Time { return time.After(d / 50) }

// outlets run until stop, or the test's end.
func outlets(t testing.TB, s store.Store, c *clock, sinks ...Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(Options{Store: s, Sinks: sinks, Now: c.Now, After: soon}).Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func delivery(t testing.TB, s store.Store) (d store.Delivery) {
	t.Helper()
	ok(t, s.View(t.Context(), func(tx store.Tx) error {
		list, err := tx.Deliveries()
		if err == nil && len(list) == 1 {
			d = list[0]
		}
		return err
	}))
	return d
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond) // it counts all that wait
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for: %s", patience, what)
		}
	}
}

// seqs are the numbers of messages, as they came.
func seqs(t testing.TB, messages []string) (list []uint64) {
	t.Helper()
	for _, m := range messages {
		_, rest, _ := strings.Cut(m, ` seq="`)
		var n uint64
		if _, err := fmt.Sscanf(rest, "%d", &n); err != nil {
			t.Fatalf("%v: %s", err, m)
		}
		list = append(list, n)
	}
	return list
}

// inOrder wants 1 to last: none lost, and none before the one before it. It returns
// how many came again.
func inOrder(t testing.TB, list []uint64, last uint64) (again int) {
	t.Helper()
	next := uint64(1)
	for _, n := range list {
		switch {
		case n == next:
			next++
		case n < next:
			again++
		default:
			t.Fatalf("event %d came before event %d", n, next)
		}
	}
	if next != last+1 {
		t.Fatalf("%d events came of %d", next-1, last)
	}
	return again
}

// TestNoEventIsLostOnTheWayToSyslog: 40,000 through an outage of the server, that
// dies four times in the middle of them.
func TestNoEventIsLostOnTheWayToSyslog(t *testing.T) {
	const total = 40_000
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	c := newCA(t)
	r := newReceiver(t, server(c))
	sink, err := NewSyslog(SyslogOptions{Address: r.Address, CA: c.File, Confirm: true})
	ok(t, err)
	fill(t, s, 1, 1000)
	stop := outlets(t, s, new(clock), sink)
	eventually(t, "the first thousand", func() bool { return delivery(t, s).Sent == 1000 })

	t.Log("the server is gone, and events come")
	r.off()
	fill(t, s, 1001, total/2)
	eventually(t, "status says so", func() bool { return delivery(t, s).Error != "" })
	if d := delivery(t, s); d.Waiting != total/2-1000 || d.FailedSince.IsZero() || !strings.Contains(d.Error, "refused") {
		t.Errorf("%+v", d)
	}
	stop()
	stop = outlets(t, s, new(clock), sink) // and the authority is started again meanwhile

	for i := range 4 {
		died := func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.dieAfter == 0 }
		r.set(func() { r.dieAfter = 3000 + 777*i })
		r.on()
		eventually(t, "it dies in the middle", died)
	}
	fill(t, s, total/2+1, total)
	r.on()
	eventually(t, "all of them", func() bool { d := delivery(t, s); return d.Sent == total && d.Waiting == 0 && d.Error == "" })
	stop()
	again := inOrder(t, seqs(t, r.messages()), total)
	if again == 0 || again > 4*2000 {
		t.Errorf("%d came again", again)
	}
	t.Logf("%d events, %d came again", total, again)
}

// memory is a sink that keeps what it gets.
type memory struct {
	mu   sync.Mutex
	got  []uint64
	text []string
	err  error
}

func (m *memory) Name() string { return "syslog" }

func (m *memory) Send(_ context.Context, records []Record) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	n := min(len(records), 7) // never all at once
	for _, r := range records[:n] {
		if r.Device != "" {
			m.got = append(m.got, r.event.Seq)
		} else {
			m.text = append(m.text, string(r.event.Name)+": "+r.event.Text)
		}
	}
	return n, nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) all() []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got)
}

// TestOfSeveralNodesOneDelivers: while both are well nothing goes out twice; one that
// stops lets the other go on at once, and one that is cut off after its time.
func TestOfSeveralNodesOneDelivers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		a, b := open("a"), open("b")
		c, sink := new(clock), new(memory)
		stopA := outlets(t, a, c, sink)
		eventually(t, "a delivers", func() bool { return delivery(t, a).Node == "a" })
		outlets(t, b, c, sink)
		fill(t, a, 1, 500)
		eventually(t, "the first 500", func() bool { return delivery(t, b).Sent == 500 })
		if d := delivery(t, b); d.Node != "a" {
			t.Errorf("%+v", d)
		}
		stopA()
		fill(t, b, 501, 600)
		eventually(t, "the next 100", func() bool { return delivery(t, b).Sent == 600 })
		if d := delivery(t, b); d.Node != "b" {
			t.Errorf("%+v", d)
		}
		if again := inOrder(t, sink.all(), 600); again != 0 {
			t.Errorf("%d went out twice", again)
		}
		// A third held the lease and is gone without a word.
		c.pass(time.Hour)
		d := open("d")
		ok(t, d.Update(t.Context(), func(tx store.Tx) error {
			_, _, err := tx.LeaseDelivery("syslog", c.Now().Add(time.Hour), c.Now().Add(time.Hour+leaseTime)) // by force, an hour ahead
			return err
		}))
		fill(t, b, 601, 700)
		c.pass(30 * time.Minute)
		if n := len(sink.all()); n > 600+store.MaxEvents {
			t.Errorf("%d", n)
		}
		c.pass(time.Hour)
		eventually(t, "the last 100", func() bool { return delivery(t, b).Sent >= 700 })
		inOrder(t, sink.all(), 700)
	})
}

// slow is a sink that takes what it gets when the test says so.
type slow struct{ asked, take chan bool }

func (s slow) Name() string { return "syslog" }

func (s slow) Send(ctx context.Context, records []Record) (int, error) {
	s.asked <- true
	select {
	case <-s.take:
		return len(records), ctx.Err()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// TestAStopLetsADeliveryEnd, so that it does not go out again; one that does not end
// does not keep the authority from stopping.
func TestAStopLetsADeliveryEnd(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	fill(t, s, 1, 10)
	start := func(after func(time.Duration) <-chan time.Time) (sink slow, stop context.CancelFunc, done chan bool) {
		ctx, cancel := context.WithCancel(t.Context())
		sink, done = slow{make(chan bool), make(chan bool)}, make(chan bool)
		go func() {
			defer close(done)
			New(Options{Store: s, Sinks: []Sink{sink}, Now: new(clock).Now, After: after}).Run(ctx)
		}()
		<-sink.asked
		return sink, cancel, done
	}

	over := make(chan time.Time)
	_, stop, done := start(func(time.Duration) <-chan time.Time { return over })
	stop()
	close(over)
	<-done
	if d := delivery(t, s); d.Sent != 0 || d.Waiting != 10 {
		t.Errorf("one that was cut off: %+v", d)
	}

	sink, stop, done := start(func(time.Duration) <-chan time.Time { return nil })
	stop()
	close(sink.take)
	<-done
	if d := delivery(t, s); d.Sent != 10 || d.Waiting != 0 {
		t.Errorf("one that ended well: %+v", d)
	}
}

// TestWhatAnOutletNeverGotIsTold to status, and to whoever gets the events.
func TestWhatAnOutletNeverGotIsTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		s := open("a")
		c, sink := new(clock), new(memory)
		sink.fail(errors.New("the disk of the other end is full"))
		outlets(t, s, c, sink)
		fill(t, s, 1, 50)
		eventually(t, "it fails", func() bool { return strings.Contains(delivery(t, s).Error, "disk of the other end") })
		ok(t, s.Update(t.Context(), func(tx store.Tx) error {
			return enrol.Record(tx, noon.Add(48*time.Hour), event.Event{Name: enrol.UserAdded, User: "zoe", Text: "added"})
		}))
		ok(t, s.Update(t.Context(), func(tx store.Tx) error { return tx.SweepEvents(noon.Add(24 * time.Hour)) }))
		if d := delivery(t, s); d.Missed != 50 || d.Waiting != 1 {
			t.Errorf("%+v", d)
		}
		sink.fail(nil)
		c.pass(time.Minute)
		told := func() string { sink.mu.Lock(); defer sink.mu.Unlock(); return strings.Join(sink.text, "\n") }
		eventually(t, "it is told", func() bool { return strings.Contains(told(), "events_missed") })
		if got := told(); got != "user_added: added\nevents_missed: 50 events were removed, being older than events_kept, before the syslog outlet took them" {
			t.Errorf("%s", got)
		}
		if d := delivery(t, s); d.Missed != 50 || d.Error != "" {
			t.Errorf("%+v", d)
		}
	})
}

// TestAFileThatIsMissingKeepsEventsWaiting, and is read when it is there.
func TestAFileThatIsMissingKeepsEventsWaiting(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	sink := new(memory)
	var there atomic.Bool
	outlets(t, s, new(clock), Lazy("syslog", func() (Sink, error) {
		if !there.Load() {
			return nil, errors.New("events_out.syslog.ca: no such file")
		}
		return sink, nil
	}))
	fill(t, s, 1, 10)
	eventually(t, "status says so", func() bool { return strings.Contains(delivery(t, s).Error, "no such file") })
	there.Store(true)
	eventually(t, "they go out", func() bool { return delivery(t, s).Sent == 10 })
}

// TestWaitsGrowAndEnd: a second, doubled up to a minute, give or take half; longer
// where the other end asks for it, up to an hour.
func TestWaitsGrowAndEnd(t *testing.T) {
	s := storetest.Open(t, store.Options{SQLite: t.TempDir() + "/authority.db", Node: "a"})
	w := &worker{Options: New(Options{Store: s, Now: new(clock).Now}).o, sink: new(memory)}
	w.log = w.Log
	for i := range 12 {
		want := min(time.Second<<i, time.Minute)
		if got := w.failed(t.Context(), errors.New("x")); got < want/2 || got > want*3/2 {
			t.Errorf("after failure %d: %v, want about %v", i+1, got, want)
		}
	}
	w.fails = 0
	if got := w.failed(t.Context(), fmt.Errorf("x: %w", retry{errors.New("y"), slowly})); got < slowly/2 {
		t.Errorf("%v", got)
	}
	if got := w.failed(t.Context(), retry{errors.New("y"), 100 * time.Hour}); got > 3*longest/2 {
		t.Errorf("%v", got)
	}
}
