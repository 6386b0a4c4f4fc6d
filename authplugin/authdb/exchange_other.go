//go:build !darwin && !linux

package authdb

import "errors"

func exchange(string, string) error { return errors.ErrUnsupported }
