package command

import (
	"io"
	"os"
	"time"

	"golang.org/x/term"
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
