//go:build linux

package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed pambench/pambench.c
var pambenchSource []byte

// pambench is the C program that logs in, and stays warm between logins.
type pambench struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startPambench compiles pambench in dir and starts it on a directory of PAM
// services.
func startPambench(dir, confdir string) (*pambench, error) {
	source, program := filepath.Join(dir, "pambench.c"), filepath.Join(dir, "pambench")
	if err := os.WriteFile(source, pambenchSource, 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.Command("cc", "-std=gnu11", "-O2", "-o", program, source, "-lpam").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc pambench.c (libpam0g-dev missing? ./build.sh deps installs it): %w: %s", err, out)
	}
	p := &pambench{cmd: exec.Command(program, confdir)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, p.cmd.Start()
}

func (p *pambench) close() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}

// login is one login to make.
type login struct{ service, user, answer string }

func (l login) line() string { return l.service + "\t" + l.user + "\t" + l.answer + "\n" }

// outcome is what pambench says of one login.
type outcome struct {
	RC    int           `json:"rc"`
	Start time.Duration `json:"start_ns"`
	Auth  time.Duration `json:"auth_ns"`
	End   time.Duration `json:"end_ns"`
	Total time.Duration `json:"total_ns"` // fresh only: the whole life of the process
	CPU   time.Duration `json:"cpu_ns"`
	Peak  int           `json:"peak_kb"` // fresh only
}

// whole is pam_start to pam_end.
func (o outcome) whole() time.Duration { return o.Start + o.Auth + o.End }

// crowd is what pambench says of many logins at once.
type crowd struct {
	RCs  []int           `json:"rcs"`
	Done []time.Duration `json:"done_ns"`
	Wall time.Duration   `json:"wall_ns"`
}

// one makes one login: how is "warm" or "fresh".
func (p *pambench) one(how string, l login) (outcome, error) {
	var o outcome
	err := p.ask(how+"\t"+l.line(), &o)
	if err == nil && o.RC != 0 {
		err = fmt.Errorf("%s as %s (%s): PAM says %d, want 0: this contender could not be measured", l.service, l.user, how, o.RC)
	}
	return o, err
}

// together makes all logins at once.
func (p *pambench) together(logins []login) (crowd, error) {
	var lines strings.Builder
	fmt.Fprintf(&lines, "together\t%d\n", len(logins))
	for _, l := range logins {
		lines.WriteString(l.line())
	}
	var c crowd
	err := p.ask(lines.String(), &c)
	return c, err
}

func (p *pambench) ask(command string, answer any) error {
	if _, err := io.WriteString(p.in, command); err != nil {
		return fmt.Errorf("pambench: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("pambench gave no answer: %w", err)
	}
	return json.Unmarshal(line, answer)
}
