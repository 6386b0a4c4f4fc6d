package link

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/factor/push"
	"sallyport/internal/factor/totp"
	"sallyport/internal/organisation"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	maxUser      = 320
	maxApprovers = 16
	maxReason    = 200
	maxBypass    = 7 * 24 * time.Hour
	// ackBurst answers go at once, the others with a gap; maxAcks wait.
	ackBurst = 40
	ackGap   = 100 * time.Millisecond
	maxAcks  = 5000
	// maxRefusals bounds the events of refused items, so that nobody fills the file
	// with them; by time since boot.
	maxRefusals    = 20
	refusalsWithin = time.Hour
)

// checkUser bounds a user's name.
func checkUser(user string) error {
	if user == "" || len(user) > maxUser || !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("the user's name is malformed")
	}
	return nil
}

// change is what an item does to the vault, besides being kept. e are the events
// that it makes beside sync_applied, whose text it completes.
type change func(tx *vault.Tx, had store.Item, item *store.Item) (e []event.Event, text string, err error)

// kinds are what can be signed. Whatever is not here is refused.
var kinds = map[organisation.Kind]struct {
	user   bool // it is about one
	device bool // for one device
	// prepare parses and looks names up, outside of the transaction.
	prepare func(ctx context.Context, l *Link, a *store.Authority, e *organisation.Envelope) (change, error)
}{
	organisation.KindSettings:  {prepare: prepareSettings},
	organisation.KindApprovers: {user: true, prepare: prepareApprovers},
	organisation.KindPolicy:    {prepare: preparePolicy},
	organisation.KindTOTP:      {user: true, device: true, prepare: prepareTOTP},
	organisation.KindRecovery:  {user: true, device: true, prepare: prepareRecovery},
	organisation.KindBypass:    {user: true, device: true, prepare: prepareBypass},
	organisation.KindUnlock: {user: true, device: true, prepare: prepareAction(event.UserUnlocked, "", "the lockout is ended", func(a *factor.Account) {
		a.Unlock()
	})},
	organisation.KindPushClear: {user: true, device: true, prepare: prepareAction(event.PushCleared, factor.Push, "push may ring again", func(a *factor.Account) {
		if a.Push != nil {
			a.Push.Clear()
		}
	})},
}

// applySyncs puts in force what comes, one after the other. A directory that
// hangs keeps no answer of a phone waiting. When much comes at once, the answers
// take their time: an authority cuts off who sends too much.
func (s *session) applySyncs() {
	var answers []*authorityv1.DeviceMessage
	var next <-chan time.Time
	for burst := ackBurst; ; {
		if len(answers) > 0 && burst > 0 {
			burst--
			s.send(answers[0])
			answers = answers[1:]
			continue
		}
		if len(answers) > 0 && next == nil {
			next = s.l.after(ackGap)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-next:
			next, burst = nil, 1
		case b := <-s.syncs:
			r := s.l.take(s.ctx, s.a, b)
			if len(answers) < maxAcks {
				answers = append(answers, &authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_SyncApplied{SyncApplied: r}})
			}
		}
	}
}

// take checks an envelope and puts it in force, or says why not.
func (l *Link) take(ctx context.Context, a *store.Authority, b []byte) *authorityv1.SyncApplied {
	digest := sha256.Sum256(b)
	e, err := organisation.Open(a.Organisation, a.DeviceID, b)
	if err == nil {
		err = l.apply(ctx, a, e, digest[:])
	} else {
		e = new(organisation.Envelope) // what it says of itself, for the answer
		if len(b) > organisation.MaxEnvelope || json.Unmarshal(b, e) != nil {
			e = new(organisation.Envelope)
		}
	}
	r := &authorityv1.SyncApplied{Kind: clean(string(e.Kind), 32), User: clean(e.User, maxUser), Version: e.Version}
	if err != nil && ctx.Err() == nil {
		r.Refused = clean(err.Error(), maxText)
		if l.refusals.worthAnEvent(digest, l.o.Clock.Now().Boot) {
			l.o.Store.Record(ctx, event.Event{Name: event.SyncRefused, User: clean(e.User, 64), By: "authority",
				Text: fmt.Sprintf("%s, version %d: %s", cmp.Or(r.GetKind(), "something unknown"), e.Version, r.GetRefused())})
		}
	} else if err != nil {
		r.Refused = "the connection ended meanwhile"
	}
	return r
}

// refusals remembers what was refused.
type refusals struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]bool
	since time.Duration
	count int
}

// worthAnEvent says whether an item that was refused is reported. The same one
// comes again with each connection, and is reported once.
func (r *refusals) worthAnEvent(digest [sha256.Size]byte, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[digest] {
		return false
	}
	if r.known == nil || now-r.since >= refusalsWithin {
		r.since, r.count = now, 0
	}
	if r.known == nil || len(r.known) > 1000 {
		r.known = map[[sha256.Size]byte]bool{}
	}
	if r.count++; r.count > maxRefusals {
		return false
	}
	r.known[digest] = true
	return true
}

