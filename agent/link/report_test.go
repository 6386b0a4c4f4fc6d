package link

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"sallyport/agent/adminsvc"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// action was issued so long ago, by the tests' clock, and is good for so long.
func action(ago, life time.Duration) organisation.Action {
	issued := epoch.Add(-ago)
	return organisation.Action{Issued: issued.Unix(), Expires: issued.Add(life).Unix()}
}

// standing is how a test's computer stands.
type standing struct {
	mu    sync.Mutex
	now   *adminsvc.Standing
	looks int
}

func (s *standing) look(context.Context) (*adminsvc.Standing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return s.now, nil
}

// looked is how often it was looked at.
func (s *standing) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (s *standing) becomes(st *adminsvc.Standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = st
}

// healthy has one person with a code.
func healthy() *adminsvc.Standing {
	return &adminsvc.Standing{Policy: 7, Status: &adminv1.StatusResponse{Vault: &adminv1.VaultStatus{EventsKept: 10}},
		People: []adminsvc.StandingPerson{{User: &adminv1.User{Key: "uid:1000", Name: "maya", Totp: true, OfflineReady: true, PushState: "no_phone"}, LastFactor: factor.TOTP}}}
}

// reporting is a computer whose authority takes reports or does not, with the waits
// of its reports.
func reporting(t *testing.T, takes bool) (*computer, *authority, *standing, *devStream, <-chan time.Duration) {
	t.Helper()
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	a.welcome = &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Welcome{Welcome: &authorityv1.Welcome{Version: "2.0", Users: []string{"*"}, TakesReports: takes}}}
	st := &standing{now: healthy()}
	c.link.Reports(st.look)
	waits := make(chan time.Duration, 100)
	after := c.link.after
	c.link.after = func(d time.Duration) <-chan time.Time {
		if d >= reportAfter && d <= reportEvery {
			waits <- d
			now := make(chan time.Time, 1)
			now <- time.Time{}
			return now
		}
		return after(d)
	}
	c.join(a)
	c.run()
	d := a.stream()
	c.until("connected", func() bool { return c.link.State().Connected })
	return c, a, st, d, waits
}

func (d *devStream) report() *authorityv1.Report {
	d.t.Helper()
	for {
		if r := receive(d.t, d.in, "a report").GetReport(); r != nil {
			return r
		}
	}
}

// touch writes something into the vault, as every event does.
func (c *computer) touch() {
	c.t.Helper()
	c.store.Record(c.t.Context(), event.Event{Name: event.ClockReset})
}

func TestTheAuthorityIsToldHowThisComputerStands(t *testing.T) {
	c, _, st, d, waits := reporting(t, true)
	r := d.report()
	if len(r.GetPeople()) != 1 || r.GetAgentState() != "ok" || r.GetOs() == "" || r.GetPolicyVersion() != 7 {
		t.Fatalf("%v", r)
	}
	if p := r.GetPeople()[0]; p.GetUser() != "maya" || p.GetKey() != "uid:1000" || !p.GetTotp() || p.GetLastFactor() != "totp" || p.GetLockedUntil() != nil || p.GetOfflineLeft() != nil {
		t.Errorf("%v", p)
	}
	if first := receive(t, waits, "the wait before the first look"); first != reportAfter {
		t.Errorf("the first look comes after %v", first)
	}

	locked := healthy()
	locked.Status.Problems = []*adminv1.Problem{{Code: "users_locked", Text: "1 locked out", Remedy: "sallyport unlock"}}
	locked.People[0].Locked, locked.People[0].LockedFor, locked.People[0].Failures = true, durationpb.New(5*time.Minute), 10
	st.becomes(locked)
	c.touch()
	// Contact is written down as well, so that there may have been a look in between.
	r = d.report()
	if r.GetAgentState() != "users_locked" || !r.GetPeople()[0].GetLockedUntil().AsTime().Equal(epoch.Add(5*time.Minute)) || r.GetPeople()[0].GetFailures() != 10 {
		t.Errorf("%v", r)
	}
	if next := receive(t, waits, "the wait before the next look"); next != reportEvery {
		t.Errorf("the next look comes after %v", next)
	}
	if v := c.link.State().Version; v != "2.0" {
		t.Errorf("the authority's version is %q", v)
	}
}

