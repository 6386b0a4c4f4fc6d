//go:build !darwin

package daemon

import "context"

// watchRights: only macOS has a rights database.
func (*daemon) watchRights(context.Context) (wait func()) { return func() {} }
