//go:build unix

package localsock

import (
	"os"

	"sallyport/internal/identity"
)

// Self is the account that this process runs as.
func Self() identity.ID { return identity.UID(uint32(os.Geteuid())) }
