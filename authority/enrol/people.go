package enrol

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
)

// AddUser adds a person.
func (s *Service) AddUser(ctx context.Context, by, name string) error {
	if err := CheckUser(name); err != nil {
		return err
	}
	return s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		return event.Event{Name: UserAdded, User: name, By: by}, tx.CreateUser(store.User{Name: name, Created: now})
	})
}

// RemoveUser removes a person from every device, and the phones from the
// manifest. With the organisation key elsewhere the empty manifest waits for it;
// no phone is rung from now on.
func (s *Service) RemoveUser(ctx context.Context, by, name string) (waits bool, err error) {
	err = s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		e := event.Event{Name: UserRemoved, User: name, By: by}
		if _, err := tx.User(name); err != nil {
			return e, err
		}
		devices, err := tx.DevicesNaming(name) // where everyone is allowed, the manifest ends it
		if err != nil {
			return e, err
		}
		for _, d := range devices {
			if err := disallow(tx, d, name); err != nil {
				return e, err
			}
		}
		if err := tx.RemoveUser(name); err != nil {
			return e, err
		}
		waits, err = s.putManifest(tx, name)
		return e, err
	})
	return waits, err
}

// AllowUser lets a user's logins on a device be approved.
func (s *Service) AllowUser(ctx context.Context, by, device, user string) error {
	return s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		e := event.Event{Name: UserAllowed, User: user, By: by}
		d, err := tx.Device(device)
		if err != nil {
			return e, err
		}
		e.Text = "on " + d.Name + " (" + d.ID + ")"
		users := []string{Everyone}
		if user != Everyone {
			if users = slices.Clone(d.Users); slices.Equal(users, []string{Everyone}) {
				return e, invalid("everyone is allowed on %s already", d.Name)
			}
			if users = append(users, user); slices.Contains(d.Users, user) {
				return event.Event{}, nil
			}
		}
		if err := s.checkUsers(tx, users); err != nil {
			return e, err
		}
		d.Users = users
		return e, errors.Join(tx.PutDevice(d), tx.Notify(store.Notice{Topic: store.TopicSync, Device: d.ID}))
	})
}

// DisallowUser ends that.
func (s *Service) DisallowUser(ctx context.Context, by, device, user string) error {
	return s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		e := event.Event{Name: UserDisallowed, User: user, By: by}
		d, err := tx.Device(device)
		if err != nil {
			return e, err
		}
		e.Text = "on " + d.Name + " (" + d.ID + ")"
		if !slices.Contains(d.Users, user) {
			return e, invalid("%s is not in the list of %s, which is %q", user, d.Name, d.Users)
		}
		return e, disallow(tx, d, user)
	})
}

func disallow(tx store.Tx, d store.Device, user string) error {
	d.Users = slices.DeleteFunc(slices.Clone(d.Users), func(u string) bool { return u == user })
	return errors.Join(tx.PutDevice(d), tx.Notify(store.Notice{Topic: store.TopicSync, Device: d.ID}))
}

// RevokeDevice ends a device's certificate, and its stream at once.
func (s *Service) RevokeDevice(ctx context.Context, by, device, why string) error {
	if why == "" || len(why) > 256 || !printable(why) {
		return invalid("revoking needs a reason of 1 to 256 printable bytes: --reason 'stolen, ticket 123'")
	}
	return s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		e := event.Event{Name: DeviceRevoked, By: by}
		d, err := tx.Device(device)
		if err != nil {
			return e, err
		}
		if !d.Revoked.IsZero() {
			return event.Event{}, nil
		}
		e.Text = d.Name + " (" + d.ID + "): " + why
		d.Revoked, d.Why = now, why
		return e, errors.Join(tx.PutDevice(d), tx.Notify(store.Notice{Topic: store.TopicRevoked, Device: d.ID}))
	})
}

// Invitation lets one phone enrol. URL holds the secret: it is for that person
// alone, and for no log.
type Invitation struct {
	ID      string
	URL     string
	Expires time.Time
}

