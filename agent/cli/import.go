package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/migrate"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

const (
	// importBatch is how many entries one call takes: admin.proto.
	importBatch = 1000
	// importListed is up to how many results everything is listed; above it, only
	// what was not imported.
	importListed = 50
)

func (a *app) importCommand() *cobra.Command {
	return group(&cobra.Command{Use: "import", Short: "take secrets over from another product",
		Long: `Takes TOTP secrets over from another product, so that nobody has to enrol again.
Names that do not resolve on this computer are kept as pending, and tried again
by "sallyport import pending".

Exit status: 1 when anything was refused.`},
		a.importGoogleCommand(), a.importOATHCommand(), a.importPendingCommand())
}

// importResult is what became of one entry.
type importResult struct {
	User    string `json:"user"`
	Outcome string `json:"outcome"` // "imported", "pending", "exists", "refused"
	Text    string `json:"text,omitempty"`
	Line    int    `json:"line,omitempty"`
	File    string `json:"file,omitempty"`
}

// importer sends entries in batches and keeps what became of them.
type importer struct {
	ctx     context.Context
	app     *app
	agent   *agent
	replace bool
	batch   []*adminv1.ImportEntry
	origin  []importResult // where each entry of the batch came from, and notes
	results []importResult
	sent    int            // batches that the agent took
	seen    map[string]int // users.oath: the first line of a user
}

func (a *app) newImporter(ctx context.Context, replace bool) (*importer, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &importer{ctx: ctx, app: a, agent: c, replace: replace, seen: map[string]int{}}, nil
}

func (im *importer) refuse(r importResult) {
	r.Outcome = "refused"
	im.results = append(im.results, r)
}

func (im *importer) add(e migrate.Entry, source string, origin importResult) error {
	if err := validUser(e.User); err != nil {
		e.Wipe()
		origin.Text = err.Error()
		im.refuse(origin)
		return nil
	}
	origin.User = e.User
	im.origin = append(im.origin, origin)
	im.batch = append(im.batch, &adminv1.ImportEntry{User: e.User, Secret: e.Secret, Algorithm: e.Algorithm,
		Digits: int32(e.Digits), PeriodSeconds: int32(e.Period), LastStep: e.LastStep, Source: source})
	if len(im.batch) == importBatch {
		return im.flush()
	}
	return nil
}

// flush sends the batch. The secrets are wiped whatever comes of it.
func (im *importer) flush() error {
	if len(im.batch) == 0 {
		return nil
	}
	defer func() {
		for _, e := range im.batch {
			clear(e.Secret)
		}
		im.batch, im.origin = nil, nil
	}()
	ctx, cancel := context.WithTimeout(im.ctx, im.app.deps.CallTimeout)
	defer cancel()
	answer, err := im.agent.Import(ctx, &adminv1.ImportRequest{Entries: im.batch, Replace: im.replace})
	if err != nil {
		return fromAgent(err, im.agent.socket)
	}
	if n := len(answer.GetResults()); n != len(im.batch) {
		return failed("the agent answered %d results for %d entries", n, len(im.batch))
	}
	im.sent++
	for i, r := range answer.GetResults() {
		out := im.origin[i]
		note := out.Text
		out.User, out.Outcome, out.Text = r.GetUser(), r.GetOutcome(), r.GetText()
		if note != "" && out.Outcome != "exists" && out.Outcome != "refused" {
			out.Text = strings.TrimPrefix(out.Text+"; "+note, "; ")
		}
		im.results = append(im.results, out)
	}
	return nil
}

// finish sends what is left and reports. What was taken before an error is
// reported too: it is in force.
func (im *importer) finish(err error) error {
	if err == nil {
		err = im.flush()
	}
	im.agent.close()
	if err != nil && im.sent == 0 {
		return err
	}
	if reported := im.app.reportImport(im.results); err == nil {
		return reported
	}
	return err
}

