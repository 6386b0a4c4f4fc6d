package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/identity"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// Bounds of a report. A device sends one every 30 s at most; who sends more is not
// heard.
const (
	maxProblems  = 32
	maxPeople    = 1000
	maxOS        = 128
	maxProblem   = 512
	maxCode      = 64
	maxName      = 320
	reportsBurst = 4
	reportsGap   = 10 * time.Second
)

// parseReport is what a device says of itself, cleaned; false: it is malformed. What
// is in it people read, on a page and in a terminal, and the device may be hostile.
func parseReport(device string, r *authorityv1.Report, now time.Time) (store.Report, bool) {
	out := store.Report{Device: device, At: now, OS: cleaned(r.GetOs(), maxOS), State: cleaned(r.GetAgentState(), maxCode),
		LeftOut: int(r.GetPeopleLeftOut()), EventsWaiting: r.GetEventsWaiting(), EventsDropped: r.GetEventsDropped(), PolicyVersion: r.GetPolicyVersion()}
	if len(r.GetOs()) > maxOS || len(r.GetAgentState()) > maxCode || len(r.GetProblems()) > maxProblems || len(r.GetPeople()) > maxPeople ||
		max(r.GetEventsWaiting(), r.GetEventsDropped(), r.GetPolicyVersion()) > maxNumber {
		return out, false
	}
	for _, p := range r.GetProblems() {
		if len(p.GetCode()) > maxCode || len(p.GetText()) > maxProblem || len(p.GetRemedy()) > maxProblem {
			return out, false
		}
		out.Problems = append(out.Problems, store.Problem{Code: cleaned(p.GetCode(), maxCode), Text: cleaned(p.GetText(), maxProblem), Remedy: cleaned(p.GetRemedy(), maxProblem)})
	}
	known := make(map[string]bool, len(r.GetPeople()))
	for _, p := range r.GetPeople() {
		id, err := identity.Parse(p.GetKey())
		counts := []uint32{p.GetRecoveryLeft(), p.GetPhones(), p.GetFailures(), p.GetOfflineLogins(), p.GetOfflineLeft().GetValue()}
		if err != nil || known[string(id)] || len(p.GetUser()) > maxName || len(p.GetPushState()) > maxCode || len(p.GetLastFactor()) > maxCode || slices.Max(counts) > math.MaxInt32 {
			return out, false
		}
		known[string(id)] = true
		q := store.Person{User: cleaned(p.GetUser(), maxName), Key: string(id), TOTP: p.GetTotp(), RecoveryLeft: int(p.GetRecoveryLeft()), Phones: int(p.GetPhones()),
			PushState: cleaned(p.GetPushState(), maxCode), LockedUntil: moment(p.GetLockedUntil()), BypassUntil: moment(p.GetBypassUntil()), LastSuccess: moment(p.GetLastSuccess()),
			LastFactor: cleaned(p.GetLastFactor(), maxCode), OfflineReady: p.GetOfflineReady(), Failures: int(p.GetFailures()), OfflineLogins: int(p.GetOfflineLogins())}
		if p.GetOfflineLeft() != nil {
			left := int(p.GetOfflineLeft().GetValue())
			q.OfflineLeft = &left
		}
		out.People = append(out.People, q)
	}
	return out, true
}

// moment is a time of a device's; zero: none, or none that makes sense.
func moment(t *timestamppb.Timestamp) time.Time {
	if !t.IsValid() || t.GetSeconds() == 0 {
		return time.Time{}
	}
	if at := t.AsTime(); at.Year() >= 1970 && at.Year() <= 2200 {
		return at
	}
	return time.Time{}
}

// report keeps how the device stands.
func (st *stream) report(r *authorityv1.Report, now, until time.Time) {
	out, ok := parseReport(st.device, r, now)
	if !ok {
		st.malformed()
		return
	}
	if !st.s.reports.take(st.device, now) {
		st.s.log.Info("a device says too often how it stands; this report is not kept", "device", st.device)
		return
	}
	// Of the places of whoever connects: after a restart all devices come with theirs.
	st.mustAdd(job{until: until, do: func(ctx context.Context) error {
		return use(ctx, st.s.connects, func() error {
			return st.s.store.Change(ctx, func(tx store.Tx) error {
				_, err := tx.PutReport(out)
				return err
			})
		})
	}})
}

// itemAnswered keeps what the device said of something signed: that it does not
// take it and why, and of what is for this device alone also that it did. Of the rest
// only what was refused before: everybody's phones go to every device.
func (st *stream) itemAnswered(ctx context.Context, r *authorityv1.SyncApplied) error {
	kind, user, refused := organisation.Kind(r.GetKind()), r.GetUser(), cleaned(r.GetRefused(), 256)
	if len(kind) > 32 || len(user) > maxName || r.GetVersion() > maxNumber || strings.ContainsRune(string(kind)+user, 0) {
		return nil
	}
	var item store.Item
	keep := false
	if err := st.s.store.View(ctx, func(tx store.Tx) (err error) {
		keep = false
		for _, device := range []string{st.device, ""} {
			if item, err = tx.Item(kind, device, user); errors.Is(err, store.ErrNotFound) || err == nil && item.Version != r.GetVersion() {
				continue
			} else if err != nil {
				return err
			}
			var said store.ItemAnswer
			said, err = tx.ItemAnswer(st.device, kind, user)
			if said.Version == item.Version && said.Refused == refused {
				return nil // with each connection again
			}
			keep = refused != "" || device != "" || err == nil
			break
		}
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	}); err != nil || !keep {
		return err
	}
	return st.s.store.Change(ctx, func(tx store.Tx) error {
		if refused != "" {
			if err := tx.ItemRefused(kind, item.Device, user, item.Version, st.device+": "+refused); err != nil {
				return err
			}
		}
		return tx.PutItemAnswer(store.ItemAnswer{Device: st.device, Kind: kind, User: user, Version: item.Version, Refused: refused, At: st.s.now()})
	})
}

// protocol is the version that this authority speaks.
const protocol = 1

// wrongProtocol says what to do where the agent speaks another version of the
// protocol; "": it does not.
func wrongProtocol(theirs uint32, agent, authority string) string {
	remedy := "update Sallyport on this computer"
	if theirs > protocol {
		remedy = "update the authority first, then the computers"
	}
	if theirs == protocol {
		return ""
	}
	return fmt.Sprintf("the agent, %s, speaks version %d of the protocol, the authority, %s, version %d: %s",
		cmp.Or(agent, "unknown"), theirs, cmp.Or(authority, "unknown"), protocol, remedy)
}

// sendable says whether an item is of any use to a device now.
func sendable(i store.Item, have uint64, now time.Time) bool {
	return i.Version > have && !enrol.Lapsed(i, now)
}
