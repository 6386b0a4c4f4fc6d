package link

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/authority/enrol"
	"sallyport/authority/push"
	"sallyport/authority/store"
	"sallyport/internal/event"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// Reasons why no phone may enrol, beside those of authority/push.
const tooManyEnrolments = "too_many_enrolments"

// Register joins a device.
func (s *Service) Register(ctx context.Context, r *authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	var j *enrol.Joined
	err = use(ctx, s.connects, func() (err error) {
		j, err = s.enrol.Register(ctx, enrol.JoinRequest{Token: r.GetToken(), CSR: r.GetCsr(), Name: r.GetName(), Serial: r.GetSerial(),
			SealingKey: r.GetSealingKey(), BypassKey: r.GetBypassKey(), Version: r.GetVersion(), Platform: r.GetPlatform(), Remote: who.address})
		return err
	})
	if err != nil {
		if errors.Is(err, enrol.ErrToken) || errors.Is(err, enrol.ErrInvalid) {
			s.failures.take(who.address, s.now())
		}
		return nil, err
	}
	return &authorityv1.RegisterResponse{DeviceId: j.Device, Chain: j.Chain, OrganisationKey: s.keys.Organisation, Settings: j.Settings}, nil
}

// Renew renews a device's certificate.
func (s *Service) Renew(ctx context.Context, r *authorityv1.RenewRequest) (*authorityv1.RenewResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	err = use(ctx, s.connects, func() (err error) {
		chain, err = s.enrol.Renew(ctx, who.Device, r.GetCsr())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authorityv1.RenewResponse{Chain: chain}, nil
}

// receive takes one message of the device's. It does not wait for the database.
func (st *stream) receive(m *authorityv1.DeviceMessage) {
	now := st.s.now()
	st.mu.Lock()
	ending := st.ending
	st.mu.Unlock()
	switch {
	case ending:
		return
	case !st.messages.take(now, st.s.rates.messages.burst, st.s.rates.messages.gap):
		st.end("flooding", "the device sends too much")
		return
	case st.who.Expired(now):
		// It may well have a newer one, for its next stream.
		st.end("certificate_expired", "the certificate that this stream was opened with has expired; connect again")
		return
	}
	durable := now.Add(retryFor)
	switch m := m.GetMessage().(type) {
	case *authorityv1.DeviceMessage_Probe:
		st.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_ProbeReply{ProbeReply: &authorityv1.ProbeReply{Nonce: m.Probe.GetNonce()}}})
	case *authorityv1.DeviceMessage_PushBegin:
		id := m.PushBegin.GetId()
		if !push.IsID(id) {
			st.malformed()
			return
		}
		if !st.begins.take(now, st.s.rates.pushes.burst, st.s.rates.pushes.gap) || !st.add(job{do: func(ctx context.Context) error { return st.begin(ctx, m.PushBegin) }}) {
			st.started(id, factor.TooMany, "")
		}
	case *authorityv1.DeviceMessage_PushEnd:
		st.mustAdd(job{until: durable, do: func(ctx context.Context) error {
			err := use(ctx, st.s.database, func() error { return st.s.push.End(ctx, st.device, m.PushEnd.GetId(), m.PushEnd.GetOutcome()) })
			if !unavailable(err) {
				delete(st.answered, m.PushEnd.GetId())
			}
			return st.mine(err)
		}})
	case *authorityv1.DeviceMessage_EnrolmentBegin:
		id := m.EnrolmentBegin.GetId()
		if !push.IsID(id) {
			st.malformed()
			return
		}
		if !st.enrolments.take(now, enrolBurst, enrolGap) || !st.add(job{do: func(ctx context.Context) error { return st.beginEnrolment(ctx, m.EnrolmentBegin) }}) {
			st.enrolmentStarted(id, tooManyEnrolments)
		}
	case *authorityv1.DeviceMessage_EnrolmentEnd:
		e := m.EnrolmentEnd
		st.mustAdd(job{until: durable, do: func(ctx context.Context) error {
			err := use(ctx, st.s.database, func() error {
				return st.s.enrol.EndDeviceEnrolment(ctx, st.device, e.GetId(), e.GetAccepted(), e.GetReason(), e.GetCredentialId())
			})
			if !unavailable(err) {
				delete(st.keyed, e.GetId())
			}
			return st.mine(err)
		}})
	case *authorityv1.DeviceMessage_SyncApplied:
		j := job{until: durable, do: func(ctx context.Context) error {
			return use(ctx, st.s.database, func() error { return st.itemAnswered(ctx, m.SyncApplied) })
		}}
		if a := m.SyncApplied; a.GetRefused() == "" && a.GetKind() == string(organisation.KindApprovers) {
			_ = st.add(j) // there may be thousands, and next to none of them is kept
		} else {
			st.mustAdd(j)
		}
	case *authorityv1.DeviceMessage_Report:
		st.report(m.Report, now, durable)
	case *authorityv1.DeviceMessage_Escrow:
		if st.escrowed {
			return // once on a stream: each is an event
		}
		st.escrowed = true
		if !st.add(job{do: func(ctx context.Context) error { return st.escrow(ctx, m.Escrow.GetBypassKey()) }}) {
			st.end("flooding", "the device sends too much")
		}
	default: // a second Hello, or nothing
		st.malformed()
	}
}

