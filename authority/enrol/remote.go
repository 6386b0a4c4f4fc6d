package enrol

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/organisation"
)

// Remote is something that a device is to do, once, for one of its people.
type Remote struct {
	Kind    organisation.Kind
	User    string
	Device  string
	Version uint64
	Expires time.Time // a device that has not done it by then does not do it
	Waits   bool      // it goes out once the organisation's key has signed it, elsewhere
}

// RemoteState says what became of it.
type RemoteState string

// The states. What is undone or expired can be asked for again.
const (
	RemoteNone    RemoteState = "none"    // it was never asked for
	RemoteWaits   RemoteState = "waits"   // for the organisation's key
	RemoteSent    RemoteState = "sent"    // the device has not said anything yet; it may be offline
	RemoteDone    RemoteState = "done"    //
	RemoteRefused RemoteState = "refused" // the device does not take it
	RemoteExpired RemoteState = "expired" // the device was not there in time
)

// RemoteAnswer is what a device made of the last action of a kind for a user.
type RemoteAnswer struct {
	Remote
	State RemoteState
	Why   string    // of RemoteRefused
	At    time.Time // of the device's answer; zero: none
}

// Unlock has a device end the lockout of one of its users.
func (s *Service) Unlock(ctx context.Context, by, user, device string) (*Remote, error) {
	return s.act(ctx, organisation.KindUnlock, UnlockIssued, by, user, device)
}

// ClearPush switches push on again for a user's logins on a device, there and here,
// after a report of the phone or too many that nobody answered.
func (s *Service) ClearPush(ctx context.Context, by, user, device string) (*Remote, error) {
	return s.act(ctx, organisation.KindPushClear, PushClearIssued, by, user, device)
}

func (s *Service) act(ctx context.Context, kind organisation.Kind, name event.Name, by, user, device string) (*Remote, error) {
	var r *Remote
	err := s.update(ctx, func(tx store.Tx, now time.Time) (event.Event, error) {
		e := event.Event{Name: name, User: user, By: by}
		d, err := s.target(tx, user, device)
		if err != nil {
			return e, err
		}
		e.Text = clip("on " + d.Name + " (" + d.ID + ")")
		r = &Remote{Kind: kind, User: user, Device: device, Expires: now.Add(organisation.MaxAction).Truncate(time.Second)}
		a := organisation.Action{Issued: now.Unix(), Expires: r.Expires.Unix()}
		r.Waits, err = s.put(tx, kind, device, user, func(e *organisation.Envelope) error {
			r.Version = e.Version
			return jsonPayload(a)(e)
		})
		if err != nil || kind != organisation.KindPushClear {
			return e, err
		}
		state, err := tx.PushState(user, device)
		if err != nil || state.Misses == 0 && state.Paused.IsZero() && !state.Reported && len(state.Begun) == 0 {
			return e, err
		}
		state.Clear()
		return e, tx.PutPushState(user, device, state)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// RemoteState says what became of the last action of a kind for a user on a device.
func (s *Service) RemoteState(ctx context.Context, kind organisation.Kind, user, device string) (a RemoteAnswer, err error) {
	a = RemoteAnswer{Remote: Remote{Kind: kind, User: user, Device: device}, State: RemoteNone}
	err = s.store.View(ctx, func(tx store.Tx) error {
		list, err := waiting(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(e organisation.Envelope) bool { return same(e, kind, device, user) })
		if i >= 0 {
			a.Version, a.Waits, a.State = list[i].Version, true, RemoteWaits
			a.Expires = actionOf(list[i].Payload)
		} else {
			item, err := tx.Item(kind, device, user)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			} else if err != nil {
				return err
			}
			var e organisation.Envelope
			if err := json.Unmarshal(item.Envelope, &e); err != nil {
				return err
			}
			a.Version, a.State, a.Expires = item.Version, RemoteSent, actionOf(e.Payload)
			answer, err := tx.ItemAnswer(device, kind, user)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err == nil && answer.Version == item.Version {
				a.At, a.Why, a.State = answer.At, answer.Refused, RemoteDone
				if answer.Refused != "" {
					a.State = RemoteRefused
				}
			}
		}
		if (a.State == RemoteSent || a.State == RemoteWaits) && !s.now().Before(a.Expires) {
			a.State = RemoteExpired
		}
		return nil
	})
	return a, err
}

func actionOf(payload []byte) time.Time {
	var a organisation.Action
	if json.Unmarshal(payload, &a) != nil {
		return time.Time{}
	}
	return time.Unix(a.Expires, 0).UTC()
}

// IsAction says whether items of the kind are done once, and expire.
func IsAction(kind organisation.Kind) bool {
	return kind == organisation.KindUnlock || kind == organisation.KindPushClear
}

// Lapsed says whether an item is an action that no device does any more.
func Lapsed(i store.Item, now time.Time) bool {
	if !IsAction(i.Kind) {
		return false
	}
	var e organisation.Envelope
	return json.Unmarshal(i.Envelope, &e) != nil || !now.Before(actionOf(e.Payload))
}
