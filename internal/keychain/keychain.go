// Package keychain holds the vault's 32-byte key in what this computer has for
// it: a TPM 2.0, a systemd credential, or a file that only its owner can read.
//
// Which one was chosen is recorded beside the vault, in record.json, and the
// recorded one is used from then on, whatever would be chosen today: a TPM that
// does not answer must never turn into a key file by itself. Only a rekey, asked
// for by an administrator, moves the key.
package keychain

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"sallyport/internal/secret"
	"sallyport/internal/vault/statefile"
)

// Kind names a place where the key can be.
type Kind string

// The kinds, strongest first. Auto is for the configuration only: it takes the
// first that works, once, when the vault is made.
const (
	TPM               Kind = "tpm"
	SystemdCredential Kind = "systemd-credential"
	File              Kind = "file"
	Auto              Kind = "auto"
)

// Config says which kind is wanted and where the kinds are found.
type Config struct {
	Kind           Kind   // "" is Auto
	TPMDevice      string // "" is /dev/tpmrm0; a unix socket is taken for swtpm
	CredentialsDir string // $CREDENTIALS_DIRECTORY, "" when there is none
	MachineIDFile  string // "" is /etc/machine-id
}

// CredentialName is the systemd credential that holds the key, as 32 bytes or 64
// hexadecimal digits (systemd.exec(5), LoadCredentialEncrypted=).
const CredentialName = "sallyport-vault-key"

// What can be wrong with a key, for errors.Is.
var (
	ErrMissing = errors.New("the vault's key is not available")
	ErrForeign = errors.New("the vault's key was sealed by another computer")
	ErrKind    = errors.New("the keychain is not the recorded one")
	ErrRecord  = errors.New("the keychain's record is damaged")
)

// ID names a key without telling anything about it.
func ID(key *secret.Key) string { return hex.EncodeToString(Subkey(key, "id")[:8]) }

// Subkey derives a key for one purpose (HKDF, RFC 5869).
func Subkey(key *secret.Key, purpose string) []byte {
	sub, err := hkdf.Key(sha256.New, key.Reveal(), nil, "sallyport vault 1 "+purpose, 32)
	if err != nil {
		panic(err) // only for a length over 255 hashes
	}
	return sub
}

// Valid says whether the configuration names a kind that exists.
func (k Kind) Valid() bool {
	switch k {
	case "", Auto, TPM, SystemdCredential, File:
		return true
	}
	return false
}

func (c Config) tpmDevice() string {
	if c.TPMDevice == "" {
		return "/dev/tpmrm0"
	}
	return c.TPMDevice
}

// machine names this computer, "" when it has no name: a hash of the machine id,
// which itself should stay on the machine (machine-id(5)).
func (c Config) machine() string {
	path := c.MachineIDFile
	if path == "" {
		path = "/etc/machine-id"
	}
	b, err := os.ReadFile(path)
	id := strings.TrimSpace(string(b))
	if err != nil || len(id) != 32 {
		return ""
	}
	sum := sha256.Sum256([]byte("sallyport machine " + id))
	return hex.EncodeToString(sum[:16])
}

// entry says where one key is.
type entry struct {
	ID      string `json:"id"`
	Kind    Kind   `json:"kind"`
	File    string `json:"file,omitempty"`        // File: its name in the directory
	Public  []byte `json:"tpm_public,omitempty"`  // TPM: TPM2B_PUBLIC
	Private []byte `json:"tpm_private,omitempty"` // TPM: TPM2B_PRIVATE, sealed to the TPM
	Counter uint32 `json:"tpm_counter,omitempty"` // TPM: NV index of its counter, 0 for none
}

// choose makes a key in the kind that cfg wants.
func choose(dir string, cfg Config, log *slog.Logger) (entry, *secret.Key, error) {
	if cfg.Kind != "" && cfg.Kind != Auto {
		return create(dir, cfg, cfg.Kind, "key", log)
	}
	if _, err := os.Stat(cfg.tpmDevice()); err == nil {
		e, key, err := create(dir, cfg, TPM, "", log)
		if err == nil {
			return e, key, nil
		}
		log.Warn("the TPM is there but cannot be used; taking the next kind of keychain", "device", cfg.tpmDevice(), "error", err)
	}
	if cfg.CredentialsDir != "" {
		if _, err := os.Lstat(filepath.Join(cfg.CredentialsDir, CredentialName)); err == nil {
			return create(dir, cfg, SystemdCredential, "", log)
		}
	}
	return create(dir, cfg, File, "key", log)
}

