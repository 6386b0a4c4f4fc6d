package push

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of what a phone sends.
const (
	MaxCredentialID = 1023 // WebAuthn Level 3, 5.8.3
	maxPublicKey    = 1024
	maxAuthData     = 1024
	maxClientData   = 2048
	maxSignature    = 1024
	maxPhone        = 64
)

// Approver is a phone's passkey as the endpoint pins it.
type Approver struct {
	CredentialID []byte `json:"credential_id"`
	PublicKey    []byte `json:"public_key"` // SubjectPublicKeyInfo, DER
	Phone        string `json:"phone"`      // what the person called it
	// Synced: the passkey is or may be copied to the person's other devices (the
	// BE flag), so that it is as safe as that account.
	Synced bool `json:"synced,omitempty"`
}

// RelyingParty is where a passkey may be used.
type RelyingParty struct {
	ID     string `json:"id"`     // a host name
	Origin string `json:"origin"` // of the page: "https://approve.example.com"
}

// Assertion is what navigator.credentials.get() returns (WebAuthn Level 3, 5.2.2).
type Assertion struct {
	CredentialID      []byte
	AuthenticatorData []byte
	ClientData        []byte // JSON
	Signature         []byte
}

// Flags of the authenticator data (WebAuthn Level 3, 6.1).
const (
	flagUserPresent    = 1 << 0
	flagUserVerified   = 1 << 2
	flagBackupEligible = 1 << 3
	flagBackedUp       = 1 << 4
	flagAttested       = 1 << 6

	flagsSynced = flagBackupEligible | flagBackedUp
)

// The ways an assertion can fail, for logs and tests.
var (
	errForged    = errors.New("the signature is not of the pinned key")
	errChallenge = errors.New("another challenge was signed")
)

// VerifyAssertion checks a passkey's assertion over challenge, which is the
// digest itself. It returns the authenticator's signature counter.
func VerifyAssertion(a Assertion, key Approver, rp RelyingParty, challenge [32]byte) (counter uint32, err error) {
	signed, counter, err := verifySigned(a, key, rp)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(signed, challenge[:]) {
		return 0, errChallenge
	}
	return counter, nil
}

// verifySigned checks everything but the challenge, which it returns.
func verifySigned(a Assertion, key Approver, rp RelyingParty) (challenge []byte, counter uint32, err error) {
	switch {
	case len(a.CredentialID) == 0, !bytes.Equal(a.CredentialID, key.CredentialID):
		return nil, 0, errors.New("it is another passkey's")
	case len(a.ClientData) > maxClientData, len(a.AuthenticatorData) > maxAuthData, len(a.Signature) > maxSignature:
		return nil, 0, errors.New("it is too long")
	}
	flags, counter, err := checkAuthData(a.AuthenticatorData, rp)
	if err != nil {
		return nil, 0, err
	}
	if flags&flagsSynced != 0 && !key.Synced {
		return nil, 0, errors.New("the passkey says it is synced, and did not when it was enrolled")
	}
	clientHash := sha256.Sum256(a.ClientData)
	if err := checkSignature(key.PublicKey, append(bytes.Clone(a.AuthenticatorData), clientHash[:]...), a.Signature); err != nil {
		return nil, 0, err
	}
	challenge, err = parseClientData(a.ClientData, rp)
	return challenge, counter, err
}

// parseClientData reads what the browser says of where an assertion was made
// (WebAuthn Level 3, 5.8.1), and returns the challenge. It takes one spelling
// only: encoding/json by itself would match names in any case, let the last of
// two win, and mend what is no UTF-8, so that a page and this endpoint could read
// the same bytes differently. Members that are not known here are passed over, as
// the standard demands.
func parseClientData(data []byte, rp RelyingParty) (challenge []byte, err error) {
	bad := errors.New("the client data is malformed")
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !utf8.Valid(data) {
		return nil, bad
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return nil, bad
		}
		if _, twice := members[name.(string)]; twice {
			return nil, errors.New("a member of the client data is there twice")
		}
		members[name.(string)] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, bad
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad
	}
	text := func(name string) (s string) {
		if json.Unmarshal(members[name], &s) != nil {
			return ""
		}
		return s
	}
	_, top := members["topOrigin"]
	cross, there := members["crossOrigin"]
	switch {
	case text("type") != "webauthn.get":
		return nil, fmt.Errorf("its type is %.40q", text("type"))
	case text("origin") != rp.Origin || rp.Origin == "":
		return nil, fmt.Errorf("it was made on the page of %.100q, not of %q", text("origin"), rp.Origin)
	case there && string(cross) != "false", top:
		return nil, errors.New("it was made in a frame of another page")
	}
	challenge, err = base64.RawURLEncoding.DecodeString(text("challenge"))
	// The decoder passes over line breaks and spare bits.
	if err != nil || len(challenge) != sha256.Size || base64.RawURLEncoding.EncodeToString(challenge) != text("challenge") {
		return nil, errors.New("its challenge is malformed")
	}
	return challenge, nil
}

