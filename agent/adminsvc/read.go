package adminsvc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/identity"
	"sallyport/internal/textout"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	lastEvents = 10
	pageLength = 1000   // events sent from one look into the vault
	maxLast    = 10_000 // what --last may ask for
	maxLocked  = 100
)

// Status is what the helpdesk looks at first.
func (s *Service) Status(ctx context.Context, _ *adminv1.StatusRequest) (*adminv1.StatusResponse, error) {
	release, err := s.heavy(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	state := s.State()
	out := &adminv1.StatusResponse{
		Version: state.Version, Started: timestamppb.New(state.Started.Wall),
		Pid: int32(os.Getpid()), Uid: int32(os.Geteuid()), Account: string(identity.Self()),
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
		Vault:      s.vaultStatus(),
		ConfigPath: state.ConfigPath, LoginSocket: state.LoginSocket, AdminSocket: state.AdminSocket,
		LoginsOpen: int32(s.OpenLogins()), RssBytes: rss(),
	}
	var ahead, reported, away []string
	var certificateFrom time.Time
	var now clock.Instant
	f := s.pushFacts()
	rules := s.Store.Policy(f.config)
	out.Policy = rules.Describe()
	marker := ""
	if v, err := s.Store.Vault(); err == nil {
		i := v.Info()
		out.UsersPending, marker = int32(i.Counts[vault.Pending]), i.MarkerError
	}
	err = s.Store.View(func(tx *vault.Tx) (err error) {
		now = tx.Now()
		if out.Authority, certificateFrom, err = f.authorityStatus(tx); err != nil {
			return err
		}
		err = tx.Each(vault.Users, func(_ string, decode func(any) error) error {
			var a factor.Account
			if err := decode(&a); err != nil {
				return err
			}
			if a.IsEnrolled() {
				out.UsersEnrolled++
			}
			standing, err := f.standing(tx, &a)
			if err != nil {
				return err
			}
			switch {
			case a.IsEnrolled() && standing.Reached:
				away = append(away, a.Name)
			case offlineReady(&a):
				out.UsersOfflineReady++
			}
			if a.ClockWasAhead(now) {
				ahead = append(ahead, a.Name)
			}
			if a.Push != nil && a.Push.Reported {
				reported = append(reported, a.Name)
			}
			if a.Lockout.Locked(now) {
				if out.UsersLocked++; len(out.Locked) < maxLocked {
					out.Locked = append(out.Locked, a.Name)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		var from uint64
		if last := tx.LastSeq(); last > lastEvents {
			from = last - lastEvents
		}
		return tx.Events(from, func(e event.Event) bool {
			out.LastEvents = append(out.LastEvents, wireEvent(e))
			return true
		})
	})
	if err != nil && out.GetVault().GetState() == "open" {
		out.Vault.State, out.Vault.Detail = vaultState(err), err.Error()
	}
	for _, e := range s.Store.Unwritten() {
		out.LastEvents = append(out.LastEvents, wireEvent(e))
	}
	if n := len(out.LastEvents); n > lastEvents {
		out.LastEvents = out.LastEvents[n-lastEvents:]
	}
	out.Problems = problems(state, out, marker, ahead, reported)
	if rules.Broken != nil {
		out.Problems = append(out.Problems, &adminv1.Problem{Code: "policy_rules_unusable",
			Text:   "A rule cannot be used, so that what it is about is asked: " + rules.Broken.Error(),
			Remedy: "Mend it; 'sallyport policy test FILE' tries rules before they are in force."})
	}
	if rules.Unreadable != nil && out.GetVault().GetState() == "open" {
		out.Problems = append(out.Problems, &adminv1.Problem{Code: "policy_unreadable",
			Text:   "The organisation's policy cannot be read, so that everybody who is not exempt here is asked: " + rules.Unreadable.Error(),
			Remedy: "Set it anew at the authority (sallyport-authority policy set), or take \"policy\" out of authority.accept."})
	}
	authorityProblems(out.GetAuthority(), certificateFrom, now, func(code, text, remedy string) {
		out.Problems = append(out.Problems, &adminv1.Problem{Code: code, Text: text, Remedy: remedy})
	})
	f.offlineProblems(out.GetAuthority(), away, func(code, text, remedy string) {
		out.Problems = append(out.Problems, &adminv1.Problem{Code: code, Text: text, Remedy: remedy})
	})
	if f.link.Joining != "" && out.GetAuthority() == nil {
		out.Problems = append(out.Problems, &adminv1.Problem{Code: "authority_not_joined_yet",
			Text:   "This computer is to join " + f.link.Joining + " and tries again and again: " + cmp.Or(strings.TrimRight(f.link.LastError, "."), "the first attempt is under way") + ".",
			Remedy: "Let it reach that address; or join again: sallyport join URL."})
	}
	return out, nil
}

func problems(state State, st *adminv1.StatusResponse, marker string, ahead, reported []string) []*adminv1.Problem {
	var list []*adminv1.Problem
	add := func(code, text, remedy string) {
		list = append(list, &adminv1.Problem{Code: code, Text: text, Remedy: remedy})
	}
	if v := st.GetVault(); v.GetState() != "open" {
		add("vault_unavailable", "The vault cannot be used, so everybody who is not exempt is refused: "+v.GetDetail(),
			"See docs/helpdesk.md, \"The vault\"; break-glass accounts still get in at the console.")
	}
	if state.ConfigError != "" {
		effect := "and the last good one is in force"
		if state.ConfigMissing {
			effect = "and was so at the start, so whoever is enrolled or required is refused"
		}
		add("config_broken", "The configuration on disk is broken "+effect+": "+state.ConfigError,
			"Mend the file; 'sallyport config check' says whether it is right.")
	}
	if unknown := state.Config.Unknown; len(unknown) > 0 {
		add("policies_unknown", "This version does not know these policies, and goes on without them: "+strings.Join(unknown, "; "),
			"Update Sallyport, or take them back; the templates must not be newer than the agents.")
	}
	if behind := st.GetVault().GetClockBehind().AsDuration(); behind > 0 {
		add("clock_behind", fmt.Sprintf("The clock lies %s behind a time this computer has seen before.", textout.HowLong(behind)),
			"Set the clock right (timedatectl). If the later time was the wrong one: sallyport clock reset.")
	}
	if n := st.GetUsersLocked(); n > 0 {
		add("users_locked", fmt.Sprintf("%d locked out after wrong codes: %s", n, strings.Join(st.GetLocked(), ", ")),
			"If it was really them: sallyport unlock USER.")
	}
	if n := len(ahead); n > 0 {
		add("clock_was_ahead", fmt.Sprintf("%d logged in while the clock was far ahead, so that their codes are refused: %s", n, strings.Join(ahead[:min(n, maxLocked)], ", ")),
			"Give each a new secret: sallyport enroll USER --replace.")
	}
	if n := len(reported); n > 0 {
		add("push_reported", fmt.Sprintf("%d said on the phone that a login was not theirs, so push is off for them: %s", n, strings.Join(reported[:min(n, maxReported)], ", ")),
			"Somebody may know their password: ask, have it changed, look at the events, then: sallyport push clear USER.")
	}
	if n := st.GetUsersPending(); n > 0 {
		add("users_pending", fmt.Sprintf("%d imported names are not known to this computer.", n),
			"See them: sallyport user list. Try again: sallyport import pending.")
	}
	if marker != "" {
		add("marker_unwritable", "Were the state directory emptied, it would be taken for a first start: "+marker,
			"Let the agent write beside its configuration file.")
	}
	return list
}

// vaultStates are the reasons why a vault is not open, in one word each.
var vaultStates = []struct {
	err  error
	word string
}{
	{vault.ErrMissing, "missing"}, {vault.ErrEmptied, "emptied"}, {vault.ErrRolledBack, "rolled_back"},
	{vault.ErrCopied, "copied"}, {vault.ErrCorrupt, "corrupt"}, {vault.ErrKeyMissing, "key_missing"},
	{vault.ErrKeychain, "keychain_differs"}, {vault.ErrUnwritable, "unwritable"}, {vault.ErrBusy, "busy"}, {vault.ErrUntrusted, "untrusted"}, {vault.ErrNewer, "newer"},
}

func vaultState(err error) string {
	for _, s := range vaultStates {
		if errors.Is(err, s.err) {
			return s.word
		}
	}
	return "unavailable"
}

func (s *Service) vaultStatus() *adminv1.VaultStatus {
	out := VaultStatus(s.Store.Vault())
	if err := s.Store.Unwritable(); err != nil && out.GetState() == "open" {
		out.State, out.Detail = vaultState(err), err.Error()
	}
	return out
}

// VaultStatus describes a vault, or why there is none.
func VaultStatus(v *vault.Vault, err error) *adminv1.VaultStatus {
	if err != nil {
		return &adminv1.VaultStatus{State: vaultState(err), Detail: err.Error()}
	}
	i := v.Info()
	out := &adminv1.VaultStatus{State: "open", Keychain: string(i.Keychain), Id: i.VaultID, Generation: i.Generation, SizeBytes: i.FileSize,
		EventsKept: i.Events, EventsDropped: i.EventsDropped, HighestTime: timestamppb.New(i.Highest)}
	if i.ClockBehind > 0 {
		out.ClockBehind = durationpb.New(i.ClockBehind)
	}
	if i.Problem != "" {
		out.State, out.Detail = "unwritable", i.Problem
	}
	return out
}

// offlineReady says whether the person can log in with no network.
func offlineReady(a *factor.Account) bool { return a.TOTP != nil || len(a.Recovery) > 0 }

// ShowUser is what the helpdesk may know of one record.
func (s *Service) ShowUser(ctx context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	var out *adminv1.User
	f := s.pushFacts()
	err = s.Store.View(func(tx *vault.Tx) error {
		a, err := store.Account(tx, p.key())
		if err != nil {
			return err
		}
		if a == nil && p.name == "" {
			return noRecord(p)
		}
		if a == nil {
			a = &factor.Account{Key: p.key()} // whether they are asked is of interest all the same
		}
		out = wireUser(a, tx.Now())
		out.Resolves, out.Name = p.name != "", cmp.Or(p.name, out.GetName())
		if err := f.read(tx); err != nil {
			return err
		}
		return errors.Join(f.addPush(tx, out, a), f.addOffline(tx, out, a))
	})
	if err != nil {
		return nil, vaultError(err)
	}
	if p.name == "" {
		out.Asked = "not known: there is no such account"
	} else {
		out.Asked = s.asked(ctx, p.name)
	}
	return out, nil
}

func wireUser(a *factor.Account, now clock.Instant) *adminv1.User {
	u := &adminv1.User{Key: a.Key, Name: a.Name, RecoveryLeft: int32(len(a.Recovery)), Failures: int32(a.Lockout.Failures),
		Locked: a.Lockout.Locked(now), OfflineReady: offlineReady(a), EnrolmentOpen: a.EnrolmentOpen(now)}
	if t := a.TOTP; t != nil {
		u.Totp, u.Algorithm, u.Digits, u.PeriodSeconds, u.DriftSteps = true, t.Algorithm, int32(t.Digits), int32(t.Period), int32(t.Drift)
	}
	if b := a.Bypass; b != nil && !b.Expires.Passed(now) {
		u.BypassUntil = timestamppb.New(now.Wall.Add(b.Expires.Left(now)))
	}
	if u.Locked {
		u.LockedFor = durationpb.New(a.Lockout.Until.Left(now))
	}
	if !a.Enrolled.IsZero() {
		u.Enrolled = timestamppb.New(a.Enrolled)
	}
	if !a.LastSuccess.IsZero() {
		u.LastSuccess = timestamppb.New(a.LastSuccess)
	}
	return u
}

// ListUsers lists every record, and the imported names that did not resolve.
func (s *Service) ListUsers(ctx context.Context, _ *adminv1.ListUsersRequest) (*adminv1.ListUsersResponse, error) {
	release, err := s.heavy(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	out := &adminv1.ListUsersResponse{}
	f := s.pushFacts()
	err = s.Store.View(func(tx *vault.Tx) (err error) {
		if err := f.eachUser(tx, func(u *adminv1.User, _ *factor.Account) { out.Users = append(out.Users, u) }); err != nil {
			return err
		}
		out.Pending, err = pendingUsers(tx)
		return err
	})
	if err != nil {
		return nil, vaultError(err)
	}
	for _, u := range out.GetUsers() {
		if id, err := identity.Parse(u.GetKey()); err == nil {
			known, err := s.Names.ByID(ctx, id)
			if err == nil {
				u.Name, u.Resolves = known.Name, true
			} else if !errors.Is(err, accounts.ErrUnknown) {
				break // the directory does not answer: the names kept must do
			}
		}
	}
	return out, nil
}

// Events sends the events kept, and with follow those to come.
func (s *Service) Events(r *adminv1.EventsRequest, stream grpc.ServerStreamingServer[adminv1.Event]) error {
	ctx := stream.Context()
	key := ""
	if r.GetUser() != "" {
		p, err := s.find(ctx, r.GetUser())
		if err != nil {
			return err
		}
		key = p.key()
	}
	after, last := r.GetAfter(), min(int(r.GetLast()), maxLast)
	for {
		v, err := s.Store.Vault()
		if err != nil {
			return vaultError(err)
		}
		changed := v.Changed() // before reading: what comes meanwhile wakes us
		for more := true; more; {
			var batch []event.Event
			if batch, more, err = s.page(ctx, v, &after, key, last); err != nil {
				return err
			}
			for _, e := range batch {
				if err := stream.Send(wireEvent(e)); err != nil {
					return err
				}
			}
		}
		last = 0 // only of what was there at first
		if !r.GetFollow() {
			return nil
		}
		select {
		case <-changed:
			if now, err := s.Store.Vault(); err != nil || now != v {
				return status.Error(codes.Unavailable, "the vault was closed or replaced; start again")
			}
		case <-ctx.Done():
			return nil
		case <-s.Stopping:
			return status.Error(codes.Unavailable, "the agent is stopping")
		}
	}
}

// page reads events after *after, of one key or of all: the last ones, or as many
// as are sent at once; more says that there are others.
func (s *Service) page(ctx context.Context, v *vault.Vault, after *uint64, key string, last int) (batch []event.Event, more bool, err error) {
	release, err := s.heavy(ctx)
	if err != nil {
		return nil, false, err
	}
	defer release()
	err = v.View(func(tx *vault.Tx) error {
		if newest := tx.LastSeq(); last > 0 && key == "" && newest > uint64(last) {
			*after = max(*after, newest-uint64(last))
		}
		return tx.Events(*after, func(e event.Event) bool {
			if more = last == 0 && len(batch) == pageLength; more {
				return false
			}
			*after = e.Seq
			if key == "" || e.Key == key {
				batch = append(batch, e)
			}
			if last > 0 && len(batch) > last {
				batch = batch[1:]
			}
			return true
		})
	})
	return batch, more, vaultError(err)
}

func wireEvent(e event.Event) *adminv1.Event {
	b, err := json.Marshal(e)
	if err != nil { // strings and times: cannot be
		panic(err)
	}
	return &adminv1.Event{Json: b}
}

// ShowConfig lists the configuration in force.
func (s *Service) ShowConfig(context.Context, *adminv1.ShowConfigRequest) (*adminv1.ShowConfigResponse, error) {
	state := s.State()
	out := &adminv1.ShowConfigResponse{Problem: state.ConfigError}
	for _, v := range state.Config.Values {
		out.Values = append(out.Values, &adminv1.ConfigValue{Key: v.Key, Value: v.Value, Source: v.Source})
	}
	if central := s.Store.Policy(&state.Config.Config).Central; central != nil {
		text, err := json.Marshal(central)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		out.OrganisationPolicy = text
	}
	return out, nil
}

// rss is the memory the agent holds, from /proc/self/statm (proc(5)).
func rss() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
