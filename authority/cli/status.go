package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/enrol"
	"sallyport/authority/eventsout"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/textout"
)

// statusView is `status --json`. Names are stable: add, never rename.
type statusView struct {
	Healthy              bool          `json:"healthy"`
	Running              bool          `json:"running"`
	Version              string        `json:"version"`
	Organisation         string        `json:"organisation"`
	Database             string        `json:"database"`
	Node                 string        `json:"node"`
	Devices              int           `json:"devices"`
	Online               int           `json:"online"`
	Attention            int           `json:"devices_need_attention"`
	Users                int           `json:"users"`
	Phones               int           `json:"phones"`
	PhonesWaiting        int           `json:"phones_waiting"`
	TokensOpen           int           `json:"tokens_open"`
	Pending              int           `json:"pending"`
	HoldsOrganisationKey bool          `json:"holds_organisation_key"`
	PageSeparate         bool          `json:"page_separate"`
	Origin               string        `json:"origin"`
	API                  string        `json:"api"`
	RPID                 string        `json:"rp_id"`
	DevicesURL           string        `json:"devices_url"`
	CAExpires            time.Time     `json:"ca_expires"`
	Outlets              []outletView  `json:"outlets"`
	Problems             []problemView `json:"problems"`
}

// outletView is where events go to.
type outletView struct {
	Name     string     `json:"name"`
	Waiting  int        `json:"waiting"`
	Oldest   *time.Time `json:"oldest,omitempty"` // since when the first of them waits
	Sent     uint64     `json:"sent"`
	Missed   uint64     `json:"missed"` // removed before it took them
	MissedAt *time.Time `json:"missed_at,omitempty"`
	Error    string     `json:"error,omitempty"`
}

