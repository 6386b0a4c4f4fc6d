// Package store is what the two services share: the vault (also while it cannot
// be opened), the accounts in it, and where events go.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/totp"
	"sallyport/internal/identity"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
)

// Keys in the vault's settings.
const (
	codeKeySetting = "code-key" // keys the hashes of recovery and bypass codes
	rulesSetting   = "policy"   // the last good policy
	seenSetting    = "seen/"    // + account key: when a required group was last seen
)

// reopenEvery bounds how often a vault that did not open is tried again.
const reopenEvery = time.Second

// seenFor is how long a membership that is no longer reported still requires,
// and seenRefresh how old the record of it may get before it is written anew.
const (
	seenFor     = 24 * time.Hour
	seenRefresh = time.Hour
)

// Store gives access to the vault and records events.
type Store struct {
	options vault.Options
	log     *slog.Logger

	mu         sync.Mutex
	v          *vault.Vault
	err        error
	trying     bool // one login is opening the vault; the others go by err
	tried      clock.Instant
	unwritable error         // see Unwritable
	ring       []event.Event // what could not be written, newest last
	closed     bool
	refused    map[string]refusals // by caller

	policy policyCache
}

// New returns a store and opens its vault. A vault that does not open is no
// error here: logins are denied, and it is tried again.
func New(options vault.Options) *Store {
	s := &Store{options: options, log: options.Log}
	_, _ = s.Vault() // the error is kept, shown in status, and logged
	return s
}

// Vault returns the open vault, or why there is none.
func (s *Store) Vault() (*vault.Vault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.v != nil {
		return s.v, nil
	}
	if s.closed {
		return nil, errStopping
	}
	if s.err != nil && (s.trying || s.options.Clock.Now().Boot-s.tried.Boot < reopenEvery) {
		return nil, s.err
	}
	// Opening may wait for an agent that is just stopping: only one login waits
	// with it.
	s.trying = true
	s.mu.Unlock()
	v, err := withCodeKey(vault.Open(s.options))
	s.mu.Lock()
	s.trying, s.tried = false, s.options.Clock.Now()
	if s.v == nil && !s.closed {
		s.adopt(v, err)
	} else if err == nil { // replaced or closed meanwhile
		_ = v.Close()
	}
	if s.v == nil && s.closed {
		return nil, errStopping
	}
	return s.v, s.err
}

var errStopping = errors.New("the agent is stopping")

// Replace closes the vault and puts the one that open returns in its place.
func (s *Store) Replace(open func(vault.Options) (*vault.Vault, error)) error {
	s.mu.Lock()
	if s.trying || s.closed {
		s.mu.Unlock()
		return errOpening
	}
	old := s.v
	s.v, s.err, s.trying = nil, errOpening, true
	s.mu.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			s.log.Warn("the vault did not close well", "error", err)
		}
	}
	v, err := withCodeKey(open(s.options))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trying, s.tried = false, s.options.Clock.Now()
	s.adopt(v, err)
	return err
}

var errOpening = errors.New("the vault is being opened; try again")

// adopt takes a vault that was opened, or the reason why it was not.
func (s *Store) adopt(v *vault.Vault, err error) {
	if err != nil {
		if s.err == nil || s.err.Error() != err.Error() {
			e := event.Event{Time: s.options.Clock.Now().Wall, Name: event.VaultUnavailable,
				Text: "whoever is not exempt is refused: " + err.Error()}
			s.Log(e)
			s.ring = append(s.ring, e)
		}
		s.v, s.err = nil, err
		return
	}
	s.v, s.err = v, nil
}

// withCodeKey sees to it that a vault that was opened has its code key.
func withCodeKey(v *vault.Vault, err error) (*vault.Vault, error) {
	if err != nil {
		return nil, err
	}
	if err := v.Update(context.Background(), ensureCodeKey); err != nil {
		_ = v.Close() // it cannot be written; that is the error to show
		return nil, err
	}
	return v, nil
}

func ensureCodeKey(tx *vault.Tx) error {
	var key []byte
	if found, err := tx.Get(vault.Settings, codeKeySetting, &key); err != nil || found {
		return err
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	return tx.Put(vault.Settings, codeKeySetting, key)
}

// Close closes the vault.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.v == nil {
		return nil
	}
	v := s.v
	s.v = nil
	return v.Close()
}

