// Command sallyport is the endpoint login agent: the service that decides
// logins ("sallyport run") and the helpdesk's commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/kardianos/service"

	"sallyport/agent/adminsvc"
	"sallyport/agent/cli"
	"sallyport/agent/daemon"
	"sallyport/installer/windows/setup"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/event"
	"sallyport/internal/identity"
	"sallyport/internal/vault"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// version is set by build.sh.
var version = "dev"

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Deps{
		Version:     version,
		Run:         run,
		Service:     manage,
		RuntimeDir:  runtimeDir,
		CheckConfig: checkConfig,
		LocalVault:  localVault,
		System:      installerSystem(),
		Rights:      rights,
	}))
}

func run(ctx context.Context, t cli.Target, service bool) error {
	o := daemon.Options{ConfigPath: t.Config, RuntimeDir: t.RuntimeDir, Version: version, Clock: clock.System()}
	if service {
		return runService(ctx, o)
	}
	return runConsole(ctx, o)
}

// manage has the system's service manager do what a command asks for.
func manage(action string, t cli.Target) (string, error) {
	c := &service.Config{
		Name: setup.ServiceName, DisplayName: "Sallyport", Description: "Second factor at the login",
		Arguments: []string{"run", "--service", "--config", t.Config},
	}
	if err := forSystem(c); err != nil {
		return "", err
	}
	s, err := service.New(nil, c)
	if err != nil {
		return "", err
	}
	return control(s, c, action)
}

// kardianos does one action, where kardianos/service knows how.
func kardianos(s service.Service, action string) (string, error) {
	if action == "status" {
		st, err := s.Status()
		if err != nil {
			return "", err
		}
		return map[service.Status]string{service.StatusRunning: "running", service.StatusStopped: "stopped"}[st], nil
	}
	if err := service.Control(s, action); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: done (%s)", action, service.Platform()), nil
}

// runtimeDir is where the agent's sockets are, also when its file is broken:
// the agent then runs with what can be salvaged of it.
func runtimeDir(path string) (string, error) {
	loaded, err := config.Files(path)
	if err != nil {
		return config.Salvage(path).RuntimeDir, nil
	}
	return loaded.Config.RuntimeDir, nil
}

func checkConfig(path string, draft bool) (cli.CheckedConfig, error) {
	read := config.Check
	if draft {
		read = config.Load
	}
	loaded, err := read(path)
	if err != nil {
		return cli.CheckedConfig{}, err
	}
	values := make([]cli.ConfigValue, len(loaded.Values))
	for i, v := range loaded.Values {
		values[i] = cli.ConfigValue{Key: v.Key, Value: v.Value, Source: v.Source}
	}
	return cli.CheckedConfig{Values: values, Policy: loaded.Config.Policy, Unknown: loaded.Unknown}, nil
}

// localVault makes, accepts or wipes a vault while no agent has it open.
func localVault(action string, t cli.Target) (*adminv1.VaultStatus, error) {
	loaded, err := config.Load(t.Config)
	if err != nil {
		return nil, err
	}
	o := daemon.VaultOptions(loaded, t.Config, clock.System(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	o.Keychain.NotService = true
	if action == "wipe" {
		return nil, vault.Wipe(o)
	}
	open := vault.Init
	if action == "accept" {
		if err := vault.Accept(o); err != nil {
			return nil, err
		}
		open = vault.Open
	}
	v, err := open(o)
	if err != nil {
		return nil, err
	}
	if action == "accept" {
		e := event.Event{Name: event.VaultAccepted, By: string(identity.Self()), Text: "while the agent was not running"}
		if err := v.Update(context.Background(), func(tx *vault.Tx) error { tx.Append(e); return nil }); err != nil {
			return nil, errors.Join(err, v.Close())
		}
	}
	status := adminsvc.VaultStatus(v, nil)
	return status, v.Close()
}