// checkAuthData checks the authenticator data: whose passkey, and that the
// person was there and was verified.
func checkAuthData(data []byte, rp RelyingParty) (flags byte, counter uint32, err error) {
	if len(data) < 37 {
		return 0, 0, errors.New("the authenticator data is too short")
	}
	want := sha256.Sum256([]byte(rp.ID))
	flags = data[32]
	switch {
	case rp.ID == "" || !bytes.Equal(data[:32], want[:]):
		return 0, 0, fmt.Errorf("the passkey is not one of %q", rp.ID)
	case flags&flagUserPresent == 0:
		return 0, 0, errors.New("nobody touched the phone")
	case flags&flagUserVerified == 0:
		return 0, 0, errors.New("the phone did not verify the person")
	}
	return flags, binary.BigEndian.Uint32(data[33:37]), nil
}

func checkSignature(spki, message, signature []byte) error {
	key, err := parseKey(spki)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(message)
	ok := false
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, sum[:], signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, message, signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
	}
	if !ok {
		return errForged
	}
	return nil
}

// parseKey takes the keys that ES256, EdDSA and RS256 have, of a fair strength.
func parseKey(spki []byte) (any, error) {
	if len(spki) > maxPublicKey {
		return nil, errors.New("the public key is too long")
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the public key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return k, nil
		}
	case ed25519.PublicKey:
		return k, nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return k, nil
		}
	}
	return nil, errors.New("the public key is of no kind that is taken (ES256, EdDSA, RS256)")
}

// Registration is a new passkey as the page posts it.
type Registration struct {
	CredentialID      []byte
	PublicKey         []byte // SubjectPublicKeyInfo, DER
	AuthenticatorData []byte
	Phone             string
}

// Approver checks a registration and returns the key to pin. It says nothing of
// who sent it: see EnrolmentMAC.
func (r Registration) Approver(rp RelyingParty) (Approver, error) {
	d := r.AuthenticatorData
	if len(r.CredentialID) == 0 || len(r.CredentialID) > MaxCredentialID || len(d) > maxAuthData+MaxCredentialID {
		return Approver{}, errors.New("the registration is malformed")
	}
	flags, _, err := checkAuthData(d, rp)
	if err != nil {
		return Approver{}, err
	}
	// Attested credential data: 16 bytes of model, 2 of length, the id.
	if flags&flagAttested == 0 || len(d) < 55 || int(binary.BigEndian.Uint16(d[53:55])) != len(r.CredentialID) ||
		!bytes.HasPrefix(d[55:], r.CredentialID) {
		return Approver{}, errors.New("the registration names another passkey")
	}
	if _, err := parseKey(r.PublicKey); err != nil {
		return Approver{}, err
	}
	return Approver{CredentialID: r.CredentialID, PublicKey: r.PublicKey, Phone: cleanPhone(r.Phone), Synced: flags&flagsSynced != 0}, nil
}

// cleanPhone keeps what can be shown on any screen.
func cleanPhone(s string) string {
	var b []rune
	for _, r := range s {
		if r < ' ' || r > '~' {
			r = '?'
		}
		if b = append(b, r); len(b) == maxPhone {
			break
		}
	}
	if len(b) == 0 {
		return "phone"
	}
	return string(b)
}

// EnrolmentMAC proves that a registration comes from whoever scanned the QR code:
// HMAC-SHA256 with the secret of its fragment, over the domain and each field
// behind its length (4 bytes, big endian), in the order id, device, user,
// credential id, public key, authenticator data.
func EnrolmentMAC(secret []byte, id, device, user string, r Registration) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(enrolmentDomain))
	for _, field := range [][]byte{[]byte(id), []byte(device), []byte(user), r.CredentialID, r.PublicKey, r.AuthenticatorData} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(field)))
		m.Write(n[:])
		m.Write(field)
	}
	return m.Sum(nil)
}
