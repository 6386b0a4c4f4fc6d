// Package enrol is who belongs to the organisation: its keys, the devices that
// joined, its users, their phones, and everything that the organisation key signs
// for the devices.
//
// Every operation is one transaction, with the event that reports it.
package enrol

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

// Events of the authority itself, beside those of internal/event. Add, never
// rename.
const (
	TokenCreated     event.Name = "token_created"
	TokenRefused     event.Name = "token_refused" // unknown, used, expired, or another computer's
	DeviceJoined     event.Name = "device_joined"
	DeviceRevoked    event.Name = "device_revoked"
	UserAdded        event.Name = "user_added"
	UserRemoved      event.Name = "user_removed"
	UserAllowed      event.Name = "user_allowed"
	UserDisallowed   event.Name = "user_disallowed"
	EnrolmentOpened  event.Name = "enrolment_opened"
	EnrolmentRefused event.Name = "enrolment_refused"
	PhoneEnrolled    event.Name = "phone_enrolled"
	PhoneRemoved     event.Name = "phone_removed"
	ManifestSigned   event.Name = "manifest_signed" // what was signed elsewhere came back
	TOTPIssued       event.Name = "totp_issued"
	RecoveryIssued   event.Name = "recovery_issued"
	BypassIssued     event.Name = "bypass_issued"
	UnlockIssued     event.Name = "unlock_issued"     // a device is to end a lockout
	PushClearIssued  event.Name = "push_clear_issued" // and to let push ring again
	PolicyChanged    event.Name = "policy_changed"
	SettingsChanged  event.Name = "settings_changed"
	VaultRolledBack  event.Name = "vault_rolled_back"
	// OfflineBypassAnswered: the helpdesk answered the challenge on a screen, and
	// BypassKeyEscrowed: a device that had joined before gave the key for it.
	OfflineBypassAnswered event.Name = "offline_bypass_answered"
	BypassKeyEscrowed     event.Name = "bypass_key_escrowed"
	// EscrowKeyUnusable: a node started without the key that those are sealed with.
	EscrowKeyUnusable event.Name = "escrow_key_unusable"
	EventsDropped     event.Name = "events_dropped" // by a device whose file was full
	EventsMissed      event.Name = "events_missed"  // by an outlet that took none for too long

	// Of the console.
	OperatorAdded          event.Name = "operator_added"
	OperatorRemoved        event.Name = "operator_removed"
	OperatorRoleChanged    event.Name = "operator_role_changed"
	OperatorInvited        event.Name = "operator_invited"
	OperatorPasskeyAdded   event.Name = "operator_passkey_added"
	OperatorPasskeyRemoved event.Name = "operator_passkey_removed"
	OperatorLogin          event.Name = "operator_login"
	OperatorLoginRefused   event.Name = "operator_login_refused" // a known passkey, and something was wrong with it
	OperatorLogout         event.Name = "operator_logout"
	OperatorRefused        event.Name = "operator_refused"   // asked for what their role may not do
	ApprovalRequested      event.Name = "approval_requested" // an action waits for a second operator
	ApprovalGiven          event.Name = "approval_given"
	ApprovalRefused        event.Name = "approval_refused" // or taken back by who asked
)

// Errors that callers tell apart.
var (
	// ErrInvalid: what was asked for is malformed; the message says what.
	ErrInvalid = errors.New("not valid")
	// ErrToken: the enrolment token is not good. It says no more to whoever holds it.
	ErrToken = errors.New("the enrolment token is not good: it is unknown, used, expired or bound to another computer")
	// ErrRevoked: the device is.
	ErrRevoked = errors.New("this device is revoked")
	// ErrKey: the device has another key by now, or there is no such device.
	ErrKey = errors.New("this device is not known by this key")
	// ErrNotAllowed: the user is not allowed on the device.
	ErrNotAllowed = errors.New("the user is not allowed on this computer")
	// ErrNotSigned: the organisation key has not signed yet what is needed.
	ErrNotSigned = errors.New("the organisation's key has not signed the settings yet: sallyport-authority manifest pending, sign, import")
)

func invalid(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
}

// Options are what a Service needs.
type Options struct {
	Store    store.Store
	Keys     *Keys
	Settings organisation.Settings // as configured
	Version  string                // of the authority
	Now      func() time.Time      // nil: time.Now
	Log      *slog.Logger          // nil: none
}

