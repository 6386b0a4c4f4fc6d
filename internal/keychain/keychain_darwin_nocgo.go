//go:build darwin && !cgo

package keychain

// passwords is nothing: Apple's keychain is reached through its C library alone.
type passwords struct{}

func (passwords) where() (int, string, error)      { return 0, "", errNoKeychain }
func (passwords) add(string, string, []byte) error { return errNoKeychain }
func (passwords) get(string) ([]byte, error)       { return nil, errNoKeychain }
func (passwords) remove(string) error              { return errNoKeychain }
func (passwords) accounts() ([]string, error)      { return nil, errNoKeychain }

func hostUUID() (id [16]byte, err error) { return id, errNoKeychain }
