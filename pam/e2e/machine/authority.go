//go:build linux

package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	Origin  string // of the page
	Devices string // host:port that the computers connect to
}

// InstallAuthority makes an authority from the binary in dist and starts it, with
// its page by https on localhost. settings are lines for the end of its file.
func InstallAuthority(dist string, settings ...string) (*Authority, error) {
	if err := copyFile(filepath.Join(dist, "sallyport-authority"), AuthorityProgram); err != nil {
		return nil, fmt.Errorf("machine: %w (./build.sh build makes it)", err)
	}
	devices, err := freeAddress()
	if err != nil {
		return nil, err
	}
	web, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(web) // freeAddress made it
	a := &Authority{Origin: "https://localhost:" + port, Devices: devices}
	if err := a.Do(nil, "init", "--name", "Example Ltd", "--origin", a.Origin, "--device-host", "127.0.0.1",
		"--listen-devices", devices, "--listen-web", web, "--listen-metrics", "", "--json"); err != nil {
		return nil, err
	}
	if err := addLines(AuthorityConfig, settings); err != nil {
		return nil, err
	}
	return a, a.Start()
}

// Start starts it, again after Stop or Kill.
func (a *Authority) Start() (err error) {
	a.Daemon, err = start(exec.Command(AuthorityProgram, "run"))
	return err
}

// Do runs "sallyport-authority ARGS...", which must succeed, and decodes what it
// prints as JSON into answer, unless that is nil.
func (a *Authority) Do(answer any, args ...string) error {
	cmd := exec.Command(AuthorityProgram, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sallyport-authority %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(out.Bytes(), answer)
}

// Join makes this machine one of the authority's computers, for these users, over
// the address given: a cable's, say.
func (a *Authority) Join(over string, users ...string) error {
	args := []string{"token", "create", "--json"}
	for _, user := range users {
		if err := a.Do(nil, "user", "add", user); err != nil {
			return err
		}
		args = append(args, "--user", user)
	}
	var made struct {
		Token string `json:"token"`
	}
	if err := a.Do(&made, args...); err != nil {
		return err
	}
	cmd := exec.Command(Program, "join", "https://"+over, "--token-stdin")
	cmd.Stdin = strings.NewReader(made.Token + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sallyport join: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// freeAddress finds a port of 127.0.0.1 that nobody listens on; in the machine's
// own network nobody else takes it.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
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
