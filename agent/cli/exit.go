package cli

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/command"
)

// The exit codes; see internal/command.
const (
	ExitOK         = command.ExitOK
	ExitFailed     = command.ExitFailed
	ExitNotRunning = command.ExitNotRunning
	ExitDenied     = command.ExitDenied
	ExitNotFound   = command.ExitNotFound
	ExitUsage      = command.ExitUsage
	ExitConflict   = command.ExitConflict
)

// exits say what they mean: the help and the man pages are made from it.
var exits = command.ExitTexts{
	ExitOK:         "done; status: healthy; doctor: nothing failed",
	ExitFailed:     "failed, or something needs attention",
	ExitNotRunning: "the agent is not running, or does not answer",
	ExitDenied:     "not permitted for this caller",
	ExitNotFound:   "no such user or record",
	ExitUsage:      "bad usage or bad input",
	ExitConflict:   "it is there already",
}

// Error is what a command ends with when it fails.
type Error = command.Error

// errQuiet ends a command with an exit code when the output has said it all.
type errQuiet = command.Quiet

var badUsage = command.BadUsage

func failed(format string, args ...any) *Error {
	return &Error{Exit: ExitFailed, Text: fmt.Sprintf(format, args...)}
}

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
		e.Remedy = remedyHung
	case codes.PermissionDenied, codes.Unauthenticated:
		e.Remedy = remedyRights
	case codes.Unimplemented:
		e.Text = "the agent is older than this command: " + st.Message()
		e.Remedy = "restart it so that both are of one version: " + restartAgent
	}
	if e.Text == "" {
		e.Text = st.Code().String()
	}
	return e
}
