// Package adminsvc is the admin socket's service: what the helpdesk's commands
// and IT's tools ask of the running agent. Who may call what is agent/authz.
package adminsvc

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/identity"
	"sallyport/internal/keychain"
	"sallyport/internal/localsock"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	minValid = time.Minute
	maxValid = 7 * 24 * time.Hour
	// maxReason bounds what the helpdesk gives as a reason, in bytes.
	maxReason = 200
)

// State is what the daemon knows and the service shows.
type State struct {
	Version     string
	Started     clock.Instant
	Config      *config.Loaded
	ConfigPath  string
	ConfigError string // the file on disk is broken; Config is the last good one
	// ConfigMissing: there has been no good configuration since the start.
	ConfigMissing bool
	LoginSocket   string
	AdminSocket   string
	Issuer        string
}

// Names is who is who on this computer; an accounts.Names.
type Names interface {
	Lookup(ctx context.Context, name string) (accounts.User, error)
	ByID(ctx context.Context, id identity.ID) (accounts.User, error)
	Resolver(ctx context.Context, seen func(id identity.ID, group string) bool, who accounts.User, groups []identity.ID) policy.Resolver
}

// Service implements adminv1.AdminServiceServer.
type Service struct {
	adminv1.UnimplementedAdminServiceServer
	Store      *store.Store
	Names      Names
	State      func() State
	OpenLogins func() int
	Explain    Explain
	// Link leads to the authority; nil: there is none to be had.
	Link     Link
	Stopping <-chan struct{}

	mu      sync.Mutex
	pending map[string]pendingEnrolment // by enrolment id; see enrol.go

	once  sync.Once
	turns chan struct{} // see heavy
}

// heavyAtOnce is how many calls may look through the whole vault at once: the
// helpdesk's curiosity must not slow logins down.
const heavyAtOnce = 2

// heavy waits for a turn to look through the whole vault.
func (s *Service) heavy(ctx context.Context) (release func(), err error) {
	s.once.Do(func() { s.turns = make(chan struct{}, heavyAtOnce) })
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// person is a user named in a request.
type person struct {
	id   identity.ID
	name string // "" when the account has no name any more
}

// key is that of the person's record.
func (p person) key() string { return string(p.id) }

// find resolves a name, "uid:N" or "sid:S-1-...". A name that the system does not
// know can still be found by the uid or SID of its record.
func (s *Service) find(ctx context.Context, typed string) (person, error) {
	if strings.HasPrefix(typed, "uid:") || strings.HasPrefix(typed, "sid:") {
		id, err := identity.Parse(typed)
		if err != nil {
			return person{}, status.Error(codes.InvalidArgument, err.Error())
		}
		u, err := s.Names.ByID(ctx, id)
		if err != nil && !errors.Is(err, accounts.ErrUnknown) {
			return person{}, status.Errorf(codes.Unavailable, "%s cannot be looked up: %v", id, err)
		}
		return person{id, u.Name}, nil
	}
	if typed == "" {
		return person{}, status.Error(codes.InvalidArgument, "no user was named")
	}
	u, err := s.Names.Lookup(ctx, typed)
	if errors.Is(err, accounts.ErrUnknown) {
		return person{}, status.Errorf(codes.NotFound, "this computer knows no user %q (see: "+accounts.ListCommand+"); a record of a deleted user is named by uid:NUMBER or sid:S-1-...", typed)
	}
	if err != nil {
		return person{}, status.Errorf(codes.Unavailable, "%q cannot be looked up: %v", typed, err)
	}
	return person{u.ID, u.Name}, nil
}

// caller is who calls, for an event; the gate let nobody by without an identity.
func caller(ctx context.Context) string {
	if peer, err := localsock.FromContext(ctx); err == nil {
		return peer.String()
	}
	return ""
}

// vaultError turns what the vault says into a status.
func vaultError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

func noRecord(p person) error {
	return status.Errorf(codes.NotFound, "%s has no record; enrol with: sallyport enroll %s", cmp.Or(p.name, p.key()), cmp.Or(p.name, p.key()))
}

// change runs fn on a person's record in one transaction with the event. With
// create, a person without a record gets an empty one.
func (s *Service) change(ctx context.Context, p person, create bool, e event.Event,
	fn func(tx *vault.Tx, a *factor.Account, codeKey []byte) error) error {
	e.User, e.Key, e.By = p.name, p.key(), caller(ctx)
	err := s.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.Account(tx, p.key())
		if err != nil {
			return err
		}
		if a == nil {
			if !create {
				return noRecord(p)
			}
			a = &factor.Account{Key: p.key()}
		}
		a.Name = cmp.Or(p.name, a.Name)
		codeKey, err := store.CodeKey(tx)
		if err != nil {
			return err
		}
		if err := fn(tx, a, codeKey); err != nil {
			return err
		}
		tx.Append(e)
		return store.Put(tx, a)
	})
	if err == nil {
		s.Store.Log(e)
	}
	return vaultError(err)
}

