package keychain

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"sallyport/internal/secret"
)

// holders are the kinds that Linux has, strongest first.
var holders = []struct {
	kind   Kind
	holder holder
}{
	{TPM, tpm{}},
	{SystemdCredential, systemdCredential{}},
	{File, keyFile{}},
}

// auto makes a key in the first kind that is there. One that is there but does
// not work is passed over only if it is a TPM, whose firmware may be to blame; a
// systemd credential was made by somebody, who wants to be told.
func auto(s site, log *slog.Logger) (entry, *secret.Key, error) {
	device := s.cfg.tpmDevice()
	if _, err := os.Stat(device); err == nil {
		e, key, err := create(s, TPM, "", log)
		if err == nil {
			return e, key, nil
		}
		log.Warn("the TPM is there but cannot be used; taking the next kind of keychain", "device", device, "error", err)
	}
	if s.cfg.CredentialsDir != "" {
		if _, err := os.Lstat(filepath.Join(s.cfg.CredentialsDir, CredentialName)); err == nil {
			return create(s, SystemdCredential, "", log)
		}
	}
	return create(s, File, firstFile, log)
}

// MachineID is where the system names the computer.
const MachineID = "/etc/machine-id"

func machineID(path string) (string, error) {
	if path == "" {
		path = MachineID
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// CredentialName is the systemd credential that holds the key, as 32 bytes or 64
// hexadecimal digits (systemd.exec(5), LoadCredentialEncrypted=).
const CredentialName = "sallyport-vault-key"

// systemdCredential is the kind SystemdCredential. The credential is made by
// whoever manages the computer, not by us, and is not ours to remove.
type systemdCredential struct{}

func (c systemdCredential) make(s site, e *entry, _ *slog.Logger) (*secret.Key, error) {
	key, _, err := c.fetch(s, *e)
	if err == nil {
		e.ID = ID(key)
	}
	return key, err
}

func (systemdCredential) drop(site, entry) error { return nil }

func (systemdCredential) fetch(s site, _ entry) (key *secret.Key, where string, err error) {
	const (
		hint = "check LoadCredential= or LoadCredentialEncrypted= in the unit"
		name = "the systemd credential " + CredentialName
	)
	if s.cfg.CredentialsDir == "" {
		return nil, "", fmt.Errorf("the agent was started without %s; %s: %w", name, hint, ErrMissing)
	}
	b, err := readSmall(filepath.Join(s.cfg.CredentialsDir, CredentialName))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read %s (%w); %s: %w", name, err, hint, ErrMissing)
	}
	defer clear(b)
	if len(b) != 32 {
		// 64 digits, perhaps with the end of line that an editor adds.
		raw, err := hex.DecodeString(strings.TrimSpace(string(b)))
		if err != nil || len(raw) != 32 {
			return nil, "", fmt.Errorf("%s is neither 32 bytes nor 64 hexadecimal digits: %w", name, ErrMissing)
		}
		b = raw
	}
	key, err = secret.NewKey(b)
	return key, name, err
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
