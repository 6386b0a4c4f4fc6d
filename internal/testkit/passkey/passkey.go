// Package passkey is a passkey in software, for tests: it answers as a phone's
// browser and authenticator would, byte for byte, and forges on request.
package passkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"sallyport/internal/factor/push"
)

// Flags of the authenticator data (WebAuthn Level 3, 6.1).
const (
	UserPresent    = 1 << 0
	UserVerified   = 1 << 2
	BackupEligible = 1 << 3
	BackedUp       = 1 << 4
	Attested       = 1 << 6
)

// Key is one passkey. Its fields say what the next assertion holds; a test that
// changes them forges.
type Key struct {
	ID     []byte
	RP     push.RelyingParty // RP.ID is hashed into the authenticator data
	Flags  byte              // UserPresent and UserVerified; BackupEligible: a synced passkey
	Type   string            // "webauthn.get"
	Origin string            // of the page that asks
	// CrossOrigin and TopOrigin: the page is in a frame of another.
	CrossOrigin bool
	TopOrigin   string
	// Counter is that of the last assertion; Counts says whether it rises. Synced
	// passkeys have none.
	Counter uint32
	Counts  bool

	// What is changed before it is signed, and after.
	BeforeSigning func(*push.Assertion)
	AfterSigning  func(*push.Assertion)

	signer crypto.Signer
}

// New makes an ES256 passkey for the relying party, as a phone's own
// authenticator does: not synced, with a counter.
func New(rp push.RelyingParty) *Key {
	return NewWith(rp, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
}

// NewSynced makes one that is copied between the person's devices.
func NewSynced(rp push.RelyingParty) *Key {
	k := New(rp)
	k.Flags |= BackupEligible | BackedUp
	k.Counts = false
	return k
}

// NewWith makes a passkey of a given key: ECDSA, Ed25519 or RSA.
func NewWith(rp push.RelyingParty, signer crypto.Signer) *Key {
	id := make([]byte, 32)
	_, _ = rand.Read(id) // never fails: crypto/rand
	return &Key{ID: id, RP: rp, Flags: UserPresent | UserVerified, Type: "webauthn.get", Origin: rp.Origin, Counts: true, signer: signer}
}

// PublicKey is the SubjectPublicKeyInfo, DER.
func (k *Key) PublicKey() []byte { return must(x509.MarshalPKIXPublicKey(k.signer.Public())) }

// Registration is what navigator.credentials.create() gives the page.
func (k *Key) Registration(phone string) push.Registration {
	data := k.authData(k.Flags|Attested, k.Counter)
	data = append(data, make([]byte, 16)...) // AAGUID: none told
	data = binary.BigEndian.AppendUint16(data, uint16(len(k.ID)))
	data = append(data, k.ID...)
	return push.Registration{CredentialID: k.ID, PublicKey: k.PublicKey(), AuthenticatorData: append(data, k.cose()...), Phone: phone}
}

// Approver is the key as an endpoint pins it.
func (k *Key) Approver(phone string) push.Approver { return must(k.Registration(phone).Approver(k.RP)) }

// Assert is what navigator.credentials.get() gives the page for a challenge.
func (k *Key) Assert(challenge [32]byte) push.Assertion {
	if k.Counts {
		k.Counter++
	}
	// Members and order as in WebAuthn Level 3, 5.8.1.1.
	data := fmt.Sprintf(`{"type":%q,"challenge":%q,"origin":%q,"crossOrigin":%v`,
		k.Type, base64.RawURLEncoding.EncodeToString(challenge[:]), k.Origin, k.CrossOrigin)
	if k.TopOrigin != "" {
		data += fmt.Sprintf(`,"topOrigin":%q`, k.TopOrigin)
	}
	a := push.Assertion{CredentialID: append([]byte(nil), k.ID...), AuthenticatorData: k.authData(k.Flags, k.Counter), ClientData: []byte(data + "}")}
	if k.BeforeSigning != nil {
		k.BeforeSigning(&a)
	}
	client := sha256.Sum256(a.ClientData)
	message := append(append([]byte(nil), a.AuthenticatorData...), client[:]...)
	if _, ok := k.signer.(ed25519.PrivateKey); ok {
		a.Signature = must(k.signer.Sign(rand.Reader, message, crypto.Hash(0)))
	} else {
		sum := sha256.Sum256(message)
		a.Signature = must(k.signer.Sign(rand.Reader, sum[:], crypto.SHA256))
	}
	if k.AfterSigning != nil {
		k.AfterSigning(&a)
	}
	return a
}

// Answer is what the page posts when the person decided about a challenge; the
// number is "" unless they approve.
func (k *Key) Answer(challenge []byte, d push.Decision, number string) push.Answer {
	return push.Answer{Decision: d, Assertion: k.Assert(push.Digest(challenge, d, number))}
}

func (k *Key) authData(flags byte, counter uint32) []byte {
	rp := sha256.Sum256([]byte(k.RP.ID))
	return binary.BigEndian.AppendUint32(append(rp[:], flags), counter)
}

// cose is the public key as attested credential data has it (RFC 9053).
func (k *Key) cose() []byte {
	switch p := k.signer.Public().(type) {
	case *ecdsa.PublicKey:
		point := must(p.Bytes()) // 0x04, x, y
		b := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20}, point[1:33]...)
		return append(append(b, 0x22, 0x58, 0x20), point[33:65]...)
	case ed25519.PublicKey:
		return append([]byte{0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20}, p...)
	case *rsa.PublicKey:
		n := p.N.Bytes()
		b := binary.BigEndian.AppendUint16([]byte{0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59}, uint16(len(n)))
		return append(append(b, n...), 0x21, 0x43, 0x01, 0x00, 0x01)
	}
	panic(fmt.Sprintf("passkey: a key of type %T", k.signer))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("passkey: " + err.Error())
	}
	return v
}