// Service does the operations. Safe for concurrent use.
type Service struct {
	store    store.Store
	keys     *Keys
	settings organisation.Settings
	version  string
	now      func() time.Time
	log      *slog.Logger
	reports  *reports
}

// reports bounds the events that strangers can cause, from however many addresses:
// so many at once, and one every so often. It counts those it passes over.
type reports struct {
	mu     sync.Mutex
	free   time.Time // when all of the burst is there again
	passed int
}

const unknownToken = "unknown"

const (
	reportsBurst = 100
	reportsGap   = 6 * time.Second
)

func (r *reports) take(now time.Time) (passed int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.free.Before(now) {
		r.free = now
	}
	next := r.free.Add(reportsGap)
	if next.Sub(now) > reportsBurst*reportsGap {
		r.passed++
		return 0, false
	}
	r.free = next
	passed, r.passed = r.passed, 0
	return passed, true
}

// New returns a Service.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{store: o.Store, keys: o.Keys, settings: o.Settings, version: o.Version, now: o.Now, log: o.Log, reports: new(reports)}
}

// On is the same Service with what it does done in that store.
func (s *Service) On(st store.Store) *Service {
	other := *s
	other.store = st
	return &other
}

// Keys returns the keys.
func (s *Service) Keys() *Keys { return s.keys }

// RelyingParty is where the phones' passkeys are used.
func (s *Service) RelyingParty() push.RelyingParty {
	return push.RelyingParty{ID: s.settings.RPID, Origin: s.settings.Origin}
}

// Page is the address that a phone enrols at, without a fragment.
func (s *Service) Page() string { return s.settings.Origin + "/" }

// Record keeps an event of the authority's own.
func Record(tx store.Tx, now time.Time, e event.Event) error {
	e.Time = now.UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = tx.AddEvents([]store.Event{{Time: e.Time, Kept: e.Time, Name: string(e.Name), User: e.User, JSON: b}})
	return err
}

// update runs one operation with its event, and logs the event once it is on disk.
func (s *Service) update(ctx context.Context, fn func(tx store.Tx, now time.Time) (event.Event, error)) error {
	return s.write(ctx, s.store.Update, fn)
}

func (s *Service) write(ctx context.Context, how func(context.Context, func(store.Tx) error) error, fn func(tx store.Tx, now time.Time) (event.Event, error)) error {
	var e event.Event
	now := s.now()
	err := how(ctx, func(tx store.Tx) (err error) {
		if e, err = fn(tx, now); err != nil || e.Name == "" {
			return err
		}
		return Record(tx, now, e)
	})
	if err == nil && e.Name != "" {
		s.log.LogAttrs(ctx, slog.LevelInfo, e.Text, slog.Any("", e))
	}
	return err
}

// maxUser bounds a user's name, in bytes.
const maxUser = 320

// CheckUser says what is wrong with a user's name.
func CheckUser(name string) error {
	switch {
	case name == "" || len(name) > maxUser:
		return invalid("a user's name has 1 to %d bytes", maxUser)
	case !printable(name) || strings.TrimSpace(name) != name:
		return invalid("the user's name %q has characters in it that cannot be shown, or begins or ends with a space", name)
	case strings.ContainsAny(name, "*,"):
		return invalid("the user's name %q has a comma or an asterisk in it", name)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Everyone is the entry of Device.Users that allows every user.
const Everyone = "*"

// Allowed says whether a user is allowed on a device.
func Allowed(d store.Device, user string) bool {
	return slices.Contains(d.Users, user) || slices.Equal(d.Users, []string{Everyone})
}

func (s *Service) checkUsers(tx store.Tx, users []string) error {
	if slices.Equal(users, []string{Everyone}) {
		return nil
	}
	if len(users) > 1000 {
		return invalid("%d users on one device; 1000 at most, or * for everyone", len(users))
	}
	for _, u := range users {
		if err := s.known(tx, u); err != nil {
			return err
		}
	}
	return nil
}

// known says that a user is one of the authority's.
func (s *Service) known(tx store.Tx, user string) error {
	if err := CheckUser(user); err != nil {
		return err
	}
	_, err := tx.User(user)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("no user %q here; add it with: sallyport-authority user add %s: %w", user, user, err)
	}
	return err
}

// TokenRequest says what an enrolment token is good for.
type TokenRequest struct {
	Users  []string      // allowed on the device; "*" alone: everyone
	Serial string        // of the one computer; "" = any
	Life   time.Duration // 0: a day
}

// CreateToken makes an enrolment token. by is who asked for it.
func (s *Service) CreateToken(ctx context.Context, by string, r TokenRequest) (organisation.Token, store.Token, error) {
	if r.Life == 0 {
		r.Life = 24 * time.Hour
	}
	t := organisation.Token{CA: s.keys.CAHash(), Organisation: sha256.Sum256(s.keys.Organisation)}
	switch {
	case r.Life < time.Minute || r.Life > 30*24*time.Hour:
		return t, store.Token{}, invalid("a token lives for a minute to 30 days, not %v", r.Life)
	case len(r.Serial) > maxSerial || !printable(r.Serial):
		return t, store.Token{}, invalid("a serial number has at most %d printable bytes", maxSerial)
	}
	_, _ = rand.Read(t.Secret[:]) // never fails: crypto/rand
	hash := sha256.Sum256(t.Secret[:])
	var kept store.Token
	err := s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		if err := s.checkUsers(tx, r.Users); err != nil {
			return event.Event{}, err
		}
		kept = store.Token{Hash: hash[:], Users: r.Users, Serial: r.Serial, Created: now, Expires: now.Add(r.Life), By: by}
		text := "for " + strings.Join(r.Users, ", ")
		if r.Serial != "" {
			text += ", bound to the serial number " + r.Serial
		}
		return event.Event{Name: TokenCreated, By: by, Text: clip(text)}, tx.CreateToken(kept)
	})
	return t, kept, err
}

