package main

import (
	"context"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/kardianos/service"

	"sallyport/agent/daemon"
	"sallyport/installer/linux"
	"sallyport/installer/windows/setup"
)

func runService(ctx context.Context, o daemon.Options) error { return runConsole(ctx, o) }

// runConsole is the agent in a terminal or under a service manager, which hears of
// it by sd_notify(3); without NOTIFY_SOCKET nobody does.
func runConsole(ctx context.Context, o daemon.Options) error {
	o.Tell = func(s daemon.State) {
		said := map[daemon.State]string{daemon.Ready: sd.SdNotifyReady, daemon.Stopping: sd.SdNotifyStopping}[s]
		_, _ = sd.SdNotify(false, said) // who waits for it in vain says so
	}
	return daemon.Run(ctx, o)
}

// forSystem adds what kardianos/service needs for this system.
func forSystem(c *service.Config) error {
	c.Option = service.KeyValue{"SystemdScript": linux.Unit}
	return nil
}

// control has the service manager do one action.
func control(s service.Service, _ *service.Config, action string) (string, error) {
	return kardianos(s, action)
}

// installerSystem: the packages here need no command of ours.
func installerSystem() setup.System { return nil }
