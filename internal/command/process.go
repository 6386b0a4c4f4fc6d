package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"sallyport/internal/textout"
)

// Process is what a command line has of its process and its terminal.
type Process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	IsTTY          func(stream any) bool
	Width          func(stream any) int // columns of a terminal, 0 when unknown
	Getenv         func(string) string
	Now            func() time.Time
}

// Descriptor is a stream that may be a terminal.
type Descriptor interface{ Fd() uintptr }

// Fill sets what is nil to the real process's own.
func (p *Process) Fill() {
	if p.Stdin == nil {
		p.Stdin = os.Stdin
	}
	if p.Stdout == nil {
		p.Stdout = os.Stdout
	}
	if p.Stderr == nil {
		p.Stderr = os.Stderr
	}
	if p.IsTTY == nil {
		p.IsTTY = isTerminal
	}
	if p.Width == nil {
		p.Width = terminalWidth
	}
	if p.Getenv == nil {
		p.Getenv = os.Getenv
	}
	if p.Now == nil {
		p.Now = time.Now
	}
}

// Confirm asks a yes-or-no question, and reads the answer from in, which is Stdin with
// a buffer. Where nobody can be asked, --yes has to be said.
func (p *Process) Confirm(in *bufio.Reader, yes bool, question string) error {
	if yes {
		return nil
	}
	if !p.IsTTY(p.Stdin) {
		return &Error{Exit: ExitUsage, Text: question, Remedy: "there is no terminal to ask on: say --yes if you are sure"}
	}
	_, _ = fmt.Fprintf(p.Stderr, "%s [y/N] ", textout.Clean(question))
	answer, err := in.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(string(answer))) {
	case "y", "yes":
		return nil
	}
	return &Error{Exit: ExitFailed, Text: "nothing was changed"}
}

func isTerminal(stream any) bool {
	f, ok := stream.(Descriptor)
	return ok && term.IsTerminal(int(f.Fd()))
}

func terminalWidth(stream any) int {
	f, ok := stream.(Descriptor)
	if !ok {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}
