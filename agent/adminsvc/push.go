package adminsvc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/store"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/textout"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	// maxPhones bounds the phones that one person can have enrolled here.
	maxPhones = 8
	// phoneID is how much of a credential id names a phone to people.
	phoneID = 8
	// cutFor is how long the link may be down before that is a problem: laptops
	// sleep, and networks change.
	cutFor = 15 * time.Minute
	// certificateLow is less than what is left when a renewal is first tried
	// (half of 7 days): it has failed for a day and a half.
	certificateLow = 48 * time.Hour
	// maxReported bounds the names in one problem.
	maxReported = 100
)

// Link is the connection to the authority, as this service needs it.
type Link interface {
	// Join buys a certificate with the token and connects; name is what the
	// computer will be called, "" its host name.
	Join(ctx context.Context, by, url, token, name string) error
	// JoinLater is Join, now or as soon as the authority can be reached.
	JoinLater(ctx context.Context, by, url, token, name string) (now bool, err error)
	// Leave forgets the authority and what it signed.
	Leave(ctx context.Context, by string) error
	// State says how the link is.
	State() LinkState
	// EnrolPhone lets one phone enrol. It calls show with the link for the QR
	// code, then, when a key came that proves to be of whoever scanned it, pin;
	// only when pin has put it on disk is the phone told that it is enrolled. It
	// returns when it is over, with ctx at the latest.
	EnrolPhone(ctx context.Context, user string, show func(url string, expires time.Time) error, pin func(push.Approver) error) error
}

// LinkState is how the link to the authority is.
type LinkState struct {
	Connected bool
	Since     time.Time // of being so, or of not being so
	LastError string    // why it is not
	Joining   string    // the authority that is to be joined as soon as it can be reached
	Refused   string    // the authority ended it on purpose: "revoked", ...
	Users     []string  // allowed on this computer; "*": all. Kept while not connected
	HoldsKey  bool      // the organisation key lies on the authority
	Version   string    // of the authority, as it said last
	// Sent is the last event that the authority has, of that device and vault. On
	// disk it stands only now and then.
	SentDevice, SentVault string
	Sent                  uint64
}

// allows says whether the authority lists the user for this computer.
func (l *LinkState) allows(user string) bool {
	return slices.Contains(l.Users, "*") || slices.Contains(l.Users, user)
}

// pushFacts is what decides, beside a person's record, whether push works.
type pushFacts struct {
	config  *config.Config
	link    LinkState
	vaultID string
	joined  *store.Authority // set by read
	limits  offline.Limits   // of logins without contact
}

// pushFacts gathers what the vault does not know. Not to be called in a
// transaction: a configuration that changed is taken here, and kept in the vault.
func (s *Service) pushFacts() *pushFacts {
	f := &pushFacts{config: &s.State().Config.Config}
	f.limits = s.Store.Policy(f.config).OfflineLimits()
	if s.Link != nil {
		f.link = s.Link.State()
	}
	if v, err := s.Store.Vault(); err == nil {
		f.vaultID = v.Info().VaultID
	}
	return f
}

// read adds what the vault knows.
func (f *pushFacts) read(tx *vault.Tx) (err error) {
	f.joined, err = store.JoinedTo(tx)
	return err
}

// limits are those of the configuration.
func limits(c *config.Push) push.Limits {
	return push.Limits{Concurrent: c.Concurrent, PerResource: c.PerService, Gap: time.Duration(c.Gap), InFiveMinutes: c.InFiveMinutes,
		InAnHour: c.InAnHour, Misses: c.Misses, Pause: time.Duration(c.Pause)}
}

// The words of User.push_state.
const (
	pushReady        = "ready"
	pushNoPhone      = "no_phone"
	pushNoCode       = "no_code"
	pushReported     = "reported"
	pushPaused       = "paused"
	pushTooMany      = "too_many"
	pushNotJoined    = "not_joined"
	pushNotConnected = "not_connected"
	pushNotAllowed   = "not_allowed"
	pushOff          = "off"
)

// signedPhones are those that the organisation signed for the user.
func (f *pushFacts) signedPhones(tx *vault.Tx, user string) ([]push.Approver, error) {
	if user == "" || !slices.Contains(f.config.Authority.Accept, string(organisation.KindApprovers)) {
		return nil, nil
	}
	item, err := store.Signed(tx, organisation.KindApprovers, user)
	return item.Approvers, err
}

