// Package doctor finds the usual mistakes in how Sallyport is put into a
// computer's logins. It reads and asks, and changes nothing; each check is a
// function of an Env, so that each can be tested on files that are not there.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"sallyport/internal/identity"
)

// Status is how a check came out.
type Status string

// The outcomes. Only Fail makes `sallyport doctor` fail.
const (
	OK   Status = "ok"
	Info Status = "info" // so that you know; nothing to do
	Warn Status = "warn" // works, but not as well as it should
	Fail Status = "fail" // somebody gets in without a code, or cannot get in with one
)

// Result is one finding.
type Result struct {
	Check  string `json:"check"` // stable, such as "sshd"
	Status Status `json:"status"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Stat is what matters of a file.
type Stat struct {
	Mode fs.FileMode
	UID  int
}

// Env is the computer, as the checks see it.
type Env struct {
	Root  fs.FS // from / on
	EUID  int
	Run   func(ctx context.Context, name string, args ...string) ([]byte, error)
	Lstat func(path string) (Stat, error)
	// Peer is the account that listens on a socket.
	Peer func(socket string) (identity.ID, error)
	// Synchronised says whether the kernel's clock is.
	Synchronised func() (bool, error)

	RuntimeDir  string
	LoginSocket string
	AdminSocket string
	// AgentDown says why no agent answers; empty: one does.
	AgentDown   string
	AgentRemedy string
	AgentNote   string        // set when it cannot be asked how it is
	Problems    []Problem     // what the agent complains of, or why it cannot start
	PromptTime  time.Duration // how long a person may take to type the code
	Authority   *Authority    // nil: none was joined, or the agent cannot say
}

// Problem is one of the agent's own.
type Problem struct{ Text, Remedy string }

// Check runs every check.
func Check(ctx context.Context, e *Env) []Result {
	var out []Result
	for _, check := range []func(context.Context, *Env) []Result{
		checkAgent, checkSockets, checkModule, checkStacks, checkAccount, checkProfiles, checkSSHD, checkAuthority, checkClock, checkSELinux,
		checkBreakGlass, checkUncovered,
	} {
		out = append(out, check(ctx, e)...)
	}
	return out
}

func ok(check, format string, args ...any) Result {
	return Result{Check: check, Status: OK, Text: fmt.Sprintf(format, args...)}
}

func info(check, format string, args ...any) Result {
	return Result{Check: check, Status: Info, Text: fmt.Sprintf(format, args...)}
}

func warn(check, remedy, format string, args ...any) Result {
	return Result{check, Warn, fmt.Sprintf(format, args...), remedy}
}

func fail(check, remedy, format string, args ...any) Result {
	return Result{check, Fail, fmt.Sprintf(format, args...), remedy}
}

func checkAgent(_ context.Context, e *Env) []Result {
	var out []Result
	switch {
	case e.AgentDown != "":
		out = append(out, fail("agent", e.AgentRemedy, "%s", e.AgentDown))
	case e.AgentNote != "":
		out = append(out, info("agent", "how it is cannot be told: %s", e.AgentNote))
	case len(e.Problems) == 0:
		out = append(out, ok("agent", "it runs and complains of nothing"))
	}
	for _, p := range e.Problems {
		out = append(out, fail("agent", p.Remedy, "%s", p.Text))
	}
	return out
}

func checkSockets(_ context.Context, e *Env) []Result {
	if e.AgentDown != "" {
		return nil // said already
	}
	var out []Result
	restart := "restart the agent, which sets it: systemctl restart sallyport"
	if dir, err := e.Lstat(e.RuntimeDir); err == nil && dir.Mode.Perm()&0o022 != 0 {
		out = append(out, fail("sockets", "chmod go-w "+e.RuntimeDir,
			"%s can be written by others (%v): they could put their own sockets there", e.RuntimeDir, dir.Mode.Perm()))
	}
	for _, s := range []struct {
		path  string
		wrong func(fs.FileMode) string
	}{
		{e.LoginSocket, func(m fs.FileMode) string {
			if m != 0o666 {
				return "not 0666: programs that do not run as root, such as screen lockers, cannot ask"
			}
			return ""
		}},
		{e.AdminSocket, func(m fs.FileMode) string {
			if m&0o007 != 0 {
				return "open to everybody: only root and one group may use it"
			}
			return ""
		}},
	} {
		st, err := e.Lstat(s.path)
		if err != nil {
			out = append(out, fail("sockets", restart, "%s: %v", s.path, plainError(err)))
			continue
		}
		if st.Mode.Type() != fs.ModeSocket {
			out = append(out, fail("sockets", restart, "%s is not a socket", s.path))
			continue
		}
		if st.UID != 0 && st.UID != e.EUID {
			out = append(out, fail("sockets", "see who put it there: ls -l "+s.path, "%s belongs to uid %d, neither root nor you", s.path, st.UID))
			continue
		}
		if wrong := s.wrong(st.Mode.Perm()); wrong != "" {
			out = append(out, fail("sockets", restart, "%s has mode %#o, %s", s.path, st.Mode.Perm(), wrong))
			continue
		}
		who, err := e.Peer(s.path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			out = append(out, info("sockets", "%s is not for you (run doctor as root to check it)", s.path))
		case err != nil:
			out = append(out, fail("sockets", restart, "%s: %v", s.path, err))
		case !who.IsRoot() && who != identity.UID(uint32(e.EUID)):
			out = append(out, fail("sockets", "see who it is: ss -xlp", "%s answers on %s: hooks refuse an agent that is not root's", who, s.path))
		default:
			out = append(out, ok("sockets", "%s: mode %#o, answered by %s", s.path, st.Mode.Perm(), who))
		}
	}
	return out
}

// plainError leaves the path out, which the text has already.
func plainError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func checkClock(ctx context.Context, e *Env) []Result {
	synced, err := e.Synchronised()
	if err != nil {
		answer, runErr := e.Run(ctx, "timedatectl", "show", "--property=NTPSynchronized", "--value")
		if runErr != nil {
			return []Result{info("clock", "whether it is synchronised cannot be told: %v", err)}
		}
		synced = strings.TrimSpace(string(answer)) == "yes"
	}
	if !synced {
		return []Result{warn("clock", "turn it on: timedatectl set-ntp true (or install chrony)",
			"it is not synchronised: codes are refused once it is more than about a minute off")}
	}
	return []Result{ok("clock", "synchronised")}
}

func checkSELinux(ctx context.Context, e *Env) []Result {
	enforce, err := fs.ReadFile(e.Root, "sys/fs/selinux/enforce")
	if err != nil || strings.TrimSpace(string(enforce)) != "1" {
		return nil // no SELinux, or permissive
	}
	remedy := "install the policy module that comes with the package: semodule -i sallyport.pp; see what was denied: ausearch -m avc -ts recent"
	list, err := e.Run(ctx, "semodule", "-l")
	if err != nil {
		return []Result{info("selinux", "enforcing; whether its policy knows the agent's socket cannot be told (run doctor as root)")}
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "sallyport" {
			return []Result{ok("selinux", "enforcing, with the policy module")}
		}
	}
	return []Result{fail("selinux", remedy, "enforcing, and its policy has no module for Sallyport: sshd may not reach the agent's socket")}
}

// glob is fs.Glob for patterns that are well-formed.
func glob(fsys fs.FS, patterns ...string) (out []string) {
	for _, p := range patterns {
		names, _ := fs.Glob(fsys, p)
		out = append(out, names...)
	}
	return out
}
