package authdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"sallyport/internal/textout"
)

// The system's programs that are run, by their paths: nobody else's PATH decides.
const (
	securityTool = "/usr/bin/security"
	codesignTool = "/usr/bin/codesign"
)

const (
	runTime   = 20 * time.Second // of one program
	maxOutput = maxPlist + 1
	undoTime  = 2 * time.Minute // of putting everything back, whatever else was cancelled
)

// Output is what a program wrote.
type Output struct{ Stdout, Stderr []byte }

// Runner runs a program with that input until it has ended or ctx has.
type Runner func(ctx context.Context, stdin []byte, program string, args ...string) (Output, error)

// run is a Runner for the system's programs.
func run(ctx context.Context, stdin []byte, program string, args ...string) (Output, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second // for children that keep the pipes open
	var out, errs capped
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not end: %w", ctx.Err())
	}
	return Output{out.Bytes(), errs.Bytes()}, err
}

// capped takes so much and no more; the program then fails. (No more of a
// bytes.Buffer than Write: a copy goes through it.)
type capped struct{ b bytes.Buffer }

func (c *capped) Bytes() []byte { return c.b.Bytes() }

func (c *capped) Write(p []byte) (int, error) {
	if c.b.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("it wrote over %d bytes", maxOutput)
	}
	return c.b.Write(p)
}

// call runs one program, for runTime at most.
func (r *Rights) call(ctx context.Context, stdin []byte, program string, args ...string) (Output, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	f := r.Run
	if f == nil {
		f = run
	}
	out, err := f(ctx, stdin, program, args...)
	if err == nil {
		return out, nil
	}
	return out, fmt.Errorf("%s %s: %w%s", program, strings.Join(args, " "), err, firstLine(out.Stderr))
}

// firstLine is what a program said of its failure.
func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if line = textout.Clean(line); line == "" {
		return ""
	}
	if len(line) > 200 {
		line = line[:200]
	}
	return " (" + line + ")"
}

// read is a right's definition: a whole one, or an error.
func (r *Rights) read(ctx context.Context, right string) ([]byte, error) {
	out, err := r.call(ctx, nil, securityTool, "authorizationdb", "read", right)
	if err != nil {
		return nil, err
	}
	if _, err := parse(out.Stdout); err != nil {
		return nil, fmt.Errorf("%s: %w", right, err)
	}
	return out.Stdout, nil
}

// write writes a right's definition and reads it again: what counts is what is there.
func (r *Rights) write(ctx context.Context, right string, plist []byte) error {
	_, failed := r.call(ctx, plist, securityTool, "authorizationdb", "write", right)
	now, err := r.read(ctx, right)
	switch {
	case err != nil:
		return errors.Join(failed, err)
	case !Same(now, plist):
		return errors.Join(failed, fmt.Errorf("%s: what was written is not what is there", right))
	}
	return nil
}

// change is what is to become of one right.
type change struct {
	right    string
	old, new []byte
}

// apply makes one change, or leaves the right as it was. While it was planned nobody
// may have changed the right.
func (r *Rights) apply(ctx context.Context, c change) error {
	now, err := r.read(ctx, c.right)
	if err != nil {
		return err
	}
	if !Same(now, c.old) {
		return fmt.Errorf("%s: another program has changed it just now", c.right)
	}
	if err := r.write(ctx, c.right, c.new); err != nil {
		return errors.Join(err, r.undo(ctx, c))
	}
	return nil
}

// applyAll makes all changes or none.
func (r *Rights) applyAll(ctx context.Context, changes []change) error {
	for i, c := range changes {
		if err := r.apply(ctx, c); err != nil {
			return errors.Join(err, r.undoAll(ctx, changes[:i]))
		}
	}
	return nil
}

func (r *Rights) undoAll(ctx context.Context, changes []change) error {
	var errs error
	for i := len(changes) - 1; i >= 0; i-- {
		errs = errors.Join(errs, r.undo(ctx, changes[i]))
	}
	return errs
}

// NotUndoneError says that a right is not as it was.
type NotUndoneError struct {
	Right string
	Err   error
}

func (e *NotUndoneError) Error() string {
	return fmt.Sprintf("%s could not be put back: %v", e.Right, e.Err)
}

func (e *NotUndoneError) Unwrap() error { return e.Err }

// undo puts a right back, also when ctx is over. It tries twice: the first time may
// have failed for the same reason as what it undoes.
func (r *Rights) undo(ctx context.Context, c change) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if now, err := r.read(ctx, c.right); err == nil && Same(now, c.old) {
		return nil
	}
	err := r.write(ctx, c.right, c.old)
	if err != nil {
		err = r.write(ctx, c.right, c.old)
	}
	if err != nil {
		return &NotUndoneError{c.right, err}
	}
	return nil
}
