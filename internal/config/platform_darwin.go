package config

import "context"

// DefaultPath is where the configuration lies unless --config says otherwise.
const DefaultPath = "/Library/Application Support/Sallyport/sallyport.toml"

const (
	system          = MacOS
	defaultStateDir = "/Library/Application Support/Sallyport/state"
)

// isLogonGroup: only Windows has such groups.
func isLogonGroup(string) bool { return false }

// preferencesPath is where the managed preferences are.
var preferencesPath = PreferencesPath

// Watch calls changed when the managed settings may have changed, and once at
// the beginning, until ctx ends.
func Watch(ctx context.Context, changed func()) error {
	return watchFile(ctx, preferencesPath, changed)
}