// Update runs fn in one durable transaction.
func (s *Store) Update(ctx context.Context, fn func(*vault.Tx) error) error {
	err := s.update(ctx, fn)
	if err == nil {
		s.noteUnwritable(nil)
	}
	return err
}

// update is Update for what is small: on a full disk an event may still find
// room where the record of a login did not, so its success proves nothing.
func (s *Store) update(ctx context.Context, fn func(*vault.Tx) error) error {
	v, err := s.Vault()
	if err != nil {
		return err
	}
	if err = v.Update(ctx, fn); errors.Is(err, vault.ErrUnwritable) {
		s.noteUnwritable(err)
	}
	return err
}

func (s *Store) noteUnwritable(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwritable = err
}

// Unwritable says why a login could not be recorded, until one can be again. The
// vault may be open and readable all the while.
func (s *Store) Unwritable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unwritable
}

// View runs fn on a snapshot.
func (s *Store) View(fn func(*vault.Tx) error) error {
	v, err := s.Vault()
	if err != nil {
		return err
	}
	return v.View(fn)
}

// Account reads one person's record; nil when there is none.
func Account(tx *vault.Tx, key string) (*factor.Account, error) {
	a := new(factor.Account)
	found, err := tx.Get(vault.Users, key, a)
	if err != nil || !found {
		return nil, err
	}
	if a.Key != key {
		return nil, fmt.Errorf("the record under %s says it is %s: %w", key, a.Key, vault.ErrCorrupt)
	}
	return a, nil
}

// Put keeps a person's record.
func Put(tx *vault.Tx, a *factor.Account) error { return tx.Put(vault.Users, a.Key, a) }

// CodeKey keys the hashes of one-time codes.
func CodeKey(tx *vault.Tx) ([]byte, error) {
	var key []byte
	found, err := tx.Get(vault.Settings, codeKeySetting, &key)
	if err == nil && !found {
		err = fmt.Errorf("the key of the one-time codes is not there: %w", vault.ErrCorrupt)
	}
	return key, err
}

// maxUnwritten bounds the events that wait in memory.
const maxUnwritten = 100

// Record logs an event and keeps it in the vault. While the vault cannot be
// written the event waits in memory, where status finds it, for the next one
// that can be.
func (s *Store) Record(ctx context.Context, e event.Event) {
	s.Log(e)
	if e.Time.IsZero() {
		e.Time = s.options.Clock.Now().Wall
	}
	s.mu.Lock()
	batch := append(s.ring, e)
	s.ring = nil
	s.mu.Unlock()
	err := s.update(ctx, func(tx *vault.Tx) error {
		for _, e := range batch {
			tx.Append(e)
		}
		return nil
	})
	if err == nil {
		return
	}
	s.log.Error("an event could not be kept in the vault", "event", string(e.Name), "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring = append(batch, s.ring...)
	s.ring = s.ring[max(0, len(s.ring)-maxUnwritten):]
}

// Log writes an event to the system's log.
func (s *Store) Log(e event.Event) {
	level := slog.LevelInfo
	switch {
	case e.Verdict == "deny", e.Name == event.UserLocked, e.Name == event.ClockWentBack,
		e.Name == event.RequestRefused, e.Name == event.ConfigRejected, e.Name == event.VaultUnavailable, e.Name == event.PipeTaken:
		level = slog.LevelWarn
	}
	s.log.LogAttrs(context.Background(), level, string(e.Name), slog.Any("", e))
}

// LogRefused writes the refusal of a local caller to the system's log, at most
// one a second for each caller: the log has bounds of its own, and somebody who
// floods it would hide what else happens.
func (s *Store) LogRefused(e event.Event) {
	now := s.options.Clock.Now().Boot
	s.mu.Lock()
	if s.refused == nil || len(s.refused) > maxRefused {
		s.refused = map[string]refusals{}
	}
	r := s.refused[e.By]
	if r.more++; now < r.until {
		s.refused[e.By] = r
		s.mu.Unlock()
		return
	}
	s.refused[e.By] = refusals{until: now + time.Second}
	s.mu.Unlock()
	if r.more > 1 {
		e.Text += fmt.Sprintf(" (and %d more)", r.more-1)
	}
	s.Log(e)
}

// refusals are those of one caller.
type refusals struct {
	until time.Duration // boot time before which no other is logged
	more  int           // since the last that was
}

// maxRefused is how many callers are kept apart.
const maxRefused = 1000

// Unwritten returns the events that are only in memory.
func (s *Store) Unwritten() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Event(nil), s.ring...)
}

