package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/organisation"
	"sallyport/internal/textout"
)

// fleetView is a computer in `device status --json`. Names are stable: add, never rename.
type fleetView struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	State         string          `json:"state"`           // online, offline, revoked
	Since         *time.Time      `json:"since,omitempty"` // when its connection last began or ended
	Agent         string          `json:"agent"`
	Platform      string          `json:"platform"`
	Reported      *time.Time      `json:"reported,omitempty"` // since when it says what follows; absent: it says nothing
	System        string          `json:"system,omitempty"`
	AgentState    string          `json:"agent_state,omitempty"`
	PolicyVersion uint64          `json:"policy_version"`
	PolicyNewest  uint64          `json:"policy_newest"`
	EventsWaiting uint64          `json:"events_waiting"`
	EventsDropped uint64          `json:"events_dropped"`
	People        fleetPeople     `json:"people"`
	Persons       []store.Person  `json:"persons,omitempty"` // of one computer
	Attention     bool            `json:"needs_attention"`
	Problems      []store.Problem `json:"problems"`
	Refused       []fleetRefusal  `json:"refused"`
}

type fleetPeople struct {
	Known        int `json:"known"`
	OfflineReady int `json:"offline_ready"`
	Locked       int `json:"locked"`
	LeftOut      int `json:"left_out"`
}

