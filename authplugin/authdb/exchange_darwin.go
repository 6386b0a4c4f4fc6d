package authdb

import "golang.org/x/sys/unix"

// exchange makes each of two paths name what the other one did: rename(2), which has
// it of APFS and HFS+.
func exchange(a, b string) error { return unix.RenamexNp(a, b, unix.RENAME_SWAP) }
