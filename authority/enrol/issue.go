package enrol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pelletier/go-toml/v2"

	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/event"
	"sallyport/internal/factor/onetime"
	"sallyport/internal/factor/totp"
	"sallyport/internal/organisation"
	"sallyport/internal/policy"
	"sallyport/internal/secret"
)

// Issued is what a person gets, to be shown once. The authority keeps it only
// sealed to the device.
type Issued struct {
	URI   secret.String   // of a TOTP secret, for the QR code
	Codes []secret.String // recovery codes, or the one bypass code
	// Waits: it is good once the organisation key has signed it, elsewhere.
	Waits bool
}

// seal issues an item for one user on one device.
func (s *Service) seal(ctx context.Context, kind organisation.Kind, user, device string, e event.Event, content any) (waits bool, err error) {
	err = s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		d, err := s.target(tx, user, device)
		if err != nil {
			return e, err
		}
		e := e
		e.User, e.Text = user, clip("on "+d.Name+" ("+d.ID+")"+e.Text)
		waits, err = s.put(tx, kind, device, user, func(e *organisation.Envelope) error { return e.Seal(d.SealingKey, content) })
		return e, err
	})
	return waits, err
}

// IssueTOTP makes a TOTP secret for a user on one device.
func (s *Service) IssueTOTP(ctx context.Context, by, user, device string) (*Issued, error) {
	state, err := totp.New("SHA1", 6)
	if err != nil {
		return nil, err
	}
	uri := state.URI(s.settings.Name, user)
	waits, err := s.seal(ctx, organisation.KindTOTP, user, device, event.Event{Name: TOTPIssued, By: by}, organisation.TOTP{URI: uri})
	if err != nil {
		return nil, err
	}
	return &Issued{URI: secret.New(uri), Waits: waits}, nil
}

// IssueRecovery makes recovery codes for a user on one device; the ones before
// end when the device takes these.
func (s *Service) IssueRecovery(ctx context.Context, by, user, device string) (*Issued, error) {
	texts, _, err := onetime.NewRecovery(nil, "")
	if err != nil {
		return nil, err
	}
	waits, err := s.seal(ctx, organisation.KindRecovery, user, device, event.Event{Name: RecoveryIssued, By: by}, organisation.Codes{Codes: texts})
	if err != nil {
		return nil, err
	}
	i := &Issued{Waits: waits}
	for _, c := range texts {
		i.Codes = append(i.Codes, secret.New(c))
	}
	return i, nil
}

// IssueBypass makes one code that opens one login on one device, for a time.
func (s *Service) IssueBypass(ctx context.Context, by, user, device string, life time.Duration, reason string) (*Issued, error) {
	switch {
	case life < time.Minute || life > 7*24*time.Hour:
		return nil, invalid("a bypass lives for a minute to 7 days, not %v", life)
	case reason == "" || len(reason) > 200 || !printable(reason):
		return nil, invalid("a bypass needs a reason of 1 to 200 printable bytes: --reason 'lost phone, ticket 123'")
	}
	text, _, err := onetime.NewSpoken(nil, "", clock.Deadline{})
	if err != nil {
		return nil, err
	}
	waits, err := s.seal(ctx, organisation.KindBypass, user, device,
		event.Event{Name: BypassIssued, By: by, Text: ", for " + life.String() + ": " + reason},
		organisation.Bypass{Code: text, Expires: s.now().Add(life).Unix(), Reason: reason})
	if err != nil {
		return nil, err
	}
	return &Issued{Codes: []secret.String{secret.New(text)}, Waits: waits}, nil
}

// SetPolicy signs rules, given as TOML, for every device. They raise what a device
// requires.
func (s *Service) SetPolicy(ctx context.Context, by string, rules []byte) (waits bool, err error) {
	if len(rules) > organisation.MaxEnvelope/4 {
		return false, invalid("a policy of %d bytes; at most %d", len(rules), organisation.MaxEnvelope/4)
	}
	r := policy.Rules{Ask: policy.AskEnrolled}
	d := toml.NewDecoder(bytes.NewReader(rules)).DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return false, invalid("the policy:\n%s", strict.String())
		}
		return false, invalid("the policy: %v", err)
	}
	if err := r.Validate(); err != nil {
		return false, invalid("%v", err)
	}
	err = s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		waits, err = s.put(tx, organisation.KindPolicy, "", "", jsonPayload(r))
		return event.Event{Name: PolicyChanged, By: by}, err
	})
	return waits, err
}

// EnsureSettings signs the configured settings when they are not those that are
// signed, or wait, already. To be called at the start.
func (s *Service) EnsureSettings(ctx context.Context) (waits bool, err error) {
	want, err := json.Marshal(s.settings)
	if err != nil {
		return false, err
	}
	err = s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		waits = false
		item, err := tx.Item(organisation.KindSettings, "", "")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return event.Event{}, err
		}
		if err == nil {
			var e organisation.Envelope
			if err := json.Unmarshal(item.Envelope, &e); err != nil {
				return event.Event{}, err
			}
			if bytes.Equal(e.Payload, want) {
				return event.Event{}, nil
			}
		}
		list, err := waiting(tx)
		if err != nil {
			return event.Event{}, err
		}
		for _, e := range list {
			if waits = s.keys.signing == nil && same(e, organisation.KindSettings, "", "") && bytes.Equal(e.Payload, want); waits {
				return event.Event{}, nil
			}
		}
		waits, err = s.put(tx, organisation.KindSettings, "", "", jsonPayload(s.settings))
		return event.Event{Name: SettingsChanged, Text: clip(string(want))}, err
	})
	return waits, err
}