// addPush fills in what the helpdesk wants to know of a person's push.
func (f *pushFacts) addPush(tx *vault.Tx, u *adminv1.User, a *factor.Account) error {
	now := tx.Now()
	central, err := f.signedPhones(tx, u.GetName())
	if err != nil {
		return err
	}
	usable := 0
	add := func(phones []push.Approver, source string) {
		for _, p := range phones {
			u.Phones = append(u.Phones, wirePhone(p, source))
			if !p.Synced || f.config.Push.AllowSynced {
				usable++
			}
		}
	}
	add(a.Phones, "here")
	add(central, "authority")
	var state push.State
	if a.Push != nil {
		state = *a.Push
		state.Begun = slices.Clone(state.Begun)
	}
	// Asked of a copy: it also counts what nobody answered since.
	refused := state.Begin("", "", now, limits(&f.config.Push))
	u.PushReported = state.Reported
	if left := state.Paused.Left(now); !state.Paused.IsZero() && left > 0 {
		u.PushPausedFor = durationpb.New(left)
	}
	u.PushState = pushReady
	for _, c := range []struct {
		is    bool
		state string
	}{
		{usable == 0, pushNoPhone}, {a.TOTP == nil, pushNoCode}, {!f.config.Push.Enabled, pushOff}, {f.joined == nil, pushNotJoined},
		{refused == push.Reported, pushReported}, {refused == push.Paused, pushPaused},
		{len(f.link.Users) > 0 && !f.link.allows(u.GetName()), pushNotAllowed}, {!f.link.Connected, pushNotConnected},
		{refused != "", pushTooMany},
	} {
		if c.is {
			u.PushState = c.state
			break
		}
	}
	u.PushReady = u.PushState == pushReady
	return nil
}

func wirePhone(p push.Approver, source string) *adminv1.Phone {
	return &adminv1.Phone{Id: shortID(p), Name: p.Phone, Source: source, Synced: p.Synced}
}

func shortID(p push.Approver) string {
	id := longID(p)
	return id[:min(phoneID, len(id))]
}

// longID is what shortID begins. A command would take a "-" in front for an option.
func longID(p push.Approver) string {
	return strings.TrimLeft(push.CounterKey(p.CredentialID), "-")
}

// mayEnrolPhone says why the person cannot have a phone enrolled here, if so.
func (f *pushFacts) mayEnrolPhone(tx *vault.Tx, p person, replace bool) error {
	who := cmp.Or(p.name, p.key())
	refuse := func(format string, args ...any) error {
		return status.Errorf(codes.FailedPrecondition, format, args...)
	}
	a, err := store.Account(tx, p.key())
	if err != nil {
		return err
	}
	if err := f.read(tx); err != nil {
		return err
	}
	switch {
	case p.name == "":
		return status.Errorf(codes.NotFound, "%s has no name on this computer now: a phone approves for a name", who)
	case f.joined == nil:
		return refuse("this computer has joined no authority, which rings the phones: sallyport join URL --token-stdin")
	case !f.config.Push.Enabled:
		return refuse("the configuration has push.enabled = false: no phone would ever ring")
	case !a.IsEnrolled():
		return refuse("codes first: nobody is push-only, as a phone may have no signal: sallyport enroll %s", who)
	case !f.link.Connected:
		return refuse("the authority is not connected, so no phone can enrol now: %s", cmp.Or(f.link.LastError, "see: sallyport status"))
	case len(f.link.Users) > 0 && !f.link.allows(p.name):
		return refuse("the authority does not list %s for this computer; there: sallyport-authority device allow %s %s", who, f.joined.DeviceID, textout.QuoteArg(who))
	case !replace && len(a.Phones) >= maxPhones:
		return refuse("%[1]s has %[2]d phones here already: sallyport phones remove %[1]s PHONE, or enroll %[1]s --push --replace", who, len(a.Phones))
	}
	return nil
}

