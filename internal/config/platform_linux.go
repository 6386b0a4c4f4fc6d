package config

import "context"

// DefaultPath is where the configuration lies unless --config says otherwise.
const DefaultPath = "/etc/sallyport/sallyport.toml"

const (
	system          = Linux
	defaultStateDir = "/var/lib/sallyport"
)

// isLogonGroup: only Windows has such groups.
func isLogonGroup(string) bool { return false }

// preferencesPath: only macOS has managed preferences.
var preferencesPath = ""

// Watch waits until ctx ends: nothing but the files sets anything here.
func Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}
