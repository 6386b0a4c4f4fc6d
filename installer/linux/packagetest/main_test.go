//go:build linux

package packagetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/port"
	"sallyport/internal/testkit/sandbox"
)

// What TestMain passes into the sandbox: the directory with the packages, which can be
// given if they are made already, and the root that machines are copies of.
const (
	packagesVariable = "SALLYPORT_TEST_PACKAGES"
	rootVariable     = "SALLYPORT_TEST_ROOT"
)

const password = "correct horse"

// The versions that there are packages of. What is wrong with the last two shows in
// their agents below.
const (
	older   = "v1.0.0"
	newer   = "v1.1.0"
	silent  = "v1.2.0"
	ruining = "v1.3.0"
)

// agents that never answer, in place of one of ours; the second spoils the state.
var agents = map[string]string{
	silent:  "#!/bin/sh\n[ \"$1\" = run ] && exec sleep 1000\nexit 2\n",
	ruining: "#!/bin/sh\n[ \"$1\" = run ] && for f in /var/lib/sallyport/*; do echo ruined >$f; done && exec sleep 1000\nexit 2\n",
}

func TestMain(m *testing.M) {
	flag.Parse()
	if sandbox.Inside() || sandbox.Possible() != nil {
		sandbox.Main(m) // where there is no sandbox the tests skip, and say why
	}
	status, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "packagetest:", err)
		status = 1
	}
	os.Exit(status)
}

// outside makes the root and the packages, and runs the tests in a sandbox.
func outside() (int, error) {
	root, err := output(exec.Command("./root.sh"))
	if err != nil {
		return 0, err
	}
	dir := os.Getenv(packagesVariable)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "sallyport-packages-"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		if err := pack(dir); err != nil {
			return 0, err
		}
	}
	for name, value := range map[string]string{packagesVariable: dir, rootVariable: strings.TrimSpace(root)} {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	return sandbox.Reexec(dir, strings.TrimSpace(root))
}

// pack makes the packages of every version, for this architecture.
func pack(dir string) error {
	// Bound into the sandbox, where others than root look at it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	goarch, err := output(exec.Command("go", "env", "GOARCH"))
	if err != nil {
		return err
	}
	dist := map[string]string{}
	for _, version := range []string{older, newer, silent, ruining} {
		dist[version] = filepath.Join(dir, "dist", version)
		if err := os.MkdirAll(dist[version], 0o755); err != nil {
			return err
		}
		build := func(name string, args ...string) error {
			cmd := exec.Command(name, args...)
			cmd.Dir = "../../.."
			_, err := output(cmd)
			return err
		}
		if err := build("make", "-s", "-C", "pam", "OUT="+dist[version]); err != nil {
			return err
		}
		agent := filepath.Join(dist[version], "sallyport")
		if text, ok := agents[version]; ok {
			err = os.WriteFile(agent, []byte(text), 0o755)
		} else {
			err = build("go", "build", "-trimpath", "-buildmode=pie", "-ldflags", "-X main.version="+version, "-o", agent, "./agent")
		}
		if err != nil {
			return err
		}
		if err := build("go", "build", "-trimpath", "-buildmode=pie", "-o", filepath.Join(dist[version], "sallyport-try"), "./pam/try"); err != nil {
			return err
		}
		cmd := exec.Command("../build.sh", version, strings.TrimSpace(goarch), dist[version], dir)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "SALLYPORT_COMPRESSION=gzip", "SALLYPORT_AGENT="+filepath.Join(dist[older], "sallyport"))
		if _, err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}

// output runs a command that must succeed.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", cmd, err, out, &stderr)
	}
	return string(out), nil
}

// machine is a small Debian with systemd as its first process and sshd.
type machine struct {
	t    *testing.T
	pid  string
	port int // sshd's; the machines have one network
}

// boot starts a machine that lives as long as the test.
func boot(t *testing.T) *machine {
	t.Helper()
	sandbox.Need(t)
	t.Parallel()
	number, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command("./boot.sh", os.Getenv(rootVariable), os.Getenv(packagesVariable), pid)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and all that is in it
		_ = cmd.Wait()         // killed: that is how it ends
	})
	m := &machine{t: t, port: number}
	m.wait("systemd starts", func() bool {
		b, err := os.ReadFile(pid)
		m.pid = strings.TrimSpace(string(b))
		return err == nil && m.running()
	})
	m.must("sh", "-c", `printf 'UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\nPort %s\n' "$0" >/etc/ssh/sshd_config.d/10-sallyport.conf
useradd --create-home --shell /bin/sh alice && echo 'alice:`+password+`' | chpasswd && systemctl restart ssh`, strconv.Itoa(number))
	return m
}

