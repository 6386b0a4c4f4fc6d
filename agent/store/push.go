package store

import (
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/vault"
)

// PushSetup is what a login needs, beside the person's record, to ask phones.
type PushSetup struct {
	DeviceID     string
	DeviceName   string
	RelyingParty push.RelyingParty
	// Signed are the phones that the organisation signed for the user.
	Signed []push.Approver
}

// PushSetupOf reads it for the user of that name; nil where this computer has
// joined no authority, or does not know where approvals come from. takeSigned:
// root lets the organisation say which phones count.
func PushSetupOf(tx *vault.Tx, user string, takeSigned bool) (*PushSetup, error) {
	a, err := JoinedTo(tx)
	if err != nil || a == nil {
		return nil, err
	}
	settings, err := Signed(tx, organisation.KindSettings, "")
	if err != nil || settings.Settings == nil {
		return nil, err
	}
	s := &PushSetup{DeviceID: a.DeviceID, DeviceName: a.DeviceName,
		RelyingParty: push.RelyingParty{ID: settings.Settings.RPID, Origin: settings.Settings.Origin}}
	if takeSigned {
		phones, err := Signed(tx, organisation.KindApprovers, user)
		if err != nil {
			return nil, err
		}
		s.Signed = phones.Approvers
	}
	return s, nil
}
