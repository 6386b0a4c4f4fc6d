package vault

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

	"sallyport/internal/event"
)

// hold makes the writer wait, so that what comes next queues up. The function
// returned lets it go on.
func hold(t *testing.T, v *Vault) func() {
	t.Helper()
	wait, held := make(chan struct{}), make(chan struct{})
	go func() { _ = v.Update(context.Background(), func(*Tx) error { close(held); <-wait; return nil }) }()
	<-held
	return func() { close(wait) }
}

// waitQueued waits until n requests are in the queue.
func waitQueued(t *testing.T, v *Vault, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); len(v.queue) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d queued, not %d", len(v.queue), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestOneStepIsUsedOnceHoweverManyTryAtOnce is the reason for one writer.
func TestOneStepIsUsedOnceHoweverManyTryAtOnce(t *testing.T) {
	v := mustOpen(t, options(t))
	put(t, v, "uid:1000", user{"alice", 0})
	used := errors.New("used already")
	for step := int64(1); step <= 50; step++ {
		var wg sync.WaitGroup
		var in atomic.Int32
		for range 32 {
			wg.Go(func() {
				err := v.Update(context.Background(), func(tx *Tx) error {
					var u user
					if _, err := tx.Get(Users, "uid:1000", &u); err != nil {
						return err
					}
					if u.Step >= step {
						return used
					}
					u.Step = step
					return tx.Put(Users, "uid:1000", u)
				})
				if err == nil {
					in.Add(1)
				} else if !errors.Is(err, used) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 {
			t.Fatalf("step %d: %d got in", step, in.Load())
		}
	}
}

func TestWaitingRequestsShareOneCommit(t *testing.T) {
	v := mustOpen(t, options(t))
	before := v.Info().Generation
	release := hold(t, v)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { put(t, v, fmt.Sprint("uid:", i), user{Step: int64(i)}) })
	}
	waitQueued(t, v, 100)
	release()
	wg.Wait()
	if g := v.Info().Generation; g != before+1 {
		t.Errorf("%d commits", g-before)
	}
	if n := v.Info().Counts[Users]; n != 100 {
		t.Errorf("%d users", n)
	}
	// What changes nothing commits nothing.
	must(t, v.Update(context.Background(), func(tx *Tx) error { _, err := tx.Get(Users, "uid:1", &user{}); return err }))
	if g := v.Info().Generation; g != before+1 {
		t.Errorf("a look made a commit")
	}
}

func TestWhoGivesUpWhileWaitingIsNotServed(t *testing.T) {
	v := mustOpen(t, options(t))
	release := hold(t, v)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() {
		result <- v.Update(ctx, func(tx *Tx) error { return tx.Put(Users, "uid:1", user{}) })
	}()
	waitQueued(t, v, 1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
	put(t, v, "uid:2", user{})
	if _, ok := get(t, v, "uid:1"); ok {
		t.Error("done after all")
	}
	// Once begun, it stands, and the caller learns so.
	ctx, cancel = context.WithCancel(context.Background())
	if err := v.Update(ctx, func(tx *Tx) error { cancel(); return tx.Put(Users, "uid:1", user{}) }); err != nil {
		t.Errorf("%v", err)
	}
	if _, ok := get(t, v, "uid:1"); !ok {
		t.Error("not done")
	}
	if err := v.Update(ctx, func(tx *Tx) error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestCloseFinishesWhatIsQueued(t *testing.T) {
	o := options(t)
	v := mustOpen(t, o)
	release := hold(t, v)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { put(t, v, fmt.Sprint("uid:", i), user{}) })
	}
	waitQueued(t, v, 50)
	closed := make(chan error)
	go func() { closed <- v.Close() }()
	release()
	must(t, <-closed)
	wg.Wait()
	v = mustOpen(t, o)
	if n := v.Info().Counts[Users]; n != 50 {
		t.Errorf("%d users", n)
	}
}

func TestATransactionSeesWhatItStaged(t *testing.T) {
	v := mustOpen(t, options(t))
	for _, k := range []string{"b", "d", "f"} {
		put(t, v, k, user{Name: k})
	}
	list := func(tx *Tx) string {
		var s []string
		must(t, tx.Each(Users, func(key string, decode func(any) error) error {
			var u user
			err := decode(&u)
			s = append(s, key+"="+u.Name)
			return err
		}))
		return strings.Join(s, " ")
	}
	stop := errors.New("stop")
	must(t, v.Update(context.Background(), func(tx *Tx) error {
		for _, k := range []string{"a", "c", "d", "g"} {
			must(t, tx.Put(Users, k, user{Name: k + "2"}))
		}
		must(t, tx.Delete(Users, "b"))
		must(t, tx.Delete(Users, "g"))
		must(t, tx.Delete(Users, "nobody"))
		if got := list(tx); got != "a=a2 c=c2 d=d2 f=f" {
			t.Errorf("staged: %s", got)
		}
		var u user
		if found, err := tx.Get(Users, "b", &u); found || err != nil {
			t.Errorf("deleted, but %v %v", found, err)
		}
		if found, err := tx.Get(Users, "d", &u); !found || err != nil || u.Name != "d2" {
			t.Errorf("%v %v %v", u, found, err)
		}
		if err := tx.Each(Users, func(string, func(any) error) error { return stop }); err != stop {
			t.Errorf("%v", err)
		}
		first := tx.LastSeq()
		tx.Append(event.Event{Name: event.UserEnrolled})
		tx.Append(event.Event{Name: event.UserRemoved})
		var names []event.Name
		must(t, tx.Events(first, func(e event.Event) bool { names = append(names, e.Name); return true }))
		if tx.LastSeq() != first+2 || !slices.Equal(names, []event.Name{event.UserEnrolled, event.UserRemoved}) {
			t.Errorf("%v", names)
		}
		return nil
	}))
	must(t, v.View(func(tx *Tx) error {
		if got := list(tx); got != "a=a2 c=c2 d=d2 f=f" {
			t.Errorf("committed: %s", got)
		}
		if tx.Put(Users, "x", user{}) == nil || tx.Delete(Users, "a") == nil {
			t.Error("View can write")
		}
		return nil
	}))
	for _, c := range []struct{ bucket, key string }{{Users, ""}, {Users, strings.Repeat("k", 513)}, {"events", "x"}, {"meta", "meta"}, {"", "x"}} {
		if err := v.Update(context.Background(), func(tx *Tx) error { return tx.Put(c.bucket, c.key, 1) }); err == nil {
			t.Errorf("took %q %.10q", c.bucket, c.key)
		}
	}
	if err := v.Update(context.Background(), func(tx *Tx) error { return tx.Put(Users, "x", strings.Repeat("v", 1<<20)) }); err == nil {
		t.Error("took a record of a megabyte")
	}
	if err := v.View(func(tx *Tx) error { tx.Append(event.Event{}); return nil }); err == nil {
		t.Error("View can append")
	}
}

func TestEventsAreBoundedAndTheDroppedCounted(t *testing.T) {
	o := options(t)
	o.EventLimit = 100
	v := mustOpen(t, o)
	for i := range 33 {
		must(t, v.Update(context.Background(), func(tx *Tx) error {
			for j := range 10 {
				tx.Append(event.Event{Name: event.LoginAttempt, User: fmt.Sprint(i*10 + j)})
			}
			return nil
		}))
	}
	check := func(kept, dropped uint64) {
		t.Helper()
		ev := events(t, v)
		if i := v.Info(); uint64(len(ev)) != kept || i.Events != kept || i.EventsDropped != dropped || i.LastSeq != 331 {
			t.Errorf("%d events kept, %+v", len(ev), i)
		}
		for n, e := range ev {
			if e.Seq != dropped+1+uint64(n) {
				t.Fatalf("event %d has number %d", n, e.Seq)
			}
		}
		if ev[len(ev)-1].User != "329" {
			t.Errorf("the last is %v", ev[len(ev)-1])
		}
	}
	check(100, 231)
	mustClose(t, v)
	v = mustOpen(t, o)
	check(100, 231)
	var some []uint64
	must(t, v.View(func(tx *Tx) error {
		return tx.Events(320, func(e event.Event) bool { some = append(some, e.Seq); return len(some) < 3 })
	}))
	if !slices.Equal(some, []uint64{321, 322, 323}) {
		t.Errorf("%v", some)
	}
	mustClose(t, v)
	// A lower bound holds from the next commit on.
	o.EventLimit = 10
	v = mustOpen(t, o)
	put(t, v, "x", user{})
	check(10, 321)
}

func TestWhoFollowsEventsIsWoken(t *testing.T) {
	v := mustOpen(t, options(t))
	changed := v.Changed()
	put(t, v, "x", user{})
	select {
	case <-changed:
		t.Error("woken without an event")
	default:
	}
	must(t, v.Update(context.Background(), func(tx *Tx) error { tx.Append(event.Event{Name: event.LoginAttempt}); return nil }))
	<-changed
	select {
	case <-v.Changed():
		t.Error("woken twice")
	default:
	}
}

// TestClockSetBackIsAnEventOnceAndForgetsNoTime walks through a clock that is set
// back, creeps forward, is corrected, and is set back again.
func TestClockSetBackIsAnEventOnceAndForgetsNoTime(t *testing.T) {
	o := options(t)
	c := o.Clock.(*fakeClock)
	v := mustOpen(t, o)
	start := c.Now().Wall
	tick := func(d time.Duration) {
		t.Helper()
		c.add(d)
		put(t, v, "x", user{})
	}
	want := func(n int, highest, behind time.Duration) {
		t.Helper()
		var got int
		for _, e := range events(t, v) {
			if e.Name == event.ClockWentBack {
				got++
			}
		}
		if i := v.Info(); got != n || !i.Highest.Equal(start.Add(highest)) || i.ClockBehind != behind {
			t.Errorf("%d events, highest %v, behind %v; want %d, %v, %v", got, i.Highest.Sub(start), i.ClockBehind, n, highest, behind)
		}
		must(t, v.View(func(tx *Tx) error {
			if now := tx.Now(); !now.Highest.Equal(start.Add(highest)) || now.Behind() != behind || now.BootID != "a" {
				t.Errorf("Now: %+v", now)
			}
			return nil
		}))
	}
	tick(time.Hour)
	want(0, time.Hour, 0)
	tick(-time.Minute)
	want(0, time.Hour, time.Minute) // a correction by a time server
	tick(-time.Second)
	want(1, time.Hour, 61*time.Second)
	tick(time.Second)
	want(1, time.Hour, time.Minute)
	mustClose(t, v)
	v = mustOpen(t, o)
	tick(-time.Hour)
	want(1, time.Hour, 61*time.Minute) // the same occurrence, also after a restart
	tick(61*time.Minute + time.Second)
	want(1, time.Hour+time.Second, 0)
	tick(-time.Hour)
	want(2, time.Hour+time.Second, time.Hour)

	// The helpdesk clears a bogus maximum.
	must(t, v.Update(context.Background(), func(tx *Tx) error {
		tx.ResetHighest()
		if now := tx.Now(); now.Behind() != 0 {
			t.Errorf("%+v", now)
		}
		return nil
	}))
	want(2, time.Second, 0)
	tick(-2 * time.Minute)
	want(3, time.Second, 2*time.Minute)

	// An error leaves it alone.
	_ = v.Update(context.Background(), func(tx *Tx) error { tx.ResetHighest(); return errors.New("no") })
	want(3, time.Second, 2*time.Minute)
}

func TestReadersSeeOneMomentWhileOthersWrite(t *testing.T) {
	v := mustOpen(t, options(t))
	pair := func(n int64) {
		must(t, v.Update(context.Background(), func(tx *Tx) error {
			return errors.Join(tx.Put(Users, "a", user{Step: n}), tx.Put(Pending, "a", user{Step: n}))
		}))
	}
	pair(0)
	var wg sync.WaitGroup
	var done atomic.Bool
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				must(t, v.View(func(tx *Tx) error {
					var a, b user
					_, err := tx.Get(Users, "a", &a)
					_, err2 := tx.Get(Pending, "a", &b)
					if a != b {
						t.Errorf("%v and %v", a, b)
					}
					_ = v.Info()
					return errors.Join(err, err2)
				}))
			}
		})
	}
	for n := range int64(300) {
		pair(n)
	}
	done.Store(true)
	wg.Wait()
}
