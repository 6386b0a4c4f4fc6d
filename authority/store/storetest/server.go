//go:build linux

package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL server on a socket in a directory of its own.
type Server struct {
	bin, dir string
	flush    bool
	as       *syscall.Credential // nil: this user
	keeper   *os.File            // closing it ends the server and its directory

	mu    sync.Mutex
	proc  *os.Process
	ended chan struct{} // closed when proc has
}

// binaries finds the distribution's newest PostgreSQL.
func binaries(patterns ...string) (string, error) {
	var list []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		list = append(list, found...)
	}
	if len(list) == 0 {
		return "", errors.New("PostgreSQL's server is not installed, and these tests need one: run ./build.sh deps")
	}
	return filepath.Dir(slices.MaxFunc(list, func(a, b string) int { return version(a) - version(b) })), nil
}

// version is the number in a path's third last part.
func version(path string) int {
	n, _ := strconv.Atoi(strings.TrimFunc(filepath.Base(filepath.Dir(filepath.Dir(path))), func(r rune) bool { return r < '0' || r > '9' }))
	return n
}

// unprivileged is who runs the server: it refuses root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("there is neither a user postgres nor nobody to run PostgreSQL as")
}

// start makes a server with an empty data directory. flush: it writes to disk as
// in production.
func start(flush bool) (_ *Server, err error) {
	s := &Server{flush: flush}
	if s.bin, err = binaries("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/usr/bin/initdb"); err != nil {
		return nil, err
	}
	if s.as, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("/tmp", "sallyport-pg-"); err != nil { // a socket's path is short
		return nil, err
	}
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return nil, err
		}
	}
	if err := s.keep(); err != nil {
		return nil, err
	}
	init := s.command("initdb", "--pgdata="+s.data(), "--auth=trust", "--username=sallyport", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		s.end()
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := s.start(); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir, c.Env = s.dir, []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setsid: true}
	return c
}

// keep starts a shell that ends the server and removes its directory as soon as
// this process is gone, however it went.
func (s *Server) keep() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	// A pid in the file of a server that was killed may be another process's now.
	c := exec.Command("/bin/sh", "-c", `read -r _
		p=$(head -n 1 data/postmaster.pid 2>/dev/null)
		ours() { [ -n "$p" ] && grep -qsF "$PWD/data" "/proc/$p/cmdline"; }
		if ours; then kill -QUIT "$p"; fi
		while ours; do sleep 0.05; done
		rm -rf "$PWD"`)
	c.Dir, c.Stdin = s.dir, r
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	s.keeper = w
	return nil
}

// end ends the server, and its directory goes.
func (s *Server) end() {
	s.Kill()
	_ = s.keeper.Close()
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return errors.New("the server runs already")
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	deadline := time.Now().Add(patience)
	for {
		c := s.command("postgres", "-D", s.data(), "-c", "listen_addresses=", "-c", "unix_socket_directories="+s.dir,
			"-c", "max_connections=300", "-c", fmt.Sprintf("fsync=%v", s.flush), "-c", fmt.Sprintf("full_page_writes=%v", s.flush))
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = c.Wait() }()
		err := s.wait(ended, deadline)
		if err == nil {
			s.proc, s.ended = c.Process, ended
			return nil
		}
		// After Kill the last of the old server's processes may still hold its memory.
		if time.Now().After(deadline) {
			_ = c.Process.Kill()
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, s.tail())
		}
	}
}

// wait waits until the server answers, or has ended.
func (s *Server) wait(ended <-chan struct{}, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-again.C:
		case <-ended:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return err
		}
	}
}

// Kill kills the server's processes, as kill -9 does, and returns when the
// server is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return
	}
	pid := s.proc.Pid
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	_ = s.proc.Kill()
	for _, f := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(f); err == nil {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
	}
	<-s.ended
	s.proc = nil
}
