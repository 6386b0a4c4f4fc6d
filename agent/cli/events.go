package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/internal/command"
	"sallyport/internal/event"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) eventsCommand() *cobra.Command {
	var request adminv1.EventsRequest
	c := &cobra.Command{
		Use:   "events",
		Short: "show what happened: logins and administrative actions",
		Long: `Shows the events that this computer keeps, oldest first. With --json each line
is one event as it is kept; docs/events.md names the fields.`,
		Example: `  sallyport events --last 20
  sallyport events --follow --user alice
  sallyport events --json | jq 'select(.verdict == "deny")'`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error { return a.events(cmd.Context(), &request) }),
	}
	c.Flags().BoolVarP(&request.Follow, "follow", "f", false, "go on as new events come, until interrupted")
	c.Flags().StringVar(&request.User, "user", "", "only the events about `USER` (a name, uid:N, or sid:S-1-...)")
	c.Flags().Uint32Var(&request.Last, "last", 0, "only the last `N`")
	c.Flags().Uint64Var(&request.After, "after", 0, "only what came after the event with sequence number `SEQ`")
	_ = c.RegisterFlagCompletionFunc("user", a.completeUser)
	return c
}

func (a *app) events(ctx context.Context, request *adminv1.EventsRequest) error {
	if request.User != "" {
		if err := validUser(request.User); err != nil {
			return err
		}
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A stopped agent accepts and says nothing; ask for something short first, as
	// a stream that is followed has no deadline of its own.
	first, cancel := context.WithTimeout(ctx, a.deps.CallTimeout)
	defer cancel()
	if _, err := c.Status(first, &adminv1.StatusRequest{}); err != nil {
		return fromAgent(err, c.socket)
	}
	stream, err := c.Events(ctx, request)
	if err != nil {
		return fromAgent(err, c.socket)
	}
	p := a.paint(a.deps.Stdout)
	for {
		e, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil && status.Code(err) == codes.Canceled:
			return nil // interrupted: that is how --follow ends
		case err != nil:
			return fromAgent(err, c.socket)
		}
		raw := eventJSON(e.GetJson())
		if a.json {
			_, err = fmt.Fprintf(a.deps.Stdout, "%s\n", raw)
		} else {
			_, err = fmt.Fprintln(a.deps.Stdout, eventLine(raw, p))
		}
		if err != nil {
			return failed("standard output: %v", err)
		}
	}
}

// eventJSON is an event on one line. What does not parse is told as such.
func eventJSON(raw []byte) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil || b.Len() == 0 || b.Bytes()[0] != '{' {
		b.Reset()
		_ = json.NewEncoder(&b).Encode(map[string]string{"event": "unreadable", "text": string(raw)})
		return json.RawMessage(bytes.TrimSpace(b.Bytes()))
	}
	return json.RawMessage(b.Bytes())
}

// eventLine is an event for people.
func eventLine(raw json.RawMessage, p command.Painter) string {
	var e event.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return clean(string(raw))
	}
	who := e.User
	if who == "" {
		who = e.Key
	}
	if who == "" {
		who = "-"
	}
	var parts []string
	switch e.Verdict {
	case "":
	case "allow":
		parts = append(parts, p.Green("allow"))
	case "deny":
		parts = append(parts, p.Red("deny"))
	default:
		parts = append(parts, clean(e.Verdict))
	}
	add := func(label, value string) {
		if value != "" {
			parts = append(parts, clean(label+value))
		}
	}
	add("", e.Reason)
	add("with ", e.Factor)
	add("", e.Service)
	add("", e.Scenario)
	add("from ", e.Remote)
	add("on ", e.Session)
	add("rule ", e.Rule)
	add("by ", e.By)
	if e.Text != "" {
		parts = append(parts, clean("("+e.Text+")"))
	}
	return strings.TrimRight(fmt.Sprintf("%s  %-18s  %-12s  %s", when(e.Time), clean(string(e.Name)), clean(who),
		strings.Join(parts, " ")), " ")
}