type problemView struct {
	Code   string `json:"code"`
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "say whether the authority works, and whom it has to be trusted by",
		Long: `Says whether the server runs and its database can be written, how many computers are
connected, what waits, and what whoever owns this authority could do.

Exit status: 0 healthy, 1 something needs attention, 2 the server is not running.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error { return a.status(cmd.Context(), au) })
		}),
	}
}

func (a *app) status(ctx context.Context, au *server.Authority) error {
	c := &au.Config
	v := statusView{Version: a.deps.Version, Organisation: c.Organisation, Database: au.Store.Kind(), Node: c.Name,
		HoldsOrganisationKey: au.Keys.HoldsOrganisationKey(), PageSeparate: !c.LocalPage(), Origin: c.Web.Origin, API: c.Web.API, RPID: c.Web.RPID,
		DevicesURL: devicesURL(c), CAExpires: au.Keys.CA.NotAfter.UTC(), Problems: []problemView{}}
	problem := func(code, remedy, text string, args ...any) {
		v.Problems = append(v.Problems, problemView{code, fmt.Sprintf(text, args...), remedy})
	}
	now := a.deps.Now()
	if err := au.Store.View(ctx, func(tx store.Tx) error {
		n, err := tx.Counts(now)
		v.Devices, v.Online, v.Users, v.Phones, v.PhonesWaiting, v.TokensOpen = n.Devices, n.Online, n.Users, n.Phones, n.PhonesPending, n.TokensOpen
		return err
	}); err != nil {
		return err
	}
	fleet, err := au.Enrol.Fleet(ctx, "")
	if err != nil {
		return err
	}
	for i := range fleet {
		if fleet[i].NeedsAttention() {
			v.Attention++
		}
	}
	_, n, err := au.Enrol.Pending(ctx)
	if err != nil {
		return err
	}
	v.Pending = n
	if n > 0 {
		problem("unsigned", "sallyport-authority manifest pending > FILE; then 'manifest sign' where the key is, and 'manifest import'", "%s for the organisation's key", textout.Plural(n, "item waits", "items wait"))
	}
	if err := au.Enrol.CheckEscrowKey(ctx, c.KeyDir()); errors.Is(err, enrol.ErrEscrowKey) {
		problem("escrow_key", "put the right escrow.key (mode 0600) into "+c.KeyDir()+", from the backup or another node, and restart this one", "%v", err)
	} else if err != nil {
		return err
	}
	if err := au.Store.Ping(ctx); err != nil {
		problem("database_unavailable", "look at the disk or the database server", "the database cannot be written: %v", err)
	}
	if c.ListenMetrics == "" {
		v.Running = true // nobody can be asked
	} else if err := get(ctx, "http://"+c.ListenMetrics+"/readyz"); err == nil {
		v.Running = true
	} else if e := (*Error)(nil); errors.As(err, &e) {
		v.Running = true
		problem("not_ready", "see: journalctl -u sallyport-authority", "the server is not ready: %s", e.Text)
	} else {
		problem("not_running", "systemctl start sallyport-authority; then: journalctl -u sallyport-authority", "the server does not answer at %s", c.ListenMetrics)
	}
	if len(c.PushServices.UnsafeLocal) > 0 {
		problem("unsafe_push_services", "take push_services.unsafe_local out of "+a.config, "messages to phones may go to %s, for tests only", strings.Join(c.PushServices.UnsafeLocal, ", "))
	}
	if left := v.CAExpires.Sub(now); left < 180*24*time.Hour {
		problem("ca_expires", "plan a new authority: every computer has to join anew", "the certificate authority of the computers ends on %s", textout.When(v.CAExpires))
	}
	if v.Outlets, err = a.outlets(ctx, au, now, problem); err != nil {
		return err
	}
	v.Healthy = v.Running && len(v.Problems) == 0
	a.result(v, func(w io.Writer) { a.printStatus(w, v) })
	switch {
	case !v.Running:
		return errQuiet(ExitNotRunning)
	case !v.Healthy:
		return errQuiet(ExitFailed)
	}
	return nil
}

// missedFor is how long status says that events were missed.
const missedFor = 7 * 24 * time.Hour

// outlets says how far they are, and what is wrong with them.
func (a *app) outlets(ctx context.Context, au *server.Authority, now time.Time, problem func(code, remedy, text string, args ...any)) ([]outletView, error) {
	views := []outletView{}
	list, err := server.Deliveries(ctx, au.Store, server.Outlets(&au.Config))
	for _, d := range list {
		o := outletView{Name: d.Sink, Waiting: d.Waiting, Sent: d.Sent, Missed: d.Missed, MissedAt: stampJSON(d.MissedAt), Error: d.Error}
		if d.Waiting > 0 {
			o.Oldest = stampJSON(d.Oldest)
		}
		views = append(views, o)
		code := "outlet_" + d.Sink
		waited := now.Sub(d.Oldest)
		const remedy = "look at its server, and at events_out in the configuration; nothing is lost before events_kept is over. See: journalctl -u sallyport-authority"
		switch waiting := textout.Plural(d.Waiting, "event waits", "events wait"); {
		case d.Error != "":
			problem(code, remedy, "%s; the %s outlet has failed since %s: %s", waiting, d.Sink, textout.When(d.FailedSince), d.Error)
		case d.Waiting > 0 && waited > eventsout.Late:
			problem(code, remedy, "%s for the %s outlet, the oldest for %s", waiting, d.Sink, textout.HowLong(waited))
		}
		if d.Missed > 0 && now.Sub(d.MissedAt) < missedFor {
			problem(code+"_missed", "they are gone from here; see what is left: sallyport-authority events export", "%s removed, being older than events_kept, before the %s outlet took them, the last on %s",
				textout.Plural(int(d.Missed), "event was", "events were"), d.Sink, textout.When(d.MissedAt))
		}
	}
	return views, err
}

func (a *app) printStatus(w io.Writer, v statusView) {
	p := a.paint(w)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "  %-10s %s\n", name, textout.Fold(textout.Clean(fmt.Sprintf(format, args...)), a.columns(w), 13))
	}
	state := p.Green("healthy")
	switch {
	case !v.Running:
		state = p.Red("not running")
	case !v.Healthy:
		state = p.Yellow("needs attention")
	}
	_, _ = fmt.Fprintf(w, "sallyport-authority %s of %s: %s\n", textout.Clean(v.Version), textout.Clean(v.Organisation), state)
	line("computers", "%d joined, %d connected, at %s", v.Devices, v.Online, v.DevicesURL)
	if v.Attention > 0 {
		line("", "%s attention: sallyport-authority device status --problems", textout.Plural(v.Attention, "needs", "need"))
	}
	line("people", "%s, %s (%d waiting)", textout.Plural(v.Users, "user", "users"), textout.Plural(v.Phones, "phone", "phones"), v.PhonesWaiting)
	line("tokens", "%d open", v.TokensOpen)
	line("database", "%s, node %s", v.Database, v.Node)
	for _, o := range v.Outlets {
		line(o.Name, "%d events sent, %d wait, %d missed", o.Sent, o.Waiting, o.Missed)
	}
	line("page", "%s, passkeys of %s", v.Origin, v.RPID)
	key, page := keyElsewhere, pageElsewhere
	if v.HoldsOrganisationKey {
		key = keyHere
	}
	if !v.PageSeparate {
		page = pageHere
	}
	line("trust", "the organisation key lies %s", key)
	line("trust", "the page %s", page)
	if len(v.Problems) > 0 {
		printf(w, "\nneeds attention:\n")
		for _, problem := range v.Problems {
			text := textout.Fold(problem.Code+": "+textout.Clean(problem.Text), a.columns(w), 4)
			_, _ = fmt.Fprintf(w, "  %s%s\n    %s\n", p.Red(problem.Code), strings.TrimPrefix(text, problem.Code), textout.Fold(textout.Clean(problem.Remedy), a.columns(w), 4))
		}
	}
}

func (a *app) printEvent(w io.Writer, e store.Event, name string) {
	var j struct {
		User, Verdict, Reason, Factor, Service, Remote, By, Text string
	}
	_ = json.Unmarshal(e.JSON, &j) // what is not there is not shown
	var parts []string
	p := a.paint(w)
	switch j.Verdict {
	case "":
	case "allow":
		parts = append(parts, p.Green("allow"))
	case "deny":
		parts = append(parts, p.Red("deny"))
	default:
		parts = append(parts, textout.Clean(j.Verdict))
	}
	for _, f := range []struct{ label, value string }{{"", j.Reason}, {"with ", j.Factor}, {"", j.Service}, {"from ", j.Remote}, {"by ", j.By}} {
		if f.value != "" {
			parts = append(parts, textout.Clean(f.label+f.value))
		}
	}
	if j.Text != "" {
		parts = append(parts, textout.Clean("("+j.Text+")"))
	}
	where := "authority"
	if e.Device != "" {
		where = textout.Clean(name)
	}
	_, _ = fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s  %-16s  %-20s  %-12s  %s", textout.When(e.Time), where, textout.Clean(e.Name), orDash(e.User), strings.Join(parts, " ")), " "))
}