// EnrolPush lets one phone enrol to approve a person's logins.
func (s *Service) EnrolPush(r *adminv1.EnrolPushRequest, stream grpc.ServerStreamingServer[adminv1.EnrolPushResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return err
	}
	f := s.pushFacts()
	if err := vaultError(s.Store.View(func(tx *vault.Tx) error { return f.mayEnrolPhone(tx, p, r.GetReplace()) })); err != nil {
		return err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.Stopping:
			cancel()
		case <-done:
		}
	}()
	var pinned *adminv1.Phone
	show := func(url string, expires time.Time) error {
		return stream.Send(&adminv1.EnrolPushResponse{Url: url, Expires: timestamppb.New(expires)})
	}
	pin := func(key push.Approver) error {
		if err := ctx.Err(); err != nil { // withdrawn
			return err
		}
		// From here on it is not withdrawn: what is on disk is what the phone is told.
		if err := s.pinPhone(context.WithoutCancel(ctx), p, key, r.GetReplace()); err != nil {
			return err
		}
		pinned = wirePhone(key, "here")
		return nil
	}
	err = s.Link.EnrolPhone(ctx, p.name, show, pin)
	if pinned != nil {
		// It is on disk and counts, whatever became of telling the phone so.
		return stream.Send(&adminv1.EnrolPushResponse{Phone: pinned})
	}
	select {
	case <-s.Stopping:
		return status.Error(codes.Unavailable, "the agent is stopping; start again")
	default:
	}
	if err == nil {
		err = errors.New("the enrolment ended without a phone")
	}
	return linkError(ctx, err)
}

// linkError turns what the link says into a status.
func linkError(ctx context.Context, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// pinPhone puts a phone's key into the person's record.
func (s *Service) pinPhone(ctx context.Context, p person, key push.Approver, replace bool) error {
	f := s.pushFacts()
	if key.Synced && !f.config.Push.AllowSynced {
		return status.Error(codes.FailedPrecondition, "the phone's passkey is synced to other devices, which push.allow_synced = false refuses")
	}
	text := fmt.Sprintf("%s (%s)", key.Phone, shortID(key))
	if replace {
		text += ", in the place of those before"
	}
	return s.change(ctx, p, false, event.Event{Name: event.PhoneEnrolled, Factor: string(factor.Push), Text: text},
		func(tx *vault.Tx, a *factor.Account, _ []byte) error {
			if !a.IsEnrolled() { // removed while the phone was being looked for
				return noRecord(p)
			}
			if replace {
				if err := f.forgetPhones(tx, a, func(push.Approver) bool { return true }); err != nil {
					return err
				}
			}
			// The same passkey again: its new registration counts.
			a.Phones = slices.DeleteFunc(a.Phones, func(k push.Approver) bool { return bytes.Equal(k.CredentialID, key.CredentialID) })
			if len(a.Phones) >= maxPhones {
				return status.Errorf(codes.FailedPrecondition, "%s has %d phones here already", cmp.Or(p.name, p.key()), len(a.Phones))
			}
			a.Phones = append(a.Phones, key)
			return nil
		})
}

// forgetPhones removes phones that were enrolled here, and their counters: a
// passkey that the organisation signed as well keeps its own.
func (f *pushFacts) forgetPhones(tx *vault.Tx, a *factor.Account, which func(push.Approver) bool) error {
	central, err := f.signedPhones(tx, a.Name)
	if err != nil {
		return err
	}
	a.Phones = slices.DeleteFunc(a.Phones, func(k push.Approver) bool {
		if !which(k) {
			return false
		}
		same := func(c push.Approver) bool { return bytes.Equal(c.CredentialID, k.CredentialID) }
		if a.Push != nil && !slices.ContainsFunc(central, same) {
			delete(a.Push.Counters, push.CounterKey(k.CredentialID))
		}
		return true
	})
	return nil
}

// RemovePhone forgets a phone that was enrolled here.
func (s *Service) RemovePhone(ctx context.Context, r *adminv1.RemovePhoneRequest) (*adminv1.User, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	who := cmp.Or(p.name, p.key())
	matches := func(k push.Approver) bool {
		return k.Phone == r.GetPhone() || len(r.GetPhone()) >= phoneID && strings.HasPrefix(longID(k), r.GetPhone())
	}
	f := s.pushFacts()
	e := event.Event{Name: event.PhoneRemoved, Factor: string(factor.Push), User: p.name, Key: p.key(), By: caller(ctx)}
	err = s.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.Account(tx, p.key())
		if err != nil {
			return err
		}
		if a == nil {
			a = &factor.Account{Key: p.key(), Name: p.name}
		}
		a.Name = cmp.Or(p.name, a.Name)
		central, err := f.signedPhones(tx, a.Name)
		if err != nil {
			return err
		}
		var here []push.Approver
		for _, k := range a.Phones {
			if matches(k) {
				here = append(here, k)
			}
		}
		switch {
		case len(here) > 1:
			return status.Errorf(codes.InvalidArgument, "%d phones of %s are called %q; name one by its id: sallyport phones %s", len(here), who, r.GetPhone(), who)
		case len(here) == 0 && slices.ContainsFunc(central, matches):
			return status.Errorf(codes.FailedPrecondition, "the phone %q was enrolled at the authority; remove it there: sallyport-authority phone remove", r.GetPhone())
		case len(here) == 0:
			return status.Errorf(codes.NotFound, "%s has no phone %q here; see: sallyport phones %s", who, r.GetPhone(), who)
		}
		if err := f.forgetPhones(tx, a, matches); err != nil {
			return err
		}
		e.Text = fmt.Sprintf("%s (%s)", here[0].Phone, shortID(here[0]))
		e.User = a.Name
		tx.Append(e)
		return store.Put(tx, a)
	})
	if err != nil {
		return nil, vaultError(err)
	}
	s.Store.Log(e)
	return s.ShowUser(ctx, &adminv1.UserRequest{User: r.GetUser()})
}

