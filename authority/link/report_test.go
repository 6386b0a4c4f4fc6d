//go:build linux

package link

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// says is a device's report of itself.
func (s *session) says(r *authorityv1.Report) {
	s.Helper()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Report{Report: r}})
}

// stands is how the authority thinks that the device stands.
func (d *device) stands() enrol.DeviceStatus {
	d.Helper()
	st, err := d.enrol.DeviceStatus(d.Context(), d.id)
	d.must(err)
	return st
}

func aReport(people ...*authorityv1.ReportPerson) *authorityv1.Report {
	return &authorityv1.Report{Os: "Debian GNU/Linux 12 (bookworm)", AgentState: "clock_behind", People: people, EventsWaiting: 3, PolicyVersion: 7,
		Problems: []*authorityv1.ReportProblem{{Code: "clock_behind", Text: "The clock lies behind.", Remedy: "Set it right."}}}
}

func TestADeviceSaysHowItStands(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		d := w.join("maya")
		s := d.connect(d.hello())
		if !wait(s, (*authorityv1.AuthorityMessage).GetWelcome).GetTakesReports() {
			t.Fatal("the authority takes no reports")
		}
		until := w.now().Add(time.Hour).UTC().Truncate(time.Second)
		s.says(aReport(
			&authorityv1.ReportPerson{User: "maya", Key: "uid:1000", Totp: true, Phones: 1, PushState: "ready", OfflineReady: true, OfflineLogins: 2, OfflineLeft: wrapperspb.UInt32(0)},
			&authorityv1.ReportPerson{User: "ben", Key: "uid:1001", PushState: "no_phone", Failures: 10, LockedUntil: timestamppb.New(until)}))
		w.eventually("the report is kept", func() bool { return d.stands().Reported })
		st := d.stands()
		if r := st.Report; r.OS != "Debian GNU/Linux 12 (bookworm)" || r.Counted != 2 || r.OfflineReady != 1 || r.Locked != 1 || r.EventsWaiting != 3 || r.PolicyVersion != 7 || len(r.People) != 2 {
			t.Errorf("%+v", r)
		}
		if maya := st.Report.People[1]; maya.User != "maya" || *maya.OfflineLeft != 0 || maya.OfflineLogins != 2 || !maya.LockedUntil.IsZero() {
			t.Errorf("%+v", maya)
		}
		if ben := st.Report.People[0]; !ben.LockedUntil.Equal(until) || ben.OfflineLeft != nil {
			t.Errorf("%+v", ben)
		}
		if len(st.Problems) != 1 || st.Problems[0] != (store.Problem{Code: "clock_behind", Text: "The clock lies behind.", Remedy: "Set it right."}) {
			t.Errorf("%+v", st.Problems)
		}
		// The newest counts, and is kept when the device is gone.
		s.says(&authorityv1.Report{AgentState: "ok"})
		w.eventually("the next report is kept", func() bool { return d.stands().Report.State == "ok" })
		s.stop()
		if st := d.stands(); st.NeedsAttention() || len(st.Report.People) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAHostileReportIsCleanedOrCutsItselfOff(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	s := d.open()
	r := aReport(&authorityv1.ReportPerson{User: "ma\u202eya\x1b[2J", Key: "uid:1000", LastSuccess: &timestamppb.Timestamp{Seconds: 1 << 50}})
	r.Os = "\x1b]0;owned\x07\u009b"
	r.Problems[0].Text = "see\nhttps://evil.example\x00"
	s.says(r)
	w.eventually("the report is kept", func() bool { return d.stands().Reported })
	got := d.stands().Report
	for _, text := range []string{got.OS, got.People[0].User, got.Problems[0].Text} {
		if !strings.Contains(text, "?") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' }) {
			t.Errorf("%q", text)
		}
	}
	if !got.People[0].LastSuccess.IsZero() {
		t.Errorf("%v", got.People[0].LastSuccess)
	}

	many := aReport()
	for i := range maxPeople + 1 {
		many.People = append(many.People, &authorityv1.ReportPerson{User: "u", Key: fmt.Sprintf("uid:%d", i)})
	}
	long := strings.Repeat("x", maxProblem+1)
	for name, r := range map[string]*authorityv1.Report{
		"too many people":    many,
		"too many problems":  {Problems: make([]*authorityv1.ReportProblem, maxProblems+1)},
		"a long problem":     {Problems: []*authorityv1.ReportProblem{{Text: long}}},
		"a long remedy":      {Problems: []*authorityv1.ReportProblem{{Remedy: long}}},
		"a long system":      {Os: long},
		"a long state":       {AgentState: long},
		"a long name":        aReport(&authorityv1.ReportPerson{User: long, Key: "uid:1"}),
		"no key":             aReport(&authorityv1.ReportPerson{User: "maya"}),
		"a key that is none": aReport(&authorityv1.ReportPerson{User: "maya", Key: "../../x"}),
		"somebody twice":     aReport(&authorityv1.ReportPerson{User: "a", Key: "uid:1"}, &authorityv1.ReportPerson{User: "b", Key: "uid:1"}),
		"a huge number":      {EventsWaiting: 1 << 63},
		"a huge count":       aReport(&authorityv1.ReportPerson{User: "a", Key: "uid:1", Phones: 1 << 31}),
	} {
		for i := range r.GetProblems() {
			if r.GetProblems()[i] == nil {
				r.Problems[i] = &authorityv1.ReportProblem{}
			}
		}
		t.Log(name)
		w.advance(time.Minute)
		s := d.open()
		s.says(r)
		s.endsWith("malformed")
	}
	if after := d.stands().Report; len(after.People) != 1 || !after.At.Equal(got.At) {
		t.Errorf("a malformed report was kept: %+v", after)
	}
}