func (st *stream) malformed() { st.end("malformed", "a message is malformed") }

// mustAdd is for what is not answered: whoever sends more than is taken is cut off.
func (st *stream) mustAdd(j job) {
	if !st.add(j) {
		st.end("flooding", "the device sends too much")
	}
}

// mine drops the errors that are the device's own doing: it named what is not
// there, or is another's.
func (st *stream) mine(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, enrol.ErrInvalid) || errors.Is(err, store.ErrUsed) {
		st.s.log.Info("a device named what is not its own, or malformed", "device", st.device, "err", err)
		return nil
	}
	return err
}

func (st *stream) started(id string, refused factor.Reason, phones string) {
	st.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_PushStarted{
		PushStarted: &authorityv1.PushStarted{Id: id, Refused: string(refused), Phone: phones}}})
}

func (st *stream) begin(ctx context.Context, r *authorityv1.PushBegin) error {
	ctx, cancel := context.WithTimeout(ctx, st.s.beginTime)
	defer cancel()
	// Each that is refused is an event: who asks on and on for one person is heard
	// no more for a while.
	user := r.GetUser()
	person := st.device + "\x00" + user[:min(320, len(user))]
	if st.s.refusals.empty(person, st.s.now()) {
		st.started(r.GetId(), factor.TooMany, "")
		return nil
	}
	var phones string
	err := use(ctx, st.s.database, func() (err error) {
		phones, err = st.s.push.Begin(ctx, st.device, push.Request{ID: r.GetId(), User: r.GetUser(), Challenge: r.GetChallenge(),
			CredentialIDs: r.GetCredentialIds(), Resource: r.GetResource()})
		return err
	})
	var no *push.Refused
	switch {
	case err == nil:
		st.started(r.GetId(), "", phones)
	case errors.As(err, &no):
		st.s.refusals.take(person, st.s.now())
		st.started(r.GetId(), no.Reason, "")
	case errors.Is(err, enrol.ErrRevoked):
		st.end("revoked", "this device is revoked")
	default:
		st.started(r.GetId(), push.Unavailable, "")
		return err
	}
	return nil
}

func (st *stream) enrolmentStarted(id, refused string) {
	m := &authorityv1.EnrolmentStarted{Id: id, Refused: refused}
	if refused == "" {
		m.Url = st.s.enrol.Page()
	}
	st.send(&authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_EnrolmentStarted{EnrolmentStarted: m}})
}

func (st *stream) beginEnrolment(ctx context.Context, r *authorityv1.EnrolmentBegin) error {
	refused := ""
	var err error
	if !r.GetExpires().IsValid() {
		refused = string(push.Malformed)
	} else {
		err = use(ctx, st.s.database, func() error {
			return st.s.enrol.BeginDeviceEnrolment(ctx, st.device, r.GetId(), r.GetUser(), r.GetExpires().AsTime())
		})
	}
	switch {
	case err == nil:
	case errors.Is(err, enrol.ErrInvalid), errors.Is(err, store.ErrExists):
		refused, err = string(push.Malformed), nil
	case errors.Is(err, enrol.ErrNotAllowed):
		refused, err = string(push.NotAllowed), nil
	case errors.Is(err, enrol.ErrRevoked):
		st.end("revoked", "this device is revoked")
		return nil
	default:
		refused = string(push.Unavailable)
	}
	st.enrolmentStarted(r.GetId(), refused)
	return err
}

// cleaned bounds a text of a device's.
func cleaned(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		// Control characters, and those that turn the direction of writing around.
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(n, len(s))], "")
}

// escrow keeps the key of the device's offline bypasses, and says that it did. One
// that was not asked for is not kept: whoever has a copy of a device's certificate
// could put theirs in the place of it, and the helpdesk's answers would open nothing.
func (st *stream) escrow(ctx context.Context, key []byte) error {
	if !st.wantsKey {
		st.s.log.Warn("a device sends a key of offline bypasses that it was not asked for; it is not kept", "device", st.device)
		return nil
	}
	var kept bool
	err := use(ctx, st.s.database, func() (err error) {
		kept, err = st.s.enrol.Escrow(ctx, st.device, key)
		return err
	})
	if err != nil || !kept {
		return st.mine(err)
	}
	st.wantsKey = false
	st.mu.Lock()
	users := st.users
	st.mu.Unlock()
	st.send(st.welcome(users))
	return nil
}

func (st *stream) welcome(users []string) *authorityv1.AuthorityMessage {
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_Welcome{Welcome: &authorityv1.Welcome{
		Version: st.s.version, Users: users, HoldsOrganisationKey: st.s.keys.HoldsOrganisationKey(), TakesReports: true, WantsBypassKey: st.wantsKey}}}
}

