package device

import (
	"context"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const osName = "macos"

func system(ctx context.Context) Facts {
	version, _ := unix.Sysctl("kern.osproductversion")
	return Facts{Encrypted: fileVault(ctx), TPM: unknown("a Mac has a Secure Enclave, and no TPM that could be asked"), OS: osName, Version: version}
}

// fileVault asks fdesetup(8): isactive prints true or false.
func fileVault(ctx context.Context) Fact {
	// It exits with 1 for "false", so the text decides.
	out, err := exec.CommandContext(ctx, "/usr/bin/fdesetup", "isactive").Output()
	switch strings.TrimSpace(string(out)) {
	case "true":
		return yes(true)
	case "false":
		return yes(false)
	}
	if err != nil {
		return unknown("fdesetup isactive: " + err.Error())
	}
	return unknown("fdesetup isactive says neither true nor false")
}
