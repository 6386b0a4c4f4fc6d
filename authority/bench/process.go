//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs beside the bench, and ends with it.
type process struct {
	name  string
	child *exec.Cmd
	log   string
	done  chan struct{} // closed when it has ended
	err   error         // then, why
}

// startProcess starts a program whose output goes to the file log.
func startProcess(name, log string, as *syscall.Credential, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, child: exec.Command(program, args...), log: log, done: make(chan struct{})}
	p.child.Stdout, p.child.Stderr = out, out
	p.child.Dir = "/"
	p.child.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if err := p.child.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.child.Wait()
		close(p.done)
	}()
	return p, nil
}

// ready polls until the program is, within 30 s.
func (p *process) ready(is func() bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for !is() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %v; its log:\n%s", p.name, p.err, p.tail())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was not ready within 30 s; its log:\n%s", p.name, p.tail())
		}
	}
	return nil
}

// stop asks the program to end, and waits.
func (p *process) stop(how syscall.Signal) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself: %v; its log:\n%s", p.name, p.err, p.tail())
	default:
	}
	if err := p.child.Process.Signal(how); err != nil {
		return err
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w; its log:\n%s", p.name, p.err, p.tail())
		}
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s did not end within 30 s", p.name), p.child.Process.Kill())
	}
}

func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-2000):])
}

// memory is the program's resident memory in bytes, and its part of what it
// shares with others.
func (p *process) memory() (rss, pss int, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.child.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.Atoi(f[1]) // the header's line has none
		switch f[0] {
		case "Rss:":
			rss = kb * 1024
		case "Pss:":
			pss = kb * 1024
		}
	}
	if rss == 0 || pss == 0 {
		return 0, 0, fmt.Errorf("%s: no Rss and Pss in smaps_rollup", p.name)
	}
	return rss, pss, nil
}

// cpu is the processor time that the program and its children have used, those
// that have ended included.
func (p *process) cpu() (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	ticks, found := 0, false
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended, and is its parent's now
		}
		// Behind the name, which may hold anything, proc(5) counts from field 3.
		f := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if len(f) < 15 {
			continue
		}
		number := func(field int) int { n, _ := strconv.Atoi(f[field-3]); return n }
		switch own := path == fmt.Sprintf("/proc/%d/stat", p.child.Process.Pid); {
		case own:
			found = true
			ticks += number(14) + number(15) + number(16) + number(17)
		case number(4) == p.child.Process.Pid:
			ticks += number(14) + number(15)
		}
	}
	if !found {
		return 0, fmt.Errorf("%s is not there any more", p.name)
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on Linux
}
