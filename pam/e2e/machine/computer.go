//go:build linux

package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"sallyport/internal/event"
)

// Computer is one on which an agent runs: this machine, or an agent of its own
// directories, as if it were on another machine. The other ones are asked through
// their login socket: no PAM stack leads there.
type Computer struct {
	*Agent
	program string
	config  string // "" = the default
	dir     string
}

// This is the machine itself. Its agent is StartAgent's.
var This = &Computer{program: Program}

// NewComputer starts an agent from the binary in dist with everything it needs
// below dir. settings are lines for its configuration.
func NewComputer(dist, dir string, settings ...string) (*Computer, error) {
	c := &Computer{program: filepath.Join(dist, "sallyport"), config: filepath.Join(dir, "sallyport.toml"), dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("state_dir = %q\nruntime_dir = %q\nkeychain = \"file\"\n%s\n", filepath.Join(dir, "state"), filepath.Join(dir, "run"), strings.Join(settings, "\n"))
	if err := os.WriteFile(c.config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return c, c.Start()
}

// Start starts its agent, again after Stop or Kill.
func (c *Computer) Start() (err error) {
	c.Agent, err = start(exec.Command(c.program, "run", "--config", c.config))
	return err
}

// Use has the binary in dist be the one that Start starts from now on: another
// version.
func (c *Computer) Use(dist string) { c.program = filepath.Join(dist, "sallyport") }

// Socket is where hooks reach its agent.
func (c *Computer) Socket() string { return filepath.Join(c.dir, "run", "login.sock") }

// Dir holds its configuration and its state.
func (c *Computer) Dir() string { return c.dir }

// Command is "sallyport ARGS..." there.
func (c *Computer) Command(args ...string) *exec.Cmd {
	if c.config != "" {
		args = append(args, "--config", c.config)
	}
	return exec.Command(c.program, args...)
}

// Do runs "sallyport ARGS..." and returns what it wrote and its exit code.
func (c *Computer) Do(stdin string, args ...string) (stdout, stderr string, exit int, err error) {
	cmd := c.Command(args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	err = cmd.Run()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = nil
	}
	return out.String(), complaint.String(), cmd.ProcessState.ExitCode(), err
}

// JSON runs "sallyport ARGS... --json", which must succeed, and reads its answer.
func (c *Computer) JSON(answer any, args ...string) error {
	stdout, stderr, exit, err := c.Do("", append(args, "--json")...)
	if err != nil {
		return err
	}
	// status finds something to complain about on a machine that is a test.
	if exit != 0 && !(args[0] == "status" && exit == 1) {
		return fmt.Errorf("sallyport %s: exit status %d: %s", strings.Join(args, " "), exit, strings.TrimSpace(stderr))
	}
	return Decode(stdout, answer)
}

// Events are its agent's events after the one with that sequence number.
func (c *Computer) Events(after uint64) ([]event.Event, error) {
	stdout, stderr, exit, err := c.Do("", "events", "--json", "--after", strconv.FormatUint(after, 10))
	if err != nil || exit != 0 {
		return nil, fmt.Errorf("sallyport events: exit status %d, %w: %s", exit, err, strings.TrimSpace(stderr))
	}
	var events []event.Event
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var e event.Event
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("sallyport events: %w: %s", err, line)
		}
		events = append(events, e)
	}
	return events, nil
}

// Enrol gives a user codes there, and a phone that has them.
func (c *Computer) Enrol(user string) (*Phone, Enrolled, error) {
	var e Enrolled
	if err := c.JSON(&e, "enroll", user, "--no-confirm"); err != nil {
		return nil, e, err
	}
	phone, err := NewPhone(e.OTPAuthURI)
	return phone, e, err
}

// EnrolPush runs "sallyport enroll USER --push"; scan is given the link that the
// QR code holds.
func (c *Computer) EnrolPush(user string, scan func(link string) error) (err error) {
	cmd := c.Command("enroll", user, "--push", "--json")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var shown struct{ URL string }
	if err = json.NewDecoder(out).Decode(&shown); err == nil {
		err = scan(shown.URL)
	}
	if err != nil {
		_ = cmd.Process.Kill() // it waits for the phone
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return fmt.Errorf("sallyport enroll --push: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return nil
}

// Join joins an authority by its token, over an address (host:port).
func (c *Computer) Join(over, token string, more ...string) error {
	_, stderr, exit, err := c.Do(token+"\n", append([]string{"join", "https://" + over, "--token-stdin"}, more...)...)
	if err != nil || exit != 0 {
		return fmt.Errorf("sallyport join: exit status %d, %w: %s", exit, err, strings.TrimSpace(stderr))
	}
	return nil
}

// Link is what "sallyport status" says of a computer's authority.
type Link struct {
	DeviceID  string   `json:"device_id"`
	Connected bool     `json:"connected"`
	LastError string   `json:"last_error"`
	Refused   string   `json:"refused"`
	Users     []string `json:"users"`
	// OfflineBypass: the helpdesk can answer its challenges.
	OfflineBypass bool `json:"offline_bypass"`
}

// Status is part of what "sallyport status" says.
type Status struct {
	Authority Link `json:"authority"`
	Users     struct {
		OfflineReady int `json:"offline_ready"`
	} `json:"users"`
	Problems []struct{ Code, Text, Remedy string } `json:"problems"`
}

// Status asks its agent.
func (c *Computer) Status() (s Status, err error) { return s, c.JSON(&s, "status") }

// Copy makes another computer of everything that this one has, as an image of its
// disk does. Its agent does not run yet.
func (c *Computer) Copy(dir string) (*Computer, error) {
	if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil {
		return nil, err
	}
	// What is only its owner's is so in the copy.
	if err := filepath.WalkDir(c.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(dir, strings.TrimPrefix(path, c.dir)), st.Mode().Perm())
	}); err != nil {
		return nil, err
	}
	d := &Computer{program: c.program, config: filepath.Join(dir, "sallyport.toml"), dir: dir}
	text, err := os.ReadFile(c.config)
	if err != nil {
		return nil, err
	}
	return d, os.WriteFile(d.config, []byte(strings.ReplaceAll(string(text), c.dir, dir)), 0o644)
}
