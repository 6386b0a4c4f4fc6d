//go:build !windows

package winreg

// Read returns nil: there is no registry here.
func Read(string) (*Key, error) { return nil, nil }

// lock locks nothing: nobody writes policies here.
func lock() (unlock func()) { return func() {} }
