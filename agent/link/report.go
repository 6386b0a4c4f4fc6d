package link

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/adminsvc"
	"sallyport/internal/device"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	// reportEvery is how often the authority is told at most how this computer stands;
	// reportAfter is how long a change waits for others, and for its events to be sent.
	reportEvery = 30 * time.Second
	reportAfter = 5 * time.Second
	// Bounds of a report, as in the proto. What is cut off is counted or ends in "...".
	maxProblems    = 32
	maxPeople      = 1000
	maxOS          = 128
	maxCode        = 64
	maxProblemText = 512
	// steady is by how much a time that is reckoned from what is left of it may differ
	// and be the same.
	steady = 2 * time.Second
)

// Reports has the link tell the authority how this computer stands. To be called
// before Run.
func (l *Link) Reports(standing func(context.Context) (*adminsvc.Standing, error)) {
	l.standing = standing
}

// report tells the authority how this computer stands, and again when that has
// changed. It wakes up only when the vault was written: whatever happens here is an
// event there, a changed configuration too.
func (s *session) report() {
	l := s.l
	if l.standing == nil || !s.takesReports {
		return // an older authority cuts off who sends what it does not know
	}
	var said *authorityv1.Report
	for {
		wait := reportAfter
		if l.looked != nil {
			wait = max(wait, *l.looked+reportEvery-l.o.Clock.Now().Boot)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-l.after(min(wait, reportEvery)):
		}
		v, err := l.o.Store.Vault()
		if err != nil {
			return // upload ends the session
		}
		changed := v.Changed() // before looking: what comes meanwhile wakes us
		now := l.o.Clock.Now()
		l.looked = &now.Boot
		switch standing, err := l.standing(s.ctx); {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			l.o.Log.Warn("how this computer stands could not be told to the authority", "error", err)
		default:
			if r := newReport(standing, now.Wall, said); !proto.Equal(r, said) {
				s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Report{Report: r}})
				said = r
			}
		}
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
		}
	}
}

// newReport is what to say; before is what was said.
func newReport(st *adminsvc.Standing, now time.Time, before *authorityv1.Report) *authorityv1.Report {
	r := &authorityv1.Report{Os: short(device.Title(), maxOS), AgentState: "ok", PolicyVersion: st.Policy, EventsWaiting: st.Status.GetAuthority().GetEventsWaiting()}
	// What the file had no room for any more before it was sent.
	if kept := st.Status.GetVault().GetEventsKept(); r.GetEventsWaiting() > kept {
		r.EventsWaiting, r.EventsDropped = kept, r.GetEventsWaiting()-kept
	}
	for i, p := range st.Status.GetProblems() {
		if i == 0 {
			r.AgentState = short(p.GetCode(), maxCode)
		}
		if i < maxProblems {
			r.Problems = append(r.Problems, &authorityv1.ReportProblem{Code: short(p.GetCode(), maxCode), Text: short(p.GetText(), maxProblemText), Remedy: short(p.GetRemedy(), maxProblemText)})
		}
	}
	old := make(map[string]*authorityv1.ReportPerson, len(before.GetPeople()))
	for _, p := range before.GetPeople() {
		old[p.GetKey()] = p
	}
	for _, u := range st.People {
		if len(r.GetPeople()) == maxPeople {
			r.PeopleLeftOut++
			continue
		}
		p := &authorityv1.ReportPerson{User: short(u.GetName(), maxUser), Key: u.GetKey(), Totp: u.GetTotp(), RecoveryLeft: uint32(u.GetRecoveryLeft()), Phones: uint32(len(u.GetPhones())),
			PushState: u.GetPushState(), BypassUntil: u.GetBypassUntil(), LastSuccess: u.GetLastSuccess(), LastFactor: short(string(u.LastFactor), maxCode),
			OfflineReady: u.GetOfflineReady(), Failures: uint32(u.GetFailures()), OfflineLogins: u.GetOfflineLogins(), OfflineLeft: u.GetOfflineLeft()}
		if u.GetLocked() {
			p.LockedUntil = timestamppb.New(now.Add(u.GetLockedFor().AsDuration()).Truncate(time.Second))
		}
		if o := old[p.GetKey()]; o != nil {
			p.LockedUntil, p.BypassUntil = same(o.GetLockedUntil(), p.GetLockedUntil()), same(o.GetBypassUntil(), p.GetBypassUntil())
		}
		r.People = append(r.People, p)
	}
	return r
}

// same is the time before where the one now is next to it.
func same(before, now *timestamppb.Timestamp) *timestamppb.Timestamp {
	if before != nil && now != nil && now.AsTime().Sub(before.AsTime()).Abs() <= steady {
		return before
	}
	return now
}

// short is a text within its bound.
func short(s string, limit int) string { return clean(s, limit-len("...")) }
