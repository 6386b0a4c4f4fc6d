//go:build linux

package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/internal/event"
	"sallyport/internal/testkit/port"
)

// Where the authority's package puts things.
const (
	AuthorityProgram = "/usr/bin/sallyport-authority"
	AuthorityConfig  = "/etc/sallyport-authority/authority.toml"
)

// Authority is a running "sallyport-authority run" on this machine, as a company
// would have it on another.
type Authority struct {
	*Daemon
	Origin   string // of the page
	Devices  string // host:port that the computers connect to
	Pages    string // host:port that the phones connect to
	Config   string // its file
	StateDir string

	program string
}

// InstallAuthority makes an authority from the binary in dist and starts it, with
// its page by https on localhost. settings are lines for the end of its file.
func InstallAuthority(dist string, settings ...string) (*Authority, error) {
	if err := copyFile(filepath.Join(dist, "sallyport-authority"), AuthorityProgram); err != nil {
		return nil, fmt.Errorf("machine: %w (./build.sh build makes it)", err)
	}
	a := &Authority{Config: AuthorityConfig, program: AuthorityProgram}
	return a, a.init(settings)
}

// NewAuthority makes one with everything below dir, and starts it. with are more
// arguments of its "init".
func NewAuthority(dist, dir string, settings []string, with ...string) (*Authority, error) {
	a := &Authority{Config: filepath.Join(dir, "authority.toml"), program: filepath.Join(dist, "sallyport-authority"), StateDir: filepath.Join(dir, "state")}
	return a, a.init(settings, append(with, "--state-dir", a.StateDir, "--owner", "root")...)
}

func (a *Authority) init(settings []string, with ...string) (err error) {
	if a.Devices, err = port.Address(); err != nil {
		return err
	}
	if a.Pages, err = port.Address(); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(a.Pages) // freeAddress made it
	a.Origin = "https://localhost:" + port
	if err := a.Do(nil, append([]string{"init", "--name", "Example Ltd", "--origin", a.Origin, "--device-host", "127.0.0.1",
		"--listen-devices", a.Devices, "--listen-web", a.Pages, "--listen-metrics", "", "--json"}, with...)...); err != nil {
		return err
	}
	if err := addLines(a.Config, settings); err != nil {
		return err
	}
	return a.Start()
}

// Node makes another node of the same authority, on the same database, with
// everything below dir, and starts it.
func (a *Authority) Node(dir, name string) (*Authority, error) {
	b := &Authority{Origin: a.Origin, Config: filepath.Join(dir, "authority.toml"), program: a.program, StateDir: filepath.Join(dir, "state")}
	var err error
	if b.Devices, err = port.Address(); err != nil {
		return nil, err
	}
	if b.Pages, err = port.Address(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(a.Config)
	if err != nil {
		return nil, err
	}
	own := map[string]string{"name": name, "state_dir": b.StateDir, "listen_devices": b.Devices, "listen_web": b.Pages}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		key, _, _ := strings.Cut(line, " ")
		if value, ok := own[key]; ok {
			lines[i] = fmt.Sprintf("%s = %q", key, value)
			delete(own, key)
		}
	}
	if len(own) > 0 {
		return nil, fmt.Errorf("machine: %s has no line for %v", a.Config, own)
	}
	keys, err := os.ReadDir(filepath.Join(a.StateDir, "keys"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(b.StateDir, "keys"), 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(b.StateDir, 0o700); err != nil {
		return nil, err
	}
	for _, k := range keys {
		content, err := os.ReadFile(filepath.Join(a.StateDir, "keys", k.Name()))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(b.StateDir, "keys", k.Name()), content, 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(b.Config, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		return nil, err
	}
	return b, b.Start()
}

// Start starts it, again after Stop or Kill.
func (a *Authority) Start() (err error) {
	a.Daemon, err = start(exec.Command(a.program, "run", "--config", a.Config))
	return err
}

// Use has the binary in dist be the one that Start starts from now on: another
// version.
func (a *Authority) Use(dist string) { a.program = filepath.Join(dist, "sallyport-authority") }

// Do runs "sallyport-authority ARGS...", which must succeed, and decodes what it
// prints as JSON into answer, unless that is nil.
func (a *Authority) Do(answer any, args ...string) error {
	out, err := a.Run("", args...)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal([]byte(out), answer)
}

// Run runs "sallyport-authority ARGS...", which must succeed, and returns what it
// prints.
func (a *Authority) Run(stdin string, args ...string) (string, error) {
	cmd := exec.Command(a.program, append(args, "--config", a.Config)...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("sallyport-authority %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Event is one that the authority keeps; Device "" is the authority's own.
type Event struct {
	Device string      `json:"device"`
	Event  event.Event `json:"event"`
}

// Events are all that it keeps, its own and the computers'.
func (a *Authority) Events() (list []Event, err error) {
	out, err := a.Run("", "events", "--json", "-n", "10000")
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var e Event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
}

// Token makes a token for one computer with these users, who are added if they
// are not known yet. with are more arguments.
func (a *Authority) Token(users []string, with ...string) (string, error) {
	var known struct {
		Users []struct{ Name string }
	}
	if err := a.Do(&known, "user", "list", "--json"); err != nil {
		return "", err
	}
	args := append([]string{"token", "create", "--json"}, with...)
	for _, user := range users {
		if !slices.Contains(known.Users, struct{ Name string }{user}) {
			if err := a.Do(nil, "user", "add", user); err != nil {
				return "", err
			}
		}
		args = append(args, "--user", user)
	}
	var made struct {
		Token string `json:"token"`
	}
	return made.Token, a.Do(&made, args...)
}

// Join makes this machine one of the authority's computers, for these users, over
// the address given: a cable's, say.
func (a *Authority) Join(over string, users ...string) error {
	token, err := a.Token(users)
	if err != nil {
		return err
	}
	return This.Join(over, token)
}

// addLines appends to a file.
func addLines(path string, lines []string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}