// running: systemd is up, and sshd with it.
func (m *machine) running() bool {
	out, _ := m.command("systemctl", "is-active", "multi-user.target").Output() // fails as long as it is not
	return strings.TrimSpace(string(out)) == "active"
}

// wait waits for something that happens on the machine.
func (m *machine) wait(what string, done func() bool) {
	m.t.Helper()
	for end := time.Now().Add(5 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("in vain: %s", what)
		}
	}
}

// command is one on the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", m.pid, "--mount", "--pid", "--root", "--wd", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	return cmd
}

// do runs a command and returns all that it says, and its exit status.
func (m *machine) do(args ...string) (said string, status int) {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	} else if err != nil {
		status = exit.ExitCode()
	}
	m.t.Logf("%s: %d\n%s", strings.Join(args, " "), status, out)
	return string(out), status
}

// must runs a command that succeeds.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	said, status := m.do(args...)
	if status != 0 {
		m.t.Fatalf("%s ended with %d", strings.Join(args, " "), status)
	}
	return said
}

// fails runs a command that does not succeed and says all of the texts.
func (m *machine) fails(texts []string, args ...string) {
	m.t.Helper()
	said, status := m.do(args...)
	if status == 0 {
		m.t.Fatalf("%s succeeded", strings.Join(args, " "))
	}
	for _, text := range texts {
		if !strings.Contains(said, text) {
			m.t.Fatalf("%s did not say %q", strings.Join(args, " "), text)
		}
	}
}

// file is the package of a version: of the one of its files that ends so.
func (m *machine) file(version, suffix string) string {
	m.t.Helper()
	found, err := filepath.Glob(filepath.Join(os.Getenv(packagesVariable), "sallyport?"+version[1:]+"-1*"+suffix))
	if err != nil || len(found) != 1 {
		m.t.Fatalf("packages of %s: %v %v", version, found, err)
	}
	return "/packages/" + filepath.Base(found[0])
}

// wantAgent: the agent of that version runs, its vault is open, and so many users
// are enrolled.
func (m *machine) wantAgent(version string, enrolled int) {
	m.t.Helper()
	var s struct {
		Running bool   `json:"running"`
		Version string `json:"version"`
		Vault   struct {
			State string `json:"state"`
		} `json:"vault"`
		Users struct {
			Enrolled int `json:"enrolled"`
		} `json:"users"`
	}
	said, _ := m.do("sallyport", "status", "--json") // not 0 where something needs attention
	if err := json.Unmarshal([]byte(said), &s); err != nil {
		m.t.Fatal(err)
	}
	if !s.Running || s.Version != version || s.Vault.State != "open" || s.Users.Enrolled != enrolled {
		m.t.Fatalf("want the agent of %s with %d enrolled, got %+v", version, enrolled, s)
	}
}

// enrol gives alice a second factor, and returns her recovery codes.
func (m *machine) enrol() (codes []string) {
	m.t.Helper()
	var e struct {
		Codes []string `json:"recovery_codes"`
	}
	out, err := m.command("sallyport", "enroll", "alice", "--no-confirm", "--json").Output()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &e); err != nil {
		m.t.Fatal(err)
	}
	return e.Codes
}

// login is alice at sshd, with those answers and all of them asked for.
func (m *machine) login(in bool, answers ...sandbox.Answer) {
	m.t.Helper()
	got, err := (&sandbox.SSHD{Port: m.port}).SSH("alice", "UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no").Run(answers...)
	if err != nil {
		m.t.Fatal(err)
	}
	if got.In != in || got.Unused != 0 || in && got.As != "alice" {
		m.t.Fatalf("want in: %v with every answer asked for, got %+v", in, got)
	}
}

// byPassword: alice's password alone lets her in.
func (m *machine) byPassword() {
	m.t.Helper()
	m.login(true, sandbox.Password(password))
}

// byCode: alice is asked for a code too; without a right one she stays out.
func (m *machine) byCode(codes *[]string) {
	m.t.Helper()
	m.login(false, sandbox.Password(password), sandbox.Code("000000"))
	m.login(true, sandbox.Password(password), sandbox.Code((*codes)[0]))
	*codes = (*codes)[1:]
}
