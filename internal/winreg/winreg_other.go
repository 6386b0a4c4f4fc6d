//go:build !windows

package winreg

import "context"

// Read returns nil: there is no registry here.
func Read(string) (*Key, error) { return nil, nil }

// Watch waits for the end of ctx: there is nothing that could change.
func Watch(ctx context.Context, _ string, _ func()) error {
	<-ctx.Done()
	return nil
}
