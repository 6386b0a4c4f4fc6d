package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/policy"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) policyCommand() *cobra.Command {
	return group(&cobra.Command{Use: "policy", Short: "say who is asked for what, why, and try rules before they are in force"},
		a.policyExplainCommand(), a.policyTestCommand(), a.policyShowCommand())
}

// explainView is `policy explain --json`.
type explainView struct {
	User            string           `json:"user"`
	Key             string           `json:"key"`
	Effect          string           `json:"effect"`
	Outcome         string           `json:"outcome"`
	Rule            string           `json:"rule"`
	Why             string           `json:"why"`
	Factors         []string         `json:"factors"` // empty: any
	Digits          int32            `json:"digits,omitempty"`
	RememberSeconds float64          `json:"remember_seconds,omitempty"`
	Steps           []policyStepView `json:"steps"`
	Facts           []policyFactView `json:"facts"`
	// Offline is of a login that is asked while the authority is not on the line.
	Offline *offlineView `json:"offline"`
}

// offlineView is what the time without contact does to a login.
type offlineView struct {
	Limited     bool     `json:"limited"`
	Reached     bool     `json:"reached"`
	LoginsLeft  *uint32  `json:"logins_left,omitempty"`
	LeftSeconds *float64 `json:"left_seconds,omitempty"`
	Challenge   bool     `json:"challenge"`
}

type policyStepView struct {
	Rule    string `json:"rule"`
	Source  string `json:"source"`
	Outcome string `json:"outcome"`
	Text    string `json:"text,omitempty"`
}

type policyFactView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Text  string `json:"text,omitempty"`
}

func (a *app) policyExplainCommand() *cobra.Command {
	r := &adminv1.ExplainPolicyRequest{}
	var online, offline bool
	var at string
	c := &cobra.Command{
		Use:   "explain USER",
		Short: "say what a login would be asked for, by which rule, and why",
		Long: `Says what a login of USER would be asked for, which rule decides and why, then
every rule that was looked at and what the rules know of the login. It asks the
running agent, which goes the same way as a login does, and changes nothing.

What is not said is as it is now: this system's own login at its screen, the time,
and whether the authority can be reached; where it cannot, the limit without contact
is as it stands. With --not-root it is as a program of
USER's own asks, such as a screen locker, which is not believed where it is.`,
		Example: `  sallyport policy explain alice --service sshd --from 203.0.113.7
  sallyport policy explain alice --service sudo --session /dev/pts/3 --offline
  sallyport policy explain alice --at "2026-12-24 22:30"`,
		Args:              oneUser,
		ValidArgsFunction: a.completeUser,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			r.User = args[0]
			switch {
			case online && offline:
				return badUsage("--online and --offline: say one of them")
			case online:
				r.Network = "online"
			case offline:
				r.Network = "offline"
			}
			if at != "" {
				t, err := parseAt(at, a.deps.Now())
				if err != nil {
					return err
				}
				r.At = timestamppb.New(t)
			}
			var answer *adminv1.ExplainPolicyResponse
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) (err error) {
				answer, err = c.ExplainPolicy(ctx, r)
				return err
			}); err != nil {
				return err
			}
			v := newExplainView(answer)
			a.result(v, func(w io.Writer) { a.printExplained(w, args[0], v) })
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&r.Service, "service", "", "the `SERVICE`, such as sshd or sudo (default: this system's own login)")
	f.StringVar(&r.RemoteHost, "from", "", "the `ADDRESS` that the login comes from (default: this computer)")
	f.BoolVar(&online, "online", false, "as if the authority could be reached")
	f.BoolVar(&offline, "offline", false, "as if it could not")
	f.StringVar(&r.Hook, "hook", "", "`HOOK`: pam, credential_provider or authorization_plugin")
	f.StringVar(&r.Scenario, "scenario", "", "`SCENARIO`: login, unlock, elevate or remote (default: what the service is for)")
	f.StringVar(&r.Session, "session", "", "the `TERMINAL`, for what is remembered")
	f.BoolVar(&r.NotRoot, "not-root", false, "as a program of the user's own asks")
	f.StringVar(&at, "at", "", "the `TIME`, such as 22:30, \"2026-12-24 22:30\" or 2026-12-24T22:30:00Z (default: now)")
	for name, values := range map[string][]string{
		"hook":     {"pam", "credential_provider", "authorization_plugin"},
		"scenario": {"login", "unlock", "elevate", "remote"},
		"service":  {"sshd", "sudo", "su", "login"},
	} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

