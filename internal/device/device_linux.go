package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const osName = "linux"

func system(context.Context) Facts {
	root := os.DirFS("/")
	return Facts{Encrypted: encrypted(root, rootDevice), TPM: tpm(root), OS: osName, Version: version(root)}
}

// rootDevice is the number of the device that holds a path, as /sys/dev/block
// spells it.
func rootDevice(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	dev := st.Dev
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		dev = st.Rdev
	}
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)), nil
}

// encrypted says whether everything below / goes through dm-crypt: the device's
// own dm uuid is of cryptsetup(8), as those of dm-verity and dm-integrity are too,
// or that of each device it is made of (Documentation/ABI/testing/sysfs-block-dm,
// sysfs-block: slaves). A disk that encrypts itself does not show here.
func encrypted(root fs.FS, device func(path string) (string, error)) Fact {
	number, err := device("/")
	if err != nil {
		return unknown(err.Error())
	}
	dir := "sys/dev/block/" + number
	if _, err := fs.Stat(root, dir); err != nil {
		// btrfs has a number that is no block device's; what is mounted says.
		source, err := mountedAs(root)
		if err != nil {
			return unknown(err.Error())
		}
		if number, err = device(source); err != nil {
			return unknown(err.Error())
		}
		dir = "sys/dev/block/" + number
		if _, err := fs.Stat(root, dir); err != nil {
			return unknown("what / lies on is no block device")
		}
	}
	is, err := allCrypt(root, dir, 0)
	if err != nil {
		return unknown(err.Error())
	}
	return yes(is)
}

// maxDepth bounds how many devices may lie one below another.
const maxDepth = 16

// crypts are the kinds of cryptsetup's volumes that are encrypted, as it names them in
// a dm uuid: "CRYPT-LUKS2-...".
var crypts = []string{"LUKS1", "LUKS2", "PLAIN", "LOOPAES", "TCRYPT", "BITLK", "FVAULT2"}

func isCrypt(uuid string) bool {
	rest, ok := strings.CutPrefix(uuid, "CRYPT-")
	kind, _, _ := strings.Cut(rest, "-")
	return ok && slices.Contains(crypts, kind)
}

func allCrypt(root fs.FS, dir string, depth int) (bool, error) {
	if depth > maxDepth {
		return false, errors.New("too many devices lie one below another")
	}
	switch uuid, err := fs.ReadFile(root, dir+"/dm/uuid"); {
	case err == nil && isCrypt(string(uuid)):
		return true, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	below, err := fs.ReadDir(root, dir+"/slaves")
	if errors.Is(err, fs.ErrNotExist) { // a partition has none of its own
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, d := range below {
		if is, err := allCrypt(root, dir+"/slaves/"+d.Name(), depth+1); err != nil || !is {
			return false, err
		}
	}
	return len(below) > 0, nil
}

// mountedAs is the device that / is mounted from (proc_pid_mountinfo(5)).
func mountedAs(root fs.FS) (string, error) {
	text, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	source := ""
	for line := range strings.Lines(string(text)) {
		mount, more, ok := strings.Cut(line, " - ")
		fields, after := strings.Fields(mount), strings.Fields(more)
		if ok && len(fields) >= 5 && fields[4] == "/" && len(after) >= 2 {
			source = after[1] // the last one lies on top
		}
	}
	if !strings.HasPrefix(source, "/dev/") {
		return "", errors.New("what / is mounted from is no block device")
	}
	return path.Clean(source), nil
}

// tpm says whether the kernel found one (Documentation/ABI/stable/sysfs-class-tpm).
func tpm(root fs.FS) Fact {
	if _, err := fs.ReadDir(root, "sys/class"); err != nil {
		return unknown(err.Error())
	}
	found, err := fs.ReadDir(root, "sys/class/tpm")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unknown(err.Error())
	}
	return yes(len(found) > 0)
}

// version is VERSION_ID of os-release(5).
func version(root fs.FS) string { return osRelease(root, "VERSION_ID") }

// osRelease is a value of os-release(5); "" when it has none.
func osRelease(root fs.FS, key string) string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
				return strings.Trim(v, `"'`)
			}
		}
		return ""
	}
	return ""
}

// Title is what people call this computer's system: "Debian GNU/Linux 12 (bookworm)".
func Title() string { return cmp.Or(osRelease(os.DirFS("/"), "PRETTY_NAME"), "Linux") }
