package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kardianos/service"

	"sallyport/agent/daemon"
	"sallyport/installer/macos/launchd"
	"sallyport/installer/windows/setup"
	"sallyport/internal/acl"
	"sallyport/internal/vault/statefile"
)

// runService is the agent under launchd, which wants neither a fork nor a word
// (launchd.plist(5)): it ends by SIGTERM, and a failure is its exit status.
func runService(ctx context.Context, o daemon.Options) error {
	if err := launchd.Bound(os.Stderr); err != nil { // no reason to let nobody in
		slog.Warn("the file of the standard error cannot be kept small and root's", "error", err)
	}
	return runConsole(ctx, o)
}

// runConsole is the agent in a terminal.
func runConsole(ctx context.Context, o daemon.Options) error { return daemon.Run(ctx, o) }

// forSystem adds what kardianos/service needs for this system. What is on people's
// PATH is a symbolic link: a daemon is the file itself, which only root may change.
func forSystem(c *service.Config) error {
	c.Name, c.Option = launchd.Label, service.KeyValue{"LaunchdConfig": launchd.Template}
	var err error
	c.Executable, err = self()
	return err
}

func self() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(name)
}

// launchctlTime is how long launchd may take: it waits for a daemon that ends.
const launchctlTime = time.Minute

// control has launchd do one action. kardianos/service writes the daemon's file and
// removes it; see launchd.Control for why not more.
func control(s service.Service, c *service.Config, action string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), launchctlTime)
	defer cancel()
	daemon := launchd.Control{Run: program}
	switch action {
	case "install":
		return install(s, c)
	case "uninstall":
		if err := daemon.Stop(ctx); err != nil {
			return "", err
		}
		return kardianos(s, action)
	case "status":
		if _, err := os.Stat(launchd.Path); errors.Is(err, fs.ErrNotExist) && !daemon.State(ctx).Loaded {
			return "", service.ErrNotInstalled
		}
	}
	return daemon.Do(ctx, action)
}

// install writes the daemon's file, or another one over an older version's. What runs
// goes on to, until it is started again.
func install(s service.Service, c *service.Config) (string, error) {
	if err := launchd.OnlyRoots(c.Executable, modeAndOwner); err != nil {
		return "", fmt.Errorf("launchd would run this as root: %w", err)
	}
	text, err := launchd.Plist(c.Executable, c.Arguments)
	if err != nil {
		return "", err
	}
	_, err = os.Lstat(launchd.Path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = kardianos(s, "install")
	} else if err == nil {
		err = statefile.Replace(launchd.Path, text, 0o644) // kardianos/service refuses to
	}
	if err == nil { // launchd takes no file that others can write, and the umask is the caller's
		err = errors.Join(os.Chown(launchd.Path, 0, 0), os.Chmod(launchd.Path, 0o644))
	}
	return "install: done; start it: sallyport service restart", err
}

func modeAndOwner(name string) (fs.FileMode, int, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return 0, 0, err
	}
	return st.Mode(), int(st.Sys().(*syscall.Stat_t).Uid), acl.Check(name)
}

// program runs a program; its error says what it complained of.
func program(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) && len(failed.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	return out, err
}

// installerSystem: the package here needs no command of ours.
func installerSystem() setup.System { return nil }