// fleetRefusal is something signed that the computer does not take.
type fleetRefusal struct {
	Kind    string    `json:"kind"`
	User    string    `json:"user,omitempty"`
	Version uint64    `json:"version"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

func newFleetView(d *enrol.DeviceStatus) fleetView {
	r := &d.Report
	v := fleetView{ID: d.ID, Name: d.Name, State: d.State(), Since: stampJSON(d.Seen), Agent: d.Version, Platform: d.Platform, System: r.OS, AgentState: r.State,
		PolicyVersion: r.PolicyVersion, PolicyNewest: d.PolicyNewest, EventsWaiting: r.EventsWaiting, EventsDropped: d.EventsDropped,
		People:  fleetPeople{r.Counted, r.OfflineReady, r.Locked, r.LeftOut},
		Persons: r.People, Attention: d.NeedsAttention(), Problems: append([]store.Problem{}, d.Problems...), Refused: []fleetRefusal{}}
	if d.Reported {
		v.Reported = stampJSON(r.At)
	}
	for _, a := range d.Refused {
		v.Refused = append(v.Refused, fleetRefusal{string(a.Kind), a.User, a.Version, a.Refused, a.At.UTC()})
	}
	return v
}

func (v *fleetView) policy() string {
	switch {
	case v.Reported == nil:
		return "-"
	case v.PolicyVersion == v.PolicyNewest && v.PolicyVersion == 0:
		return "none"
	case v.PolicyVersion == v.PolicyNewest:
		return "newest"
	case v.PolicyVersion == 0:
		return "not taken"
	}
	return "older"
}

func (v *fleetView) codes() string {
	codes := make([]string, len(v.Problems))
	for i, p := range v.Problems {
		codes[i] = textout.Clean(p.Code)
	}
	return cmp.Or(strings.Join(codes, ", "), "-")
}

func (a *app) deviceStatusCommand() *cobra.Command {
	var all, problems bool
	var user string
	c := &cobra.Command{
		Use:   "status [DEVICE | --all]",
		Short: "say how the computers stand, as they say themselves",
		Long: `Says of each computer whether it is connected and since when, which agent and system it
has, whether the newest policy is in force, how many of its events have not come, how many
people it knows, and what is wrong there. Of one computer (name or id) it shows all of that,
with what each of its people can log in with.

What a computer says of itself is as old as its last change; an agent that is older than
this authority says nothing.

Exit status: 0 all is well, 1 some computer needs attention.`,
		Args: cobra.MaximumNArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (all || problems || user != "") {
				return badUsage("name one computer, or say --all, --problems or --user")
			}
			return a.with(cmd.Context(), func(au *server.Authority) error {
				if len(args) == 1 {
					return a.deviceStatus(cmd.Context(), au, args[0])
				}
				return a.fleetStatus(cmd.Context(), au, user, problems)
			})
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "every computer that is not revoked (the default)")
	c.Flags().BoolVar(&problems, "problems", false, "only those that need attention, with what to do")
	c.Flags().StringVar(&user, "user", "", "only those that this `USER` is allowed on")
	_ = c.RegisterFlagCompletionFunc("user", a.completeUsers)
	return c
}

func (a *app) fleetStatus(ctx context.Context, au *server.Authority, user string, problems bool) error {
	list, err := au.Enrol.Fleet(ctx, user)
	if err != nil {
		return err
	}
	views := []fleetView{}
	online, attention := 0, 0
	for i := range list {
		v := newFleetView(&list[i])
		if list[i].Online {
			online++
		}
		if v.Attention {
			attention++
		}
		if v.Attention || !problems {
			views = append(views, v)
		}
	}
	a.result(map[string]any{"version": a.deps.Version, "total": len(list), "online": online, "need_attention": attention, "devices": views}, func(w io.Writer) {
		switch {
		case len(list) == 0:
			printf(w, "No computer has joined. Make a token for one: sallyport-authority token create --user USER\n")
			return
		case problems:
			for _, v := range views {
				printf(w, "%s (%s): %s, agent %s\n", textout.Clean(v.Name), v.ID, v.State, orDash(v.Agent))
				a.printProblems(w, v.Problems)
			}
		default:
			rows := [][]string{{"NAME", "STATE", "SINCE", "AGENT", "SYSTEM", "POLICY", "PEOPLE", "LOCKED", "EVENTS WAITING", "NEEDS ATTENTION"}}
			for _, v := range views {
				people, locked, waiting := "-", "-", "-"
				if v.Reported != nil {
					people, locked, waiting = fmt.Sprint(v.People.Known+v.People.LeftOut), fmt.Sprint(v.People.Locked), fmt.Sprint(v.EventsWaiting)
				}
				rows = append(rows, []string{orDash(v.Name), v.State, whenOrNever(v.Since), orDash(v.Agent), orDash(cmp.Or(v.System, v.Platform)), v.policy(), people, locked, waiting, v.codes()})
			}
			textout.Table(w, rows)
		}
		printf(w, "%s, %d connected, %s\n", textout.Plural(len(list), "computer", "computers"), online, needing(attention))
	})
	if attention > 0 {
		return errQuiet(ExitFailed)
	}
	return nil
}

func needing(n int) string {
	return map[bool]string{true: "none needs attention", false: textout.Plural(n, "needs", "need") + " attention"}[n == 0]
}

func whenOrNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return textout.When(*t)
}

func (a *app) printProblems(w io.Writer, list []store.Problem) {
	p := a.paint(w)
	for _, x := range list {
		code := textout.Clean(x.Code)
		text := textout.Fold(code+": "+textout.Clean(x.Text), a.columns(w), 4)
		printf(w, "  %s%s\n", p.Red(code), strings.TrimPrefix(text, code))
		if x.Remedy != "" {
			printf(w, "    %s\n", textout.Fold(textout.Clean(x.Remedy), a.columns(w), 4))
		}
	}
}

func (a *app) deviceStatus(ctx context.Context, au *server.Authority, name string) error {
	found, err := findDevice(ctx, au.Store, name)
	if err != nil {
		return err
	}
	d, err := au.Enrol.DeviceStatus(ctx, found.ID)
	if err != nil {
		return err
	}
	v := newFleetView(&d)
	a.result(v, func(w io.Writer) {
		line := func(name, format string, args ...any) {
			printf(w, "  %-8s %s\n", name, textout.Fold(textout.Clean(fmt.Sprintf(format, args...)), a.columns(w), 11))
		}
		state := a.paint(w).Green("healthy")
		switch {
		case v.Attention:
			state = a.paint(w).Yellow("needs attention")
		case v.Reported == nil:
			state = "says nothing of itself"
		}
		printf(w, "%s (%s): %s\n", textout.Clean(v.Name), v.ID, state)
		line("link", "%s since %s", v.State, whenOrNever(v.Since))
		line("agent", "%s, %s (this authority is %s)", orDash(v.Agent), orDash(v.Platform), a.deps.Version)
		if v.Reported != nil {
			line("system", "%s", orDash(v.System))
			line("policy", "%s: version %d of %d", v.policy(), v.PolicyVersion, v.PolicyNewest)
			line("events", "%d waiting, %d never came", v.EventsWaiting, v.EventsDropped)
			line("people", "%d known, %d can log in without a network, %d locked", v.People.Known+v.People.LeftOut, v.People.OfflineReady, v.People.Locked)
			line("so since", "%s", textout.When(*v.Reported))
		}
		if len(v.Persons) > 0 {
			printf(w, "\n")
			rows := [][]string{{"USER", "CODE", "RECOVERY", "PHONES", "PUSH", "OFFLINE", "LAST", "NOW"}}
			for _, p := range v.Persons {
				rows = append(rows, []string{orDash(p.User), yesNo(p.TOTP), fmt.Sprint(p.RecoveryLeft), fmt.Sprint(p.Phones), orDash(p.PushState), offlineOf(p), lastOf(p), a.nowOf(p)})
			}
			textout.Table(w, rows)
		}
		if v.Attention {
			printf(w, "\nneeds attention:\n")
			a.printProblems(w, v.Problems)
		}
	})
	if v.Attention {
		return errQuiet(ExitFailed)
	}
	return nil
}

func offlineOf(p store.Person) string {
	if !p.OfflineReady {
		return "no"
	}
	if p.OfflineLeft != nil {
		return textout.Plural(*p.OfflineLeft, "login left", "logins left")
	}
	return "yes"
}

func lastOf(p store.Person) string {
	if p.LastSuccess.IsZero() {
		return "never"
	}
	text := textout.When(p.LastSuccess)
	if p.LastFactor != "" {
		text += " by " + textout.Clean(p.LastFactor)
	}
	return text
}

func (a *app) nowOf(p store.Person) string {
	var parts []string
	if p.LockedUntil.After(a.deps.Now()) {
		parts = append(parts, "locked until "+textout.When(p.LockedUntil))
	} else if p.Failures > 0 {
		parts = append(parts, textout.Plural(p.Failures, "wrong code", "wrong codes"))
	}
	if p.BypassUntil.After(a.deps.Now()) {
		parts = append(parts, "bypass until "+textout.When(p.BypassUntil))
	}
	return cmp.Or(strings.Join(parts, ", "), "-")
}

// answerTime is Deps' AnswerTime of the program.
const (
	answerTime  = 5 * time.Second
	answerEvery = 100 * time.Millisecond
)

// remoteView is what became of something that a computer is to do.
type remoteView struct {
	User    string    `json:"user"`
	Device  string    `json:"device"`
	Name    string    `json:"device_name"`
	Version uint64    `json:"version"`
	Expires time.Time `json:"expires"`
	State   string    `json:"state"` // waits, sent, done, refused, expired
	Why     string    `json:"why,omitempty"`
}

// remote asks a computer to do something for a user, and says what became of it.
func (a *app) remote(ctx context.Context, au *server.Authority, kind organisation.Kind, user, device, done string,
	ask func(ctx context.Context, by, user, device string) (*enrol.Remote, error)) error {
	d, err := deviceFor(ctx, au.Store, user, device)
	if err != nil {
		return err
	}
	r, err := ask(ctx, a.by(), user, d.ID)
	if err != nil {
		return err
	}
	st, err := au.Enrol.DeviceStatus(ctx, d.ID)
	if err != nil {
		return err
	}
	var answer enrol.RemoteAnswer
	deadline := time.NewTimer(a.deps.AnswerTime)
	defer deadline.Stop()
	for waiting := true; waiting; {
		if answer, err = au.Enrol.RemoteState(ctx, kind, user, d.ID); err != nil {
			return err
		}
		if answer.State != enrol.RemoteSent || !st.Online {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			waiting = false
		case <-time.After(answerEvery):
		}
	}
	v := remoteView{user, d.ID, d.Name, r.Version, r.Expires.UTC(), string(answer.State), answer.Why}
	a.result(v, func(w io.Writer) {
		p := a.paint(w)
		switch answer.State {
		case enrol.RemoteDone:
			printf(w, "%s %s on %s.\n", p.Green("Done:"), done, textout.Clean(d.Name))
		case enrol.RemoteRefused:
			printf(w, "%s does not do it: %s\n", textout.Clean(d.Name), p.Red(textout.Clean(answer.Why)))
			printf(w, "See: sallyport-authority device status %s\n", textout.QuoteArg(d.Name))
		default:
			where := "is connected and has not said yet what it did"
			if !st.Online {
				where = "is not connected"
			}
			printf(w, "%s %s; it does it if it gets this before %s. See: sallyport-authority events --device %s\n", textout.Clean(d.Name), where, textout.When(r.Expires), textout.QuoteArg(d.Name))
			a.waits(w, r.Waits)
		}
	})
	if answer.State == enrol.RemoteRefused {
		return errQuiet(ExitFailed)
	}
	return nil
}
