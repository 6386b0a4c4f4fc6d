// Package organisation is what the organisation key signs: whatever changes who
// may log in, and where, comes to a device in an Envelope. The key need not lie
// on the authority; whoever only has the authority can then hold back what was
// signed, and nothing more.
package organisation

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what an envelope holds.
type Kind string

// The kinds, with the type of their payload, as JSON.
const (
	KindSettings  Kind = "settings"   // Settings: where approvals come from
	KindApprovers Kind = "approvers"  // Manifest: the phones of one user
	KindPolicy    Kind = "policy"     // policy.Rules: they raise what the device requires
	KindTOTP      Kind = "totp"       // Sealed TOTP, for one device
	KindRecovery  Kind = "recovery"   // Sealed Codes, for one device
	KindBypass    Kind = "bypass"     // Sealed Bypass, for one device
	KindUnlock    Kind = "unlock"     // Action, for one device: ends the lockout of one user
	KindPushClear Kind = "push_clear" // Action, for one device: push may ring one user again
)

// MaxEnvelope bounds an envelope, in bytes.
const MaxEnvelope = 64 << 10

// domain keeps these signatures apart from any other of the key.
const domain = "sallyport.organisation.v1\x00"

// Envelope is one signed item. Of one kind, device and user the higher version
// replaces the lower; a device takes none that is not above what it has.
type Envelope struct {
	Kind      Kind   `json:"kind"`
	Device    string `json:"device,omitempty"` // "" = every device
	User      string `json:"user,omitempty"`   // "" = about no user
	Version   uint64 `json:"version"`
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// signed is what the signature is over: the domain and each field behind its
// length (4 bytes, big endian), the version as 8 bytes.
func (e *Envelope) signed() []byte {
	b := []byte(domain)
	for _, f := range [][]byte{[]byte(e.Kind), []byte(e.Device), []byte(e.User), binary.BigEndian.AppendUint64(nil, e.Version), e.Payload} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// Sign signs the envelope and returns it as it travels.
func Sign(key ed25519.PrivateKey, e Envelope) ([]byte, error) {
	e.Signature = ed25519.Sign(key, e.signed())
	b, err := json.Marshal(e)
	if err == nil && len(b) > MaxEnvelope {
		err = fmt.Errorf("a signed item of %d bytes is over %d", len(b), MaxEnvelope)
	}
	return b, err
}

// ErrUnsigned: the organisation key did not sign it.
var ErrUnsigned = errors.New("it is not signed by the organisation's key")

// Open checks an envelope that came. device is who opens it.
func Open(key ed25519.PublicKey, device string, b []byte) (*Envelope, error) {
	if len(b) > MaxEnvelope {
		return nil, fmt.Errorf("a signed item is over %d bytes", MaxEnvelope)
	}
	e := new(Envelope)
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("a signed item is malformed: %w", err)
	}
	switch {
	case len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, e.signed(), e.Signature):
		return nil, ErrUnsigned
	case e.Version == 0:
		return nil, errors.New("a signed item has no version")
	case e.Device != "" && e.Device != device:
		return nil, fmt.Errorf("a signed item is for the device %s", e.Device)
	}
	return e, nil
}

// Settings are the payload of KindSettings.
type Settings struct {
	Name   string `json:"name"`   // of the organisation, for people
	RPID   string `json:"rp_id"`  // the passkeys' relying party: a host name
	Origin string `json:"origin"` // of the approver's page
	// API is the origin that the page talks to. Where it is another than Origin,
	// the authority does not serve the page, and cannot change what it shows.
	API string `json:"api"`
}

// Manifest is the payload of KindApprovers. An empty list takes push away.
type Manifest struct {
	Approvers []Approver `json:"approvers"`
}

// Approver is a phone's passkey in a manifest; see internal/factor/push.
type Approver struct {
	CredentialID []byte `json:"credential_id"`
	PublicKey    []byte `json:"public_key"`
	Phone        string `json:"phone"`
	Synced       bool   `json:"synced,omitempty"`
}

// TOTP is the sealed content of KindTOTP.
type TOTP struct {
	URI string `json:"uri"` // otpauth://
}

// Codes is the sealed content of KindRecovery.
type Codes struct {
	Codes []string `json:"codes"`
}

// Bypass is the sealed content of KindBypass.
type Bypass struct {
	Code    string `json:"code"`
	Expires int64  `json:"expires"` // seconds since 1970
	Reason  string `json:"reason"`
}

// Action is the payload of KindUnlock and KindPushClear: something that a device
// does once. One that comes late does nothing: by then nobody may want it any more.
type Action struct {
	Issued  int64 `json:"issued"`  // seconds since 1970
	Expires int64 `json:"expires"` // seconds since 1970; at most MaxAction after Issued
}

// MaxAction is how long an action is good at most.
const MaxAction = 24 * time.Hour

// info binds what is sealed to its place, as HPKE's info.
func (e *Envelope) info() []byte {
	return fmt.Appendf(nil, "%s%s\x00%s\x00%s\x00%d", domain, e.Kind, e.Device, e.User, e.Version)
}

// Seal encrypts content to the device's sealing key (RFC 9180, base mode: X25519,
// HKDF-SHA256, AES-256-GCM) as e's payload. It must be signed after: HPKE does
// not say who sealed.
func (e *Envelope) Seal(to []byte, content any) error {
	public, err := ecdh.X25519().NewPublicKey(to)
	if err != nil {
		return fmt.Errorf("the device's sealing key: %w", err)
	}
	pk, err := hpke.NewDHKEMPublicKey(public)
	if err != nil {
		return err
	}
	b, err := json.Marshal(content)
	if err != nil {
		return err
	}
	e.Payload, err = hpke.Seal(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), e.info(), b)
	return err
}

// Unseal decrypts the payload into content with the device's sealing key.
func (e *Envelope) Unseal(with *ecdh.PrivateKey, content any) error {
	sk, err := hpke.NewDHKEMPrivateKey(with)
	if err != nil {
		return err
	}
	b, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), e.info(), e.Payload)
	if err != nil {
		return fmt.Errorf("what was sealed for this device does not open: %w", err)
	}
	return json.Unmarshal(b, content)
}

// Token is what an administrator hands to 'sallyport join': a secret that is good
// once, and the hashes by which the device knows the authority and the
// organisation.
type Token struct {
	Secret       [20]byte
	CA           [32]byte // SHA-256 of the CA's certificate, DER
	Organisation [32]byte // SHA-256 of the organisation key
}

const tokenPrefix = "sallyport1."

// String is the token as it is printed: never log it.
func (t Token) String() string {
	b := append(append(t.Secret[:], t.CA[:]...), t.Organisation[:]...)
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:4]...))
}

// ParseToken reads a token as it was typed or pasted.
func ParseToken(s string) (t Token, err error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	b, err := base64.RawURLEncoding.DecodeString(body)
	if !ok || err != nil || len(b) != 88 {
		return t, errors.New("that is not an enrolment token: it begins with " + tokenPrefix + " and has 129 characters; make one with: sallyport-authority token create")
	}
	if sum := sha256.Sum256(b[:84]); string(sum[:4]) != string(b[84:]) {
		return t, errors.New("a character of the enrolment token is wrong; copy it again")
	}
	copy(t.Secret[:], b)
	copy(t.CA[:], b[20:])
	copy(t.Organisation[:], b[52:])
	return t, nil
}
