//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// errOutside keeps what changes the machine from changing the real one.
var errOutside = errors.New("sandbox: refused: this process is not in a sandbox")

// User is a local account made by AddUser.
type User struct {
	Name     string
	Password string
	UID, GID uint32
	Home     string
}

// AddUser makes a local account with a home directory, a shell and a password.
// Groups must exist.
func AddUser(name, password string, groups ...string) (User, error) {
	if !Inside() {
		return User{}, errOutside
	}
	args := []string{"--create-home", "--shell", "/bin/sh"}
	if len(groups) > 0 {
		args = append(args, "--groups", strings.Join(groups, ","))
	}
	if err := run(nil, "useradd", append(args, "--", name)...); err != nil {
		return User{}, err
	}
	if err := run(strings.NewReader(name+":"+password+"\n"), "chpasswd"); err != nil {
		return User{}, err
	}
	account, err := user.Lookup(name)
	if err != nil {
		return User{}, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return User{}, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return User{}, err
	}
	return User{Name: name, Password: password, UID: uint32(uid), GID: uint32(gid), Home: account.HomeDir}, nil
}

// SetPAM makes the lines the whole PAM stack of a service; restore brings back
// what was there.
func SetPAM(service string, lines ...string) (restore func() error, err error) {
	path := filepath.Join("/etc/pam.d", service)
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	restore = func() error { return os.WriteFile(path, before, 0o644) }
	if err != nil {
		restore = func() error { return os.Remove(path) }
	}
	return restore, writeFile(path, 0o644, lines)
}

// AllowSudo lets a user run anything as root through sudo, for their password,
// of which sudo takes one try.
func AllowSudo(name string) error {
	return writeFile("/etc/sudoers.d/sandbox-"+name, 0o440, []string{
		name + " ALL=(ALL:ALL) ALL",
		"Defaults:" + name + " passwd_tries=1, lecture=never",
	})
}

func writeFile(path string, mode os.FileMode, lines []string) error {
	if !Inside() {
		return errOutside
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), mode); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return os.Chmod(path, mode)
}