// clip bounds the text of an event.
func clip(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Bounds of what a device says of itself.
const (
	maxName    = 64
	maxSerial  = 128
	maxVersion = 64
)

// JoinRequest is a device that wants to join.
type JoinRequest struct {
	Token      []byte
	CSR        []byte
	Name       string
	Serial     string
	SealingKey []byte
	BypassKey  []byte // of offline bypasses; nil: an older agent
	Version    string
	Platform   string
	Remote     string // address, for the event
}

// Joined is what it gets.
type Joined struct {
	Device   string
	Chain    [][]byte
	Settings []byte // signed
}

// CheckAgent says what is wrong with what a device says of its agent.
func CheckAgent(version, platform string) error {
	if len(version) > maxVersion || len(platform) > maxVersion || !printable(version+platform) {
		return invalid("version and platform have at most %d printable bytes", maxVersion)
	}
	return nil
}

// Register joins a device: a token, once, for a certificate.
func (s *Service) Register(ctx context.Context, r JoinRequest) (*Joined, error) {
	if len(r.Token) != 20 {
		return nil, invalid("the token's secret has %d bytes, not 20", len(r.Token))
	}
	key, err := parseCSR(r.CSR)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if err := CheckAgent(r.Version, r.Platform); err != nil {
		return nil, err
	}
	switch {
	case r.Name == "" || len(r.Name) > maxName || !printable(r.Name):
		return nil, invalid("a computer's name has 1 to %d printable bytes", maxName)
	case len(r.Serial) > maxSerial || !printable(r.Serial):
		return nil, invalid("a serial number has at most %d printable bytes", maxSerial)
	case len(r.SealingKey) != 32:
		return nil, invalid("the sealing key has %d bytes, not 32", len(r.SealingKey))
	}
	if len(r.BypassKey) > 0 {
		if err := checkBypassKey(r.BypassKey); err != nil {
			return nil, err
		}
	}
	hash, err := keyHash(key)
	if err != nil {
		return nil, err
	}
	now := s.now()
	j := &Joined{Device: newDeviceID()}
	chain, expires, err := s.keys.issue(j.Device, key, now)
	if err != nil {
		return nil, err
	}
	j.Chain = chain
	tokenHash := sha256.Sum256(r.Token)
	why := ""
	// A Change: all that decides is the token, which it writes; and many computers
	// join at once.
	err = s.write(ctx, s.store.Change, func(tx store.Tx, now time.Time) (e event.Event, err error) {
		why = ""
		item, err := tx.Item(organisation.KindSettings, "", "")
		if errors.Is(err, store.ErrNotFound) {
			return e, ErrNotSigned
		} else if err != nil {
			return e, err
		}
		j.Settings = item.Envelope
		t, err := tx.UseToken(tokenHash[:], j.Device, now)
		switch {
		case errors.Is(err, store.ErrNotFound):
			why = unknownToken
		case errors.Is(err, store.ErrUsed):
			why = "used or expired"
		case err != nil:
			return e, err
		case t.Serial != "" && subtle.ConstantTimeCompare([]byte(t.Serial), []byte(r.Serial)) != 1:
			why = "bound to the serial number " + t.Serial
		}
		if why != "" {
			return e, ErrToken
		}
		err = tx.PutDevice(store.Device{ID: j.Device, Name: r.Name, Serial: r.Serial, Platform: r.Platform, Version: r.Version,
			SealingKey: r.SealingKey, Users: t.Users, KeyHash: hash, Expires: expires, Created: now})
		if err == nil && len(r.BypassKey) > 0 {
			err = s.putEscrow(tx, j.Device, r.BypassKey, now)
		}
		return event.Event{Name: DeviceJoined, By: "device:" + j.Device, Remote: r.Remote,
			Text: clip(r.Name + ", for " + strings.Join(t.Users, ", ") + ", with a token of " + t.By)}, err
	})
	if errors.Is(err, ErrToken) {
		// The token stays as it was. That somebody tried is worth knowing.
		// Who has no token at all may come from any number of addresses.
		passed, ok := 0, true
		if why == unknownToken {
			passed, ok = s.reports.take(now)
		}
		if !ok {
			return nil, err
		}
		text := r.Name + " came with an enrolment token that is " + why
		if passed > 0 {
			text += fmt.Sprintf(" (and %d others before it, of which there is no event)", passed)
		}
		report := s.update(ctx, func(store.Tx, time.Time) (event.Event, error) {
			return event.Event{Name: TokenRefused, Remote: r.Remote, Reason: "token_refused", Text: clip(text)}, nil
		})
		if report != nil {
			s.log.Error("an event could not be kept", "event", TokenRefused, "err", report)
		}
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// nextKey is the setting with the hash of a key that a device renewed for and has
// not used yet: if the answer to its Renew is lost, it still has the old one.
func nextKey(device string) string { return "next_key/" + device }

// Check returns the device of a client certificate, or ErrRevoked or ErrKey.
func (s *Service) Check(ctx context.Context, i Identity) (store.Device, error) {
	var d store.Device
	var next []byte
	err := s.store.View(ctx, func(tx store.Tx) (err error) {
		if d, err = tx.Device(i.Device); err != nil {
			return err
		}
		if next = nil; !bytesEqual(d.KeyHash, i.KeyHash) {
			next, err = tx.Setting(nextKey(i.Device))
		}
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return d, ErrKey
	case err != nil:
		return d, err
	case !d.Revoked.IsZero():
		return d, ErrRevoked
	case bytesEqual(d.KeyHash, i.KeyHash):
		return d, nil
	case !bytesEqual(next, i.KeyHash):
		return d, ErrKey
	}
	// The new key's first use: from here on the old one is none.
	err = s.store.Update(ctx, func(tx store.Tx) (err error) {
		if d, err = tx.Device(i.Device); err != nil {
			return err
		}
		next, err := tx.Setting(nextKey(i.Device))
		switch {
		case err != nil:
			return err
		case !d.Revoked.IsZero():
			return ErrRevoked
		case bytesEqual(d.KeyHash, i.KeyHash):
			return nil
		case !bytesEqual(next, i.KeyHash):
			return ErrKey
		}
		d.KeyHash = i.KeyHash
		return errors.Join(tx.PutDevice(d), tx.PutSetting(nextKey(i.Device), nil))
	})
	return d, err
}

func bytesEqual(a, b []byte) bool { return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1 }

// Renew issues a new certificate for a device whose present one Check has taken.
func (s *Service) Renew(ctx context.Context, device string, csr []byte) ([][]byte, error) {
	key, err := parseCSR(csr)
	if err != nil {
		return nil, invalid("%v", err)
	}
	hash, err := keyHash(key)
	if err != nil {
		return nil, err
	}
	chain, expires, err := s.keys.issue(device, key, s.now())
	if err != nil {
		return nil, err
	}
	err = s.store.Update(ctx, func(tx store.Tx) error {
		d, err := tx.Device(device)
		if err != nil {
			return err
		}
		if !d.Revoked.IsZero() {
			return ErrRevoked
		}
		d.Expires = expires
		if err := tx.PutDevice(d); err != nil || bytesEqual(d.KeyHash, hash) {
			return err
		}
		return tx.PutSetting(nextKey(device), hash)
	})
	if err != nil {
		return nil, err
	}
	return chain, nil
}
