//go:build !darwin

package main

import "sallyport/authplugin/authdb"

// rights: only macOS has a rights database.
var rights func(path string) (*authdb.Rights, error)
