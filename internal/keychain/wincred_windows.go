package keychain

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/danieljoos/wincred"

	"sallyport/internal/identity"
	"sallyport/internal/secret"
)

// credentialManager is the kind WinCred: a generic credential of the account that
// the service runs as, which is LocalSystem. Credentials belong to a logon session's
// user; a network logon has none (CredWriteW, ERROR_NO_SUCH_LOGON_SESSION), but
// LocalSystem's own session does, without a profile being loaded or anybody being
// logged on.
//
// Windows keeps it in a file below LocalSystem's profile, encrypted by DPAPI under
// a master key of LocalSystem's, which is under an LSA secret in the registry,
// which is under the boot key in the registry. So a copy of the state directory
// does not open the vault. A copy of the whole disk does, unless BitLocker is on;
// and so does whoever runs as LocalSystem here, as every administrator can. It
// does not roam (CRED_PERSIST_LOCAL_MACHINE) and is in no user's Credential Manager.
type credentialManager struct{}

// maxBlob is CRED_MAX_CREDENTIAL_BLOB_SIZE. Wine takes more, and what is said
// about it by Windows names neither the credential nor the limit.
const maxBlob = 5 * 512

func targetPrefix(vault string) string { return "Sallyport/vault/" + vault + "/" }

func (s site) target(id string) string { return targetPrefix(s.vault) + id }

func (credentialManager) make(s site, e *entry, _ *slog.Logger) (*secret.Key, error) {
	if err := s.isService(); err != nil {
		return nil, err
	}
	return newKey(e, func(key *secret.Key) error {
		return writeCredential(s.target(e.ID), "opens Sallyport's vault on this computer", key.Reveal())
	})
}

func (credentialManager) fetch(s site, e entry) (key *secret.Key, where string, err error) {
	if err := s.isService(); err != nil {
		return nil, "", err
	}
	target := s.target(e.ID)
	where = fmt.Sprintf("the credential %s of the account %s", target, account())
	c, err := wincred.GetGenericCredential(target)
	if errors.Is(err, wincred.ErrElementNotFound) {
		return nil, "", fmt.Errorf("%s is gone; if the service's account was changed, change it back to LocalSystem; else restore the whole computer from one backup, or make a new vault with 'sallyport vault init' and enrol everyone again: %w", where, ErrMissing)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s cannot be read: %w; %s: %w", where, err, credentialHint, ErrMissing)
	}
	if key, err = secret.NewKey(c.CredentialBlob); err != nil {
		clear(c.CredentialBlob)
		return nil, "", fmt.Errorf("%s holds %w: %w", where, err, ErrMissing)
	}
	return key, where, nil
}

func (credentialManager) drop(s site, e entry) error {
	if err := s.isService(); err != nil {
		return err
	}
	err := wincred.NewGenericCredential(s.target(e.ID)).Delete()
	if err != nil && !errors.Is(err, wincred.ErrElementNotFound) {
		return fmt.Errorf("cannot remove the credential %s: %w", s.target(e.ID), err)
	}
	return nil
}

// sweep leaves nothing but a warning where it fails: a key that is in a file must
// not be lost to a Credential Manager that does not work.
func (m credentialManager) sweep(s site, keep entry, log *slog.Logger) error {
	if s.cfg.NotService {
		return nil
	}
	list, err := wincred.FilteredList(targetPrefix(s.vault) + "*")
	for _, c := range list {
		clear(c.CredentialBlob)
		id := c.TargetName[len(targetPrefix(s.vault)):]
		if keep.Kind != WinCred || id != keep.ID {
			err = errors.Join(err, m.drop(s, entry{ID: id}))
		}
	}
	if err != nil {
		log.Warn("an old key of the vault may be left behind in the Credential Manager", "error", err)
	}
	return nil
}

func (s site) isService() error {
	if !s.cfg.NotService {
		return nil
	}
	return fmt.Errorf("the vault's key is kept with the credentials of the service's account, which this command cannot reach; start the service (sc start sallyport) and run it again: %w", ErrMissing)
}

// writeCredential makes or replaces a credential, and reads it back: what cannot
// be read at the next start locks everybody out then.
func writeCredential(target, comment string, blob []byte) error {
	if len(blob) > maxBlob {
		return fmt.Errorf("the credential %s would have %d bytes; Windows takes %d", target, len(blob), maxBlob)
	}
	c := wincred.NewGenericCredential(target)
	c.Comment = comment
	c.CredentialBlob = blob
	if err := c.Write(); err != nil {
		return fmt.Errorf("the credential %s of the account %s cannot be written: %w; %s; else set keychain = \"file\"", target, account(), err, credentialHint)
	}
	read, err := wincred.GetGenericCredential(target)
	if err != nil {
		return fmt.Errorf("the credential %s was written and cannot be read: %w; %s", target, err, credentialHint)
	}
	defer clear(read.CredentialBlob)
	if !bytes.Equal(read.CredentialBlob, blob) {
		return fmt.Errorf("the credential %s was written and holds something else", target)
	}
	return nil
}

const credentialHint = "the service must run as LocalSystem, and no policy keep the Credential Manager from working (Network access: Do not allow storage of passwords and credentials for network authentication)"

// account names the account whose credentials these are.
func account() string {
	sid, ok := identity.Self().SID()
	if !ok {
		return "of this process"
	}
	return sid
}
