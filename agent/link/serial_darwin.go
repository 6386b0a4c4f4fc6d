package link

import (
	"context"
	"os/exec"
	"time"
)

// ioregTime is how long ioreg may take; the agent starts without it as well.
const ioregTime = 5 * time.Second

// Serial is the Mac's serial number, as in About This Mac; "" when it is not known.
func Serial() string {
	ctx, cancel := context.WithTimeout(context.Background(), ioregTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice").Output()
	if err != nil {
		return ""
	}
	return ofIOReg(out)
}
