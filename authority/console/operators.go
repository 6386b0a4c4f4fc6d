package console

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"
	"unicode"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/secret"
)

// inviteLife is how long an invitation is good.
const inviteLife = 24 * time.Hour

// maxKeys is how many passkeys an operator may have.
const maxKeys = 8

// Operators says who may use the console. The command line and the console itself
// change it alike.
type Operators struct {
	Store  store.Store
	Origin string // of the console
	Now    func() time.Time
	Log    *slog.Logger // nil: none
}

// Invitation lets an operator make a passkey for the console. URL holds the secret:
// it is for that person alone, and for no log.
type Invitation struct {
	URL     secret.String
	Expires time.Time
}

// Listed is an operator and what they can log in with.
type Listed struct {
	store.Operator
	Keys    []store.OperatorKey
	Invited time.Time // until when; zero: not
}

// List returns everybody who may use the console.
func (o Operators) List(ctx context.Context) (list []Listed, err error) {
	err = o.Store.View(ctx, func(tx store.Tx) error {
		list = nil
		all, err := tx.Operators()
		if err != nil {
			return err
		}
		keys, err := tx.OperatorKeys("")
		if err != nil {
			return err
		}
		invitations, err := tx.OperatorInvitations()
		if err != nil {
			return err
		}
		for _, is := range all {
			one := Listed{Operator: is}
			for _, k := range keys {
				if k.Operator == is.Name {
					one.Keys = append(one.Keys, k)
				}
			}
			for _, i := range invitations {
				if i.Operator == is.Name && o.Now().Before(i.Expires) {
					one.Invited = i.Expires
				}
			}
			list = append(list, one)
		}
		return nil
	})
	return list, err
}

var operatorName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

func invalid(format string, a ...any) error {
	return fmt.Errorf("%w: %s", enrol.ErrInvalid, fmt.Sprintf(format, a...))
}

func (o Operators) update(ctx context.Context, fn func(tx store.Tx, now time.Time) (event.Event, error)) error {
	now := o.Now()
	var e event.Event
	err := o.Store.Update(ctx, func(tx store.Tx) (err error) {
		if e, err = fn(tx, now); err != nil {
			return err
		}
		return enrol.Record(tx, now, e)
	})
	if err == nil && o.Log != nil {
		o.Log.LogAttrs(ctx, slog.LevelInfo, e.Text, slog.Any("", e))
	}
	return err
}

func named(tx store.Tx, name string) (store.Operator, error) {
	op, err := tx.Operator(name)
	if errors.Is(err, store.ErrNotFound) {
		return op, fmt.Errorf("no operator %q here: %w", name, err)
	}
	return op, err
}

func invite(tx store.Tx, name string, now time.Time) (key []byte, err error) {
	key = random(32)
	hash := sha256.Sum256(key)
	return key, tx.InviteOperator(store.OperatorInvitation{Hash: hash[:], Operator: name, Created: now, Expires: now.Add(inviteLife)})
}

// The secret is in the fragment, which browsers keep to themselves.
func (o Operators) invitation(key []byte, now time.Time) *Invitation {
	return &Invitation{URL: secret.New(o.Origin + "/invite#" + b64.EncodeToString(key)), Expires: now.Add(inviteLife)}
}

func unknownRole(r Role) error { return invalid("a role is read, helpdesk or admin, not %q", r) }

// newOperator says why somebody cannot be added.
func newOperator(tx store.Tx, name string, role Role) error {
	if !operatorName.MatchString(name) {
		return invalid("an operator's name has 1 to 64 of a-z 0-9 . _ @ - and begins with a letter or a digit")
	}
	if !role.Known() {
		return unknownRole(role)
	}
	switch _, err := tx.Operator(name); {
	case err == nil:
		return store.ErrExists
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return nil
}

// Add adds an operator, and invites them.
func (o Operators) Add(ctx context.Context, by, name string, role Role) (*Invitation, error) {
	var i *Invitation
	err := o.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		e := event.Event{Name: enrol.OperatorAdded, By: by, Text: name + ", " + string(role)}
		if err := newOperator(tx, name, role); err != nil {
			return e, err
		}
		if err := tx.CreateOperator(store.Operator{Name: name, Role: string(role), Created: now}); err != nil {
			return e, err
		}
		key, err := invite(tx, name, now)
		i = o.invitation(key, now)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Invite lets an operator make one more passkey. The invitation before ends.
func (o Operators) Invite(ctx context.Context, by, name string) (*Invitation, error) {
	var i *Invitation
	err := o.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		e := event.Event{Name: enrol.OperatorInvited, By: by, Text: name}
		if _, err := named(tx, name); err != nil {
			return e, err
		}
		key, err := invite(tx, name, now)
		i = o.invitation(key, now)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// SetRole changes what an operator may do. Their sessions end, and what they asked
// for or approved.
func (o Operators) SetRole(ctx context.Context, by, name string, role Role) error {
	if !role.Known() {
		return unknownRole(role)
	}
	return o.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		op, err := named(tx, name)
		if err != nil {
			return event.Event{}, err
		}
		return event.Event{Name: enrol.OperatorRoleChanged, By: by, Text: name + ", from " + op.Role + " to " + string(role)}, tx.SetOperatorRole(name, string(role))
	})
}

// Remove removes an operator. Their sessions end, and what they asked for or approved.
func (o Operators) Remove(ctx context.Context, by, name string) error {
	return o.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		op, err := named(tx, name)
		if err != nil {
			return event.Event{}, err
		}
		return event.Event{Name: enrol.OperatorRemoved, By: by, Text: name + ", " + op.Role}, tx.RemoveOperator(name)
	})
}