// create makes a key of one kind. fileName is for the kind File.
func create(dir string, cfg Config, kind Kind, fileName string, log *slog.Logger) (entry, *secret.Key, error) {
	var key *secret.Key
	var err error
	e := entry{Kind: kind}
	if kind == SystemdCredential {
		// The credential is made by whoever manages the computer, not by us.
		if key, err = readCredential(cfg); err != nil {
			return entry{}, nil, err
		}
		e.ID = ID(key)
		return e, key, nil
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails, see crypto/rand
	if key, err = secret.NewKey(raw); err != nil {
		return entry{}, nil, err
	}
	e.ID = ID(key)
	switch kind {
	case TPM:
		if e.Public, e.Private, err = sealTPM(cfg.tpmDevice(), key); err == nil {
			e.Counter = newCounter(cfg, log)
		}
	case File:
		e.File = fileName
		err = statefile.Write(filepath.Join(dir, fileName), key.Reveal())
	default:
		err = fmt.Errorf("there is no keychain %q; use auto, %s, %s or %s: %w", kind, TPM, SystemdCredential, File, ErrKind)
	}
	if err != nil {
		key.Wipe()
		return entry{}, nil, err
	}
	return e, key, nil
}

// key fetches the key that e is about, and makes sure that it is that one.
func (e entry) key(dir string, cfg Config) (*secret.Key, error) {
	var key *secret.Key
	var err error
	where := ""
	switch e.Kind {
	case TPM:
		where = "the TPM " + cfg.tpmDevice()
		key, err = unsealTPM(cfg.tpmDevice(), e.Public, e.Private)
	case SystemdCredential:
		where = "the systemd credential " + CredentialName
		key, err = readCredential(cfg)
	case File:
		where = filepath.Join(dir, e.File)
		key, err = readFile(where)
	default:
		return nil, fmt.Errorf("%s names the unknown keychain %q: %w", filepath.Join(dir, RecordName), e.Kind, ErrRecord)
	}
	if err != nil {
		return nil, err
	}
	if ID(key) != e.ID {
		key.Wipe()
		return nil, fmt.Errorf("%s holds another key than the vault was sealed with; put the right one back: %w", where, ErrMissing)
	}
	return key, nil
}

// remove destroys what the entry kept. Of a TPM that is the counter: the sealed
// blob is in the record. A credential is not ours to remove.
func (e entry) remove(dir string, cfg Config) error {
	switch {
	case e.Kind == File:
		return statefile.Remove(filepath.Join(dir, e.File))
	case e.Kind == TPM && e.Counter != 0:
		if err := undefineCounter(cfg.tpmDevice(), e.Counter); err != nil && !errors.Is(err, ErrCounter) {
			return fmt.Errorf("the counter %#x of the TPM %s cannot be removed: %w", e.Counter, cfg.tpmDevice(), err)
		}
	}
	return nil
}

func readFile(path string) (*secret.Key, error) {
	b, err := statefile.Read(path, 32, statefile.Private)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key file %s is gone; restore it from a backup together with the vault, or make a new vault with 'sallyport vault init' and enrol everyone again: %w", path, ErrMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the key file: %w: %w", err, ErrMissing)
	}
	key, err := secret.NewKey(b)
	if err != nil {
		return nil, fmt.Errorf("the key file %s holds %w: %w", path, err, ErrMissing)
	}
	return key, nil
}

func readCredential(cfg Config) (*secret.Key, error) {
	const hint = "check LoadCredential= or LoadCredentialEncrypted= in the unit"
	if cfg.CredentialsDir == "" {
		return nil, fmt.Errorf("the agent was started without the systemd credential %s; %s: %w", CredentialName, hint, ErrMissing)
	}
	path := filepath.Join(cfg.CredentialsDir, CredentialName)
	b, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the systemd credential %s (%w); %s: %w", CredentialName, err, hint, ErrMissing)
	}
	defer clear(b)
	if len(b) != 32 {
		// 64 digits, perhaps with the end of line that an editor adds.
		raw, err := hex.DecodeString(strings.TrimSpace(string(b)))
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("the systemd credential %s is neither 32 bytes nor 64 hexadecimal digits: %w", CredentialName, ErrMissing)
		}
		return secret.NewKey(raw)
	}
	return secret.NewKey(b)
}

// readSmall reads a credential. systemd owns these files and their modes
// (0400, or 0440 with an ACL), so statefile's rules do not apply.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 128 {
		return nil, fmt.Errorf("%s is not a file of at most 128 bytes", path)
	}
	return os.ReadFile(path)
}
