package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/doctor"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/textout"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// promptTime is how long a person may take for a code when neither the agent nor
// the configuration says.
const promptTime = 90 * time.Second

// doctorView is `doctor --json`.
type doctorView struct {
	OK      bool            `json:"ok"`
	Results []doctor.Result `json:"results"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "look for the usual mistakes in how the logins are set up",
		Long: doctorLong + ` It changes nothing, and works without the agent.


Exit status: 0 nothing failed, 1 something did.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			v := doctorView{OK: true, Results: doctor.Check(cmd.Context(), a.doctorEnv(cmd.Context()))}
			for _, r := range v.Results {
				v.OK = v.OK && r.Status != doctor.Fail
			}
			a.result(v, func(w io.Writer) { a.printDoctor(w, v.Results) })
			if !v.OK {
				return errQuiet(ExitFailed)
			}
			return nil
		}),
	}
}

func (a *app) printDoctor(w io.Writer, results []doctor.Result) {
	p := a.paint(w)
	colour := map[doctor.Status]func(string) string{doctor.OK: p.Green, doctor.Warn: p.Yellow, doctor.Fail: p.Red,
		doctor.Info: func(s string) string { return s }}
	count := map[doctor.Status]int{}
	for _, r := range results {
		count[r.Status]++
		_, _ = fmt.Fprintf(w, "%s  %-15s  %s\n", colour[r.Status](fmt.Sprintf("%-4s", r.Status)), r.Check, textout.Fold(clean(r.Text), a.columns(w), 23))
		if r.Remedy != "" && (r.Status == doctor.Fail || r.Status == doctor.Warn) {
			_, _ = fmt.Fprintf(w, "%23s%s\n", "-> ", textout.Fold(clean(r.Remedy), a.columns(w), 23))
		}
	}
	_, _ = fmt.Fprintf(w, "%d failed, %s, %d ok\n", count[doctor.Fail], plural(count[doctor.Warn], "warning", "warnings"), count[doctor.OK])
}

// doctorEnv asks the agent what it knows of itself, and the platform the rest.
func (a *app) doctorEnv(ctx context.Context) *doctor.Env {
	dir := a.socketDir()
	e := &doctor.Env{Run: a.deps.Command, Peer: socketPeer, Version: a.deps.Version, Config: a.config, RuntimeDir: dir,
		LoginSocket: filepath.Join(dir, localsock.LoginName), AdminSocket: filepath.Join(dir, localsock.AdminName), PromptTime: promptTime}
	a.platformEnv(e)
	var values []ConfigValue
	err := a.call(ctx, func(ctx context.Context, c *agent) error {
		s, err := c.Status(ctx, &adminv1.StatusRequest{})
		if err != nil {
			return err
		}
		if s.GetLoginSocket() != "" && s.GetAdminSocket() != "" {
			e.LoginSocket, e.AdminSocket = s.GetLoginSocket(), s.GetAdminSocket()
		}
		e.Version, e.Keychain = s.GetVersion(), s.GetVault().GetKeychain()
		for _, p := range newStatusView(s).Problems {
			e.Problems = append(e.Problems, doctor.Problem{Text: p.Text, Remedy: p.Remedy, Warning: p.Code == "policies_unknown"})
		}
		if e.Authority = doctorAuthority(newAuthorityView(s.GetAuthority())); e.Authority != nil {
			list, err := c.ListUsers(ctx, &adminv1.ListUsersRequest{})
			if err != nil {
				return err
			}
			for _, u := range list.GetUsers() {
				switch {
				case len(u.GetPhones()) == 0:
				case u.GetPushState() == "no_code":
					e.Authority.NoCode = append(e.Authority.NoCode, u.GetName())
				case u.GetPushState() == "not_allowed":
					e.Authority.NotAllowed = append(e.Authority.NotAllowed, u.GetName())
				}
			}
		}
		config, err := c.ShowConfig(ctx, &adminv1.ShowConfigRequest{})
		for _, v := range config.GetValues() {
			values = append(values, ConfigValue{v.GetKey(), v.GetValue(), v.GetSource()})
		}
		return err
	})
	var why *Error
	switch {
	case isDown(err) && errors.As(err, &why):
		e.AgentDown, e.AgentRemedy = why.Text, why.Remedy
		if a.deps.CheckConfig != nil {
			checked, broken := a.deps.CheckConfig(a.config, false)
			if values = checked.Values; broken != nil {
				e.Problems = append(e.Problems, doctor.Problem{Text: broken.Error(), Remedy: "correct it, then: sallyport config check"})
			}
		}
	case errors.As(err, &why):
		e.AgentNote = why.Text
	}
	for _, v := range values {
		if v.Key == "keychain" && e.Keychain == "" {
			e.Keychain = strings.Trim(v.Value, `"'`)
		}
		if v.Key == "limits.prompt_time" {
			if d, err := time.ParseDuration(strings.Trim(v.Value, `"'`)); err == nil {
				e.PromptTime = d
			}
		}
	}
	return e
}

// socketPeer says who answers on a socket.
func socketPeer(socket string) (identity.ID, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	c, err := localsock.Dial(ctx, socket)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	peer, err := localsock.PeerOf(c)
	return peer.ID, err
}

func doctorAuthority(v *authorityView) *doctor.Authority {
	if v == nil {
		return nil
	}
	return &doctor.Authority{URL: v.URL, Connected: v.Connected, Why: v.LastError, Refused: v.Refused != "", Until: when(*orZero(v.CertificateExpires)), Trust: v.trust()}
}
