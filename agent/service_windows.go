package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"sallyport/agent/daemon"
	"sallyport/installer/windows/setup"
)

// runConsole is the agent in a console window. Unlike the service it does not wait
// for a pipe that somebody else has: that is most often the service.
func runConsole(ctx context.Context, o daemon.Options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	blocked := false
	o.Tell = func(s daemon.State) {
		if s == daemon.Blocked {
			blocked = true
			stop()
		}
	}
	err := daemon.Run(ctx, o)
	if blocked {
		err = errors.Join(err, errors.New("another agent, or another program, has the login pipe; see: sallyport doctor"))
	}
	return err
}

// runService is the agent as a Windows service. kardianos/service installs and
// controls it; its loop takes no session changes, which the session guard needs.
func runService(ctx context.Context, o daemon.Options) error {
	s := &windowsService{ctx: ctx, options: o}
	err := svc.Run(setup.ServiceName, s)
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return errors.New("--service is for the service manager; to try the agent in this window leave it out")
	}
	return errors.Join(err, s.err)
}

type windowsService struct {
	ctx     context.Context
	options daemon.Options
	err     error
}

// startHint and stopHint are how long the service manager should wait before it
// calls the agent hung: opening a vault, and ending open logins.
const (
	startHint = 30 * time.Second
	stopHint  = 10 * time.Second
)

// Execute implements svc.Handler.
func (s *windowsService) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (ours bool, code uint32) {
	status <- svc.Status{State: svc.StartPending, WaitHint: uint32(startHint.Milliseconds())}
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	ready, sessions, done := make(chan struct{}, 1), make(chan struct{}, 1), make(chan error, 1)
	s.options.Sessions = sessions
	s.options.Tell = func(state daemon.State) {
		if state == daemon.Ready || state == daemon.Blocked { // so that it can be stopped while it waits
			poke(ready)
		}
	}
	go func() { done <- daemon.Run(ctx, s.options) }()
	for {
		select {
		case <-ready:
			status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptSessionChange}
			poke(sessions)
			// By the agent, as not everything that installs a service can write them.
			if err := restartAlways(); err != nil {
				slog.Warn("the service manager could not be told to restart the agent when it fails", "error", err)
			}
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.SessionChange:
				poke(sessions) // r.EventData points to what may be gone by now
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint.Milliseconds())}
				stop()
			}
		case s.err = <-done:
			if s.err != nil {
				// Not stopped in order: the recovery actions start it again.
				return true, 1
			}
			return false, 0
		}
	}
}

// poke says that there is something to do, to whoever has not heard it yet.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// forSystem adds what kardianos/service needs for this system.
func forSystem(c *service.Config) error {
	c.Option = service.KeyValue{"StartType": "automatic"}
	return nil
}

// control has the service manager do one action, and then what kardianos/service
// does not when it installs or uninstalls.
func control(s service.Service, _ *service.Config, action string) (string, error) {
	text, err := kardianos(s, action)
	if err != nil || action != "install" && action != "uninstall" {
		return text, err
	}
	if err := setup.SafeMode(setup.Windows(), action == "install"); err != nil {
		return "", fmt.Errorf("%s: done, but for this: %w", action, err)
	}
	return text, nil
}

// restartAlways has the service manager restart the agent however it ended but by
// being stopped: at once, then every few seconds, for ever (the last action
// repeats). While it is down nobody who is asked gets in.
func restartAlways() error {
	m, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer m.Disconnect()
	s, err := m.OpenService(setup.ServiceName)
	if err != nil {
		return err
	}
	defer s.Close()
	const resetAfter = 24 * 60 * 60 // seconds without a failure
	err = s.SetRecoveryActions([]mgr.RecoveryAction{
		{Type: mgr.ServiceRestart}, {Type: mgr.ServiceRestart, Delay: time.Second}, {Type: mgr.ServiceRestart, Delay: 5 * time.Second},
	}, resetAfter)
	return errors.Join(err, s.SetRecoveryActionsOnNonCrashFailures(true))
}

// installerSystem is what "sallyport setup" changes.
func installerSystem() setup.System { return setup.Windows() }
