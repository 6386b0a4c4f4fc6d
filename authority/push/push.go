// Package push takes a challenge to the phones and brings the answer back. It
// limits how often phones ring, and relays: whether an answer opens anything is
// for the device to verify (internal/factor/push).
package push

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/webpush"
	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
)

// Bounds of what a device sends.
const (
	maxChallenge   = 2048
	maxCredentials = 16
	maxResource    = 128
)

// Bounds of what a phone answers.
const (
	maxAuthenticatorData = 1024
	maxClientData        = 2048
	maxSignature         = 1024
)

// maxLife bounds how far ahead a challenge may expire.
const maxLife = 10 * time.Minute

// Reasons why no phone rings, beside those of internal/factor/push.
const (
	Malformed   push.Reason = "malformed"
	NotAllowed  push.Reason = "user_not_allowed" // on this device
	NoPhone     push.Reason = "no_phone"         // none that the device would take an answer from
	Unavailable push.Reason = "authority_database_unavailable"
)

// Ringer sends a message to a phone; authority/webpush is one. webpush.ErrGone
// says that the subscription is to be forgotten.
type Ringer interface {
	Ring(ctx context.Context, subscription, payload []byte, ttl time.Duration) error
}

// Options are what a Service needs.
type Options struct {
	Store  store.Store
	Limits push.Limits
	// Life bounds how long a challenge is open; 0: a minute.
	Life   time.Duration
	Ringer Ringer
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: none
}

// Service relays. Safe for concurrent use.
type Service struct {
	Options
	mu      sync.Mutex
	slots   map[string]chan struct{} // messages that are under way, by push service
	queued  chan struct{}            // those and all that wait
	ringing sync.WaitGroup
	life    context.Context // of messages
	end     context.CancelFunc
}

// How many messages to phones may be under way to one push service, and wait, at
// once. One that finds no room is not sent, nor one whose challenge is over by its
// turn: the page asks for what is open when it is looked at.
const (
	ringsAtOnce = 64
	ringsQueued = 4096
	ringTimeout = 10 * time.Second
	maxServices = 64
	// waitTime is how long Wait waits for messages that are under way.
	waitTime = 5 * time.Second
)

// New returns a Service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Life <= 0 {
		o.Life = time.Minute
	}
	o.Life = min(o.Life, maxLife)
	s := &Service{Options: o, slots: map[string]chan struct{}{}, queued: make(chan struct{}, ringsQueued)}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Request is what a device asks for.
type Request struct {
	ID            string
	User          string
	Challenge     []byte
	CredentialIDs [][]byte
	Resource      string
}

// Refused is the error of Begin when no phone rings.
type Refused struct {
	Reason push.Reason
	Text   string
}

func (e *Refused) Error() string { return string(e.Reason) + ": " + e.Text }

// IsID says whether s is an id of a challenge or an enrolment: 128 bits in
// base64url, in their one spelling.
func IsID(s string) bool {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && len(b) == 16 && base64.RawURLEncoding.EncodeToString(b) == s
}

// check judges a request by itself and returns how long it is open.
func (r *Request) check(device string, now time.Time, most time.Duration) (c push.Challenge, life time.Duration, err error) {
	bad := func(text string) (push.Challenge, time.Duration, error) {
		return c, 0, &Refused{Malformed, text}
	}
	if !IsID(r.ID) {
		return bad("the challenge's id is not 22 characters of base64url")
	}
	if enrol.CheckUser(r.User) != nil {
		return bad("the user's name is malformed")
	}
	if len(r.Challenge) > maxChallenge || len(r.Resource) > maxResource || strings.ContainsRune(r.Resource, 0) {
		return bad("the challenge or its resource is too long")
	}
	if len(r.CredentialIDs) == 0 || len(r.CredentialIDs) > maxCredentials ||
		slices.ContainsFunc(r.CredentialIDs, func(id []byte) bool { return len(id) == 0 || len(id) > push.MaxCredentialID }) {
		return bad("it names no passkeys that could answer, or too many")
	}
	c, err = push.ParseChallenge(r.Challenge)
	switch {
	case err != nil:
		return bad("the challenge is malformed")
	case c.ID != r.ID, c.User != r.User:
		return bad("the challenge is another than the request says")
	case c.Device != device:
		return bad("the challenge is another device's")
	}
	// The device's clock may be a little off, so its life counts from here; one that
	// is far off is not taken at all.
	ahead := time.Unix(c.Expires, 0).Sub(now)
	life = time.Duration(c.Expires-c.Issued) * time.Second
	if c.Issued <= 0 || c.Expires <= c.Issued || c.Expires-c.Issued > int64(maxLife/time.Second) || ahead > maxLife || ahead < -maxLife {
		return bad("the challenge expires too far ahead, or the computer's clock is wrong")
	}
	return c, min(life, most), nil
}

