package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/term"
)

// columns is how wide what is written to w may be; 0: it is no terminal, or not known.
func (a *app) columns(w io.Writer) int {
	if !a.deps.IsTTY(w) {
		return 0
	}
	return a.deps.Width(w)
}

func readSecret() (string, error) {
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	return string(b), err
}

// readLine reads one line of at most limit bytes from standard input.
func (a *app) readLine(limit int) (string, error) {
	var b strings.Builder
	for {
		c, err := a.in.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && b.Len() > 0 {
				return strings.TrimSpace(b.String()), nil
			}
			return "", err
		}
		if c == '\n' {
			return strings.TrimSpace(b.String()), nil
		}
		if b.Len() == limit {
			return "", badUsage("the line on standard input is longer than %d bytes", limit)
		}
		b.WriteByte(c)
	}
}

func (a *app) confirm(yes bool, question string) error {
	return a.deps.Confirm(a.in, yes, question)
}

func runProgram(ctx context.Context, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	// What is parsed must not depend on the caller's language.
	c.Env = append(os.Environ(), "LC_ALL=C")
	return c.Output()
}
