package enrol

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/organisation"
)

// pendingSetting holds what waits for the organisation key, as JSON of pending.
const pendingSetting = "pending"

// maxPending bounds how much may wait.
const maxPending = 1000

// MaxApprovers bounds how many phones one user may have in the manifest: as many
// as a device can name in one request.
const MaxApprovers = 16

// pending is the file that goes to where the key is, and (signed) comes back.
type pending struct {
	Format string                  `json:"format"`
	Items  []organisation.Envelope `json:"items"`
}

const (
	pendingFormat = "sallyport.pending.v1"
	signedFormat  = "sallyport.signed.v1"
)

// version returns the version that the next item of that kind, device and user
// has: above what is signed and what waits, and never below the time in seconds.
// The computers refuse what is not above what they have, and after a restore they
// may have more than this database knows of: to remove a stolen phone must not
// depend on that.
func version(tx store.Tx, now time.Time, waiting []organisation.Envelope, kind organisation.Kind, device, user string) (uint64, error) {
	last := uint64(0)
	item, err := tx.Item(kind, device, user)
	switch {
	case err == nil:
		last = item.Version
	case !errors.Is(err, store.ErrNotFound):
		return 0, err
	}
	for _, e := range waiting {
		if same(e, kind, device, user) {
			last = max(last, e.Version)
		}
	}
	return max(last+1, uint64(max(0, now.Unix()))), nil
}

func same(e organisation.Envelope, kind organisation.Kind, device, user string) bool {
	return e.Kind == kind && e.Device == device && e.User == user
}

func waiting(tx store.Tx) ([]organisation.Envelope, error) {
	b, err := tx.Setting(pendingSetting)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(b) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var p pending
	err = json.Unmarshal(b, &p)
	return p.Items, err
}

func putWaiting(tx store.Tx, list []organisation.Envelope) error {
	if len(list) > maxPending {
		return fmt.Errorf("%d items wait for the organisation's key, more than %d: sign them first: sallyport-authority manifest pending, sign, import", len(list), maxPending)
	}
	b, err := json.Marshal(pending{pendingFormat, list})
	if err != nil {
		return err
	}
	return tx.PutSetting(pendingSetting, b)
}

// put gives an item its version and payload, signs it and tells the devices; or
// keeps it for whoever has the key, and says that it waits.
func (s *Service) put(tx store.Tx, kind organisation.Kind, device, user string, payload func(e *organisation.Envelope) error) (waits bool, err error) {
	list, err := waiting(tx)
	if err != nil {
		return false, err
	}
	e := organisation.Envelope{Kind: kind, Device: device, User: user}
	if e.Version, err = version(tx, s.now(), list, kind, device, user); err != nil {
		return false, err
	}
	if err := payload(&e); err != nil {
		return false, err
	}
	// The same of before is out of date, signed or not.
	rest := slices.DeleteFunc(slices.Clone(list), func(w organisation.Envelope) bool { return same(w, kind, device, user) })
	if s.keys.signing == nil {
		return true, putWaiting(tx, append(rest, e))
	}
	signed, err := organisation.Sign(s.keys.signing, e)
	if err != nil {
		return false, err
	}
	if len(rest) != len(list) {
		if err := putWaiting(tx, rest); err != nil {
			return false, err
		}
	}
	return false, putSigned(tx, e, signed)
}

// putSigned keeps a signed item, and what follows from it.
func putSigned(tx store.Tx, e organisation.Envelope, signed []byte) error {
	err := tx.PutItem(store.Item{Kind: e.Kind, Device: e.Device, User: e.User, Version: e.Version, Envelope: signed})
	if err != nil {
		return err
	}
	if e.Kind == organisation.KindApprovers {
		if err := settleApprovers(tx, e); err != nil {
			return err
		}
	}
	return tx.Notify(store.Notice{Topic: store.TopicSync, Device: e.Device, ID: e.User})
}

