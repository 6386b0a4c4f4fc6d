package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
)

// encrypt makes the body of a message: RFC 8291 over RFC 8188, one record. own is
// a key for this message only.
func encrypt(sub *subscription, own *ecdh.PrivateKey, salt, payload []byte, pad int) ([]byte, error) {
	shared, err := own.ECDH(sub.key)
	if err != nil {
		return nil, err
	}
	ours, theirs := own.PublicKey().Bytes(), sub.key.Bytes()
	ikm, err := hkdf.Key(sha256.New, shared, sub.auth, "WebPush: info\x00"+string(theirs)+string(ours), 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	body := append([]byte{}, salt...)
	body = binary.BigEndian.AppendUint32(body, 4096) // the record's size
	body = append(body, byte(len(ours)))
	body = append(body, ours...)
	// 2 ends the last record; what follows is padding.
	plain := append(append([]byte{}, payload...), 2)
	return gcm.Seal(body, nonce, append(plain, make([]byte, pad)...), nil), nil
}

// NewKey makes the authority's key, as it is kept: PKCS#8 in PEM. Browsers bind
// their subscriptions to it; with another, every phone has to open the page again.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads what NewKey made.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("webpush: the key is not in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("webpush: the key: %w", err)
	}
	if k, ok := key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P256() {
		return k, nil
	}
	return nil, errors.New("webpush: the key is not of P-256")
}
