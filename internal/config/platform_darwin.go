package config

// DefaultPath is where the configuration lies unless --config says otherwise.
const DefaultPath = "/Library/Application Support/Sallyport/sallyport.toml"

const (
	system          = MacOS
	defaultStateDir = "/Library/Application Support/Sallyport/state"
)

// isLogonGroup: only Windows has such groups.
func isLogonGroup(string) bool { return false }