func TestADeviceThatSaysTooMuchIsNotHeard(t *testing.T) {
	w := one(t)
	w.freeze()
	d := w.join(enrol.Everyone)
	s := d.open()
	s.synced(organisation.KindSettings, "")
	for i := range 4 * reportsBurst {
		s.says(&authorityv1.Report{EventsWaiting: uint64(i)})
	}
	s.alive()
	w.eventually("what was taken is kept", func() bool { return d.stands().Report.EventsWaiting >= reportsBurst-1 })
	if n := d.stands().Report.EventsWaiting; n > reportsBurst+1 {
		t.Errorf("%d reports were taken at once", n)
	}
	w.advance(reportsGap)
	s.says(&authorityv1.Report{EventsWaiting: 100})
	w.eventually("a later one is heard", func() bool { return d.stands().Report.EventsWaiting == 100 })
}

func TestWhatTheHelpdeskAskedForReachesTheDeviceAndItsAnswerTheHelpdesk(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.users("maya")
		d, other := w.join("maya"), w.join("maya")
		s := d.open()
		other.open()
		state := func() enrol.RemoteAnswer {
			t.Helper()
			a, err := w.enrol.RemoteState(w.Context(), organisation.KindUnlock, "maya", d.id)
			w.must(err)
			return a
		}
		if a := state(); a.State != enrol.RemoteNone {
			t.Errorf("%+v", a)
		}
		r, err := w.enrol.Unlock(w.Context(), "operator:anna", "maya", d.id)
		w.must(err)
		if v := s.synced(organisation.KindUnlock, "maya"); v != r.Version || state().State != enrol.RemoteSent {
			t.Errorf("version %d, %+v", v, state())
		}
		s.answers(&authorityv1.SyncApplied{Kind: "unlock", User: "maya", Version: r.Version})
		w.eventually("the helpdesk sees that it was done", func() bool { return state().State == enrol.RemoteDone })
		if n := w.events("unlock_issued"); n != 1 {
			t.Errorf("%d events", n)
		}

		// Refused: with the reason, and in the fleet's status.
		r, err = w.enrol.Unlock(w.Context(), "operator:anna", "maya", d.id)
		w.must(err)
		s.synced(organisation.KindUnlock, "maya")
		s.answers(&authorityv1.SyncApplied{Kind: "unlock", User: "maya", Version: r.Version, Refused: "authority.accept in the configuration of this computer does not name it"})
		w.eventually("the helpdesk sees why not", func() bool { return state().State == enrol.RemoteRefused })
		if st := d.stands(); len(st.Problems) != 1 || st.Problems[0].Code != enrol.ProblemRefused || !strings.Contains(st.Problems[0].Remedy, `"unlock"`) {
			t.Errorf("%+v", st.Problems)
		}
		if st := other.stands(); st.NeedsAttention() {
			t.Errorf("another computer's refusal: %+v", st.Problems)
		}

		// Too late: a device that comes back after a day does not even get it.
		s.stop()
		_, err = w.enrol.Unlock(w.Context(), "operator:anna", "maya", d.id)
		w.must(err)
		w.advance(organisation.MaxAction + time.Second)
		if a := state(); a.State != enrol.RemoteExpired {
			t.Errorf("%+v", a)
		}
		s = d.open()
		s.synced(organisation.KindSettings, "")
		s.alive()
	})
}

func (s *session) answers(a *authorityv1.SyncApplied) {
	s.Helper()
	s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_SyncApplied{SyncApplied: a}})
}

// Both versions, and what to do.
func TestAnotherProtocolIsToldWhatToUpdate(t *testing.T) {
	w := one(t)
	d := w.join(enrol.Everyone)
	for version, remedy := range map[uint32]string{0: "update Sallyport on this computer", 2: "update the authority first"} {
		hello := d.hello()
		hello.GetHello().ProtocolVersion, hello.GetHello().Version = version, "9.9"
		s := d.connect(hello)
		g := wait(s, (*authorityv1.AuthorityMessage).GetGoodbye)
		for _, part := range []string{"9.9", fmt.Sprintf("version %d of the protocol", version), "the authority, test, version 1", remedy} {
			if g.GetReason() != "version" || !strings.Contains(g.GetText(), part) {
				t.Errorf("version %d: %v", version, g)
			}
		}
	}
	if w.link.Streams() != 0 {
		t.Error("a stream is left")
	}
}