// ClearPush switches a person's push on again.
func (s *Service) ClearPush(ctx context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	if err := s.change(ctx, p, false, event.Event{Name: event.PushCleared, Factor: string(factor.Push)},
		func(_ *vault.Tx, a *factor.Account, _ []byte) error {
			if a.Push != nil {
				a.Push.Clear()
			}
			return nil
		}); err != nil {
		return nil, err
	}
	return s.ShowUser(ctx, r)
}

// Join joins this computer to an authority.
func (s *Service) Join(ctx context.Context, r *adminv1.JoinRequest) (*adminv1.JoinResponse, error) {
	if s.Link == nil {
		return nil, status.Error(codes.FailedPrecondition, "this agent was started without a way to an authority")
	}
	u, err := url.Parse(r.GetUrl())
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, status.Errorf(codes.InvalidArgument, "%q is not an authority's address: it looks like https://authority.example.com:7443", r.GetUrl())
	}
	if _, err := organisation.ParseToken(r.GetToken()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error()) // does not quote it
	}
	if name := r.GetName(); len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, status.Error(codes.InvalidArgument, "a computer's name has at most 64 printable ASCII characters")
	}
	var a *store.Authority
	if err := s.Store.View(func(tx *vault.Tx) (err error) { a, err = store.JoinedTo(tx); return err }); err != nil {
		return nil, vaultError(err)
	}
	if a != nil {
		return nil, status.Errorf(codes.AlreadyExists, "this computer has joined %s already; to leave it: sallyport leave", a.URL)
	}
	now := true
	if r.GetKeepTrying() {
		now, err = s.Link.JoinLater(ctx, caller(ctx), r.GetUrl(), r.GetToken(), r.GetName())
	} else {
		err = s.Link.Join(ctx, caller(ctx), r.GetUrl(), r.GetToken(), r.GetName())
	}
	out := &adminv1.JoinResponse{}
	if err != nil || !now {
		return out, linkError(ctx, err)
	}
	f := s.pushFacts()
	err = s.Store.View(func(tx *vault.Tx) (err error) { out.Authority, _, err = f.authorityStatus(tx); return err })
	if err != nil {
		return nil, vaultError(err)
	}
	return out, nil
}

// Leave forgets the authority.
func (s *Service) Leave(ctx context.Context, _ *adminv1.LeaveRequest) (*adminv1.LeaveResponse, error) {
	var a *store.Authority
	if err := s.Store.View(func(tx *vault.Tx) (err error) { a, err = store.JoinedTo(tx); return err }); err != nil {
		return nil, vaultError(err)
	}
	if a == nil || s.Link == nil {
		return nil, status.Error(codes.NotFound, "this computer has joined no authority")
	}
	if err := s.Link.Leave(ctx, caller(ctx)); err != nil {
		return nil, linkError(ctx, err)
	}
	return &adminv1.LeaveResponse{}, nil
}

// authorityStatus describes how this computer stands with its authority; nil
// when it has joined none. notBefore is when its certificate begins.
func (f *pushFacts) authorityStatus(tx *vault.Tx) (out *adminv1.AuthorityStatus, notBefore time.Time, err error) {
	if err := f.read(tx); err != nil || f.joined == nil {
		return nil, notBefore, err
	}
	a, l := f.joined, &f.link
	out = &adminv1.AuthorityStatus{Url: a.URL, DeviceId: a.DeviceID, DeviceName: a.DeviceName, Connected: l.Connected, LastError: l.LastError,
		Refused: l.Refused, Users: l.Users, HoldsOrganisationKey: l.HoldsKey, Version: l.Version}
	if !l.Since.IsZero() {
		out.Since = timestamppb.New(l.Since)
	}
	if len(a.Chain) > 0 {
		if c, err := x509.ParseCertificate(a.Chain[0]); err == nil {
			out.CertificateExpires, notBefore = timestamppb.New(c.NotAfter), c.NotBefore
		}
	}
	settings, err := store.Signed(tx, organisation.KindSettings, "")
	if err != nil {
		return nil, notBefore, err
	}
	if t := settings.Settings; t != nil {
		out.Organisation, out.PageOrigin, out.PageSeparate = t.Name, t.Origin, otherHost(t.Origin, t.API)
	}
	var sent uint64
	if a.EventsVault == f.vaultID {
		sent = a.EventsSent
	}
	if l := f.link; l.SentDevice == a.DeviceID && l.SentVault == f.vaultID {
		sent = max(sent, l.Sent)
	}
	last := tx.LastSeq()
	out.EventsWaiting = last - min(last, sent)
	if f.config.Authority.AllowExemptions {
		out.Exceptions = append(out.Exceptions, "authority.allow_exemptions = true: its policy may exempt people and networks")
	}
	return out, notBefore, f.addContact(tx, out)
}

