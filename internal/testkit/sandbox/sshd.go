//go:build linux

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sallyport/internal/testkit/port"
)

// SSHD is an OpenSSH server on the sandbox's loopback.
type SSHD struct {
	Port int
	dir  string
	term *Terminal
}

// StartSSHD starts the real sshd with a host key of its own, PAM on and
// keyboard-interactive as the only method. The lines come first in its
// sshd_config, where the first mention of an option wins (sshd_config(5)).
func StartSSHD(lines ...string) (*SSHD, error) {
	if !Inside() {
		return nil, errOutside
	}
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w: ./build.sh deps installs it", err)
	}
	dir, err := os.MkdirTemp("", "sandbox-sshd-")
	if err != nil {
		return nil, err
	}
	s := &SSHD{dir: dir}
	if s.Port, err = port.Free(); err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "host_key")
	if err := run(nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key); err != nil {
		return nil, err
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return nil, err
	}
	hosts := fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, public)
	if err := os.WriteFile(s.knownHosts(), []byte(hosts), 0o644); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // ssh clients of any user read known_hosts
		return nil, err
	}
	config := filepath.Join(dir, "sshd_config")
	if err := writeFile(config, 0o600, append(lines,
		"ListenAddress 127.0.0.1",
		"Port "+strconv.Itoa(s.Port),
		"HostKey "+key,
		"PidFile none",
		"UsePAM yes",
		"KbdInteractiveAuthentication yes",
		"PasswordAuthentication no",
		"PubkeyAuthentication no",
		"PrintMotd no",
		"LogLevel VERBOSE",
	)); err != nil {
		return nil, err
	}
	s.term, err = Start(exec.Command(program, "-D", "-e", "-f", config))
	if err != nil {
		return nil, err
	}
	if _, _, err := s.term.Expect(time.Minute, regexp.MustCompile(`Server listening on \S+ port`)); err != nil {
		log := s.Log()
		s.Stop()
		return nil, fmt.Errorf("sandbox: sshd %w: %s", err, log)
	}
	return s, nil
}

// Log is what sshd has logged so far.
func (s *SSHD) Log() string { return s.term.Screen() }

// Logged waits until sshd has logged something that it has not been waited for yet.
func (s *SSHD) Logged(pattern string) error {
	_, _, err := s.term.Expect(loginTimeout, regexp.MustCompile(pattern))
	return err
}

// Stop ends the server; logins that are open stay.
func (s *SSHD) Stop() {
	_ = syscall.Kill(s.term.Pid(), syscall.SIGTERM)
	_, _ = s.term.Wait(5 * time.Second)
	s.term.Close()
	os.RemoveAll(s.dir)
}

func (s *SSHD) knownHosts() string { return filepath.Join(s.dir, "known_hosts") }

// Key makes an ssh key pair for a user and authorizes it for the user's own
// account; pass the returned file to SSH as an option: "IdentityFile=FILE".
func (s *SSHD) Key(u User) (string, error) {
	file := filepath.Join(s.dir, "key_"+strings.ReplaceAll(u.Name, "/", "_"))
	if err := run(nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file); err != nil {
		return "", err
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(u.Home, ".ssh")
	authorized := filepath.Join(dir, "authorized_keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(authorized, public, 0o600); err != nil {
		return "", err
	}
	for _, path := range []string{dir, authorized} {
		if err := os.Chown(path, int(u.UID), int(u.GID)); err != nil {
			return "", err
		}
	}
	return file, nil
}
