package config

// DefaultPath is where the configuration lies unless --config says otherwise.
const DefaultPath = "/etc/sallyport/sallyport.toml"

const (
	system          = Linux
	defaultStateDir = "/var/lib/sallyport"
)

// isLogonGroup: only Windows has such groups.
func isLogonGroup(string) bool { return false }