func answerMessage(c store.Challenge) *authorityv1.AuthorityMessage {
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_PushAnswer{PushAnswer: &authorityv1.PushAnswer{
		Id: c.ID, Decision: string(c.Answer.Decision), CredentialId: c.Answer.CredentialID, AuthenticatorData: c.Answer.AuthenticatorData,
		ClientData: c.Answer.ClientData, Signature: c.Answer.Signature}}}
}

func keyMessage(e store.Enrolment) *authorityv1.AuthorityMessage {
	r := e.Registration
	return &authorityv1.AuthorityMessage{Message: &authorityv1.AuthorityMessage_EnrolmentKey{EnrolmentKey: &authorityv1.EnrolmentKey{
		Id: e.ID, CredentialId: r.CredentialID, PublicKey: r.PublicKey, AuthenticatorData: r.AuthenticatorData, Phone: r.Phone, Mac: e.MAC}}}
}

// Bounds of a batch of events.
const (
	maxEvents = 500
	maxEvent  = 8 << 10
	// Of one device, in kilobytes: a full file at once, and 50 a second later on. A
	// device that is broken into shall not fill the authority's disk in a night.
	uploadBurst = 64 << 10
	uploadGap   = 20 * time.Millisecond
	// uploadCalls are the batches of one device at once: those of a full file.
	uploadCalls = 300
)

// UploadEvents keeps a device's events, each once.
func (s *Service) UploadEvents(ctx context.Context, r *authorityv1.UploadEventsRequest) (*authorityv1.UploadEventsResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	now := s.now()
	list, err := parseEvents(who.Device, r, now)
	if err != nil {
		return nil, err
	}
	size := 1024 * len(list) / 4 // what the database needs beside the text
	for _, e := range list {
		size += len(e.JSON)
	}
	if !s.uploads.takeN(who.Device, now, (size+1023)/1024) {
		return nil, status.Error(codes.ResourceExhausted, "this device sends too many events; the rest is taken later")
	}
	var last uint64
	err = use(ctx, s.database, func() error {
		return s.store.Change(ctx, func(tx store.Tx) error {
			var missing uint64
			if last, missing, err = tx.TakeEvents(list, r.GetDropped()); err != nil || missing == 0 {
				return err
			}
			return enrol.Record(tx, now, event.Event{Name: enrol.EventsDropped, By: "device:" + who.Device,
				Text: strconv.FormatUint(missing, 10) + " events of this computer never came: they were dropped there before they could be sent, or this database is an older one put back"})
		})
	})
	if err != nil {
		return nil, err
	}
	return &authorityv1.UploadEventsResponse{LastSeq: last}, nil
}

func parseEvents(device string, r *authorityv1.UploadEventsRequest, now time.Time) ([]store.Event, error) {
	bad := func(text string) ([]store.Event, error) { return nil, status.Error(codes.InvalidArgument, text) }
	if id := r.GetVaultId(); id == "" || len(id) > 64 || !plain(id) {
		return bad("the vault's id is malformed")
	}
	if n := len(r.GetEvents()); n == 0 || n > maxEvents {
		return bad("a batch has 1 to 500 events")
	}
	list := make([]store.Event, 0, len(r.GetEvents()))
	last := uint64(0)
	for _, b := range r.GetEvents() {
		var e event.Event
		if len(b) > maxEvent || !utf8.Valid(b) || json.Unmarshal(b, &e) != nil || !ordinary(b) {
			return bad("an event is malformed, or longer than 8192 bytes")
		}
		if e.Seq <= last || e.Seq > maxNumber {
			return bad("the events' numbers do not rise")
		}
		if name := string(e.Name); name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return bad("an event's name is malformed")
		}
		if y := e.Time.Year(); y < 1970 || y > 2200 {
			e.Time = now
		}
		last = e.Seq
		list = append(list, store.Event{Device: device, VaultID: r.GetVaultId(), Seq: e.Seq, Time: e.Time, Kept: now,
			Name: string(e.Name), User: cleaned(e.User, 320), JSON: b})
	}
	return list, nil
}

// Bounds of an event's JSON: no agent comes near them.
const (
	maxNesting = 4
	maxDigits  = 20
)

// ordinary says whether every receiver of events takes this JSON, which is valid. One
// that it refuses holds up all that come after it, and a device may be hostile: some
// take no half of a surrogate pair, no number beyond a float64, or no deep nesting
// (RFC 8259 sections 6, 8.2 and 9).
func ordinary(b []byte) bool {
	depth, digits, quoted := 0, 0, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case quoted && c == '\\':
			if i++; b[i] == 'u' && (b[i+1] == 'd' || b[i+1] == 'D') && b[i+2] >= '8' {
				return false // agents write all but control characters as they are
			}
		case c == '"':
			quoted, digits = !quoted, 0
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxNesting {
				return false
			}
		case c == '}' || c == ']':
			depth--
			digits = 0
		case c >= '0' && c <= '9':
			if digits++; digits > maxDigits {
				return false
			}
		case digits > 0 && (c == 'e' || c == 'E'):
			return false
		default:
			digits = 0
		}
	}
	return true
}
