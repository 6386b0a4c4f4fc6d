package adminsvc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/totp"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	confirmTime = 10 * time.Minute
	// maxPending bounds the enrolments that wait for their confirming code.
	maxPending = 100
	maxImport  = 1000
)

// pendingEnrolment waits in memory for its confirming code.
type pendingEnrolment struct {
	person  person
	state   *totp.State
	replace bool
	tries   int
	until   clock.Deadline
}

// Enrol makes a secret, or takes one that exists.
func (s *Service) Enrol(ctx context.Context, r *adminv1.EnrolRequest) (*adminv1.EnrolResponse, error) {
	p, err := s.find(ctx, r.GetUser())
	if err != nil {
		return nil, err
	}
	var state *totp.State
	if r.GetOtpauthUri() != "" {
		state, err = totp.FromURI(r.GetOtpauthUri())
	} else {
		state, err = totp.New(r.GetAlgorithm(), int(r.GetDigits()))
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := vaultError(s.Store.View(func(tx *vault.Tx) error {
		a, err := store.Account(tx, p.key())
		if err != nil {
			return err
		}
		return enrolledAlready(a, p, r.GetReplace())
	})); err != nil {
		return nil, err
	}
	uri := state.URI(s.State().Issuer, cmp.Or(p.name, p.key()))
	e := pendingEnrolment{person: p, state: state, replace: r.GetReplace()}
	if r.GetNoConfirm() || r.GetOtpauthUri() != "" { // an existing secret is in an app already
		out, err := s.enrol(ctx, e)
		if err == nil {
			out.OtpauthUri = uri
		}
		return out, err
	}
	id, err := s.remember(e)
	if err != nil {
		return nil, err
	}
	return &adminv1.EnrolResponse{User: cmp.Or(p.name, p.key()), Key: p.key(), EnrolmentId: id, OtpauthUri: uri}, nil
}

func enrolledAlready(a *factor.Account, p person, replace bool) error {
	if a.IsEnrolled() && !replace {
		return status.Errorf(codes.AlreadyExists, "%[1]s is enrolled already; for a new phone: sallyport enroll %[1]s --replace", cmp.Or(p.name, p.key()))
	}
	return nil
}

// remember keeps an enrolment until its code comes.
func (s *Service) remember(e pendingEnrolment) (string, error) {
	id := rand.Text()
	now := s.Store.Now()
	e.until = now.In(confirmTime)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, old := range s.pending {
		if old.until.Passed(now) {
			delete(s.pending, id)
		}
	}
	if len(s.pending) >= maxPending {
		return "", status.Errorf(codes.ResourceExhausted, "%d enrolments wait for their code; try again in ten minutes, or use --no-confirm", maxPending)
	}
	if s.pending == nil {
		s.pending = map[string]pendingEnrolment{}
	}
	s.pending[id] = e
	return id, nil
}

// ConfirmEnrolment puts a new secret in force once a code of it is right. The
// code is used up by that: it does not log anyone in.
func (s *Service) ConfirmEnrolment(ctx context.Context, r *adminv1.ConfirmEnrolmentRequest) (*adminv1.EnrolResponse, error) {
	now := s.Store.Now()
	s.mu.Lock()
	e, ok := s.pending[r.GetEnrolmentId()]
	if ok && e.until.Passed(now) {
		ok = false
	}
	delete(s.pending, r.GetEnrolmentId())
	s.mu.Unlock()
	if !ok {
		return nil, status.Error(codes.NotFound, "that enrolment is over; start again: sallyport enroll USER")
	}
	code := strings.NewReplacer(" ", "", "-", "").Replace(r.GetCode())
	if e.state.Verify(code, now.Wall) == totp.Correct {
		return s.enrol(ctx, e)
	}
	e.tries++
	if e.tries < 5 {
		s.mu.Lock()
		s.pending[r.GetEnrolmentId()] = e
		s.mu.Unlock()
	}
	return nil, status.Error(codes.FailedPrecondition, "that code is not right; is the phone's clock right, and is this the newest entry in the app?")
}

// enrol puts a secret in force.
func (s *Service) enrol(ctx context.Context, e pendingEnrolment) (*adminv1.EnrolResponse, error) {
	out := &adminv1.EnrolResponse{User: cmp.Or(e.person.name, e.person.key()), Key: e.person.key()}
	err := s.change(ctx, e.person, true, event.Event{Name: event.UserEnrolled}, func(tx *vault.Tx, a *factor.Account, codeKey []byte) (err error) {
		if err := enrolledAlready(a, e.person, e.replace); err != nil {
			return err
		}
		out.RecoveryCodes, err = a.Enrol(e.state, tx.Now(), codeKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Import takes secrets over from another product.
func (s *Service) Import(ctx context.Context, r *adminv1.ImportRequest) (*adminv1.ImportResponse, error) {
	if len(r.GetEntries()) > maxImport {
		return nil, status.Errorf(codes.InvalidArgument, "%d entries in one call; at most %d are taken", len(r.GetEntries()), maxImport)
	}
	out := &adminv1.ImportResponse{}
	var imports []store.Import
	for _, e := range r.GetEntries() {
		state, err := totp.FromSeed(append([]byte(nil), e.GetSecret()...), e.GetAlgorithm(), int(e.GetDigits()), int(e.GetPeriodSeconds()))
		switch {
		case err != nil:
		case e.GetUser() == "" || len(e.GetUser()) > 256:
			err = errors.New("the user's name is empty or too long")
		case e.GetLastStep() < 0:
			err = errors.New("the last used step is below 0")
		}
		if err != nil {
			out.Results = append(out.Results, &adminv1.ImportResult{User: e.GetUser(), Outcome: "refused", Text: err.Error()})
			continue
		}
		state.LastStep = e.GetLastStep()
		imports = append(imports, store.Import{Name: e.GetUser(), Source: e.GetSource(), State: state, Imported: s.Store.Now().Wall})
	}
	if r.GetRetryPending() {
		if err := s.Store.View(func(tx *vault.Tx) error {
			return tx.Each(vault.Pending, func(_ string, decode func(any) error) error {
				var i store.Import
				if err := decode(&i); err != nil {
					return err
				}
				imports = append(imports, i)
				return nil
			})
		}); err != nil {
			return nil, vaultError(err)
		}
	}
	// Names are looked up before the transaction: a directory may be slow.
	people := make([]person, len(imports))
	for i, imp := range imports {
		u, err := s.Names.Lookup(ctx, imp.Name)
		if err == nil {
			people[i] = person{u.ID, u.Name}
		} else if !errors.Is(err, accounts.ErrUnknown) {
			return nil, status.Errorf(codes.Unavailable, "%q cannot be looked up: %v; nothing of this batch was imported", imp.Name, err)
		}
	}
	by := caller(ctx)
	var results []*adminv1.ImportResult
	var events []event.Event
	err := s.Store.Update(ctx, func(tx *vault.Tx) error {
		for i, imp := range imports {
			result, err := importOne(tx, imp, people[i], r.GetReplace())
			if err != nil {
				return fmt.Errorf("%s: %w", imp.Name, err)
			}
			results = append(results, result)
			if result.Outcome == "imported" {
				e := event.Event{Name: event.UserImported, User: people[i].name, Key: people[i].key(), By: by, Text: "from " + imp.Source}
				events = append(events, e)
				tx.Append(e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, vaultError(err)
	}
	for _, e := range events {
		s.Store.Log(e)
	}
	out.Results = append(out.Results, results...)
	return out, nil
}

func importOne(tx *vault.Tx, imp store.Import, p person, replace bool) (*adminv1.ImportResult, error) {
	result := &adminv1.ImportResult{User: imp.Name}
	switch {
	case p.key() == "" && !accounts.CanWait(imp.Name):
		result.Outcome = "refused"
		result.Text = `this computer knows no such user; a name that is to be kept until it does is written DOMAIN\name`
		return result, nil
	case p.key() == "":
		result.Outcome = "pending"
		result.Text = "this computer knows no such user; kept until it does"
		return result, tx.Put(vault.Pending, imp.Name, imp)
	}
	a, err := store.Account(tx, p.key())
	if err != nil {
		return nil, err
	}
	if a.IsEnrolled() && !replace {
		result.Outcome, result.Text = "exists", "enrolled already; --replace takes the imported secret instead"
		return result, nil
	}
	result.Outcome = "imported"
	return result, store.Adopt(tx, imp, p.key(), p.name)
}

// pendingUsers lists the imported names that did not resolve.
func pendingUsers(tx *vault.Tx) ([]*adminv1.PendingUser, error) {
	var list []*adminv1.PendingUser
	err := tx.Each(vault.Pending, func(_ string, decode func(any) error) error {
		var i store.Import
		if err := decode(&i); err != nil {
			return err
		}
		list = append(list, &adminv1.PendingUser{Name: i.Name, Source: i.Source, Imported: timestamppb.New(i.Imported)})
		return nil
	})
	return list, err
}
