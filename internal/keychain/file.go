package keychain

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"sallyport/internal/secret"
	"sallyport/internal/vault/statefile"
)

// keyFile is the kind File: the key itself, in a file beside the record.
type keyFile struct{}

// A key file has one of two names: while a rekey moves from file to file there
// are two of them.
const (
	firstFile  = "key"
	secondFile = "key.2"
)

func isFileName(name string) bool { return name == firstFile || name == secondFile }

func (keyFile) make(s site, e *entry, _ *slog.Logger) (*secret.Key, error) {
	return newKey(e, func(key *secret.Key) error {
		return statefile.Write(filepath.Join(s.dir, e.File), key.Reveal())
	})
}

func (keyFile) fetch(s site, e entry) (key *secret.Key, where string, err error) {
	path := filepath.Join(s.dir, e.File)
	b, err := statefile.Read(path, 32, statefile.Private)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("the key file %s is gone; restore it from a backup together with the vault, or make a new vault with 'sallyport vault init' and enrol everyone again: %w", path, ErrMissing)
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read the key file: %w: %w", err, ErrMissing)
	}
	if key, err = secret.NewKey(b); err != nil {
		return nil, "", fmt.Errorf("the key file %s holds %w: %w", path, err, ErrMissing)
	}
	return key, path, nil
}

func (keyFile) drop(s site, e entry) error {
	return statefile.Remove(filepath.Join(s.dir, e.File))
}

func (f keyFile) sweep(s site, keep entry, _ *slog.Logger) error {
	for _, name := range []string{firstFile, secondFile} {
		path := filepath.Join(s.dir, name)
		if there, err := statefile.Exists(path); name != keep.File && (there || err != nil) {
			if err := f.drop(s, entry{File: name}); err != nil {
				return fmt.Errorf("cannot remove the old key %s: %w", path, err)
			}
		}
	}
	return nil
}
