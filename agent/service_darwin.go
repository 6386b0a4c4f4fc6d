package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
)

// runService is the agent under launchd, which wants neither a fork nor a word
// (launchd.plist(5)): it ends by SIGTERM, and a failure is its exit status.
func runService(ctx context.Context, o daemon.Options) error {
	if err := launchd.Bound(os.Stderr); err != nil {
		return err
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
func control(s service.Service, action string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), launchctlTime)
	defer cancel()
	c := launchd.Control{Run: program}
	switch action {
	case "install":
		return install(s)
	case "uninstall":
		if err := c.Stop(ctx); err != nil {
			return "", err
		}
		return kardianos(s, action)
	case "status":
		if _, err := os.Stat(launchd.Path); errors.Is(err, fs.ErrNotExist) && !c.State(ctx).Loaded {
			return "", service.ErrNotInstalled
		}
	}
	return c.Do(ctx, action)
}

func install(s service.Service) (string, error) {
	name, err := self()
	if err == nil {
		err = launchd.OnlyRoots(name, modeAndOwner)
	}
	if err != nil {
		return "", fmt.Errorf("launchd would run this as root: %w", err)
	}
	text, err := kardianos(s, "install")
	if err != nil {
		return "", err
	}
	// launchd takes no file that others can write, and the umask is the caller's.
	if err := errors.Join(os.Chown(launchd.Path, 0, 0), os.Chmod(launchd.Path, 0o644)); err != nil {
		return "", err
	}
	return text + "; start it: sallyport service start", nil
}

func modeAndOwner(name string) (fs.FileMode, int, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return 0, 0, err
	}
	return st.Mode(), int(st.Sys().(*syscall.Stat_t).Uid), nil
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