// Begin limits and stores a device's challenge and has the user's phones ring. It
// returns their names. No phone rings: *Refused, or an error of the store's.
func (s *Service) Begin(ctx context.Context, device string, r Request) (phones string, err error) {
	now := s.Now()
	c, life, err := r.check(device, now, s.Life)
	if err != nil {
		return "", err
	}
	instant := clock.Instant{Wall: now}
	var refused *Refused
	var rings [][]byte // hashes of sessions
	var subscriptions [][]byte
	var name string
	again := false
	begin := func(tx store.Tx) error {
		refused, rings, subscriptions, phones = nil, nil, nil, ""
		refuse := func(why push.Reason, text string) error {
			refused = &Refused{why, text}
			return enrol.Record(tx, now, event.Event{Name: event.PushFailed, User: r.User, Service: r.Resource, Remote: shown(c.From),
				Reason: string(why), Factor: "push", By: "device:" + device, Text: text})
		}
		d, err := tx.Device(device)
		if err != nil {
			return err
		}
		name = d.Name
		if !d.Revoked.IsZero() {
			return enrol.ErrRevoked
		}
		_, err = tx.User(r.User)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || !enrol.Allowed(d, r.User) {
			return refuse(NotAllowed, "the user is not allowed on this computer")
		}
		approvers, err := tx.Approvers(r.User)
		if err != nil {
			return err
		}
		approvers = slices.DeleteFunc(approvers, func(a store.Approver) bool { return !mayAnswer(a, r.User, device, r.CredentialIDs) })
		if len(approvers) == 0 {
			return refuse(NoPhone, "no phone is enrolled here that this computer would take an answer from")
		}
		if again {
			return refuse(Malformed, "a challenge of this id is there already")
		}
		state, err := tx.PushState(r.User, device)
		if err != nil {
			return err
		}
		paused := state.Paused
		why := state.Begin(r.ID, r.Resource, instant, s.Limits)
		// The one before may have been missed, and a pause begun by that: it is kept
		// either way.
		if state.Paused != paused {
			if err := recordPause(tx, now, r.User, device); err != nil {
				return err
			}
		}
		if err := tx.PutPushState(r.User, device, state); err != nil {
			return err
		}
		if why != "" {
			return refuse(why, text(why))
		}
		err = tx.CreateChallenge(store.Challenge{ID: r.ID, Device: device, User: r.User, Resource: r.Resource, Bytes: r.Challenge,
			CredentialIDs: r.CredentialIDs, Created: now, Expires: now.Add(life)})
		if err != nil {
			again = errors.Is(err, store.ErrExists)
			return err
		}
		var names []string
		for _, a := range approvers {
			if !slices.Contains(names, a.Phone) {
				names = append(names, a.Phone)
			}
			sessions, err := tx.Sessions(a.ID)
			if err != nil {
				return err
			}
			for _, session := range sessions {
				if len(session.Subscription) > 0 {
					rings, subscriptions = append(rings, session.Hash), append(subscriptions, session.Subscription)
				}
			}
		}
		phones = strings.ToValidUTF8(cut(strings.Join(names, ", "), 64), "")
		return nil
	}
	err = s.Store.Change(ctx, begin)
	if again { // and counted for nothing
		err = s.Store.Change(ctx, begin)
	}
	switch {
	case err != nil:
		return "", err
	case refused != nil:
		s.Log.Warn("no phone rings", "event", event.PushFailed, "user", r.User, "device", device, "reason", refused.Reason, "text", refused.Text)
		return "", refused
	}
	payload, err := json.Marshal(message{"login", r.ID, shown(r.User), shown(name), shown(c.Service), shown(c.From), c.Expires})
	if err != nil {
		return "", err
	}
	for i, session := range rings {
		s.ring(session, subscriptions[i], payload, life)
	}
	return phones, nil
}

