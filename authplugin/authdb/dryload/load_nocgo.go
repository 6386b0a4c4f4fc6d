//go:build !cgo || !(darwin || linux)

package dryload

import "errors"

// Load refuses: without cgo no foreign code can be loaded.
func Load(string) error {
	return errors.New("this build cannot load plug-ins: it was made without cgo")
}
