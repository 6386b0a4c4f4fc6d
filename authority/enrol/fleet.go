package enrol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/organisation"
	"sallyport/internal/textout"
)

// DeviceStatus is how one device stands: what the authority knows, and what the
// device says of itself.
type DeviceStatus struct {
	store.Device
	Online bool
	Node   string // that has its connection
	// Reported says whether Report holds anything: an agent older than reports sends
	// none. Of a list it has no people.
	Reported bool
	Report   store.Report
	// EventsDropped are those of the device that never came, over all the time.
	EventsDropped uint64
	// PolicyNewest is the version of the organisation's newest policy; 0: there is none.
	PolicyNewest uint64
	// Refused are what the device does not take of what was signed for it.
	Refused []store.ItemAnswer
	// Problems need somebody's attention: the device's own, and what is only seen here.
	Problems []store.Problem
}

// NeedsAttention says whether somebody has to look.
func (d *DeviceStatus) NeedsAttention() bool { return len(d.Problems) > 0 }

// State is the device's in one word: "revoked", "online" or "offline".
func (d *DeviceStatus) State() string {
	switch {
	case !d.Revoked.IsZero():
		return "revoked"
	case d.Online:
		return "online"
	}
	return "offline"
}

// Codes of problems that only the authority sees.
const (
	ProblemUnseen  = "not_seen"
	ProblemRefused = "sync_refused"
	ProblemOld     = "agent_old"
	ProblemExpired = "certificate_expired"
)

// reportsSoon is within when a device that has connected has said how it stands.
const reportsSoon = 2 * time.Minute

// Unseen is how long a device may be away before somebody should ask where it is.
const Unseen = 30 * 24 * time.Hour

// Fleet says how every device stands that is not revoked, by name; user: only those
// that the person is allowed on. It reads the whole of it at once, however many there are.
func (s *Service) Fleet(ctx context.Context, user string) (list []DeviceStatus, err error) {
	now := s.now()
	err = s.store.View(ctx, func(tx store.Tx) error {
		devices, err := tx.Devices(user)
		if err != nil {
			return err
		}
		online, err := tx.Online(now)
		if err != nil {
			return err
		}
		reports, err := tx.Reports(now)
		if err != nil {
			return err
		}
		refused, err := tx.ItemsRefused("")
		if err != nil {
			return err
		}
		dropped, err := tx.DroppedEvents()
		if err != nil {
			return err
		}
		newest, err := newestPolicy(tx)
		if err != nil {
			return err
		}
		reportOf := make(map[string]store.Report, len(reports))
		for _, r := range reports {
			reportOf[r.Device] = r
		}
		refusedBy := map[string][]store.ItemAnswer{}
		for _, a := range refused {
			refusedBy[a.Device] = append(refusedBy[a.Device], a)
		}
		list = make([]DeviceStatus, 0, len(devices))
		for _, d := range devices {
			if d.Revoked.IsZero() {
				r, reported := reportOf[d.ID]
				st := s.stand(now, d, online[d.ID], r, reported, refusedBy[d.ID])
				st.EventsDropped, st.PolicyNewest = dropped[d.ID], newest
				list = append(list, st)
			}
		}
		return nil
	})
	return list, err
}

// DeviceStatus says how one device stands, with its people.
func (s *Service) DeviceStatus(ctx context.Context, device string) (st DeviceStatus, err error) {
	now := s.now()
	err = s.store.View(ctx, func(tx store.Tx) error {
		d, err := tx.Device(device)
		if err != nil {
			return err
		}
		node, err := tx.StreamNode(device, now)
		if err != nil {
			return err
		}
		r, err := tx.Report(device)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		reported := err == nil
		for _, p := range r.People {
			if p.LockedUntil.After(now) {
				r.Locked++
			}
		}
		refused, err := tx.ItemsRefused(device)
		if err != nil {
			return err
		}
		st = s.stand(now, d, node, r, reported, refused)
		if st.EventsDropped, err = tx.EventsDropped(device); err != nil {
			return err
		}
		st.PolicyNewest, err = newestPolicy(tx)
		return err
	})
	return st, err
}

// ReportedOf is what each device says that a person can log in with there.
func (s *Service) ReportedOf(ctx context.Context, user string) (list []store.Reported, err error) {
	err = s.store.View(ctx, func(tx store.Tx) (err error) {
		list, err = tx.ReportedOf(user)
		return err
	})
	return list, err
}

func newestPolicy(tx store.Tx) (uint64, error) {
	i, err := tx.Item(organisation.KindPolicy, "", "")
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return i.Version, err
}

func (s *Service) stand(now time.Time, d store.Device, node string, r store.Report, reported bool, refused []store.ItemAnswer) DeviceStatus {
	st := DeviceStatus{Device: d, Online: node != "", Node: node, Reported: reported, Report: r, Refused: refused}
	if !d.Revoked.IsZero() {
		return st
	}
	add := func(code, text, remedy string) {
		st.Problems = append(st.Problems, store.Problem{Code: code, Text: text, Remedy: remedy})
	}
	switch {
	case !st.Online && !now.Before(d.Expires):
		add(ProblemExpired, "Its certificate ended on "+d.Expires.UTC().Format(time.DateOnly)+".", "It is renewed by itself when the computer comes back within 180 days; if it is gone: sallyport-authority device revoke.")
	case !st.Online && now.Sub(laterOf(d.Seen, d.Created)) > Unseen:
		add(ProblemUnseen, "It has not been connected for "+textout.HowLong(now.Sub(laterOf(d.Seen, d.Created)).Round(time.Hour))+".", "Is it still used? If not: sallyport-authority device revoke.")
	}
	if st.Online && !reported && now.Sub(d.Seen) > reportsSoon {
		add(ProblemOld, fmt.Sprintf("Its agent, %s, says nothing of its state: it is older than this authority, %s.", cmp.Or(d.Version, "of no known version"), s.version),
			"Update Sallyport on that computer.")
	}
	for _, a := range refused {
		what := strings.TrimSpace(string(a.Kind) + " " + a.User)
		add(ProblemRefused, fmt.Sprintf("It does not take %s, version %d: %s.", what, a.Version, strings.TrimRight(a.Refused, ".")), s.remedyOf(a, d))
	}
	for _, p := range r.Problems {
		// A lockout ends by itself, and nobody is there to say so.
		if p.Code == "users_locked" && r.Locked == 0 {
			continue
		}
		st.Problems = append(st.Problems, p)
	}
	return st
}

func (s *Service) remedyOf(a store.ItemAnswer, d store.Device) string {
	switch {
	case strings.Contains(a.Refused, "authority.accept"):
		return fmt.Sprintf("If it is to be taken there, add %q to authority.accept in that computer's configuration.", a.Kind)
	case strings.Contains(a.Refused, "knows no such kind"), strings.Contains(a.Refused, "unknown field"):
		return fmt.Sprintf("Its agent, %s, is too old for that: update Sallyport on that computer (this authority is %s).", cmp.Or(d.Version, "of no known version"), cmp.Or(s.version, "newer"))
	case strings.Contains(a.Refused, "expired"):
		return "Ask for it again."
	}
	return "See that computer's log: sallyport events."
}

func laterOf(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