// Unlock ends a lockout.
func (s *Service) Unlock(ctx context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	if err := s.change(ctx, p, false, event.Event{Name: event.UserUnlocked}, func(_ *vault.Tx, a *factor.Account, _ []byte) error {
		a.Unlock()
		return nil
	}); err != nil {
		return nil, err
	}
	return s.ShowUser(ctx, r)
}

// RemoveUser deletes a record: the person has no second factor any more.
func (s *Service) RemoveUser(ctx context.Context, r *adminv1.UserRequest) (*adminv1.User, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	e := event.Event{Name: event.UserRemoved, User: p.name, Key: p.key(), By: caller(ctx)}
	var before *adminv1.User
	err = s.Store.Update(ctx, func(tx *vault.Tx) error {
		a, err := store.Account(tx, p.key())
		switch {
		case err != nil:
			a = &factor.Account{Key: p.key()} // a record that cannot be read can still be removed
		case a == nil:
			return noRecord(p)
		}
		before = wireUser(a, tx.Now())
		e.User = cmp.Or(e.User, a.Name)
		tx.Append(e)
		return tx.Delete(vault.Users, p.key())
	})
	if err != nil {
		return nil, vaultError(err)
	}
	s.Store.Log(e)
	return before, nil
}

// NewRecoveryCodes replaces the recovery codes.
func (s *Service) NewRecoveryCodes(ctx context.Context, r *adminv1.UserRequest) (*adminv1.NewRecoveryCodesResponse, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	out := &adminv1.NewRecoveryCodesResponse{User: cmp.Or(p.name, p.key())}
	err = s.change(ctx, p, false, event.Event{Name: event.RecoveryIssued}, func(_ *vault.Tx, a *factor.Account, codeKey []byte) (err error) {
		if !a.IsEnrolled() {
			return noRecord(p)
		}
		out.RecoveryCodes, a.Recovery, err = onetime.NewRecovery(codeKey, a.Key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// validFor checks how long a bypass or a window may be.
func validFor(d *durationpb.Duration) (time.Duration, error) {
	if v := d.AsDuration(); d.IsValid() && v >= minValid && v <= maxValid {
		return v, nil
	}
	return 0, status.Errorf(codes.InvalidArgument, "the time must be %s to %s, such as 1h", minValid, maxValid)
}

// CreateBypass makes one code for the helpdesk to read out.
func (s *Service) CreateBypass(ctx context.Context, r *adminv1.CreateBypassRequest) (*adminv1.CreateBypassResponse, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	valid, err := validFor(r.GetValidFor())
	if err != nil {
		return nil, err
	}
	reason := strings.TrimSpace(r.GetReason())
	if reason == "" || len(reason) > maxReason || strings.ContainsFunc(reason, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return nil, status.Errorf(codes.InvalidArgument, "a bypass needs a reason of 1 to %d printable bytes: --reason 'lost phone, ticket 123'", maxReason)
	}
	out := &adminv1.CreateBypassResponse{User: cmp.Or(p.name, p.key())}
	err = s.change(ctx, p, true, event.Event{Name: event.BypassIssued, Text: "for " + valid.String() + ": " + reason},
		func(tx *vault.Tx, a *factor.Account, codeKey []byte) (err error) {
			out.Code, a.Bypass, err = onetime.NewSpoken(codeKey, a.Key, tx.Now().In(valid))
			out.Expires = timestamppb.New(tx.Now().Wall.Add(valid))
			return err
		})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// OpenEnrolment lets a required user enrol at the login, or no longer.
func (s *Service) OpenEnrolment(ctx context.Context, r *adminv1.OpenEnrolmentRequest) (*adminv1.OpenEnrolmentResponse, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	out := &adminv1.OpenEnrolmentResponse{User: cmp.Or(p.name, p.key())}
	if r.GetClose() {
		return out, s.change(ctx, p, false, event.Event{Name: event.EnrolmentOpened, Text: "closed"}, func(_ *vault.Tx, a *factor.Account, _ []byte) error {
			a.Enrolment = nil
			return nil
		})
	}
	if !s.State().Config.Config.Enrolment.AtLogin {
		return nil, status.Error(codes.FailedPrecondition, "the configuration has enrolment.at_login = false: nobody may enrol at the login")
	}
	valid, err := validFor(r.GetValidFor())
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, p, true, event.Event{Name: event.EnrolmentOpened, Text: "for " + valid.String()},
		func(tx *vault.Tx, a *factor.Account, codeKey []byte) (err error) {
			if a.IsEnrolled() {
				return status.Errorf(codes.AlreadyExists, "%s is enrolled already; a lost phone: sallyport enroll %s --replace", out.User, out.User)
			}
			until := tx.Now().In(valid)
			a.Enrolment = &factor.Enrolment{Expires: until}
			if r.GetWithCode() {
				out.Code, a.Enrolment.Code, err = onetime.NewSpoken(codeKey, a.Key, until)
			}
			out.Expires = timestamppb.New(tx.Now().Wall.Add(valid))
			return err
		})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ResetClock forgets the highest time ever seen.
func (s *Service) ResetClock(ctx context.Context, _ *adminv1.ResetClockRequest) (*adminv1.ResetClockResponse, error) {
	e := event.Event{Name: event.ClockReset, By: caller(ctx)}
	out := &adminv1.ResetClockResponse{}
	err := s.Store.Update(ctx, func(tx *vault.Tx) error {
		tx.ResetHighest()
		if err := store.ResetContactTime(tx); err != nil {
			return err
		}
		out.Now = timestamppb.New(tx.Now().Wall)
		tx.Append(e)
		return nil
	})
	if err != nil {
		return nil, vaultError(err)
	}
	s.Store.Log(e)
	return out, nil
}

// InitVault makes a new, empty vault on purpose. The vault itself records that.
func (s *Service) InitVault(context.Context, *adminv1.InitVaultRequest) (*adminv1.VaultResponse, error) {
	return s.replaceVault(vault.Init)
}

// AcceptVault takes a copied or restored vault as this computer's own.
func (s *Service) AcceptVault(ctx context.Context, _ *adminv1.AcceptVaultRequest) (*adminv1.VaultResponse, error) {
	out, err := s.replaceVault(func(o vault.Options) (*vault.Vault, error) {
		if err := vault.Accept(o); err != nil {
			return nil, err
		}
		return vault.Open(o)
	})
	if err != nil {
		return nil, err
	}
	s.Store.Record(context.WithoutCancel(ctx), event.Event{Name: event.VaultAccepted, By: caller(ctx)})
	return out, nil
}

func (s *Service) replaceVault(open func(vault.Options) (*vault.Vault, error)) (*adminv1.VaultResponse, error) {
	if err := s.Store.Replace(open); err != nil {
		return nil, vaultError(err)
	}
	return &adminv1.VaultResponse{Vault: s.vaultStatus()}, nil
}

// RekeyVault gives the vault a new key, in the keychain named.
func (s *Service) RekeyVault(ctx context.Context, r *adminv1.RekeyVaultRequest) (*adminv1.VaultResponse, error) {
	kind := keychain.Kind(r.GetKeychain())
	if !slices.Contains(keychain.Kinds(), kind) {
		return nil, status.Errorf(codes.InvalidArgument, "%q is not a keychain; it must be one of %q", r.GetKeychain(), keychain.Kinds())
	}
	v, err := s.Store.Vault()
	switch {
	case err == nil:
		err = v.Rekey(ctx, kind)
	case errors.Is(err, vault.ErrKeychain):
		// The configuration names this kind already, and the vault has another.
		err = s.Store.Replace(func(o vault.Options) (*vault.Vault, error) { return vault.OpenToRekey(ctx, o, kind) })
	}
	if err != nil {
		return nil, vaultError(err)
	}
	return &adminv1.VaultResponse{Vault: s.vaultStatus()}, nil
}
