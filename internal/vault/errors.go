package vault

import (
	"cmp"
	"errors"
	"fmt"

	"sallyport/internal/keychain"
	"sallyport/internal/vault/statefile"
)

// Why a vault cannot be used, for errors.Is. The error's text names the file and
// what to do. Each of them denies every login: "nobody is enrolled" must only
// ever be read from a vault that is complete, present and ours.
var (
	ErrMissing    = errors.New("the vault is missing")
	ErrEmptied    = errors.New("the vault was emptied")
	ErrRolledBack = errors.New("the vault is not the latest")
	ErrCopied     = errors.New("the vault belongs to another computer or keychain")
	ErrCorrupt    = errors.New("the vault is damaged")
	ErrKeyMissing = errors.New("the vault's key is missing")
	ErrKeychain   = errors.New("the vault's key is in another keychain than configured")
	ErrUnwritable = errors.New("the vault cannot be read or written")
	ErrUntrusted  = errors.New("the vault's files could have been changed by someone else")
	ErrBusy       = errors.New("the vault is in use by another process")
	ErrClosed     = errors.New("the vault is closed")
	ErrNewer      = errors.New("the vault was written by a newer version of Sallyport")
)

// Remedies, in the words of whoever reads them out on the phone.
const (
	restoreAll = "stop the agent, restore the whole state directory from one backup and run 'sallyport vault accept'; without a backup run 'sallyport vault init' and enrol everyone again"
	updateIt   = "install that version again, or stop the agent, restore the whole state directory from a backup made before it and run 'sallyport vault accept'"
	acceptIt   = "if you restored a backup on purpose, run 'sallyport vault accept'; else find out who changed it first"
)

// classify adds the reason to an error of the file system or of the keychain.
func classify(err error) error {
	if err == nil || known(err) {
		return err
	}
	for _, c := range []struct{ from, to error }{
		{keychain.ErrForeign, ErrCopied},
		{keychain.ErrKind, ErrKeychain},
		{keychain.ErrMissing, ErrKeyMissing},
		{keychain.ErrRecord, ErrCorrupt},
		{statefile.ErrUntrusted, ErrUntrusted},
	} {
		if errors.Is(err, c.from) {
			return fmt.Errorf("%w: %w", c.to, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrUnwritable, err)
}

func known(err error) bool {
	for _, e := range []error{
		ErrMissing, ErrEmptied, ErrRolledBack, ErrCopied, ErrCorrupt, ErrKeyMissing,
		ErrKeychain, ErrUnwritable, ErrUntrusted, ErrBusy, ErrClosed, ErrNewer,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unwritable explains a failed write.
func unwritable(path string, err error) error {
	return fmt.Errorf("%w: %s: %w; %s", ErrUnwritable, path, err, cmp.Or(remedy(err), otherwise))
}
