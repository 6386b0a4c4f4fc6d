package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/organisation"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// authorityView is how this computer stands with its authority, with --json.
type authorityView struct {
	URL                  string     `json:"url"`
	Version              string     `json:"version,omitempty"` // of the authority; absent: not known
	Organisation         string     `json:"organisation"`
	DeviceID             string     `json:"device_id"`
	DeviceName           string     `json:"device_name"`
	Connected            bool       `json:"connected"`
	Since                *time.Time `json:"since,omitempty"`
	LastError            string     `json:"last_error,omitempty"`
	Refused              string     `json:"refused,omitempty"`
	CertificateExpires   *time.Time `json:"certificate_expires,omitempty"`
	Users                []string   `json:"users"`
	HoldsOrganisationKey *bool      `json:"holds_organisation_key,omitempty"` // absent: not connected, so that it is not known
	PageOrigin           string     `json:"page_origin"`
	PageSeparate         bool       `json:"page_separate"`
	EventsWaiting        uint64     `json:"events_waiting"`
	Exceptions           []string   `json:"exceptions"`
	// Of policy.offline: how long there was no contact, and how long codes are still
	// taken for it (absent: not limited).
	WithoutContact float64  `json:"without_contact_seconds"`
	CodesLeft      *float64 `json:"codes_left_seconds,omitempty"`
	OfflineBypass  bool     `json:"offline_bypass"` // the helpdesk can answer challenges
}

func newAuthorityView(a *adminv1.AuthorityStatus) *authorityView {
	if a == nil {
		return nil
	}
	v := &authorityView{URL: a.GetUrl(), Version: a.GetVersion(), Organisation: a.GetOrganisation(), DeviceID: a.GetDeviceId(), DeviceName: a.GetDeviceName(),
		Connected: a.GetConnected(), Since: stampJSON(a.GetSince()), LastError: a.GetLastError(), Refused: a.GetRefused(),
		CertificateExpires: stampJSON(a.GetCertificateExpires()), Users: append([]string{}, a.GetUsers()...),
		PageOrigin: a.GetPageOrigin(), PageSeparate: a.GetPageSeparate(),
		EventsWaiting: a.GetEventsWaiting(), Exceptions: append([]string{}, a.GetExceptions()...)}
	v.OfflineBypass, v.WithoutContact = a.GetOfflineBypass(), a.GetWithoutContact().AsDuration().Seconds()
	if left := a.GetCodesLeft(); left != nil {
		seconds := left.AsDuration().Seconds()
		v.CodesLeft = &seconds
	}
	if holds := a.GetHoldsOrganisationKey(); a.GetConnected() {
		v.HoldsOrganisationKey = &holds
	}
	return v
}

// Whom this computer trusts, in the same words in status and doctor.
const (
	keyOnAuthority  = "the organisation key lies on the authority: whoever owns it can enrol a phone for anybody"
	keyElsewhere    = "the organisation key lies elsewhere: the authority cannot enrol phones by itself"
	pageOfAuthority = "the approver page comes from the authority: it is trusted for what it shows"
	pageElsewhere   = "the approver page comes from %s, not from the authority"
)

// trust says whom this computer trusts, one line each. Who holds the key is known
// from the authority: while it is not connected, nothing is said of that.
func (v *authorityView) trust() (lines []string) {
	if holds := v.HoldsOrganisationKey; holds != nil {
		lines = append(lines, map[bool]string{true: keyOnAuthority, false: keyElsewhere}[*holds])
	}
	page := pageOfAuthority
	if v.PageSeparate {
		page = fmt.Sprintf(pageElsewhere, v.PageOrigin)
	}
	return append(append(lines, page), v.Exceptions...)
}

func printAuthority(v *authorityView, line func(name, format string, args ...any)) {
	if v == nil {
		line("authority", "none: no phone rings; join one: sallyport join URL")
		return
	}
	how := "connected since " + when(*orZero(v.Since))
	if !v.Connected {
		how = "not connected since " + when(*orZero(v.Since))
		if v.LastError != "" {
			how += " (" + v.LastError + ")"
		}
	}
	version := ""
	if v.Version != "" {
		version = " (version " + v.Version + ")"
	}
	line("authority", "%s%s, %s", v.URL, version, how)
	line("joined", "%s as %s (%s), certificate until %s, %s waiting", v.Organisation, v.DeviceName, v.DeviceID,
		when(*orZero(v.CertificateExpires)), plural(int(v.EventsWaiting), "event", "events"))
	line("push for", "%s", orNobody(v.Users))
	line("bypass", "%s", map[bool]string{true: "the helpdesk can answer a challenge (? at the prompt) while this computer is offline", false: "none while this computer is offline: the authority has no key of it, or authority.accept has no offline_bypass"}[v.OfflineBypass])
	for _, t := range v.trust() {
		line("trust", "%s", t)
	}
}

