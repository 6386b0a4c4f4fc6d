// Command silent is a version of the agent whose service starts and never answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows/svc"

	"sallyport/installer/windows/setup"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sallyport:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 && args[0] == "run" {
		return svc.Run(setup.ServiceName, handler{})
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	s := setup.Setup{System: setup.Windows(), Dir: filepath.Dir(exe), Log: os.Stdout,
		Answers: func(context.Context) error { return errors.New("not a word") },
	}
	switch ctx := context.Background(); args[1] {
	case "activate":
		return s.Activate(ctx, os.Stdin)
	case "deactivate":
		return s.Deactivate(ctx)
	case "back":
		return s.Back(ctx)
	}
	return errors.New("usage")
}

type handler struct{}

func (handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (bool, uint32) {
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop}
	for r := range requests {
		if r.Cmd == svc.Stop {
			return false, 0
		}
	}
	return false, 0
}
