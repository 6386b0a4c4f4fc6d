// Package keychain holds the vault's 32-byte key in what this computer has for
// it: a TPM 2.0, a systemd credential, the Windows Credential Manager, the System
// keychain of macOS, or a file that only its owner can read.
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
	"log/slog"
	"path/filepath"
	"runtime"

	"sallyport/internal/secret"
)

// Kind names a place where the key can be.
type Kind string

// The kinds, of which each system has some (see Kinds). Auto is for the
// configuration only: it takes the best that works, once, when the vault is made.
const (
	TPM               Kind = "tpm"
	SystemdCredential Kind = "systemd-credential"
	WinCred           Kind = "wincred"
	SystemKeychain    Kind = "system-keychain"
	File              Kind = "file"
	Auto              Kind = "auto"
)

// Config says which kind is wanted and where the kinds are found.
type Config struct {
	Kind           Kind   // "" is Auto
	TPMDevice      string // "" is /dev/tpmrm0; a unix socket is taken for swtpm
	CredentialsDir string // $CREDENTIALS_DIRECTORY, "" when there is none
	MachineIDFile  string // "" is where the system has it, see MachineID
	// NotService: this process is an administrator's, not the service, and may not
	// run under its account. What is kept for that account is not to be had.
	NotService bool
}

// What can be wrong with a key, for errors.Is.
var (
	ErrMissing = errors.New("the vault's key is not available")
	ErrForeign = errors.New("the vault's key was sealed by another computer")
	ErrKind    = errors.New("the keychain is not the recorded one")
	ErrRecord  = errors.New("the keychain's record is damaged")
	ErrCounter = errors.New("the TPM's counter is not there")
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

// Kinds are the kinds that this system has, strongest first.
func Kinds() []Kind {
	kinds := make([]Kind, len(holders))
	for i, h := range holders {
		kinds[i] = h.kind
	}
	return kinds
}

// Check refuses a kind that this system does not have, with ErrKind. Auto is one
// that it has.
func (k Kind) Check() error {
	if k == "" || k == Auto || k.holder() != nil {
		return nil
	}
	return fmt.Errorf("there is no keychain %q on %s; use auto, %s: %w", k, runtime.GOOS, choice(), ErrKind)
}

// choice names the kinds in a sentence.
func choice() string {
	kinds := Kinds()
	text := string(kinds[0])
	for i, k := range kinds[1:] {
		if i == len(kinds)-2 {
			text += " or " + string(k)
		} else {
			text += ", " + string(k)
		}
	}
	return text
}

// holder is where keys of one kind are. Each system has a table of them.
type holder interface {
	// make makes a key and notes in the entry how it is found again.
	make(s site, e *entry, log *slog.Logger) (*secret.Key, error)
	// fetch returns the key, and says where it is for an error.
	fetch(s site, e entry) (key *secret.Key, where string, err error)
	// drop destroys what is kept outside the record.
	drop(s site, e entry) error
}

// sweeper is a holder in which a crash can leave a key that no record leads to.
type sweeper interface {
	// sweep destroys every key of the site's vault but the one kept.
	sweep(s site, keep entry, log *slog.Logger) error
}

// counter is a holder that counts where no copy of a disk reaches.
type counter interface {
	count(s site, e entry) (uint64, error)
	advance(s site, e entry) error
	// newCounter returns 0 when there is no room for one.
	newCounter(s site, log *slog.Logger) uint32
}

func (k Kind) holder() holder {
	for _, h := range holders {
		if h.kind == k {
			return h.holder
		}
	}
	return nil
}

// site is whose keys are looked for.
type site struct {
	dir   string // the record's
	vault string // its id
	cfg   Config
}

// machine names this computer, "" when it has no name: a hash of the machine id,
// which itself should stay on the machine (machine-id(5)).
func (c Config) machine() string {
	id, err := machineID(c.MachineIDFile)
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

// choose makes a key in the kind that is configured.
func choose(s site, log *slog.Logger) (entry, *secret.Key, error) {
	if kind := s.cfg.Kind; kind != "" && kind != Auto {
		return create(s, kind, firstFile, log)
	}
	return auto(s, log)
}

// create makes a key of one kind. fileName is for the kind File.
func create(s site, kind Kind, fileName string, log *slog.Logger) (entry, *secret.Key, error) {
	if err := kind.Check(); err != nil {
		return entry{}, nil, err
	}
	e := entry{Kind: kind}
	if kind == File {
		e.File = fileName
	}
	key, err := kind.holder().make(s, &e, log)
	if err != nil {
		return entry{}, nil, err
	}
	return e, key, nil
}

// newKey makes a key, and has it kept under the id that it gives to the entry.
func newKey(e *entry, keep func(*secret.Key) error) (*secret.Key, error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails, see crypto/rand
	key, err := secret.NewKey(raw)
	if err != nil {
		return nil, err
	}
	e.ID = ID(key)
	if err := keep(key); err != nil {
		key.Wipe()
		return nil, err
	}
	return key, nil
}

// key fetches the key that e is about, and makes sure that it is that one.
func (e entry) key(s site) (*secret.Key, error) {
	h := e.Kind.holder()
	if h == nil {
		return nil, fmt.Errorf("%s names the keychain %q, which %s does not have: %w", filepath.Join(s.dir, RecordName), e.Kind, runtime.GOOS, ErrRecord)
	}
	key, where, err := h.fetch(s, e)
	if err != nil {
		return nil, err
	}
	if ID(key) != e.ID {
		key.Wipe()
		return nil, fmt.Errorf("%s holds another key than the vault was sealed with; put the right one back: %w", where, ErrMissing)
	}
	return key, nil
}