// errSame: it is in force already.
var errSame = errors.New("it is in force")

// newer says whether an item may replace what is in force.
func newer(had store.Item, version uint64, digest []byte) error {
	switch {
	case version == had.Version && bytes.Equal(digest, had.Digest):
		return errSame
	case version == had.Version:
		return fmt.Errorf("another item of version %d is in force", version)
	case version < had.Version:
		return fmt.Errorf("it is older than version %d, which is in force", had.Version)
	}
	return nil
}

// apply puts an item in force that the organisation signed for this computer.
func (l *Link) apply(ctx context.Context, a *store.Authority, e *organisation.Envelope, digest []byte) error {
	kind, known := kinds[e.Kind]
	switch {
	case !known:
		return errors.New("this version knows no such kind")
	case e.Kind != organisation.KindSettings && !slices.Contains(l.o.Settings().Authority.Accept, string(e.Kind)):
		return errors.New("authority.accept in the configuration of this computer does not name it")
	case !kind.user && e.User != "":
		return errors.New("it is about no user, and names one")
	case kind.device && e.Device != a.DeviceID:
		return errors.New("it is for one device, and names none")
	}
	if kind.user {
		if err := checkUser(e.User); err != nil {
			return err
		}
	}
	// Before anything is looked up or unsealed.
	err := l.o.Store.View(func(tx *vault.Tx) error {
		had, err := store.Signed(tx, e.Kind, e.User)
		if err == nil {
			err = newer(had, e.Version, digest)
		}
		return err
	})
	var apply change
	if err == nil {
		apply, err = kind.prepare(ctx, l, a, e)
	}
	if err != nil {
		if errors.Is(err, errSame) {
			return nil
		}
		return err
	}
	var events []event.Event
	err = l.o.Store.Update(ctx, func(tx *vault.Tx) error {
		if now, err := store.JoinedTo(tx); err != nil {
			return err
		} else if now == nil || now.DeviceID != a.DeviceID || !bytes.Equal(now.Organisation, a.Organisation) {
			return errLeft
		}
		had, err := store.Signed(tx, e.Kind, e.User)
		if err != nil {
			return err
		}
		if err := newer(had, e.Version, digest); err != nil {
			return err
		}
		item := store.Item{Version: e.Version, Digest: digest}
		made, text, err := apply(tx, had, &item)
		if err != nil {
			return err
		}
		done := event.Event{Name: event.SyncApplied, User: e.User, By: "authority", Text: fmt.Sprintf("%s, version %d: %s", e.Kind, e.Version, text)}
		if len(made) > 0 {
			done.Key = made[0].Key
		}
		events = append(made, done)
		for _, m := range events {
			tx.Append(m)
		}
		return store.PutSigned(tx, e.Kind, e.User, item)
	})
	if errors.Is(err, errSame) {
		return nil
	}
	if err == nil {
		for _, m := range events {
			l.o.Store.Log(m)
		}
	}
	return err
}

// strict decodes a payload that may hold nothing else.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("its content is malformed: %s", clean(err.Error(), 100))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("its content is malformed: there is more behind it")
	}
	return nil
}

// parseSettings reads where approvals come from.
func parseSettings(payload []byte) (*organisation.Settings, error) {
	s := new(organisation.Settings)
	if err := strict(payload, s); err != nil {
		return nil, err
	}
	page, err := parseOrigin(s.Origin)
	if err != nil {
		return nil, fmt.Errorf("the page's origin %w", err)
	}
	if _, err := parseOrigin(s.API); err != nil {
		return nil, fmt.Errorf("the API's origin %w", err)
	}
	switch {
	case len(s.Name) > 128 || clean(s.Name, 128) != s.Name:
		return nil, errors.New("the organisation's name is malformed")
	case !isHostName(s.RPID) || net.ParseIP(s.RPID) != nil:
		return nil, errors.New("the relying party is not a host name")
	case page != s.RPID && !strings.HasSuffix(page, "."+s.RPID):
		return nil, fmt.Errorf("the page's origin is not of the relying party %s", s.RPID)
	}
	return s, nil
}

// parseOrigin returns the host of an origin: of a page that has passkeys.
func parseOrigin(origin string) (host string, err error) {
	u, err := url.Parse(origin)
	if err != nil || len(origin) > 300 {
		return "", errors.New("is malformed")
	}
	host = u.Hostname()
	if u.Scheme+"://"+u.Host != origin || !isHostName(host) {
		return "", errors.New("is malformed: it looks like https://approve.example.com")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || host != "localhost") {
		return "", errors.New("is neither https nor localhost")
	}
	return host, nil
}