// BeginEnrolment lets one phone enrol for a user, for every device the user is
// allowed on. life 0 is an hour.
func (s *Service) BeginEnrolment(ctx context.Context, by, user string, life time.Duration) (*Invitation, error) {
	if life == 0 {
		life = time.Hour
	}
	if life < time.Minute || life > 7*24*time.Hour {
		return nil, invalid("an invitation lives for a minute to 7 days, not %v", life)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails: crypto/rand
	i := &Invitation{ID: push.NewID()}
	err := s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		i.Expires = now.Add(life)
		e := event.Event{Name: EnrolmentOpened, User: user, By: by, Text: "for " + life.String()}
		if err := s.known(tx, user); err != nil {
			return e, err
		}
		return e, tx.CreateEnrolment(store.Enrolment{ID: i.ID, User: user, Secret: secret, Created: now, Expires: i.Expires})
	})
	if err != nil {
		return nil, err
	}
	// A space as %20, which every reader takes; + is one only to forms.
	escape := func(v string) string { return strings.ReplaceAll(url.QueryEscape(v), "+", "%20") }
	i.URL = s.Page() + "#e=" + i.ID + "&s=" + base64.RawURLEncoding.EncodeToString(secret) + "&d=&n=" + escape(s.settings.Name) + "&u=" + escape(user)
	return i, nil
}

// CompleteEnrolment judges the key that a page posted (store.Tx.PostKey) to an
// enrolment of the authority's own. It may be called again. Whether the phone was
// taken stands in the enrolment then; the error is only that it could not be judged.
func (s *Service) CompleteEnrolment(ctx context.Context, id string) error {
	return s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		enrolment, err := tx.Enrolment(id)
		switch {
		case err != nil:
			return event.Event{}, err
		case enrolment.Device != "" || enrolment.Registration == nil:
			return event.Event{}, invalid("the enrolment is a device's, or has no key yet")
		case enrolment.Done:
			return event.Event{}, nil
		case !now.Before(enrolment.Expires):
			return event.Event{}, store.ErrUsed
		}
		why := ""
		var approver push.Approver
		list, err := tx.Approvers(enrolment.User)
		if err != nil {
			return event.Event{}, err
		}
		central := 0
		for _, a := range list {
			if a.Device == "" {
				central++
			}
		}
		_, known := tx.ApproverByCredential(enrolment.Registration.CredentialID)
		if known != nil && !errors.Is(known, store.ErrNotFound) {
			return event.Event{}, known
		}
		switch {
		case len(enrolment.Secret) != 32 || !hmac.Equal(enrolment.MAC, push.EnrolmentMAC(enrolment.Secret, id, "", enrolment.User, *enrolment.Registration)):
			why = "the key did not come from whoever scanned the code"
		case known == nil:
			why = "this phone is enrolled already"
		case central >= MaxApprovers:
			why = fmt.Sprintf("%d phones are enrolled already; one has to be removed first", central)
		default:
			if approver, err = enrolment.Registration.Approver(s.RelyingParty()); err != nil {
				why = err.Error()
			}
		}
		if why != "" {
			return event.Event{Name: EnrolmentRefused, User: enrolment.User, Text: clip(why)}, tx.EndEnrolment(id, false, why)
		}
		kept := store.Approver{ID: push.NewID(), Approver: approver, User: enrolment.User, Pending: true, Created: now}
		if err := tx.PutApprover(kept); err != nil {
			return event.Event{}, err
		}
		waits, err := s.putManifest(tx, enrolment.User)
		if err != nil {
			return event.Event{}, err
		}
		if err := Admit(tx, enrolment, kept.ID, now); err != nil {
			return event.Event{}, err
		}
		e := event.Event{Name: PhoneEnrolled, User: enrolment.User, Text: approver.Phone}
		if waits {
			e.Text += ", waits for the organisation's key"
		}
		return e, nil
	})
}

// Admit ends an enrolment whose phone was taken, and opens the page's session.
func Admit(tx store.Tx, e store.Enrolment, approver string, now time.Time) error {
	if len(e.Session) > 0 {
		if _, err := tx.Session(e.Session); errors.Is(err, store.ErrNotFound) {
			err = tx.PutSession(store.Session{Hash: e.Session, Approver: approver, Created: now, Seen: now})
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	return tx.EndEnrolment(e.ID, true, "")
}

// RevokeApprover removes a phone. One that a device pinned itself stays pinned
// there until it is removed there, and is not rung any more.
func (s *Service) RevokeApprover(ctx context.Context, by, id string) (waits bool, err error) {
	err = s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		a, err := tx.Approver(id)
		if err != nil {
			return event.Event{}, err
		}
		e := event.Event{Name: PhoneRemoved, User: a.User, By: by, Text: a.Phone}
		if err := tx.RemoveApprover(id); err != nil {
			return e, err
		}
		if waits = false; a.Device == "" {
			waits, err = s.putManifest(tx, a.User)
		}
		return e, err
	})
	return waits, err
}