// parseAt reads a moment, of this computer's time zone where it names none.
func parseAt(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse("15:04", text); err == nil {
		return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location()), nil
	}
	return time.Time{}, badUsage("--at %s: say 22:30, \"2026-12-24 22:30\" or 2026-12-24T22:30:00Z", quoteArg(text))
}

func newExplainView(r *adminv1.ExplainPolicyResponse) explainView {
	v := explainView{User: r.GetUser(), Key: r.GetKey(), Effect: r.GetEffect(), Outcome: r.GetOutcome(), Rule: r.GetRule(), Why: r.GetWhy(),
		Factors: append([]string{}, r.GetFactors()...), Digits: r.GetDigits(), RememberSeconds: r.GetRemember().AsDuration().Seconds(),
		Steps: []policyStepView{}, Facts: []policyFactView{}}
	for _, s := range r.GetSteps() {
		v.Steps = append(v.Steps, policyStepView{s.GetRule(), s.GetSource(), s.GetOutcome(), s.GetText()})
	}
	for _, f := range r.GetFacts() {
		v.Facts = append(v.Facts, policyFactView{f.GetName(), f.GetValue(), f.GetText()})
	}
	if o := r.GetOffline(); o != nil {
		v.Offline = &offlineView{Limited: o.GetLimited(), Reached: o.GetReached(), LoginsLeft: left(o.GetLoginsLeft()), Challenge: o.GetChallenge()}
		if o.GetLeft() != nil {
			seconds := o.GetLeft().AsDuration().Seconds()
			v.Offline.LeftSeconds = &seconds
		}
	}
	return v
}

// text says whether a code is taken, how many more times, and the way out.
func (o offlineView) text() string {
	const key = "(policy.offline)"
	switch {
	case !o.Limited:
		return "no limit: codes are taken for as long as there is no contact"
	case o.Reached && o.Challenge:
		return "no code is taken: too long without contact " + key + ". Connect this computer; or the helpdesk answers the challenge that the prompt shows: sallyport-authority bypass answer"
	case o.Reached:
		return "no code is taken: too long without contact " + key + ". Connect this computer; or root here makes a bypass code: sallyport bypass"
	}
	var left []string
	if o.LoginsLeft != nil {
		left = append(left, plural(int(*o.LoginsLeft), "more login", "more logins"))
	}
	if o.LeftSeconds != nil {
		left = append(left, howLong(time.Duration(*o.LeftSeconds*float64(time.Second))))
	}
	return "codes are taken: " + strings.Join(left, ", ") + " without contact left " + key
}

// stepWords are the outcomes of a rule for people.
var stepWords = map[string]string{"decides": "decides", "no": "does not fit", "cannot_tell": "cannot tell", "ignored": "ignored"}