func isHostName(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && strings.Trim(s, ".-") == s && !strings.Contains(s, "..")
}

func prepareSettings(_ context.Context, _ *Link, _ *store.Authority, e *organisation.Envelope) (change, error) {
	s, err := parseSettings(e.Payload)
	if err != nil {
		return nil, err
	}
	return func(_ *vault.Tx, _ store.Item, item *store.Item) ([]event.Event, string, error) {
		item.Settings = s
		return nil, fmt.Sprintf("%s approves at %s", s.Name, s.Origin), nil
	}, nil
}

func prepareApprovers(_ context.Context, _ *Link, _ *store.Authority, e *organisation.Envelope) (change, error) {
	var m organisation.Manifest
	if err := strict(e.Payload, &m); err != nil {
		return nil, err
	}
	if len(m.Approvers) > maxApprovers {
		return nil, fmt.Errorf("it names %d phones; at most %d are taken", len(m.Approvers), maxApprovers)
	}
	var list []push.Approver
	for _, k := range m.Approvers {
		a, err := push.FromManifest(k.CredentialID, k.PublicKey, k.Phone, k.Synced)
		if err != nil {
			return nil, fmt.Errorf("the phone %q: %w", push.PhoneName(k.Phone), err)
		}
		if slices.ContainsFunc(list, func(o push.Approver) bool { return bytes.Equal(o.CredentialID, a.CredentialID) }) {
			return nil, fmt.Errorf("the phone %q is there twice", a.Phone)
		}
		list = append(list, a)
	}
	return func(_ *vault.Tx, _ store.Item, item *store.Item) ([]event.Event, string, error) {
		item.Approvers = list
		return nil, fmt.Sprintf("%d phones may approve", len(list)), nil
	}, nil
}

func preparePolicy(_ context.Context, _ *Link, _ *store.Authority, e *organisation.Envelope) (change, error) {
	var r policy.Rules
	if err := strict(e.Payload, &r); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, errors.New(clean(err.Error(), maxText))
	}
	return func(_ *vault.Tx, _ store.Item, item *store.Item) ([]event.Event, string, error) {
		item.Policy = bytes.Clone(e.Payload)
		return nil, "in force beside this computer's own", nil
	}, nil
}

// sealed opens what is for this computer alone, and finds whom it is about.
func sealed(ctx context.Context, l *Link, a *store.Authority, e *organisation.Envelope, content any) (accounts.User, error) {
	key, err := ecdh.X25519().NewPrivateKey(a.SealingKey)
	if err != nil {
		return accounts.User{}, err
	}
	var raw json.RawMessage
	if err := e.Unseal(key, &raw); err != nil {
		return accounts.User{}, errors.New("what is sealed in it does not open with this computer's key")
	}
	if strict(raw, content) != nil {
		return accounts.User{}, errors.New("its content is malformed") // the error may quote it
	}
	return l.lookup(ctx, e.User)
}

func (l *Link) lookup(ctx context.Context, user string) (accounts.User, error) {
	u, err := l.o.Names.Lookup(ctx, user)
	if errors.Is(err, accounts.ErrUnknown) {
		return accounts.User{}, errors.New("this computer knows no such user")
	} else if err != nil {
		return accounts.User{}, fmt.Errorf("the user cannot be looked up: %w", err)
	}
	return u, nil
}

// record is a person's, or a new one.
func record(tx *vault.Tx, u accounts.User) (*factor.Account, error) {
	a, err := store.Account(tx, string(u.ID))
	if err != nil {
		return nil, err
	}
	if a == nil {
		a = &factor.Account{Key: string(u.ID)}
	}
	a.Name = u.Name
	return a, nil
}

// mark names a seed in a record.
func mark(key string, seed totp.Seed) []byte {
	sum := sha256.Sum256(append([]byte("sallyport.seed\x00"+key+"\x00"), seed...))
	return sum[:]
}

func prepareTOTP(ctx context.Context, l *Link, a *store.Authority, e *organisation.Envelope) (change, error) {
	var t organisation.TOTP
	u, err := sealed(ctx, l, a, e, &t)
	if err != nil {
		return nil, err
	}
	state, err := totp.FromURI(t.URI)
	if err != nil {
		return nil, err
	}
	return func(tx *vault.Tx, had store.Item, item *store.Item) ([]event.Event, string, error) {
		a, err := record(tx, u)
		if err != nil {
			return nil, "", err
		}
		item.Mark = mark(a.Key, state.Seed)
		if old := a.TOTP; old != nil {
			if !bytes.Equal(mark(a.Key, old.Seed), had.Mark) {
				return nil, "", fmt.Errorf("%s has a secret that was enrolled at this computer, which stays; to take this one: sallyport user remove %s", u.Name, u.Name)
			}
			if bytes.Equal(old.Seed, state.Seed) {
				// The same secret gives no used code a second life.
				return nil, "the secret is the one in force", nil
			}
		}
		a.SetSecret(state, tx.Now())
		return []event.Event{{Name: event.UserEnrolled, User: u.Name, Key: a.Key, By: "authority"}}, "a TOTP secret is in force", store.Put(tx, a)
	}, nil
}