// text says to people why no phone rings.
func text(why push.Reason) string {
	switch why {
	case push.TooMany:
		return "too many concurrent push requests"
	case push.Paused:
		return "too many were denied or not answered in a row; push is off for a while"
	case push.Reported:
		return "the user reported a login; push is off until the helpdesk clears it"
	}
	return string(why)
}

// message is what wakes a phone. It is shown on its lock screen and decides
// nothing: the page fetches the challenge.
type message struct {
	Type    string `json:"type"`
	ID      string `json:"id"`
	User    string `json:"user"`
	Device  string `json:"device"`
	Service string `json:"service"`
	From    string `json:"from"`
	Expires int64  `json:"expires"`
}

// shown bounds a text of a device's for a lock screen or an event.
func shown(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.ToValidUTF8(cut(s, 320), "")
}

func cut(s string, n int) string { return s[:min(n, len(s))] }

// mayAnswer says whether a phone is one for this challenge: of this user, signed
// or pinned by this very device, and one that the device named.
func mayAnswer(a store.Approver, user, device string, credentials [][]byte) bool {
	return a.User == user && (a.Device == "" && !a.Pending || a.Device == device && device != "") &&
		slices.ContainsFunc(credentials, func(id []byte) bool { return bytes.Equal(id, a.CredentialID) })
}

// ring wakes one phone, in its own time.
func (s *Service) ring(session, subscription, payload []byte, ttl time.Duration) {
	select {
	case s.queued <- struct{}{}:
	default:
		s.Log.Warn("a phone is not rung: too many messages wait for the push services")
		return
	}
	s.ringing.Go(func() {
		defer func() { <-s.queued }()
		open, cancel := context.WithTimeout(s.life, ttl)
		defer cancel()
		slots := s.slotsOf(subscription)
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-open.Done():
		}
		if open.Err() != nil {
			s.Log.Warn("a phone is not rung: its push service is too slow")
			return
		}
		ctx, cancel := context.WithTimeout(open, ringTimeout)
		defer cancel()
		err := s.Ringer.Ring(ctx, subscription, payload, ttl)
		switch {
		case errors.Is(err, webpush.ErrGone):
			if err := s.forget(ctx, session, subscription); err != nil {
				s.Log.Error("a subscription that is gone could not be forgotten", "err", err)
			}
		case err != nil:
			s.Log.Warn("a phone could not be rung", "err", err)
		}
	})
}

// slotsOf are those of a subscription's push service: one that hangs holds up no
// other's messages.
func (s *Service) slotsOf(subscription []byte) chan struct{} {
	var j struct {
		Endpoint string `json:"endpoint"`
	}
	_ = json.Unmarshal(subscription, &j) // what is malformed, the Ringer refuses
	name := ""
	if u, err := url.Parse(j.Endpoint); err == nil {
		labels := strings.Split(u.Hostname(), ".") // of wns2-db5p.notify.windows.com there are many
		name = strings.Join(labels[max(0, len(labels)-2):], ".")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.slots) >= maxServices && s.slots[name] == nil {
		name = ""
	}
	if s.slots[name] == nil {
		s.slots[name] = make(chan struct{}, ringsAtOnce)
	}
	return s.slots[name]
}

// forget takes a subscription from its session, unless there is a new one by now.
func (s *Service) forget(ctx context.Context, session, subscription []byte) error {
	return s.Store.Update(ctx, func(tx store.Tx) error {
		x, err := tx.Session(session)
		if errors.Is(err, store.ErrNotFound) || err == nil && !bytes.Equal(x.Subscription, subscription) {
			return nil
		} else if err != nil {
			return err
		}
		x.Subscription = nil
		return tx.PutSession(x)
	})
}

// Wait returns when no message to a phone is under way any more. Those that take
// long are given up, and so is every later one.
func (s *Service) Wait() {
	late := time.AfterFunc(waitTime, s.end)
	defer late.Stop()
	s.ringing.Wait()
}

