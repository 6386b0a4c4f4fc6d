package device

import (
	"context"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const osName = "macos"

func system(ctx context.Context) Facts {
	return Facts{Encrypted: fileVault(ctx), TPM: unknown("a Mac has a Secure Enclave, and no TPM that could be asked"), OS: osName, Version: version()}
}

func version() string {
	v, _ := unix.Sysctl("kern.osproductversion")
	return v
}

// Title is what people call this computer's system: "macOS 15.1".
func Title() string { return strings.TrimSpace("macOS " + version()) }

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
