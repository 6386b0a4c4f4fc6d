//go:build !windows

package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// watchFile calls changed when what has that path may have changed, and once at the
// beginning, until ctx ends. It waits for the system to tell (on macOS by kqueue) and
// never wakes up by itself. The directory that the file is in may come and go; the
// one above it is there.
func watchFile(ctx context.Context, path string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	dir := filepath.Dir(path)
	if err := watchDir(w, dir); err != nil {
		return err
	}
	changed()
	for {
		select {
		case e := <-w.Events:
			switch e.Name {
			case dir:
				if err := watchDir(w, dir); err != nil {
					return err
				}
				changed()
			case path:
				changed()
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("%s cannot be watched: %w", path, err)
			}
			changed()
		case <-ctx.Done():
			return nil
		}
	}
}

// watchDir watches a directory; while there is none, the one above it.
func watchDir(w *fsnotify.Watcher, dir string) error {
	above := filepath.Dir(dir)
	if err := w.Add(dir); !errors.Is(err, fs.ErrNotExist) {
		_ = w.Remove(above) // or it was not watched
		return err
	}
	if err := w.Add(above); err != nil {
		return err
	}
	if err := w.Add(dir); !errors.Is(err, fs.ErrNotExist) { // it came before that
		_ = w.Remove(above)
		return err
	}
	return nil
}
