package store

import (
	"strings"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
)

// Keys in the vault's settings.
const (
	authoritySetting  = "authority"
	invitationSetting = "invitation"
	itemSetting       = "signed/" // + kind + "/" + user: the item in force
)

// Authority is what a device keeps of the authority that it has joined.
type Authority struct {
	URL          string    `json:"url"` // "https://authority.example.com:7443"
	CA           []byte    `json:"ca"`  // the certificate that its servers and devices have theirs from, DER
	Organisation []byte    `json:"organisation"`
	DeviceID     string    `json:"device_id"`
	DeviceName   string    `json:"device_name"`
	Key          []byte    `json:"key"`   // PKCS#8: the device's own
	Chain        [][]byte  `json:"chain"` // its certificate, then the CA's
	SealingKey   []byte    `json:"sealing_key"`
	BypassKey    []byte    `json:"bypass_key,omitempty"` // of offline bypasses; see offline.NewKey
	Escrowed     bool      `json:"escrowed,omitempty"`   // the authority has it
	Joined       time.Time `json:"joined"`
	// EventsSent is the seq of the last event that the authority has, in the vault
	// named EventsVault.
	EventsSent  uint64 `json:"events_sent"`
	EventsVault string `json:"events_vault"`
}

// Item is what the organisation signed, in force on this device.
type Item struct {
	Version   uint64                 `json:"version"`
	Approvers []push.Approver        `json:"approvers,omitempty"`
	Settings  *organisation.Settings `json:"settings,omitempty"`
	Policy    []byte                 `json:"policy,omitempty"` // policy.Rules as JSON
	// Digest is SHA-256 of the envelope, so that one that comes twice is known.
	Digest []byte `json:"digest,omitempty"`
	// Mark, of a TOTP secret, tells whether the record still has this one.
	Mark []byte `json:"mark,omitempty"`
}

// JoinedTo returns the authority of this device; nil when it has joined none.
func JoinedTo(tx *vault.Tx) (*Authority, error) {
	a := new(Authority)
	found, err := tx.Get(vault.Settings, authoritySetting, a)
	if err != nil || !found {
		return nil, err
	}
	return a, nil
}

// PutAuthority keeps it.
func PutAuthority(tx *vault.Tx, a *Authority) error {
	return tx.Put(vault.Settings, authoritySetting, a)
}

// Invitation is a token for an authority that could not be reached yet.
type Invitation struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	Name  string `json:"name"` // what the computer will be called
	By    string `json:"by"`   // who asked for it
}

// Invited returns the invitation that waits; nil when there is none.
func Invited(tx *vault.Tx) (*Invitation, error) {
	i := new(Invitation)
	found, err := tx.Get(vault.Settings, invitationSetting, i)
	if err != nil || !found {
		return nil, err
	}
	return i, nil
}

// PutInvitation keeps it; nil: forgets it.
func PutInvitation(tx *vault.Tx, i *Invitation) error {
	if i == nil {
		return tx.Delete(vault.Settings, invitationSetting)
	}
	return tx.Put(vault.Settings, invitationSetting, i)
}

// Signed returns the item in force of a kind and user; the zero Item when there
// is none.
func Signed(tx *vault.Tx, kind organisation.Kind, user string) (i Item, err error) {
	_, err = tx.Get(vault.Settings, itemSetting+string(kind)+"/"+user, &i)
	return i, err
}

// PutSigned puts an item in force. The caller has verified it, and that its
// version is above that of Signed.
func PutSigned(tx *vault.Tx, kind organisation.Kind, user string, i Item) error {
	if kind == organisation.KindPolicy {
		if err := tx.Put(vault.Settings, policyMark, mark(i)); err != nil {
			return err
		}
	}
	return tx.Put(vault.Settings, itemSetting+string(kind)+"/"+user, i)
}

// EachSigned calls fn with each item in force.
func EachSigned(tx *vault.Tx, fn func(organisation.Kind, string, Item) error) error {
	return tx.Each(vault.Settings, func(key string, decode func(any) error) error {
		name, ok := strings.CutPrefix(key, itemSetting)
		kind, user, ok2 := strings.Cut(name, "/")
		if !ok || !ok2 {
			return nil
		}
		var i Item
		if err := decode(&i); err != nil {
			return err
		}
		return fn(organisation.Kind(kind), user, i)
	})
}

// ForgetAuthority removes the authority, what the organisation signed, and the
// phones that were enrolled here: they were for the device that this computer was
// there, which it never is again. So were open challenges and the count of logins
// without contact, of which the numbers begin anew. The secrets in people's records
// stay: without them they would be asked for none.
func ForgetAuthority(tx *vault.Tx) error {
	var people []*factor.Account
	if err := tx.Each(vault.Users, func(_ string, decode func(any) error) error {
		a := new(factor.Account)
		if err := decode(a); err != nil {
			return err
		}
		if len(a.Phones) > 0 || a.Offline.Open != nil || a.Offline.Used != (offline.Used{}) {
			a.Phones, a.Offline.Open, a.Offline.Used = nil, nil, offline.Used{}
			people = append(people, a)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, a := range people {
		if err := Put(tx, a); err != nil {
			return err
		}
	}
	var keys []string
	if err := tx.Each(vault.Settings, func(key string, _ func(any) error) error {
		if key == authoritySetting || key == contactSetting || key == policyMark || strings.HasPrefix(key, itemSetting) {
			keys = append(keys, key)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, key := range keys {
		if err := tx.Delete(vault.Settings, key); err != nil {
			return err
		}
	}
	return nil
}
