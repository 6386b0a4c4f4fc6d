//go:build windows

// Package prime gets named pipes going under Wine. go-winio holds a pipe's name
// with a first instance that Windows lets nobody connect to, and Wine does: the
// first client of every such pipe waits for an answer that never comes. Tests
// spend that instance, right after the pipe was made.
package prime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/windows"
)

// Pipe opens and closes a pipe, once it is there. On Windows that is a client
// which says nothing.
func Pipe(ctx context.Context, name string) error {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	for {
		h, err := windows.CreateFile(path, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, 0, 0)
		if err == nil {
			return windows.CloseHandle(h)
		}
		if !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) && !errors.Is(err, windows.ERROR_PIPE_BUSY) {
			return fmt.Errorf("%s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", name, ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
