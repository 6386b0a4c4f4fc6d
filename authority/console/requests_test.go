package console

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authority/config"
	"sallyport/authority/enrol"
	"sallyport/authority/store"
)

// steps a request on as that operator would, with a form that is good.
func (c *client) steps(step, id string) reply {
	c.w.t.Helper()
	return c.post("/request/"+step, url.Values{"form": {c.w.formToken(c, "request/"+step)}, "id": {id}})
}

func (w *world) asks(c *client) (id string) {
	w.t.Helper()
	if r := c.submits("bypass", aliceHere, url.Values{"life": {"1h"}, "reason": {"lost phone"}}); r.status != http.StatusSeeOther {
		w.t.Fatalf("%d %s", r.status, r.body)
	}
	return w.request()
}

func TestWhoMayApprove(t *testing.T) {
	w := newWorld(t, "bypass")
	anna, ben, carla, dora := w.in("anna", Helpdesk), w.in("ben", Helpdesk), w.in("carla", Admin), w.in("dora", Admin)
	id := w.asks(anna)
	if r := ben.steps("carry-out", id); r.status < 400 {
		t.Errorf("another carries it out unapproved: %d", r.status)
	}
	if r := ben.steps("approve", id); r.status != http.StatusSeeOther {
		t.Errorf("%d", r.status)
	}
	if r := carla.steps("approve", id); r.status != http.StatusConflict || !strings.Contains(r.body, `role="alert">This was done already`) || !strings.Contains(r.body, "approved by ben") {
		t.Errorf("approved twice: %d %s", r.status, r.body)
	}
	for _, c := range []*client{ben, carla} {
		if r := c.steps("carry-out", id); r.status != http.StatusForbidden || w.count(enrol.BypassIssued) != 0 {
			t.Errorf("who approved carries it out: %d", r.status)
		}
	}
	if r := anna.steps("carry-out", id); r.status != http.StatusOK || !strings.Contains(r.body, "spoken") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := anna.steps("carry-out", id); r.status != http.StatusNotFound {
		t.Errorf("twice: %d", r.status)
	}

	// Whoever may not do it approves it for nobody; and one admin alone makes no second one.
	if r := carla.submits("operator_add", nil, url.Values{"operator": {"sock.puppet"}, "role": {"admin"}, "reason": {"me"}}); r.status != http.StatusSeeOther {
		t.Fatalf("%d %s", r.status, r.body)
	}
	id = w.request()
	for _, step := range []string{"approve", "refuse"} {
		if r := ben.steps(step, id); r.status != http.StatusForbidden || !strings.Contains(r.body, errRole.Text) {
			t.Errorf("ben: %s: %d", step, r.status)
		}
	}
	if r := carla.steps("approve", id); r.status != http.StatusForbidden {
		t.Errorf("her own: %d", r.status)
	}
	w.view(func(tx store.Tx) error {
		if _, err := tx.Operator("sock.puppet"); err == nil {
			t.Error("there is a second admin")
		}
		return nil
	})
	dora.steps("approve", id)
	if r := carla.steps("carry-out", id); r.status != http.StatusOK || !strings.Contains(r.body, "/invite#") {
		t.Errorf("%d %s", r.status, r.body)
	}
	w.happened(enrol.OperatorAdded, "operator:carla", "sock.puppet, admin")
}

func TestARequestEnds(t *testing.T) {
	w := newWorld(t, "bypass")
	anna, ben := w.in("anna", Helpdesk), w.in("ben", Helpdesk)
	// It is refused, or taken back.
	for _, c := range []*client{ben, anna} {
		id := w.asks(anna)
		if r := c.steps("refuse", id); r.status != http.StatusSeeOther {
			t.Errorf("%d", r.status)
		}
		if r := ben.steps("approve", id); r.status != http.StatusNotFound {
			t.Errorf("%d", r.status)
		}
	}
	w.happened(enrol.ApprovalRefused, "operator:ben", "asked by anna")
	w.happened(enrol.ApprovalRefused, "operator:anna", "asked by anna")
	// An hour passes.
	id := w.asks(anna)
	ben.steps("approve", id)
	for range 6 {
		w.pass(10 * time.Minute)
		anna.get("/people")
		ben.get("/people")
	}
	if r := anna.steps("carry-out", id); r.status < 400 || w.count(enrol.BypassIssued) != 0 {
		t.Errorf("late: %d", r.status)
	}
	w.update(func(tx store.Tx) error { return tx.RemoveOperatorRequest(id) })
	// Who approved is no operator any more, and who asked has another role.
	id = w.asks(anna)
	ben.steps("approve", id)
	w.ok(w.operators().Remove(t.Context(), "test", "ben"))
	if r := anna.steps("carry-out", id); r.status < 400 || w.count(enrol.BypassIssued) != 0 {
		t.Errorf("ben is gone: %d", r.status)
	}
	carla := w.in("carla", Helpdesk)
	id = w.asks(anna)
	carla.steps("approve", id)
	w.ok(w.operators().SetRole(t.Context(), "test", "anna", Helpdesk)) // any change ends it
	anna.logsIn()
	if r := anna.steps("carry-out", id); r.status != http.StatusNotFound || w.count(enrol.BypassIssued) != 0 {
		t.Errorf("%d", r.status)
	}
}

