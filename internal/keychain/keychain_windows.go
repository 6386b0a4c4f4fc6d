package keychain

import (
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/windows/registry"

	"sallyport/internal/secret"
)

// holders are the kinds that Windows has, strongest first.
var holders = []struct {
	kind   Kind
	holder holder
}{
	{WinCred, credentialManager{}},
	{File, keyFile{}},
}

// auto makes a key in the Credential Manager, which is always there. Where it
// does not work that is said: an administrator may choose the file.
func auto(s site, log *slog.Logger) (entry, *secret.Key, error) {
	return create(s, WinCred, "", log)
}

// MachineID is where the system names the computer. Each installation has a name
// of its own, also one that was made from an image by sysprep.
const MachineID = `HKLM\SOFTWARE\Microsoft\Cryptography, MachineGuid`

func machineID(path string) (id string, err error) {
	if path != "" {
		b, err := os.ReadFile(path)
		return strings.TrimSpace(string(b)), err
	}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\Cryptography`, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return "", err
	}
	defer k.Close()
	guid, _, err := k.GetStringValue("MachineGuid")
	return strings.ReplaceAll(strings.ToLower(guid), "-", ""), err
}