// RemoveKey takes a passkey away from an operator, whose sessions and invitations end,
// and what they asked for or approved: whoever stole it may have made them.
func (o Operators) RemoveKey(ctx context.Context, by, name string, credentialID []byte) error {
	return o.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		k, err := tx.OperatorKey(credentialID)
		if err == nil && k.Operator != name {
			err = store.ErrNotFound
		}
		if err != nil {
			return event.Event{}, err
		}
		return event.Event{Name: enrol.OperatorPasskeyRemoved, By: by, Text: name + ", " + k.Label}, tx.RemoveOperatorKey(credentialID)
	})
}

func (s *server) invitePage(v *visit) error {
	return s.render(v, http.StatusOK, "invite", screen{Title: "Set up your passkey"})
}

// invitationOf reads one that is good.
func (s *server) invitationOf(tx store.Tx, key []byte) (store.OperatorInvitation, error) {
	hash := sha256.Sum256(key)
	i, err := tx.OperatorInvitation(hash[:], s.Now())
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrUsed) {
		err = errInvite
	}
	return i, err
}

// beginInvite tells the page whose invitation it is, and which passkeys there are.
func (s *server) beginInvite(v *visit) error {
	var in struct {
		Secret bytes64 `json:"secret"`
	}
	if err := decode(v.r, &in); err != nil {
		return err
	}
	var i store.OperatorInvitation
	var keys []store.OperatorKey
	err := s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		if i, err = s.invitationOf(tx, in.Secret); err == nil {
			keys, err = tx.OperatorKeys(i.Operator)
		}
		return err
	})
	if err != nil {
		return err
	}
	have := []string{}
	for _, k := range keys {
		have = append(have, b64.EncodeToString(k.CredentialID))
	}
	writeJSON(v, http.StatusOK, map[string]any{"name": i.Operator, "organisation": s.Organisation, "rp_id": s.RelyingParty.ID, "have": have})
	return nil
}

// invite takes the passkey that an invited operator made. That they can use it, the
// login shows.
func (s *server) invite(v *visit) error {
	var in struct {
		Secret            bytes64 `json:"secret"`
		CredentialID      bytes64 `json:"credential_id"`
		PublicKey         bytes64 `json:"public_key"`
		AuthenticatorData bytes64 `json:"authenticator_data"`
		Label             string  `json:"label"`
	}
	if err := decode(v.r, &in); err != nil {
		return err
	}
	key, err := push.Registration{CredentialID: in.CredentialID, PublicKey: in.PublicKey, AuthenticatorData: in.AuthenticatorData, Phone: "passkey"}.Approver(s.RelyingParty)
	if err != nil {
		return malformed("This passkey cannot be used: %v.", err)
	}
	if in.Label == "" || len(in.Label) > 64 || !printable(in.Label) {
		return malformed("The passkey's name has 1 to 64 characters.")
	}
	err = s.operators.update(v.ctx(), func(tx store.Tx, now time.Time) (event.Event, error) {
		var none event.Event
		i, err := s.invitationOf(tx, in.Secret)
		if err != nil {
			return none, err
		}
		keys, err := tx.OperatorKeys(i.Operator)
		if err != nil {
			return none, err
		}
		if len(keys) >= maxKeys {
			return none, malformed("There are %d passkeys already; one has to be removed first.", len(keys))
		}
		hash := sha256.Sum256(in.Secret)
		if _, err := tx.UseOperatorInvitation(hash[:], now); err != nil {
			return none, err
		}
		return event.Event{Name: enrol.OperatorPasskeyAdded, By: "operator:" + i.Operator, Remote: s.Address(v.r), Text: i.Operator + ", " + in.Label},
			tx.AddOperatorKey(store.OperatorKey{CredentialID: key.CredentialID, Operator: i.Operator, PublicKey: key.PublicKey, Label: in.Label, Synced: key.Synced, Created: now})
	})
	if errors.Is(err, store.ErrExists) {
		return malformed("This passkey is one of the console already.")
	}
	if err != nil {
		return err
	}
	writeJSON(v, http.StatusOK, map[string]string{"to": "/login"})
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
