package link

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/event"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func (c *computer) recordMany(n int) {
	c.t.Helper()
	if err := c.store.Update(c.t.Context(), func(tx *vault.Tx) error {
		for i := range n {
			tx.Append(event.Event{Name: event.LoginAttempt, Text: fmt.Sprintf("login %d", i)})
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

func eventsOf(t *testing.T, r *authorityv1.UploadEventsRequest) (list []event.Event) {
	t.Helper()
	for _, b := range r.GetEvents() {
		var e event.Event
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

func TestEventsGoUp(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.recordMany(5) // before it joined: not the authority's
	c.join(a)
	c.run()
	a.stream()
	first := eventsOf(t, receive(t, a.uploads, "the first events"))
	if len(first) != 1 || first[0].Name != event.AuthorityJoined {
		t.Fatalf("sent: %+v", first)
	}
	t.Log("a new one, after a moment, in one call with those that come with it")
	c.recordMany(3)
	r := receive(t, a.uploads, "the next events")
	if l := eventsOf(t, r); len(l) != 3 || l[0].Text != "login 0" || l[0].Seq != first[0].Seq+1 || r.GetDropped() != 0 {
		t.Fatalf("sent: %+v, dropped %d", l, r.GetDropped())
	}
	v, err := c.store.Vault()
	if err != nil || r.GetVaultId() != v.Info().VaultID {
		t.Errorf("of the vault %s", r.GetVaultId())
	}

	t.Log("the position is kept when the agent stops: nothing is sent twice")
	c.eventually("the authority's answer, and that status has it", func() bool { s := c.link.State(); return s.Sent == first[0].Seq+3 && s.SentVault == r.GetVaultId() })
	c.stop()
	if k := c.authorityKept(); k.EventsSent != first[0].Seq+3 || k.EventsVault != r.GetVaultId() {
		t.Errorf("kept: %d", k.EventsSent)
	}
	c.recordMany(1)
	c.run()
	a.stream()
	if l := eventsOf(t, receive(t, a.uploads, "the event of the pause")); len(l) != 1 || l[0].Seq != first[0].Seq+4 {
		t.Errorf("sent: %+v", l)
	}
}

// TestALoginCostsNoSecondWrite: how far the events are is kept at most once a
// minute.
func TestALoginCostsNoSecondWrite(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	minute := make(chan time.Time)
	asked := make(chan struct{}, 100)
	c.link.after = func(d time.Duration) <-chan time.Time {
		switch d {
		case saveEvery:
			asked <- struct{}{}
			return minute
		case coalesce:
			return time.After(time.Millisecond)
		}
		return time.After(d)
	}
	c.run()
	a.stream()
	receive(t, a.uploads, "the first")
	receive(t, asked, "the minute's beginning")
	before := c.authorityKept().EventsSent
	for range 10 {
		c.recordMany(1)
		receive(t, a.uploads, "an event")
	}
	if got := c.authorityKept().EventsSent; got != before {
		t.Errorf("the position was kept meanwhile: %d, then %d", before, got)
	}
	minute <- time.Time{}
	c.eventually("the position in the vault", func() bool { return c.authorityKept().EventsSent == before+11 })
}

func TestWhatRolledOverIsCounted(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	joined := c.authorityKept().EventsSent + 1
	c.recordMany(300) // the file keeps 100
	c.run()
	a.stream()
	r := receive(t, a.uploads, "the events")
	l := eventsOf(t, r)
	if first := l[0].Seq; r.GetDropped() != first-joined || r.GetDropped() < 150 {
		t.Errorf("%d dropped before the first, which is %d; joined at %d", r.GetDropped(), first, joined)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	long := strings.Repeat("x", 7<<10)
	for range 60 {
		c.store.Record(t.Context(), event.Event{Name: event.LoginAttempt, Text: long})
	}
	c.run()
	a.stream()
	n, calls := 0, 0
	for ; n < 61; calls++ {
		r := receive(t, a.uploads, "a batch")
		size := 0
		for _, b := range r.GetEvents() {
			size += len(b)
		}
		if size > maxBatchBytes || len(r.GetEvents()) > maxBatch {
			t.Errorf("a batch of %d events, %d bytes", len(r.GetEvents()), size)
		}
		n += len(r.GetEvents())
	}
	if n != 61 || calls < 2 {
		t.Errorf("%d events in %d calls", n, calls)
	}
}

// TestALongEventHoldsUpNoOther: the authority takes none of more than 8 KiB.
func TestALongEventHoldsUpNoOther(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	c.store.Record(t.Context(), event.Event{Name: event.ConfigRejected, User: "maya", Text: strings.Repeat("\x00\xff", 50<<10)})
	c.store.Record(t.Context(), event.Event{Name: event.LoginAttempt, User: strings.Repeat("m", 20<<10), Key: "uid:1000", Verdict: "deny"})
	c.store.Record(t.Context(), event.Event{Name: event.LoginAttempt, Text: "behind it"})
	c.run()
	a.stream()
	r := receive(t, a.uploads, "the events")
	for _, b := range r.GetEvents() {
		if len(b) > maxEvent {
			t.Errorf("an event of %d bytes", len(b))
		}
	}
	l := eventsOf(t, r)
	if len(l) != 4 || l[1].User != "maya" || len(l[1].Text) < 1000 || l[2].Verdict != "deny" || l[2].Text != "too long to be sent" || l[3].Text != "behind it" {
		t.Errorf("sent: %.300v", l)
	}
}

// TestAnAuthorityThatKeepsNothingIsTriedLater: and not at once, without end.
func TestAnAuthorityThatKeepsNothingIsTriedLater(t *testing.T) {
	for name, script := range map[string]func(*authorityv1.UploadEventsRequest) (uint64, error){
		"an error": func(*authorityv1.UploadEventsRequest) (uint64, error) {
			return 0, status.Error(codes.Internal, "the disk is full")
		},
		"a success that is none": func(*authorityv1.UploadEventsRequest) (uint64, error) { return 0, nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := newComputer(t)
			a := newAuthority(t, c.clock)
			c.join(a)
			calls := make(chan struct{}, 1000)
			a.lastSeq = func(r *authorityv1.UploadEventsRequest) (uint64, error) { calls <- struct{}{}; return script(r) }
			again := make(chan time.Time)
			waiting := make(chan struct{}, 10)
			c.link.after = func(d time.Duration) <-chan time.Time {
				if d > uploadRetry && d < 2*uploadRetry {
					waiting <- struct{}{}
					return again
				}
				return time.After(d / 1000)
			}
			c.run()
			d := a.stream()
			receive(t, calls, "the first call")
			receive(t, waiting, "the wait")
			c.recordMany(1) // wakes nobody
			if len(calls) != 0 {
				t.Error("it was tried again at once")
			}
			a.set(func() { a.lastSeq = nil })
			again <- time.Time{}
			r := receive(t, a.uploads, "the next call")
			for len(eventsOf(t, r)) < 2 { // of the script that said yes
				r = receive(t, a.uploads, "the next call")
			}
			select {
			case <-d.finished:
				t.Error("the stream was ended for it")
			default:
			}
		})
	}
}

// TestAnAuthorityThatHasMoreIsBelievedUpToAPoint: a restored backup of the agent's
// position; never beyond what there is.
func TestAnAuthorityThatHasMoreIsBelievedUpToAPoint(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.join(a)
	a.lastSeq = func(*authorityv1.UploadEventsRequest) (uint64, error) { return 1 << 60, nil }
	c.run()
	a.stream()
	receive(t, a.uploads, "the first")
	a.set(func() { a.lastSeq = nil })
	c.recordMany(1)
	if l := eventsOf(t, receive(t, a.uploads, "the next")); len(l) != 1 {
		t.Errorf("sent: %+v", l)
	}
}
