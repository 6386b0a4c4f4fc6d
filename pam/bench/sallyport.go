//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is how many accounts are imported at once: those in passwd meanwhile.
const chunk = 2000

// agent is one running `sallyport run`, with a vault of its own.
type agent struct {
	program, config, runtimeDir, log string
	name, about                      string // of the contender it works for
	users                            int
	cmd                              *exec.Cmd
	done                             chan error
}

// newAgent starts an agent on an empty vault, with so many rules; its state is on the
// disk, its sockets in /run.
func newAgent(dist, disk string, users, rules int) (*agent, error) {
	program, err := filepath.Abs(filepath.Join(dist, "sallyport"))
	if err != nil {
		return nil, err
	}
	name, about := fmt.Sprintf("sallyport_%d", users), fmt.Sprintf("pam_sallyport: vault with %d", users)
	if rules > 0 {
		name, about = fmt.Sprintf("%s_rules_%d", name, rules), fmt.Sprintf("%s, %d rules of which none fits", about, rules)
	}
	dir := filepath.Join(disk, name)
	a := &agent{program: program, name: name, about: about, users: users, config: filepath.Join(dir, "sallyport.toml"),
		runtimeDir: filepath.Join("/run", name), log: filepath.Join("/run", name+".log")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	content := fmt.Sprintf("state_dir = %q\nruntime_dir = %q\n", filepath.Join(dir, "state"), a.runtimeDir) + rulesSetting(rules)
	if err := os.WriteFile(a.config, []byte(content), 0o600); err != nil {
		return nil, err
	}
	_, err = a.start()
	return a, err
}

func (a *agent) socket() string { return filepath.Join(a.runtimeDir, "login.sock") }

// start starts the agent and returns how long it took to be ready: until the
// login socket takes a connection.
func (a *agent) start() (time.Duration, error) {
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	a.cmd = exec.Command(a.program, "run", "--config", a.config)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.done = make(chan error, 1)
	begun := time.Now()
	if err := a.cmd.Start(); err != nil {
		return 0, err
	}
	go func() { a.done <- a.cmd.Wait() }()
	for {
		if conn, err := net.Dial("unix", a.socket()); err == nil {
			took := time.Since(begun)
			return took, conn.Close()
		}
		select {
		case err := <-a.done:
			a.cmd = nil
			return 0, fmt.Errorf("sallyport run ended before it was ready: %v; its log:\n%s", err, a.tail())
		case <-time.After(200 * time.Microsecond): // the resolution of the measurement
		}
		if time.Since(begun) > 30*time.Second {
			return 0, fmt.Errorf("sallyport run was not ready within 30 s; its log:\n%s", a.tail())
		}
	}
}

func (a *agent) stop() error {
	if a.cmd == nil {
		return nil
	}
	err := errors.Join(a.cmd.Process.Signal(syscall.SIGTERM), <-a.done)
	a.cmd = nil
	return err
}

func (a *agent) tail() string {
	content, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-2000):])
}

// command runs one of the program's commands against this agent.
func (a *agent) command(stdin string, args ...string) error {
	cmd := exec.Command(a.program, append(args, "--config", a.config)...)
	cmd.Stdin = strings.NewReader(stdin)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sallyport %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return nil
}

// fill imports accounts into the vault. The vault knows accounts by uid, so they
// must resolve at that moment, and only then.
func (a *agent) fill(p *passwd, disk string, list []account) error {
	for len(list) > 0 {
		some := list[:min(chunk, len(list))]
		list = list[len(some):]
		if err := p.set(some); err != nil {
			return err
		}
		file := filepath.Join(disk, "import.oath")
		if err := os.WriteFile(file, oathFile(some), 0o600); err != nil {
			return err
		}
		if err := a.command("", "import", "oath", file, "--json"); err != nil {
			return err
		}
	}
	return nil
}

// contender is the PAM module with this agent behind it. With one user in the
// vault that user gets a new secret before each login.
func (a *agent) contender(dist string) (*contender, error) {
	module, err := filepath.Abs(filepath.Join(dist, "pam_sallyport.so"))
	if err != nil {
		return nil, err
	}
	c := &contender{name: a.name, about: a.about,
		stack: "auth required " + module + " socket=" + a.socket(),
		next:  phone, oneTime: true, every: 1, crowds: a.users > 1, agent: a}
	if a.users == 1 {
		generation := 0
		c.oneTime = false
		c.next = func(_ int, now time.Time) (login, error) {
			generation++
			if err := a.command(account(0).otpauthURI(generation)+"\n", "enroll", account(0).name(), "--replace", "--uri-stdin", "--no-confirm", "--json"); err != nil {
				return login{}, err
			}
			code, err := account(0).code(generation, now)
			return login{user: account(0).name(), answer: code}, err
		}
	}
	return c, nil
}

// cpu is the processor time the agent has used: its CPU-time clock
// (clock_getcpuclockid(3)), which counts nanoseconds where /proc counts ticks.
func (a *agent) cpu() (time.Duration, error) {
	var t unix.Timespec
	clock := int32(^a.cmd.Process.Pid)<<3 | 2
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", a.cmd.Process.Pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// rss is the agent's resident memory in bytes.
func (a *agent) rss() (int, error) {
	kb, err := statusField(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid), "VmRSS")
	return kb * 1024, err
}

// switches counts how often any of the agent's threads was put on a processor
// so far: an agent that does nothing adds nothing.
func (a *agent) switches() (int, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", a.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, thread := range threads {
		for _, field := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			n, err := statusField(thread, field)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// statusField reads one number of a proc_pid_status(5) file.
func statusField(file, field string) (int, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, found := strings.CutPrefix(line, field+":"); found {
			return strconv.Atoi(strings.Fields(value)[0])
		}
	}
	return 0, fmt.Errorf("%s: no %s", file, field)
}
