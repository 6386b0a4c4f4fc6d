//go:build linux

// Package machine is a private machine with Sallyport on it, put there as a
// package would: the shipped binaries and stacks at their real places, the agent
// running, the system's log kept. It works in a sandbox only.
package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	pamd "sallyport/installer/linux/pam.d"
	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
)

// Where a package puts things.
const (
	Program   = "/usr/bin/sallyport"
	TryHelper = "/usr/bin/sallyport-try"
	Config    = "/etc/sallyport/sallyport.toml"
	Runtime   = "/run/sallyport"
	State     = "/var/lib/sallyport"
)

// BreakGlassGroup is the group of the shipped stacks.
const BreakGlassGroup = "sallyport-breakglass"

// Machine is this sandbox, with Sallyport installed.
type Machine struct {
	Log *Syslog
}

// Install copies the binaries in dist and the stacks for Debian to where they
// belong, and keeps what is logged from now on. The agent does not run yet.
func Install(dist string) (*Machine, error) {
	if !sandbox.Inside() {
		return nil, errors.New("machine: refused: this process is not in a sandbox")
	}
	security, err := securityDir()
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{
		"sallyport": Program, "sallyport-try": TryHelper, "pam_sallyport.so": filepath.Join(security, "pam_sallyport.so"),
	} {
		if err := copyFile(filepath.Join(dist, from), to); err != nil {
			return nil, fmt.Errorf("machine: %w (./build.sh build makes it)", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(Config), 0o755); err != nil {
		return nil, err
	}
	if err := InstallStacks(); err != nil {
		return nil, err
	}
	log, err := listenSyslog()
	if err != nil {
		return nil, err
	}
	return &Machine{Log: log}, nil
}

// InstallStacks writes the shipped stacks for Debian over the system's own.
func InstallStacks() error {
	entries, err := pamd.Files.ReadDir("debian")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		text, err := Stack("debian/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("/etc/pam.d", e.Name()), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Stack is the text of a shipped stack, such as "debian/login".
func Stack(name string) (string, error) {
	text, err := fs.ReadFile(pamd.Files, path.Clean(name))
	return string(text), err
}

// WithBreakGlass takes the comment sign off the break-glass line of a stack.
func WithBreakGlass(stack string) (string, error) {
	on := strings.Replace(stack, "#auth", "auth", 1)
	if on == stack || strings.Count(stack, "#auth") != 1 {
		return "", fmt.Errorf("machine: want one commented auth line in the stack, for break-glass:\n%s", stack)
	}
	return on, nil
}

// securityDir is where libpam looks for modules.
func securityDir() (string, error) {
	for _, pattern := range []string{"/lib/*/security/pam_unix.so", "/usr/lib/*/security/pam_unix.so", "/lib*/security/pam_unix.so", "/usr/lib*/security/pam_unix.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 { // the patterns are well-formed
			return filepath.Dir(found[0]), nil
		}
	}
	return "", errors.New("machine: no pam_unix.so below /lib or /usr/lib: where are this system's PAM modules?")
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	// Into a new file: the old one may be running.
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// Do runs "sallyport ARGS..." and returns what it wrote and its exit code.
func Do(args ...string) (stdout, stderr string, exit int, err error) { return This.Do("", args...) }

// JSON runs "sallyport ARGS... --json", which must succeed, and reads its answer.
func JSON(answer any, args ...string) error { return This.JSON(answer, args...) }

// Decode reads the answer of a command run with --json.
func Decode(stdout string, answer any) error { return json.Unmarshal([]byte(stdout), answer) }

// Events are the agent's events after the one with that sequence number.
func Events(after uint64) ([]event.Event, error) { return This.Events(after) }

// SSHDOptions are what sshd needs to let many logins of one address fail, as
// tests do: from 9.8 on it holds that against the address.
func SSHDOptions() []string {
	options := []string{"MaxStartups 100"}
	// -G reads the options given and stops.
	if exec.Command("/usr/sbin/sshd", "-f", "/dev/null", "-G", "-o", "PerSourcePenalties=no").Run() == nil {
		options = append(options, "PerSourcePenalties no")
	}
	return options
}

// Enrolled is what "enroll --json" prints.
type Enrolled struct {
	User          string   `json:"user"`
	OTPAuthURI    string   `json:"otpauth_uri"`
	RecoveryCodes []string `json:"recovery_codes"`
}

// Enrol gives a user a second factor, and a phone that has it.
func Enrol(user string) (*Phone, Enrolled, error) { return This.Enrol(user) }
