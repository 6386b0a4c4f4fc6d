//go:build unix

package identity

import "os"

// Self is the account that this process runs as.
func Self() ID { return UID(uint32(os.Geteuid())) }
