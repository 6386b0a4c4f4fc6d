package push

import "errors"

// FromManifest checks a key that the organisation signed as Registration.Approver
// checks one that a phone posted, as far as there is something to check.
func FromManifest(credentialID, publicKey []byte, phone string, synced bool) (Approver, error) {
	if len(credentialID) == 0 || len(credentialID) > MaxCredentialID {
		return Approver{}, errors.New("the credential id is malformed")
	}
	if _, err := parseKey(publicKey); err != nil {
		return Approver{}, err
	}
	return Approver{CredentialID: credentialID, PublicKey: publicKey, Phone: PhoneName(phone), Synced: synced}, nil
}

// PhoneName keeps of a phone's name what any screen can show.
func PhoneName(name string) string { return cleanPhone(name) }