func (a *app) printExplained(w io.Writer, typed string, v explainView) {
	p := a.paint(w)
	outcome := p.Yellow("is asked")
	switch v.Outcome {
	case "not_asked":
		outcome = p.Green("is not asked for anything")
	case "denied":
		outcome = p.Red("is not let in")
	}
	who := clean(v.User)
	if v.Key == "" {
		who = clean(typed) + ", whom this computer does not know,"
	}
	_, _ = fmt.Fprintf(w, "%s %s\n", who, outcome)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "  %-9s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	line("rule", "%s", v.Rule)
	line("why", "%s", v.Why)
	if len(v.Factors) > 0 {
		line("counts", "%s; a bypass of the helpdesk always does", strings.Join(v.Factors, " or "))
	}
	if v.Offline != nil {
		line("offline", "%s", v.Offline.text())
	}
	if v.Digits > 0 {
		line("number", "%d digits", v.Digits)
	}
	if v.RememberSeconds > 0 {
		line("remember", "%s, in the same session and network", howLong(time.Duration(v.RememberSeconds*float64(time.Second))))
	}
	if len(v.Steps) > 0 {
		_, _ = fmt.Fprintln(w, "looked at, in this order:")
		var rows [][]string
		for _, s := range v.Steps {
			rows = append(rows, []string{"  " + clean(s.Rule), clean(s.Source), stepWords[s.Outcome], clean(s.Text)})
		}
		table(w, rows)
	}
	if len(v.Facts) > 0 {
		_, _ = fmt.Fprintln(w, "what the rules know:")
		var rows [][]string
		for _, f := range v.Facts {
			value := clean(f.Value)
			if value == "" {
				value = p.Yellow("not known")
			}
			rows = append(rows, []string{"  " + clean(f.Name), value, clean(f.Text)})
		}
		table(w, rows)
	}
}

// caseView is one case of `policy test --json`.
type caseView struct {
	Name   string   `json:"name"`
	OK     bool     `json:"ok"`
	Effect string   `json:"effect"`
	Rule   string   `json:"rule"`
	Wrong  []string `json:"wrong"`
}

func (a *app) policyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE",
		Short: "compare what rules decide with what FILE expects",
		Long: `Decides every case of FILE, a TOML table of logins that nobody makes, and says
where what comes of it is not what the table expects. The rules are those of FILE,
or of the configuration where it names none. Needs no running agent.

Exit status 1 where a case is not as expected.`,
		Example: "  sallyport policy test expectations.toml",
		Args:    cobra.ExactArgs(1),
		RunE: do(func(_ *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return &Error{Exit: ExitUsage, Text: err.Error()}
			}
			t, err := policy.ReadTable(text)
			if err != nil {
				return &Error{Exit: ExitUsage, Text: fmt.Sprintf("%s: %v", args[0], err)}
			}
			var configured policy.Rules
			if t.Policy == nil && t.Organisation == nil {
				if a.deps.CheckConfig == nil {
					return failed("this build cannot read configurations")
				}
				checked, err := a.deps.CheckConfig(a.config, false)
				if err != nil {
					return failed("%v", err)
				}
				configured = checked.Policy
			}
			results, err := t.Run(configured)
			if err != nil {
				return &Error{Exit: ExitFailed, Text: fmt.Sprintf("%s: %v", args[0], err)}
			}
			views, wrong := []caseView{}, 0
			for _, r := range results {
				if len(r.Wrong) > 0 {
					wrong++
				}
				views = append(views, caseView{r.Case.Name, len(r.Wrong) == 0, r.Explanation.Effect.String(), r.Explanation.Rule, append([]string{}, r.Wrong...)})
			}
			a.result(map[string]any{"file": args[0], "ok": wrong == 0, "cases": views}, func(w io.Writer) {
				p := a.paint(w)
				for _, v := range views {
					for i, line := range v.Wrong {
						if i == 0 {
							_, _ = fmt.Fprintf(w, "%s %s (decided by %s)\n", p.Red("not as expected:"), clean(v.Name), clean(v.Rule))
						}
						_, _ = fmt.Fprintf(w, "  %s\n", clean(line))
					}
				}
				verdict := p.Green("all as expected")
				if wrong > 0 {
					verdict = p.Red(fmt.Sprintf("%d not as expected", wrong))
				}
				_, _ = fmt.Fprintf(w, "%s: %s, %s\n", clean(args[0]), plural(len(views), "case", "cases"), verdict)
			})
			if wrong > 0 {
				return errQuiet(ExitFailed)
			}
			return nil
		}),
	}
}