// otherHost says whether the page comes from another host than the authority's
// API: another port would be the same machine.
func otherHost(page, api string) bool {
	p, err1 := url.Parse(page)
	a, err2 := url.Parse(api)
	return err1 == nil && err2 == nil && p.Hostname() != "" && a.Hostname() != "" && !strings.EqualFold(p.Hostname(), a.Hostname())
}

// authorityProblems are what is wrong between this computer and its authority.
func authorityProblems(a *adminv1.AuthorityStatus, notBefore time.Time, now clock.Instant, add func(code, text, remedy string)) {
	if a == nil {
		return
	}
	wall := now.Wall
	const meanwhile = " Logins go on with codes; no phone rings."
	switch down := wall.Sub(a.GetSince().AsTime()); {
	case a.GetConnected():
	case a.GetRefused() != "":
		text := map[string]string{
			"revoked":           "The authority has revoked this computer.",
			"unknown":           "The authority does not know this computer: it was restored from a backup, or set up anew.",
			"vault_rolled_back": "The authority says that this computer's vault went back to an older state: a restored backup, or a copy.",
			"replaced":          "Another computer, or a copy of this one, connects with this computer's certificate.",
			"version":           "This agent and the authority are too far apart in age: " + strings.TrimSuffix(a.GetLastError(), ".") + ".",
		}[a.GetRefused()]
		remedy := map[string]string{
			"revoked":           "If it is to be used again: sallyport leave, then join with a new token. If nobody knows why: tell security.",
			"unknown":           "sallyport leave, then join with a new token: sallyport-authority token create.",
			"vault_rolled_back": "Restored on purpose? sallyport leave, then join with a new token. If not: tell security.",
			"replaced":          "Was it cloned? Let every copy leave and join with a token of its own.",
			"version":           "Update the older of the two; the authority first, where both are old.",
		}[a.GetRefused()]
		add("authority_refused", cmp.Or(text, "The authority ended the link: "+a.GetRefused()+".")+meanwhile, cmp.Or(remedy, "See the authority: sallyport-authority device show."))
	case down > cutFor:
		why := ""
		if a.GetLastError() != "" {
			why = ": " + a.GetLastError()
		}
		add("authority_unreachable", fmt.Sprintf("%s has not been reached for %s%s.%s", a.GetUrl(), textout.HowLong(down.Round(time.Minute)), strings.TrimSuffix(why, "."), meanwhile),
			"Look at the network, the firewall and the authority (sallyport-authority status). It is tried again by itself.")
	}
	if expires := a.GetCertificateExpires(); expires != nil {
		switch left := expires.AsTime().Sub(wall); {
		case wall.Add(5 * time.Minute).Before(notBefore):
			add("authority_clock", fmt.Sprintf("This computer's certificate begins at %s, and its clock says %s: the clock is behind, and the authority cannot be reached.",
				notBefore.UTC().Format(time.RFC3339), wall.UTC().Format(time.RFC3339)), "Set the clock right.")
		case left <= 0:
			add("certificate_expired", fmt.Sprintf("This computer's certificate for the authority ended %s ago.", textout.HowLong((-left).Round(time.Minute))),
				"It is renewed by itself once the authority is reached, up to 180 days after its end; later: sallyport leave, then join with a new token. Is the clock right?")
		case left < certificateLow:
			add("certificate_ending", fmt.Sprintf("This computer's certificate for the authority ends in %s and could not be renewed.", textout.HowLong(left.Round(time.Minute))),
				"It is renewed by itself once the authority is reached; if it is connected, the agent's log says why not.")
		}
	}
}