// Now is the present instant, with the highest time the vault has seen.
func (s *Store) Now() clock.Instant {
	now := s.options.Clock.Now()
	_ = s.View(func(tx *vault.Tx) error { now = tx.Now(); return nil }) // no vault: the bare clock is all there is
	return now
}

// SaveRules keeps the policy in force, for a start with a broken file.
func (s *Store) SaveRules(r policy.Rules) error {
	return s.Update(context.Background(), func(tx *vault.Tx) error { return tx.Put(vault.Settings, rulesSetting, r) })
}

// LastRules returns the policy that was last in force; nil when none is known.
func (s *Store) LastRules() *policy.Rules {
	r := new(policy.Rules)
	found := false
	err := s.View(func(tx *vault.Tx) (err error) {
		found, err = tx.Get(vault.Settings, rulesSetting, r)
		return err
	})
	if err != nil || !found {
		return nil
	}
	return r
}

// seen is when the user was last a member of which required group.
type seen map[string]time.Time

// LastSeen says whether the user was in the group within the last day.
func (s *Store) LastSeen(id identity.ID, group string) bool {
	member := false
	_ = s.View(func(tx *vault.Tx) error { // unreadable: the login is denied for that anyway
		groups := seen{}
		if _, err := tx.Get(vault.Settings, seenSetting+string(id), &groups); err != nil {
			return err
		}
		at, ok := groups[group]
		member = ok && tx.Now().Floor().Sub(at) < seenFor
		return nil
	})
	return member
}

// NoteSeen records that the user is in a required group now.
func NoteSeen(tx *vault.Tx, id identity.ID, group string) error {
	groups := seen{}
	key := seenSetting + string(id)
	if _, err := tx.Get(vault.Settings, key, &groups); err != nil {
		return err
	}
	now := tx.Now().Floor()
	if at, ok := groups[group]; ok && now.Sub(at) < seenRefresh {
		return nil
	}
	maps.DeleteFunc(groups, func(_ string, at time.Time) bool { return now.Sub(at) >= seenFor }) // policies change
	groups[group] = now
	return tx.Put(vault.Settings, key, groups)
}

// Import is a secret taken over from another product. While its name does not
// resolve it is kept under that name, and adopted when the person logs in.
type Import struct {
	Name     string      `json:"name"`
	Source   string      `json:"source"`
	State    *totp.State `json:"state"`
	Imported time.Time   `json:"imported"`
}

// Adopt puts an imported secret into an account.
func Adopt(tx *vault.Tx, i Import, key, name string) error {
	a, err := Account(tx, key)
	if err != nil {
		return err
	}
	if a == nil {
		a = &factor.Account{Key: key}
	}
	// What was issued beside another secret ends with it.
	*a = factor.Account{Key: key, Name: name, TOTP: i.State, Enrolled: tx.Now().Wall, LastSuccess: a.LastSuccess}
	if err := tx.Delete(vault.Pending, i.Name); err != nil {
		return err
	}
	return Put(tx, a)
}

// PendingImport returns the secret kept under a name that did not resolve. One with
// a domain, DOMAIN\user, may have been written in other capitals.
func PendingImport(tx *vault.Tx, name string) (i Import, found bool, err error) {
	if found, err = tx.Get(vault.Pending, name, &i); err != nil || found || !strings.Contains(name, `\`) {
		return i, found, err
	}
	err = tx.Each(vault.Pending, func(_ string, decode func(any) error) error {
		var other Import
		if err := decode(&other); err != nil {
			return err
		}
		if !found && asciiFold(other.Name) == asciiFold(name) {
			i, found = other, true
		}
		return nil
	})
	return i, found, err
}

// asciiFold leaves letters beyond ASCII as they are: directories differ in which of
// them they take for the same.
func asciiFold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}
