package authdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Place puts a plug-in that lies elsewhere on the same volume where macOS looks for
// ours, and what was there in its place: in one step, as a right may name it at every
// moment. It has to be fit for use there and then. The rights stay as they are.
func (r *Rights) Place(ctx context.Context, staged string) error {
	if os.Geteuid() != r.Owner {
		return ErrNotRoot
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	next := *r
	next.Bundle = staged
	if err := next.CheckBundle(ctx); err != nil {
		return err
	}
	switch _, err = os.Lstat(r.Bundle); {
	case err == nil:
		err = exchange(staged, r.Bundle)
	case errors.Is(err, fs.ErrNotExist):
		err = os.Rename(staged, r.Bundle)
	}
	if err != nil {
		return fmt.Errorf("the plug-in cannot be put in its place: %w", err)
	}
	d, err := os.Open(filepath.Dir(r.Bundle))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
