package config

import (
	"context"
	"path/filepath"

	"golang.org/x/sys/windows"

	"sallyport/internal/accounts"
	"sallyport/internal/winreg"
)

// DefaultPath is where the configuration lies unless --config says otherwise.
var DefaultPath = filepath.Join(programData(), "Sallyport", "sallyport.toml")

var defaultStateDir = filepath.Join(programData(), "Sallyport", "state")

const system = Windows

// preferencesPath: only macOS has managed preferences.
var preferencesPath = ""

// programData is C:\ProgramData. It is not read from the environment, which
// whoever starts a program sets.
func programData() string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, windows.KF_FLAG_DEFAULT)
	if err != nil {
		panic("the ProgramData folder of this Windows cannot be found: " + err.Error())
	}
	return dir
}

// isLogonGroup knows the names in the language of this Windows.
func isLogonGroup(name string) bool { return accounts.IsLogonGroup(name) }

// Watch calls changed when the managed settings may have changed, and once at
// the beginning, until ctx ends.
func Watch(ctx context.Context, changed func()) error {
	return watch(ctx, []string{ProviderKey, PoliciesKey}, changed)
}

func watch(ctx context.Context, keys []string, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	look, ended := make(chan struct{}, 1), make(chan error, len(keys))
	for _, key := range keys {
		go func() {
			ended <- winreg.Watch(ctx, key, func() {
				select {
				case look <- struct{}{}:
				default: // there will be a look anyway
				}
			})
		}()
	}
	for {
		select {
		case <-look:
			changed()
		case err := <-ended:
			return err
		}
	}
}