// maxPhones bounds how many phones one user may have on all devices.
const maxPhones = 64

// maxEnrolment bounds how long a device's enrolment may wait for a phone.
const maxEnrolment = time.Hour

// BeginDeviceEnrolment lets one phone enrol for a device, which has the secret and
// judges the key. Asking for the same again is harmless.
func (s *Service) BeginDeviceEnrolment(ctx context.Context, device, id, user string, expires time.Time) error {
	if err := CheckUser(user); err != nil {
		return err
	}
	return s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		var none event.Event
		d, err := tx.Device(device)
		if err != nil {
			return none, err
		}
		if !d.Revoked.IsZero() {
			return none, ErrRevoked
		}
		if !expires.After(now) {
			return none, invalid("the enrolment has expired; or the computer's clock is wrong")
		}
		if latest := now.Add(maxEnrolment); expires.After(latest) {
			expires = latest
		}
		_, err = tx.User(user)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return none, err
		}
		if err != nil || !Allowed(d, user) {
			return none, ErrNotAllowed
		}
		old, err := tx.Enrolment(id)
		switch {
		case err == nil && old.Device == device && old.User == user && !old.Done:
			return none, nil
		case err == nil:
			return none, store.ErrExists
		case !errors.Is(err, store.ErrNotFound):
			return none, err
		}
		return event.Event{Name: EnrolmentOpened, User: user, By: "device:" + device, Text: "on " + d.Name},
			tx.CreateEnrolment(store.Enrolment{ID: id, User: user, Device: device, Created: now, Expires: expires})
	})
}

// EndDeviceEnrolment records what a device made of the key that a phone posted.
// When it took it, the phone can be rung for that device from now on.
func (s *Service) EndDeviceEnrolment(ctx context.Context, device, id string, accepted bool, reason string, credentialID []byte) error {
	if len(reason) > 256 || !printable(reason) {
		return invalid("a reason has at most 256 printable bytes")
	}
	return s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		var none event.Event
		e, err := tx.Enrolment(id)
		switch {
		case err != nil:
			return none, err
		case e.Device != device || device == "":
			return none, store.ErrNotFound
		case e.Done:
			return none, nil
		case !accepted:
			return event.Event{Name: EnrolmentRefused, User: e.User, By: "device:" + device, Text: reason}, tx.EndEnrolment(id, false, reason)
		case e.Registration == nil || string(e.Registration.CredentialID) != string(credentialID):
			return none, invalid("the enrolment has another key, or none")
		}
		approver, err := e.Registration.Approver(s.RelyingParty())
		if err != nil {
			return none, invalid("%v", err)
		}
		list, err := tx.Approvers(e.User)
		if err != nil {
			return none, err
		}
		here := 0
		for _, a := range list {
			if a.Device == device {
				here++
			}
		}
		kept := store.Approver{ID: push.NewID(), Approver: approver, User: e.User, Device: device, Created: now}
		why := ""
		old, err := tx.ApproverByCredential(credentialID)
		switch {
		case err == nil:
			if old.User != e.User || old.Device != device {
				why = "this phone is enrolled already"
			}
			kept.ID, kept.Counter, kept.Created = old.ID, old.Counter, old.Created
		case !errors.Is(err, store.ErrNotFound):
			return none, err
		case here >= MaxApprovers: // one device that is broken into leaves the others room
			why = fmt.Sprintf("%d phones are enrolled at this computer already; one has to be removed first", here)
		case len(list) >= maxPhones:
			why = fmt.Sprintf("%d phones are enrolled already; one has to be removed first", len(list))
		}
		if why != "" {
			return event.Event{Name: EnrolmentRefused, User: e.User, By: "device:" + device, Text: why}, tx.EndEnrolment(id, false, why)
		}
		if err := tx.PutApprover(kept); err != nil {
			return none, err
		}
		return event.Event{Name: PhoneEnrolled, User: e.User, By: "device:" + device, Text: approver.Phone}, Admit(tx, e, kept.ID, now)
	})
}
