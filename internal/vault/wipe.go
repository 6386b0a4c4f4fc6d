package vault

import (
	"errors"
	"io/fs"
	"path/filepath"

	"sallyport/internal/keychain"
	"sallyport/internal/vault/statefile"
)

// Wipe destroys the keys of this directory's vaults, also of those that were moved
// aside: what is in the directory, what the platform keeps, a TPM's counters. Nobody
// can open them after that, and whoever is enrolled there is denied. The rest of the
// directory is the caller's to remove.
func Wipe(opts Options) error {
	if there, err := statefile.Exists(opts.Dir); err != nil || !there {
		return err
	}
	v, err := lockDir(opts)
	if err != nil {
		return classify(err)
	}
	defer v.unlock()
	dirs, err := filepath.Glob(v.path(oldPrefix+"*", keychainName))
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range append(dirs, v.path(buildName, keychainName), v.path(keychainName)) {
		record, err := keychain.Load(dir, opts.Keychain)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = record.Wipe()
		}
		failed = append(failed, err)
	}
	return classify(errors.Join(failed...))
}