func prepareRecovery(ctx context.Context, l *Link, a *store.Authority, e *organisation.Envelope) (change, error) {
	var c organisation.Codes
	u, err := sealed(ctx, l, a, e, &c)
	if err != nil {
		return nil, err
	}
	return func(tx *vault.Tx, _ store.Item, _ *store.Item) ([]event.Event, string, error) {
		a, err := record(tx, u)
		if err != nil {
			return nil, "", err
		}
		key, err := store.CodeKey(tx)
		if err != nil {
			return nil, "", err
		}
		if a.Recovery, err = onetime.KeepRecovery(key, a.Key, c.Codes); err != nil {
			return nil, "", err
		}
		return []event.Event{{Name: event.RecoveryIssued, User: u.Name, Key: a.Key, By: "authority"}},
			fmt.Sprintf("%d recovery codes; the old ones ended", len(a.Recovery)), store.Put(tx, a)
	}, nil
}

func prepareBypass(ctx context.Context, l *Link, a *store.Authority, e *organisation.Envelope) (change, error) {
	var b organisation.Bypass
	u, err := sealed(ctx, l, a, e, &b)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(b.Reason) == "" || len(b.Reason) > maxReason || clean(b.Reason, maxReason) != b.Reason {
		return nil, fmt.Errorf("a bypass needs a reason of 1 to %d printable bytes", maxReason)
	}
	return func(tx *vault.Tx, _ store.Item, _ *store.Item) ([]event.Event, string, error) {
		now := tx.Now()
		left := time.Unix(b.Expires, 0).Sub(now.Floor())
		if left <= 0 {
			return nil, "", errors.New("the bypass has expired")
		}
		if left > maxBypass {
			return nil, "", fmt.Errorf("a bypass lasts %s at most", maxBypass)
		}
		a, err := record(tx, u)
		if err != nil {
			return nil, "", err
		}
		key, err := store.CodeKey(tx)
		if err != nil {
			return nil, "", err
		}
		if a.Bypass, err = onetime.KeepSpoken(key, a.Key, b.Code, now.In(left)); err != nil {
			return nil, "", err
		}
		return []event.Event{{Name: event.BypassIssued, User: u.Name, Key: a.Key, By: "authority", Text: "for " + left.Round(time.Second).String() + ": " + b.Reason}},
			"a bypass is in force", store.Put(tx, a)
	}, nil
}

// prepareAction is what is done once to a person's record, unless it comes late.
func prepareAction(name event.Name, with factor.Name, done string, do func(a *factor.Account)) func(context.Context, *Link, *store.Authority, *organisation.Envelope) (change, error) {
	return func(ctx context.Context, l *Link, _ *store.Authority, e *organisation.Envelope) (change, error) {
		var action organisation.Action
		if err := strict(e.Payload, &action); err != nil {
			return nil, err
		}
		if life := time.Unix(action.Expires, 0).Sub(time.Unix(action.Issued, 0)); life <= 0 || life > organisation.MaxAction {
			return nil, fmt.Errorf("it is good for %s; at most %s are taken", life, organisation.MaxAction)
		}
		u, err := l.lookup(ctx, e.User)
		if err != nil {
			return nil, err
		}
		return func(tx *vault.Tx, _ store.Item, _ *store.Item) ([]event.Event, string, error) {
			// A clock that is behind must not make it good for longer.
			switch left := time.Unix(action.Expires, 0).Sub(tx.Now().Floor()); {
			case left <= 0:
				return nil, "", fmt.Errorf("it expired on %s, by this computer's clock", time.Unix(action.Expires, 0).UTC().Format(time.RFC3339))
			case left > 2*organisation.MaxAction:
				return nil, "", fmt.Errorf("it was issued on %s, and the clock of this computer is more than a day behind that: set it right", time.Unix(action.Issued, 0).UTC().Format(time.RFC3339))
			}
			a, err := store.Account(tx, string(u.ID))
			if err != nil {
				return nil, "", err
			}
			if a == nil {
				return nil, "", fmt.Errorf("%s has no second factor on this computer", u.Name)
			}
			a.Name = u.Name
			do(a)
			return []event.Event{{Name: name, Factor: string(with), User: u.Name, Key: a.Key, By: "authority"}}, done, store.Put(tx, a)
		}, nil
	}
}