// What has not changed is not said again, however often the vault is written; and
// nobody looks while it is not.
func TestNothingNewIsNotSaid(t *testing.T) {
	c, _, st, d, _ := reporting(t, true)
	d.report()
	for range 3 { // a change that comes right before a look is part of that one
		before := st.looked()
		c.touch()
		c.eventually("a look after a change", func() bool { return st.looked() > before })
	}
	looks := st.looked()
	changed := healthy()
	changed.Policy = 8
	st.becomes(changed)
	c.touch()
	if r := d.report(); r.GetPolicyVersion() != 8 {
		t.Errorf("something else was said in between: %v", r)
	}
	if looks > 8 {
		t.Errorf("%d looks for 3 changes", looks)
	}
}

// Hazard: an older authority cuts off who sends what it does not know.
func TestAnOlderAuthorityIsToldNothing(t *testing.T) {
	c, a, st, d, _ := reporting(t, false)
	for range 5 {
		c.touch()
	}
	wantApplied(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindSettings, Version: 2}, goodSettings)))
	if n := st.looked(); n != 0 {
		t.Errorf("%d looks", n)
	}
}

func TestAReportHasBounds(t *testing.T) {
	st := healthy()
	st.Status.Authority = &adminv1.AuthorityStatus{EventsWaiting: 25}
	for range maxProblems + 5 {
		st.Status.Problems = append(st.Status.Problems, &adminv1.Problem{Code: "x", Text: strings.Repeat("ä", 1000), Remedy: strings.Repeat("b", 1000)})
	}
	st.People = nil
	for i := range maxPeople + 3 {
		st.People = append(st.People, adminsvc.StandingPerson{User: &adminv1.User{Key: fmt.Sprintf("uid:%d", i), Name: strings.Repeat("n", 400)}})
	}
	r := newReport(st, epoch, nil)
	if len(r.GetProblems()) != maxProblems || len(r.GetPeople()) != maxPeople || r.GetPeopleLeftOut() != 3 {
		t.Errorf("%d problems, %d people, %d left out", len(r.GetProblems()), len(r.GetPeople()), r.GetPeopleLeftOut())
	}
	p := r.GetProblems()[0]
	if len(p.GetText()) > maxProblemText || len(p.GetRemedy()) != maxProblemText || len(r.GetPeople()[0].GetUser()) != maxUser || len(r.GetOs()) > maxOS {
		t.Errorf("%d, %d, %d bytes", len(p.GetText()), len(p.GetRemedy()), len(r.GetPeople()[0].GetUser()))
	}
	if r.GetEventsWaiting() != 10 || r.GetEventsDropped() != 15 {
		t.Errorf("%d events wait, %d are gone", r.GetEventsWaiting(), r.GetEventsDropped())
	}
	if n := proto.Size(r); n > 1<<20 {
		t.Errorf("%d bytes", n)
	}

	// A lockout's end is reckoned from what is left of it: a second more or less is none.
	st = healthy()
	st.People[0].Locked, st.People[0].LockedFor = true, durationpb.New(5*time.Minute)
	first := newReport(st, epoch, nil)
	st.People[0].LockedFor = durationpb.New(5*time.Minute - 10*time.Second)
	if again := newReport(st, epoch.Add(11*time.Second), first); !proto.Equal(again, first) {
		t.Errorf("%v is another than %v", again, first)
	}
}