// settleApprovers: the phones that the manifest names may be rung.
func settleApprovers(tx store.Tx, e organisation.Envelope) error {
	var m organisation.Manifest
	if err := json.Unmarshal(e.Payload, &m); err != nil {
		return err
	}
	list, err := tx.Approvers(e.User)
	if err != nil {
		return err
	}
	for _, a := range list {
		signed := slices.ContainsFunc(m.Approvers, func(in organisation.Approver) bool {
			return string(in.CredentialID) == string(a.CredentialID)
		})
		if a.Device == "" && a.Pending && signed {
			a.Pending = false
			if err := tx.PutApprover(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// putManifest makes a user's manifest anew from the phones that are for it.
func (s *Service) putManifest(tx store.Tx, user string) (waits bool, err error) {
	list, err := tx.Approvers(user)
	if err != nil {
		return false, err
	}
	m := organisation.Manifest{Approvers: []organisation.Approver{}}
	for _, a := range list {
		if a.Device == "" {
			m.Approvers = append(m.Approvers, organisation.Approver{CredentialID: a.CredentialID, PublicKey: a.PublicKey, Phone: a.Phone, Synced: a.Synced})
		}
	}
	if len(m.Approvers) > MaxApprovers {
		return false, invalid("%s has %d phones already: remove one first", user, MaxApprovers)
	}
	return s.put(tx, organisation.KindApprovers, "", user, jsonPayload(m))
}

func jsonPayload(v any) func(*organisation.Envelope) error {
	return func(e *organisation.Envelope) (err error) {
		e.Payload, err = json.Marshal(v)
		return err
	}
}

// Pending returns what waits for the organisation key, for SignPending, and how
// much that is.
func (s *Service) Pending(ctx context.Context) (file []byte, n int, err error) {
	var list []organisation.Envelope
	err = s.store.View(ctx, func(tx store.Tx) (err error) {
		list, err = waiting(tx)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	file, err = json.MarshalIndent(pending{pendingFormat, list}, "", " ")
	return file, len(list), err
}

// DescribePending says, a line for each item, what SignPending would sign.
func DescribePending(file []byte) ([]string, error) {
	p, err := parsePending(file)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range p.Items {
		what := fmt.Sprintf("%s version %d", e.Kind, e.Version)
		if e.User != "" {
			what += " for the user " + e.User
		}
		if e.Device != "" {
			what += " on the device " + e.Device
		}
		switch e.Kind {
		case organisation.KindApprovers:
			var m organisation.Manifest
			if err := json.Unmarshal(e.Payload, &m); err != nil {
				return nil, invalid("the manifest of %q: %v", e.User, err)
			}
			var phones []string
			for _, a := range m.Approvers {
				phones = append(phones, fmt.Sprintf("%q (%x)", a.Phone, a.CredentialID[:min(8, len(a.CredentialID))]))
			}
			what += fmt.Sprintf(": %d phones %s", len(phones), strings.Join(phones, ", "))
		case organisation.KindSettings, organisation.KindPolicy:
			if !json.Valid(e.Payload) {
				return nil, invalid("an item %s is not JSON", e.Kind)
			}
			what += ": " + string(e.Payload)
		case organisation.KindUnlock, organisation.KindPushClear:
			what += ": good until " + actionOf(e.Payload).Format(time.RFC3339)
		default:
			what += ": sealed, only the device can read it"
		}
		lines = append(lines, what)
	}
	return lines, nil
}

func parsePending(file []byte) (*pending, error) {
	var p pending
	if err := json.Unmarshal(file, &p); err != nil || p.Format != pendingFormat {
		return nil, invalid("that is not what 'sallyport-authority manifest pending' writes")
	}
	if len(p.Items) > maxPending {
		return nil, invalid("%d items; at most %d", len(p.Items), maxPending)
	}
	for _, e := range p.Items {
		if err := checkEnvelope(e); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func checkEnvelope(e organisation.Envelope) error {
	perDevice := false
	switch e.Kind {
	case organisation.KindSettings, organisation.KindPolicy, organisation.KindApprovers:
	case organisation.KindTOTP, organisation.KindRecovery, organisation.KindBypass, organisation.KindUnlock, organisation.KindPushClear:
		perDevice = true
	default:
		return invalid("an item of the unknown kind %q", e.Kind)
	}
	switch {
	case e.Version == 0, len(e.Payload) == 0:
		return invalid("an item %s without a version or content", e.Kind)
	case perDevice && !IsDeviceID(e.Device), !perDevice && e.Device != "":
		return invalid("an item %s for the device %q", e.Kind, e.Device)
	}
	if e.Kind == organisation.KindSettings || e.Kind == organisation.KindPolicy {
		if e.User != "" {
			return invalid("an item %s for a user", e.Kind)
		}
		return nil
	}
	return CheckUser(e.User)
}

// SignPending signs what Pending returned, where the key is, for ImportSigned.
// It needs no database.
func SignPending(key ed25519.PrivateKey, file []byte) ([]byte, error) {
	p, err := parsePending(file)
	if err != nil {
		return nil, err
	}
	p.Format = signedFormat
	for i, e := range p.Items {
		signed, err := organisation.Sign(key, e)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(signed, &p.Items[i]); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(p, "", " ")
}

// ImportSigned takes what SignPending returned: all of it or nothing. What is
// here in that version or a higher one already is left as it is. It returns how
// many items are new.
func (s *Service) ImportSigned(ctx context.Context, by string, file []byte) (n int, err error) {
	var p pending
	if err := json.Unmarshal(file, &p); err != nil || p.Format != signedFormat || len(p.Items) > maxPending {
		return 0, invalid("that is not what 'sallyport-authority manifest sign' writes")
	}
	for i, e := range p.Items {
		if err := checkEnvelope(e); err != nil {
			return 0, err
		}
		b, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		if _, err := organisation.Open(s.keys.Organisation, e.Device, b); err != nil {
			return 0, invalid("item %d (%s %s): %v", i+1, e.Kind, e.User, err)
		}
	}
	err = s.update(ctx, func(tx store.Tx, _ time.Time) (event.Event, error) {
		n = 0
		list, err := waiting(tx)
		if err != nil {
			return event.Event{}, err
		}
		for _, e := range p.Items {
			list = slices.DeleteFunc(list, func(w organisation.Envelope) bool {
				return same(w, e.Kind, e.Device, e.User) && w.Version <= e.Version
			})
			old, err := tx.Item(e.Kind, e.Device, e.User)
			if err == nil && old.Version >= e.Version {
				continue
			} else if err != nil && !errors.Is(err, store.ErrNotFound) {
				return event.Event{}, err
			}
			signed, err := json.Marshal(e)
			if err != nil {
				return event.Event{}, err
			}
			if err := putSigned(tx, e, signed); err != nil {
				return event.Event{}, err
			}
			n++
		}
		if err := putWaiting(tx, list); err != nil || n == 0 {
			return event.Event{}, err
		}
		return event.Event{Name: ManifestSigned, By: by, Text: fmt.Sprintf("%d items signed elsewhere", n)}, nil
	})
	return n, err
}
