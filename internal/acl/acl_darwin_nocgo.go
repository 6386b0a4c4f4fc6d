//go:build darwin && !cgo

package acl

import "errors"

// gives cannot tell: access lists are read through the C library alone.
func gives(string) (bool, error) { return false, errors.New("this build has no cgo") }
