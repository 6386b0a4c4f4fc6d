package cli

import (
	"context"
	"errors"
	"fmt"
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

// confirm asks a yes-or-no question. Where nobody can be asked, --yes has to be
// said.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.deps.IsTTY(a.deps.Stdin) {
		return &Error{Exit: ExitUsage, Text: question, Remedy: "there is no terminal to ask on: say --yes if you are sure"}
	}
	_, _ = fmt.Fprintf(a.deps.Stderr, "%s [y/N] ", question)
	answer, err := a.readLine(16)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return failed("nothing was changed")
}

func runProgram(ctx context.Context, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	// What is parsed must not depend on the caller's language.
	c.Env = append(os.Environ(), "LC_ALL=C")
	return c.Output()
}