func TestTheHelpdeskUnlocksFromAfar(t *testing.T) {
	c, a, d := connected(t)
	lock := func() {
		c.change("maya", func(r *factor.Account, tx *vault.Tx) {
			r.Lockout.Failures, r.Lockout.Until = 10, tx.Now().In(time.Hour)
			r.Push = &push.State{Reported: true}
		})
	}
	is := func() (locked, reported bool) {
		r := c.account("maya")
		return r.Lockout.Locked(c.clock.Now()), r.Push.Reported
	}
	unlock := a.sign(organisation.Envelope{Kind: organisation.KindUnlock, User: "maya", Device: deviceID, Version: 5}, action(time.Minute, time.Hour))
	lock()
	wantApplied(t, d.sync(unlock))
	if locked, reported := is(); locked || !reported {
		t.Errorf("locked %v, reported %v", locked, reported)
	}
	if e := c.event(event.UserUnlocked, ""); e.By != "authority" || e.User != "maya" || e.Key != "uid:1000" {
		t.Errorf("%+v", e)
	}
	// Once: whoever is locked out again stays so, however often it comes.
	lock()
	wantApplied(t, d.sync(unlock))
	if locked, _ := is(); !locked {
		t.Error("an action was done twice")
	}
	wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindUnlock, User: "maya", Device: deviceID, Version: 4}, action(time.Minute, time.Hour))), "older")

	wantApplied(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindPushClear, User: "maya", Device: deviceID, Version: 5}, action(time.Minute, time.Hour))))
	if locked, reported := is(); !locked || reported {
		t.Errorf("locked %v, reported %v", locked, reported)
	}
	c.event(event.PushCleared, "")
}

func TestAnActionThatComesLateIsNotDone(t *testing.T) {
	c, a, d := connected(t)
	c.change("maya", func(r *factor.Account, tx *vault.Tx) {
		r.Lockout.Failures, r.Lockout.Until = 10, tx.Now().In(time.Hour)
	})
	version := uint64(0)
	for _, x := range []struct {
		action any
		user   string
		says   string
	}{
		{action(2*time.Hour, time.Hour), "maya", "expired on"},
		{action(25*time.Hour, 24*time.Hour), "maya", "expired on"},
		{action(0, 25*time.Hour), "maya", "at most 24h0m0s are taken"},
		{action(0, 0), "maya", "at most"},
		{organisation.Action{}, "maya", "at most"},
		{action(-72*time.Hour, time.Hour), "maya", "more than a day behind"},
		{map[string]any{"issued": epoch.Unix(), "expires": epoch.Add(time.Hour).Unix(), "also": "more"}, "maya", "malformed"},
		{action(0, time.Hour), "otto", "no second factor"},
		{action(0, time.Hour), "nobody", "no such user"},
		{action(0, time.Hour), "hangs", "cannot be looked up"},
	} {
		version++
		r := d.sync(a.sign(organisation.Envelope{Kind: organisation.KindUnlock, User: x.user, Device: deviceID, Version: version}, x.action))
		wantRefused(t, r, x.says)
	}
	wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: organisation.KindUnlock, User: "maya", Version: 100}, action(0, time.Hour))), "for one device")
	if !c.account("maya").Lockout.Locked(c.clock.Now()) || c.account("otto") != nil {
		t.Error("it was done")
	}
}

// A file that lists what is taken, written before there were actions, takes none.
func TestAnOldAcceptListTakesNoAction(t *testing.T) {
	c, a, d := connected(t)
	c.mu.Lock()
	c.config.Authority.Accept = []string{"approvers", "policy", "totp", "recovery", "bypass"}
	c.mu.Unlock()
	c.change("maya", func(r *factor.Account, tx *vault.Tx) {
		r.Lockout.Failures, r.Lockout.Until = 10, tx.Now().In(time.Hour)
	})
	for _, kind := range []organisation.Kind{organisation.KindUnlock, organisation.KindPushClear} {
		wantRefused(t, d.sync(a.sign(organisation.Envelope{Kind: kind, User: "maya", Device: deviceID, Version: 1}, action(0, time.Hour))), "authority.accept")
	}
	if !c.account("maya").Lockout.Locked(c.clock.Now()) {
		t.Error("it was done")
	}
	if !slices.Contains(c.link.o.Settings().Authority.Accept, "bypass") {
		t.Error("the list is empty")
	}
}

func TestAnotherProtocolIsSaidInStatus(t *testing.T) {
	c, _, d := connected(t)
	d.goodbye("version", "the agent, 1.2.3, speaks version 1 of the protocol, the authority, 9.0, version 2: update Sallyport on this computer")
	c.until("refused", func() bool { return c.link.State().Refused == "version" })
	for _, part := range []string{"1.2.3", "9.0", "version 1", "version 2", "update Sallyport on this computer"} {
		if !strings.Contains(c.link.State().LastError, part) {
			t.Errorf("%q is not in %q", part, c.link.State().LastError)
		}
	}
	c.event(event.AuthorityRefused, "update Sallyport")
}
