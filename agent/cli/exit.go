package cli

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The exit codes. They are stable: scripts and monitoring match on them.
const (
	ExitOK         = 0
	ExitFailed     = 1
	ExitNotRunning = 2
	ExitDenied     = 3
	ExitNotFound   = 4
	ExitUsage      = 5
	ExitConflict   = 6
)

// exits is the one table of exit codes: the help, the man pages and the JSON
// errors are made from it.
var exits = []struct {
	code int
	name string // "code" of a JSON error
	text string
}{
	{ExitOK, "ok", "done; status: healthy; doctor: nothing failed"},
	{ExitFailed, "failed", "failed, or something needs attention"},
	{ExitNotRunning, "not_running", "the agent is not running, or does not answer"},
	{ExitDenied, "not_permitted", "not permitted for this caller"},
	{ExitNotFound, "not_found", "no such user or record"},
	{ExitUsage, "bad_usage", "bad usage or bad input"},
	{ExitConflict, "conflict", "it is there already"},
}

func exitTable() string {
	var b strings.Builder
	b.WriteString("Exit status:\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "  %d  %s\n", e.code, e.text)
	}
	return b.String()
}

func exitName(code int) string {
	for _, e := range exits {
		if e.code == code {
			return e.name
		}
	}
	return "failed"
}

// Error is what a command ends with when it fails: an exit code, what went
// wrong, and what to do about it.
type Error struct {
	Exit   int
	Text   string
	Remedy string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + "\n" + e.Remedy
}

func failed(format string, args ...any) *Error {
	return &Error{Exit: ExitFailed, Text: fmt.Sprintf(format, args...)}
}

func badUsage(format string, args ...any) *Error {
	return &Error{Exit: ExitUsage, Text: fmt.Sprintf(format, args...)}
}

// errQuiet ends a command with an exit code when the output has said it all.
type errQuiet struct{ exit int }

func (e errQuiet) Error() string { return exitName(e.exit) }

// exitOfGRPC says which exit code an agent's answer means. Whatever is not in
// the table is a plain failure.
var exitOfGRPC = map[codes.Code]int{
	codes.NotFound:          ExitNotFound,
	codes.AlreadyExists:     ExitConflict,
	codes.InvalidArgument:   ExitUsage,
	codes.OutOfRange:        ExitUsage,
	codes.PermissionDenied:  ExitDenied,
	codes.Unauthenticated:   ExitDenied,
	codes.Unavailable:       ExitNotRunning,
	codes.DeadlineExceeded:  ExitNotRunning,
	codes.ResourceExhausted: ExitFailed,
}

// fromAgent turns what the agent, or gRPC in its place, answered into an Error.
func fromAgent(err error, socket string) error {
	if err == nil {
		return nil
	}
	var own *Error
	var quiet errQuiet
	if errors.As(err, &own) || errors.As(err, &quiet) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return failed("%v", err)
	}
	exit, ok := exitOfGRPC[st.Code()]
	if !ok {
		exit = ExitFailed
	}
	e := &Error{Exit: exit, Text: st.Message()}
	switch st.Code() {
	case codes.Unavailable:
		e.Text = fmt.Sprintf("the agent went away (%s): %s", socket, st.Message())
		e.Remedy = remedyNotRunning
	case codes.DeadlineExceeded:
		e.Text = fmt.Sprintf("the agent does not answer (%s)", socket)
		e.Remedy = "see what it is doing: journalctl -u sallyport; then: systemctl restart sallyport"
	case codes.PermissionDenied, codes.Unauthenticated:
		e.Remedy = "run it as root: sudo sallyport ..."
	case codes.Unimplemented:
		e.Text = "the agent is older than this command: " + st.Message()
		e.Remedy = "restart it so that both are of one version: systemctl restart sallyport"
	}
	if e.Text == "" {
		e.Text = st.Code().String()
	}
	return e
}
