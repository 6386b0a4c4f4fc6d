package keychain

import (
	"encoding/hex"
	"log/slog"
	"os"
	"strings"

	"sallyport/internal/secret"
)

// holders are the kinds that macOS has, strongest first.
var holders = []struct {
	kind   Kind
	holder holder
}{
	{SystemKeychain, systemKeychain{passwords{}}},
	{File, keyFile{}},
}

// auto makes a key in the System keychain, which is always there. Where it does
// not work that is said: an administrator may choose the file.
func auto(s site, log *slog.Logger) (entry, *secret.Key, error) {
	return create(s, SystemKeychain, "", log)
}

// MachineID is where the system names the computer. It is the hardware that has the
// name: a disk that is moved to another Mac, and what is copied to one, is noticed.
const MachineID = "the hardware UUID, gethostuuid(2)"

func machineID(path string) (string, error) {
	if path != "" {
		b, err := os.ReadFile(path)
		return strings.TrimSpace(string(b)), err
	}
	id, err := hostUUID()
	return hex.EncodeToString(id[:]), err
}
