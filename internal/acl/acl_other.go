//go:build !darwin

package acl

func gives(string) (bool, error) { return false, nil }