// lost is a database that goes, at times, when a request is taken.
type lost struct {
	store.Store
	before bool // nothing of it was done
	after  bool // all of it was
}

func (l *lost) Update(ctx context.Context, fn func(store.Tx) error) error {
	took := false
	err := l.Store.Update(ctx, func(tx store.Tx) error {
		had, err := tx.OperatorRequests(time.Time{})
		if err == nil {
			err = fn(tx)
		}
		if err != nil {
			return err
		}
		has, err := tx.OperatorRequests(time.Time{})
		if took = len(has) < len(had); err == nil && took && l.before {
			err = store.ErrUnavailable
		}
		return err
	})
	if err == nil && took && l.after {
		err = store.ErrUnavailable
	}
	return err
}

// TestAnApprovalGoesWithWhatIsDone: what could not be done can be tried again, and what
// may have been done cannot.
func TestAnApprovalGoesWithWhatIsDone(t *testing.T) {
	w := newWorld(t, "bypass")
	anna, ben := w.in("anna", Helpdesk), w.in("ben", Helpdesk)
	onDesk := url.Values{"user": {"bob"}, "device": {desk}}
	if r := anna.submits("bypass", onDesk, url.Values{"life": {"1h"}, "reason": {"lost phone"}}); r.status != http.StatusSeeOther {
		t.Fatalf("%d %s", r.status, r.body)
	}
	id := w.request()
	ben.steps("approve", id)
	w.ok(w.enrol.DisallowUser(t.Context(), "test", desk, "bob"))
	if r := anna.steps("carry-out", id); r.status != http.StatusUnprocessableEntity || w.request() != id || w.count(enrol.BypassIssued) != 0 ||
		!strings.Contains(r.body, "bob is not allowed on desk-4") || r.token("/request/carry-out") == "" {
		t.Errorf("not allowed there: %d %s", r.status, r.body)
	}
	w.ok(w.enrol.AllowUser(t.Context(), "test", desk, "bob"))
	db := &lost{Store: w.store}
	w.over(db)
	db.before = true
	if r := anna.steps("carry-out", id); r.status != http.StatusServiceUnavailable || w.request() != id || w.count(enrol.BypassIssued) != 0 {
		t.Errorf("the database goes: %d", r.status)
	}
	db.before, db.after = false, true
	if r := anna.steps("carry-out", id); r.status != http.StatusServiceUnavailable || w.count(enrol.BypassIssued) != 1 {
		t.Errorf("its answer is lost: %d", r.status)
	}
	db.after = false
	if r := anna.steps("carry-out", id); r.status != http.StatusNotFound || w.count(enrol.BypassIssued) != 1 {
		t.Errorf("again: %d", r.status)
	}
}

// TestOneApprovalOneEffect: of any action, however many carry it out at once.
func TestOneApprovalOneEffect(t *testing.T) {
	for _, a := range actions {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t, config.ConsoleActions...)
			sample := w.samples(t)[a.name]
			anna, ben := w.in("anna", Admin), w.in("ben", Admin)
			rest := url.Values{"reason": {"ticket 7"}}
			maps.Copy(rest, sample[1])
			if r := anna.submits(a.name, sample[0], rest); r.status != http.StatusSeeOther {
				t.Fatalf("%d %s", r.status, r.body)
			}
			id := w.request()
			ben.steps("approve", id)
			before := len(w.events())
			var done atomic.Int32
			var all sync.WaitGroup
			for range 8 {
				form := url.Values{"form": {w.formToken(anna, "request/carry-out")}, "id": {id}}
				c := *anna
				all.Go(func() {
					if r := c.post("/request/carry-out", form); r.status == http.StatusOK || r.status == http.StatusSeeOther {
						done.Add(1)
					}
				})
			}
			all.Wait()
			if n := len(w.events()) - before; done.Load() != 1 || n != 1 {
				t.Errorf("done %d times, with %d events", done.Load(), n)
			}
		})
	}
}

// TestRequestsAreBounded: one operator does not fill the list.
func TestRequestsAreBounded(t *testing.T) {
	w := newWorld(t, "bypass")
	anna := w.in("anna", Helpdesk)
	ask := func() int {
		w.pass(time.Second)
		return anna.submits("bypass", aliceHere, url.Values{"life": {"1h"}, "reason": {"x"}}).status
	}
	for range maxRequests {
		if s := ask(); s != http.StatusSeeOther {
			t.Fatal(s)
		}
	}
	if s := ask(); s < 400 {
		t.Error(s)
	}
}
