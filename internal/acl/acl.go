// Package acl looks for rights that a file's mode does not show: the access list of
// macOS can give them to anybody, whatever the mode says (acl(3), ls -le). On Linux
// what a list gives is within the group's bits of the mode (acl(5)); on Windows there
// is no mode, and whoever checks a file reads its DACL.
package acl

import "fmt"

// Check refuses a file or directory whose access list gives rights beside its mode,
// be it to the owner: nothing that Sallyport or macOS makes has such a list. Entries
// that deny are harmless.
func Check(path string) error {
	gives, err := gives(path)
	return verdict(path, gives, err)
}

func verdict(path string, gives bool, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("the access list of %s cannot be read: %w", path, err)
	case gives:
		return fmt.Errorf("%s has an access list that gives rights (ls -led): take it away, after finding out why it is there: chmod -N %q", path, path)
	}
	return nil
}
