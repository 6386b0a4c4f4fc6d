package config

import (
	"context"

	"sallyport/internal/winreg"
)

// PoliciesKey holds the managed settings on Windows: Group Policy and MDM write
// them, and they win over the files.
const PoliciesKey = `HKLM\Software\Policies\Sallyport`

// Watch calls changed when the managed settings may have changed, and once at
// the beginning, until ctx ends. Where there are none, it only waits.
func Watch(ctx context.Context, changed func()) error {
	return winreg.Watch(ctx, PoliciesKey, changed)
}