func orNobody(users []string) string {
	switch {
	case len(users) == 0:
		return "nobody that is known here"
	case len(users) == 1 && users[0] == "*":
		return "everybody"
	}
	return strings.Join(users, ", ")
}

func (a *app) joinCommand() *cobra.Command {
	var name string
	var tokenStdin bool
	c := &cobra.Command{
		Use:   "join URL",
		Short: "join this computer to an authority, so that phones can approve logins",
		Long: `Joins this computer to an authority with an enrolment token, which an administrator
makes there: sallyport-authority token create. The token is good once. It is never an
argument, where everybody could read it: on a terminal it is asked for, and
--token-stdin reads it from standard input.`,
		Example: `  sallyport join https://authority.example.com:7443
  sallyport join https://authority.example.com:7443 --token-stdin < token.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			for _, s := range args {
				if strings.Contains(s, "sallyport1.") { // not quoted: it may be the token
					return badUsage("%s: a token is never an argument, where everybody could read it: --token-stdin", cmd.CommandPath())
				}
			}
			if len(args) != 1 {
				return badUsage("%s: say which authority: %s", cmd.CommandPath(), cmd.UseLine())
			}
			return nil
		},
		RunE: do(func(cmd *cobra.Command, args []string) error {
			token, err := a.readToken(tokenStdin)
			if err != nil {
				return err
			}
			var answer *adminv1.JoinResponse
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) (err error) {
				answer, err = c.Join(ctx, &adminv1.JoinRequest{Url: args[0], Token: token, Name: name})
				return err
			}); err != nil {
				return err
			}
			v := newAuthorityView(answer.GetAuthority())
			if v == nil {
				return failed("the agent says nothing of the authority; see: sallyport status")
			}
			a.result(v, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "Joined %s as %s (%s).\n", clean(v.Organisation), clean(v.DeviceName), clean(v.DeviceID))
				for _, t := range v.trust() {
					_, _ = fmt.Fprintf(w, "  %s\n", clean(t))
				}
				_, _ = fmt.Fprintf(w, "Next: sallyport status (whether it is connected, and whom this computer trusts with what); sallyport enroll USER --push\n")
			})
			return nil
		}),
	}
	c.Flags().StringVar(&name, "name", "", "what the phones call this computer (`NAME`; default: its host name)")
	c.Flags().BoolVar(&tokenStdin, "token-stdin", false, "read the token from standard input")
	return c
}

// maxToken is above the length of a token and its line's end.
const maxToken = 256

func (a *app) readToken(fromStdin bool) (token string, err error) {
	switch tty := a.deps.IsTTY(a.deps.Stdin); {
	case tty:
		_, _ = fmt.Fprint(a.deps.Stderr, "Enrolment token (it is not shown): ")
		token, err = a.deps.ReadSecret()
		_, _ = fmt.Fprintln(a.deps.Stderr)
	case fromStdin:
		token, err = a.readLine(maxToken)
	default:
		return "", badUsage("there is no terminal to ask on: --token-stdin reads the token from standard input")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	token = strings.TrimSpace(token)
	if _, err := organisation.ParseToken(token); err != nil {
		return "", badUsage("%v", err) // says what is wrong, and does not quote it
	}
	return token, nil
}

func (a *app) leaveCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "leave",
		Short: "leave the authority: no phone rings any more, codes go on",
		Long: `Forgets the authority, this computer's certificate, what the organisation signed, and
the phones that were enrolled here. Logins go on with codes. To come back it needs a
new token, and those phones enrol again. The authority is not
told; end the computer there too: sallyport-authority device revoke.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if a.deps.IsTTY(a.deps.Stdin) {
				if err := a.confirm(yes, "Leave the authority? No phone can approve a login here any more, and those enrolled here are forgotten."); err != nil {
					return err
				}
			}
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) error {
				_, err := c.Leave(ctx, &adminv1.LeaveRequest{})
				return err
			}); err != nil {
				return err
			}
			a.result(map[string]bool{"left": true}, func(w io.Writer) {
				_, _ = fmt.Fprintln(w, "Left. Logins go on with codes; end the computer at the authority too: sallyport-authority device revoke.")
			})
			return nil
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