// printRules numbers rules, and says which are never looked at.
func (a *app) printRules(w io.Writer, rules []string) {
	for i, rule := range rules {
		_, _ = fmt.Fprintf(w, "%4d  %s\n", i+1, clean(rule))
	}
	for _, line := range neverDecide(rules) {
		_, _ = fmt.Fprintf(w, "      %s %s\n", a.paint(w).Yellow("note:"), clean(line))
	}
}

// neverDecide names the rules behind one that always fits: whoever wrote them may
// think that they count.
func neverDecide(rules []string) (notes []string) {
	for i, rule := range rules {
		name, effect, _ := strings.Cut(rule, ":")
		if behind := len(rules) - i - 1; behind > 0 && !strings.Contains(effect, " when ") {
			return []string{fmt.Sprintf("%q always fits, so that the %s behind it never decide", name, plural(behind, "rule", "rules"))}
		}
	}
	return nil
}

func printLists(w io.Writer, name string, m *policy.Match) {
	for _, l := range []struct {
		key  string
		list []string
	}{{"users", m.Users}, {"sids", m.SIDs}, {"groups", m.Groups}, {"services", m.Services}, {"remote", m.Remote}} {
		if len(l.list) > 0 {
			_, _ = fmt.Fprintf(w, "      %s.%s = %s\n", name, l.key, clean(strings.Join(l.list, ", ")))
		}
	}
	if len(m.UIDs) > 0 {
		_, _ = fmt.Fprintf(w, "      %s.uids = %v\n", name, m.UIDs)
	}
}

func (a *app) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "show the rules in force, in their order",
		Long: `Shows who is asked, in one line, the rules and lists of this computer's
configuration in the order in which they are looked at, and what the organisation
signed beside them. The stricter of the two counts.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Summary string        `json:"summary"`
				Rules   []string      `json:"rules"`
				Source  string        `json:"source,omitempty"` // of the rules
				Lists   []ConfigValue `json:"lists"`
				// Organisation is what it signed, where that counts here.
				Organisation *policy.Rules `json:"organisation,omitempty"`
			}{Rules: []string{}, Lists: []ConfigValue{}}
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) error {
				st, err := c.Status(ctx, &adminv1.StatusRequest{})
				if err != nil {
					return err
				}
				v.Summary = st.GetPolicy()
				answer, err := c.ShowConfig(ctx, &adminv1.ShowConfigRequest{})
				if text := answer.GetOrganisationPolicy(); len(text) > 0 {
					if err := json.Unmarshal(text, &v.Organisation); err != nil {
						return errors.Join(errors.New("the organisation's policy cannot be read"), err)
					}
				}
				for _, value := range answer.GetValues() {
					switch {
					case value.GetKey() == "policy.rules":
						var rules struct{ Rules []string }
						if err := toml.Unmarshal([]byte("Rules = "+value.GetValue()), &rules); err != nil {
							return errors.Join(errors.New("the agent's policy.rules cannot be read"), err)
						}
						v.Rules, v.Source = append(v.Rules, rules.Rules...), value.GetSource()
					case strings.HasPrefix(value.GetKey(), "policy.") && value.GetSource() != "default":
						v.Lists = append(v.Lists, ConfigValue{value.GetKey(), value.GetValue(), value.GetSource()})
					}
				}
				return err
			}); err != nil {
				return err
			}
			a.result(v, func(w io.Writer) {
				_, _ = fmt.Fprintln(w, clean(v.Summary))
				a.printRules(w, v.Rules)
				var rows [][]string
				for _, value := range v.Lists {
					rows = append(rows, []string{"      " + clean(value.Key) + " = " + clean(value.Value), "# " + clean(value.Source)})
				}
				table(w, rows)
				if o := v.Organisation; o != nil {
					_, _ = fmt.Fprintf(w, "the organisation: ask = %q\n", clean(o.Ask))
					a.printRules(w, o.Rules)
					printLists(w, "required", &o.Required)
					printLists(w, "exempt", &o.Exempt)
				}
			})
			return nil
		}),
	}
}