// Answer records what an approver answered and tells the device's node; on disk
// when it returns nil. The first answer wins: store.ErrUsed. A challenge that is
// not this approver's is as one that is not there: store.ErrNotFound.
func (s *Service) Answer(ctx context.Context, by store.Approver, challenge string, a push.Answer) error {
	switch {
	case !IsID(challenge):
		return store.ErrNotFound
	case a.Decision != push.Approve && a.Decision != push.Deny && a.Decision != push.Report,
		len(a.AuthenticatorData) < 37 || len(a.AuthenticatorData) > maxAuthenticatorData,
		len(a.ClientData) == 0 || len(a.ClientData) > maxClientData,
		len(a.Signature) == 0 || len(a.Signature) > maxSignature:
		return enrol.ErrInvalid
	}
	now := s.Now()
	return s.Store.Change(ctx, func(tx store.Tx) error {
		// As it is now, not as it was when the page was opened.
		approver, err := tx.Approver(by.ID)
		if err != nil {
			return err
		}
		c, err := tx.Challenge(challenge)
		if err != nil {
			return err
		}
		if !mayAnswer(approver, c.User, c.Device, c.CredentialIDs) || !bytes.Equal(a.CredentialID, approver.CredentialID) {
			return store.ErrNotFound
		}
		if err := tx.Answer(challenge, a, now); err != nil {
			return err
		}
		return tx.Notify(store.Notice{Topic: store.TopicAnswer, Device: c.Device, ID: c.ID})
	})
}

func recordPause(tx store.Tx, now time.Time, user, device string) error {
	return enrol.Record(tx, now, event.Event{Name: event.PushPaused, User: user, Factor: "push", By: "device:" + device, Text: text(push.Paused)})
}

// outcomes are how a login may have ended, and what that is to the limits. One
// that was cancelled is as one that nobody answered: it stays pending until its gap
// is over, else whoever has the password would ring, cancel, and ring again.
var outcomes = map[string]push.Reason{
	"approved": push.Approved, "code": "", "denied": push.Denied, "reported": push.Reported,
	"wrong_number": push.WrongNumber, "timed_out": push.TimedOut, "cancelled": push.TimedOut,
}

// End records how a device's login ended. What was ended before stays as it was.
func (s *Service) End(ctx context.Context, device, id, outcome string) error {
	ended, known := outcomes[outcome]
	if !known || !IsID(id) {
		return enrol.ErrInvalid
	}
	now := s.Now()
	instant := clock.Instant{Wall: now}
	return s.Store.Change(ctx, func(tx store.Tx) error {
		c, err := tx.Challenge(id)
		if err != nil {
			return err
		}
		if c.Device != device {
			return store.ErrNotFound
		}
		if c.Outcome != "" {
			return nil
		}
		if err := tx.EndChallenge(id, outcome, now); err != nil {
			return err
		}
		// A device that lies about an approval frees nothing by it.
		why := ended
		if why == push.Approved && (c.Answer == nil || c.Answer.Decision != push.Approve) {
			why = push.TimedOut
		}
		state, err := tx.PushState(c.User, device)
		if err != nil {
			return err
		}
		paused := state.Paused
		if !state.End(id, why, instant, s.Limits) {
			return nil
		}
		if err := tx.PutPushState(c.User, device, state); err != nil {
			return err
		}
		if state.Paused != paused {
			if err := recordPause(tx, now, c.User, device); err != nil {
				return err
			}
		}
		if why != push.Reported {
			return nil
		}
		return enrol.Record(tx, now, event.Event{Name: event.PushReported, User: c.User, Service: c.Resource, Reason: string(why),
			Factor: "push", By: "device:" + device, Text: "this was not me, the user says"})
	})
}

// Clear switches push on again for a user, on one device or ("") on each.
func (s *Service) Clear(ctx context.Context, by, user, device string) error {
	now := s.Now()
	return s.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.User(user); err != nil {
			return err
		}
		var devices []store.Device
		if device == "" {
			list, err := tx.Devices(user)
			if err != nil {
				return err
			}
			devices = list
		} else {
			d, err := tx.Device(device)
			if err != nil {
				return err
			}
			if !enrol.Allowed(d, user) {
				return store.ErrNotFound
			}
			devices = []store.Device{d}
		}
		for _, d := range devices {
			state, err := tx.PushState(user, d.ID)
			if err != nil {
				return err
			}
			if state.Misses == 0 && state.Paused.IsZero() && !state.Reported && len(state.Begun) == 0 {
				continue
			}
			state.Clear()
			if err := tx.PutPushState(user, d.ID, state); err != nil {
				return err
			}
		}
		return enrol.Record(tx, now, event.Event{Name: event.PushCleared, User: user, By: by, Text: device})
	})
}
