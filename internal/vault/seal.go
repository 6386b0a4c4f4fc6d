package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"sallyport/internal/keychain"
	"sallyport/internal/secret"
)

// sealVersion starts every sealed value, and is authenticated with it.
const sealVersion = 1

// keyring holds what is derived from the vault's key.
type keyring struct {
	id      string // of the vault's key
	records cipher.AEAD
	digest  []byte
	anchor  []byte
}

func newKeyring(key *secret.Key) (*keyring, error) {
	block, err := aes.NewCipher(keychain.Subkey(key, "records"))
	if err != nil {
		return nil, err
	}
	// The nonce is random and travels with the value. 2^32 values may be sealed
	// under one key (NIST SP 800-38D, 8.3); a rekey starts anew.
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &keyring{
		id:      keychain.ID(key),
		records: gcm,
		digest:  keychain.Subkey(key, "digest"),
		anchor:  keychain.Subkey(key, "anchor"),
	}, nil
}

// label is what binds a sealed value to its place.
func label(bucket string, key []byte) []byte {
	b := make([]byte, 0, 2+len(bucket)+len(key))
	b = append(b, sealVersion)
	b = append(b, bucket...)
	b = append(b, 0)
	return append(b, key...)
}

func (k *keyring) seal(bucket string, key, plain []byte) []byte {
	b := make([]byte, 1, 1+len(plain)+k.records.Overhead())
	b[0] = sealVersion
	return k.records.Seal(b, nil, plain, label(bucket, key))
}

func (k *keyring) open(bucket string, key, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, fmt.Errorf("a record in %q has an unknown format: %w", bucket, ErrCorrupt)
	}
	plain, err := k.records.Open(nil, nil, sealed[1:], label(bucket, key))
	if err != nil {
		return nil, fmt.Errorf("a record in %q cannot be unsealed; %s: %w", bucket, restoreAll, ErrCorrupt)
	}
	return plain, nil
}

// setDigest is the XOR of a keyed hash of every record's name. It tells that
// none was added or taken away, costs one hash a change, and does not depend on
// the order of the changes.
type setDigest [sha256.Size]byte

// toggler adds names to a digest, or takes them out again.
type toggler struct{ h hash.Hash }

func (k *keyring) toggler() *toggler { return &toggler{hmac.New(sha256.New, k.digest)} }

func (t *toggler) toggle(d *setDigest, bucket string, key []byte) {
	t.h.Reset()
	t.h.Write(label(bucket, key))
	var sum [sha256.Size]byte
	t.h.Sum(sum[:0])
	for i := range d {
		d[i] ^= sum[i]
	}
}

// meta is the sealed account of the vault as a whole; each commit renews it.
type meta struct {
	Vault      string            `json:"vault"`
	Generation uint64            `json:"generation"`
	Digest     setDigest         `json:"digest"`
	Counts     map[string]uint64 `json:"counts"` // records by bucket
	Highest    time.Time         `json:"highest"`
	Behind     bool              `json:"behind,omitempty"` // the clock went back, and an event says so
	LastSeq    uint64            `json:"last_seq"`
	Events     uint64            `json:"events"`
	Dropped    uint64            `json:"dropped"`

	// See counter.go.
	Counter     uint64 `json:"tpm_counter,omitempty"`
	CounterBoot string `json:"tpm_boot,omitempty"` // the boot in which it was counted
	Counting    bool   `json:"tpm_counting,omitempty"`
}

func (m meta) clone() meta {
	counts := make(map[string]uint64, len(m.Counts))
	for k, v := range m.Counts {
		counts[k] = v
	}
	m.Counts = counts
	return m
}

// firstSeq is the oldest event's number; meaningless without events.
func (m meta) firstSeq() uint64 { return m.LastSeq - m.Events + 1 }

// plain is what vault.db says in the clear: which key opens it, so that a
// vault copied here without its key is told from a damaged one, and a rekey that
// a crash cut short is taken up where it stopped.
type plain struct {
	Format int    `json:"format"`
	Vault  string `json:"vault"`
	KeyID  string `json:"key"`
}

const plainFormat = 1

func decodePlain(b []byte) (plain, error) {
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return plain{}, err
	}
	if p.Format > plainFormat {
		return plain{}, fmt.Errorf("its format is version %d, this agent's %d: %w", p.Format, plainFormat, ErrNewer)
	}
	if p.Format != plainFormat {
		return plain{}, fmt.Errorf("format %d, this agent knows %d", p.Format, plainFormat)
	}
	if _, err := parseVaultID(p.Vault); err != nil {
		return plain{}, err
	}
	if p.KeyID == "" {
		return plain{}, errors.New("no key id")
	}
	return p, nil
}