func (a *app) reportImport(results []importResult) error {
	// Refused lines are known at once, the others with their batch.
	slices.SortStableFunc(results, func(x, y importResult) int { return x.Line - y.Line })
	v := struct {
		Imported int            `json:"imported"`
		Pending  int            `json:"pending"`
		Exists   int            `json:"exists"`
		Refused  int            `json:"refused"`
		Results  []importResult `json:"results"`
	}{Results: append([]importResult{}, results...)}
	for _, r := range results {
		switch r.Outcome {
		case "imported":
			v.Imported++
		case "pending":
			v.Pending++
		case "exists":
			v.Exists++
		default:
			v.Refused++
		}
	}
	a.result(v, func(w io.Writer) {
		p := a.paint(w)
		colour := map[string]func(string) string{"imported": p.Green, "refused": p.Red, "pending": p.Yellow}
		for _, r := range results {
			if r.Outcome == "imported" && r.Text == "" && len(results) > importListed {
				continue
			}
			who := clean(r.User)
			if who == "" {
				who = "-"
			}
			outcome := fmt.Sprintf("%-8s", clean(r.Outcome))
			if f := colour[r.Outcome]; f != nil {
				outcome = f(outcome)
			}
			where := ""
			switch {
			case r.Line > 0:
				where = fmt.Sprintf("line %d", r.Line)
			case r.File != "" && r.Outcome == "refused":
				where = clean(r.File)
			}
			if where != "" && r.Text != "" {
				where += ": "
			}
			_, _ = fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s  %-16s  %s%s", outcome, who, where, clean(r.Text)), " "))
		}
		_, _ = fmt.Fprintf(w, "%d imported, %d pending, %d there already, %d refused\n", v.Imported, v.Pending, v.Exists, v.Refused)
		if v.Pending > 0 {
			_, _ = fmt.Fprintln(w, "pending: try again when these users exist: sallyport import pending")
		}
		if v.Exists > 0 {
			_, _ = fmt.Fprintln(w, "there already: --replace gives them the imported secret")
		}
	})
	if v.Refused > 0 {
		return errQuiet(ExitFailed)
	}
	return nil
}

func (a *app) importOATHCommand() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "oath FILE",
		Short: "take over a users.oath (pam_oath, OATH toolkit)",
		Long: `Takes over the time-based tokens (HOTP/T30) of a users.oath. The last code used
stays used. Counter-based tokens, codes of 60 s or of 7 digits, and lines with a
PIN are refused, with the line's number. The first line of a user counts.`,
		Example: `  sallyport import oath /etc/users.oath`,
		Args:    cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return &Error{Exit: ExitUsage, Text: err.Error()}
			}
			defer func() { _ = f.Close() }()
			if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
				return badUsage("%s is not a regular file", clean(args[0]))
			}
			im, err := a.newImporter(cmd.Context(), replace)
			if err != nil {
				return err
			}
			err = migrate.ParseOATH(f, a.deps.Now(), func(e migrate.Entry) error {
				if first, ok := im.seen[e.User]; ok {
					e.Wipe()
					im.refuse(importResult{User: e.User, Line: e.Line, Text: fmt.Sprintf("a second token; the first is in line %d", first)})
					return nil
				}
				im.seen[e.User] = e.Line
				return im.add(e, "oath", importResult{Line: e.Line})
			}, func(r migrate.Refused) error {
				im.refuse(importResult{User: r.User, Line: r.Line, Text: r.Reason})
				return nil
			})
			return im.finish(err)
		}),
	}
	c.Flags().BoolVar(&replace, "replace", false, "give users who are enrolled already the imported secret")
	return c
}

func (a *app) importPendingCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pending",
		Short: "try the imported names again that did not resolve",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			var results []importResult
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) error {
				answer, err := c.Import(ctx, &adminv1.ImportRequest{RetryPending: true})
				for _, r := range answer.GetResults() {
					results = append(results, importResult{User: r.GetUser(), Outcome: r.GetOutcome(), Text: r.GetText()})
				}
				return err
			}); err != nil {
				return err
			}
			return a.reportImport(results)
		}),
	}
}
