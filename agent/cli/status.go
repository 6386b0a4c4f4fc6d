package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/doctor"
	"sallyport/agent/cli/pamstack"
	"sallyport/authplugin/authdb"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/textout"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// statusView is `status --json`. Names are stable: add, never rename.
type statusView struct {
	Healthy    bool              `json:"healthy"`
	Running    bool              `json:"running"`
	Version    string            `json:"version"`
	Platform   string            `json:"platform,omitempty"`
	PID        int32             `json:"pid,omitempty"`
	UID        int32             `json:"uid"`               // -1 on Windows
	Account    string            `json:"account,omitempty"` // "uid:0", "sid:S-1-5-18"
	Started    *time.Time        `json:"started,omitempty"`
	RSSBytes   int64             `json:"rss_bytes,omitempty"`
	LoginsOpen int32             `json:"logins_open"`
	Service    string            `json:"service,omitempty"`
	Keychain   string            `json:"keychain"`
	Vault      *vaultView        `json:"vault,omitempty"`
	Users      usersView         `json:"users"`
	Authority  *authorityView    `json:"authority,omitempty"` // absent: none is joined
	Policy     string            `json:"policy,omitempty"`
	Config     configStatus      `json:"config"`
	Sockets    socketsView       `json:"sockets"`
	Hooks      []pamstack.Use    `json:"hooks"`                         // of PAM
	Provider   *doctor.Provider  `json:"credential_provider,omitempty"` // of Windows
	Rights     *authdb.Report    `json:"rights,omitempty"`              // of macOS
	Problems   []problemView     `json:"problems"`
	LastEvents []json.RawMessage `json:"last_events"`
}

type usersView struct {
	Enrolled     int32    `json:"enrolled"`
	Locked       int32    `json:"locked"`
	Pending      int32    `json:"pending"`
	OfflineReady int32    `json:"offline_ready"`
	LockedNames  []string `json:"locked_names"`
}

type configStatus struct {
	Path   string     `json:"path"`
	Loaded *time.Time `json:"loaded,omitempty"`
}

type socketsView struct {
	Login string `json:"login"`
	Admin string `json:"admin"`
}

type problemView struct {
	Code   string `json:"code"`
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

// vaultView is the vault as `status` and `vault` print it.
type vaultView struct {
	State         string     `json:"state"`
	Detail        string     `json:"detail,omitempty"`
	Keychain      string     `json:"keychain"`
	ID            string     `json:"id,omitempty"`
	Generation    uint64     `json:"generation"`
	SizeBytes     int64      `json:"size_bytes"`
	EventsKept    uint64     `json:"events_kept"`
	EventsDropped uint64     `json:"events_dropped"`
	HighestTime   *time.Time `json:"highest_time,omitempty"`
	ClockBehind   float64    `json:"clock_behind_seconds"`
}

func newVaultView(v *adminv1.VaultStatus) *vaultView {
	if v == nil {
		return nil
	}
	return &vaultView{State: v.GetState(), Detail: v.GetDetail(), Keychain: v.GetKeychain(), ID: v.GetId(),
		Generation: v.GetGeneration(), SizeBytes: v.GetSizeBytes(), EventsKept: v.GetEventsKept(),
		EventsDropped: v.GetEventsDropped(), HighestTime: stampJSON(v.GetHighestTime()),
		ClockBehind: v.GetClockBehind().AsDuration().Seconds()}
}

func newStatusView(s *adminv1.StatusResponse) statusView {
	v := statusView{
		Running: true, Version: s.GetVersion(), Platform: s.GetPlatform(), PID: s.GetPid(), UID: s.GetUid(), Account: s.GetAccount(),
		Started: stampJSON(s.GetStarted()), RSSBytes: s.GetRssBytes(), LoginsOpen: s.GetLoginsOpen(),
		Keychain: s.GetVault().GetKeychain(), Vault: newVaultView(s.GetVault()),
		Users: usersView{Enrolled: s.GetUsersEnrolled(), Locked: s.GetUsersLocked(), Pending: s.GetUsersPending(),
			OfflineReady: s.GetUsersOfflineReady(), LockedNames: append([]string{}, s.GetLocked()...)},
		Policy: s.GetPolicy(), Authority: newAuthorityView(s.GetAuthority()),
		Config:   configStatus{s.GetConfigPath(), stampJSON(s.GetConfigLoaded())},
		Sockets:  socketsView{s.GetLoginSocket(), s.GetAdminSocket()},
		Problems: []problemView{}, LastEvents: []json.RawMessage{},
	}
	for _, p := range s.GetProblems() {
		v.Problems = append(v.Problems, problemView{p.GetCode(), p.GetText(), p.GetRemedy()})
	}
	// An agent that says nothing of a closed vault must not pass for healthy.
	if state := s.GetVault().GetState(); state != "open" && len(v.Problems) == 0 {
		v.Problems = append(v.Problems, problemView{"vault_unavailable",
			fmt.Sprintf("the vault is not open: %s %s", state, s.GetVault().GetDetail()), "see: " + whereLog})
	}
	v.Healthy = len(v.Problems) == 0
	for _, e := range s.GetLastEvents() {
		v.LastEvents = append(v.LastEvents, eventJSON(e.GetJson()))
	}
	return v
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "say whether this computer's second factor works",
		Long: `Says whether the agent runs and is healthy, who can log in offline, where the
hook is, and what happened last.

Exit status: 0 healthy, 1 something needs attention, 2 the agent is not running.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) }),
	}
}

func (a *app) status(ctx context.Context) error {
	var answer *adminv1.StatusResponse
	err := a.call(ctx, func(ctx context.Context, c *agent) (err error) {
		answer, err = c.Status(ctx, &adminv1.StatusRequest{})
		return err
	})
	var v statusView
	exit := ExitOK
	switch {
	case isDown(err):
		v = a.downView(err)
		exit = ExitNotRunning
	case err != nil:
		return err
	default:
		v = newStatusView(answer)
		if !v.Healthy {
			exit = ExitFailed
		}
	}
	a.findHooks(&v)
	if a.deps.Service != nil {
		if s, err := a.deps.Service("status", a.target()); err == nil {
			v.Service = s
		}
	}
	a.result(v, func(w io.Writer) { a.printStatus(w, v) })
	if exit != ExitOK {
		return errQuiet(exit)
	}
	return nil
}

// downView is what can be said when no agent answers.
func (a *app) downView(err error) statusView {
	v := statusView{Version: a.deps.Version, UID: -1, Config: configStatus{Path: a.config},
		Users: usersView{LockedNames: []string{}}, LastEvents: []json.RawMessage{},
		Sockets: socketsView{filepath.Join(a.socketDir(), localsock.LoginName), filepath.Join(a.socketDir(), localsock.AdminName)}}
	text, remedy := err.Error(), remedyNotRunning
	if e, ok := err.(*Error); ok {
		text, remedy = e.Text, e.Remedy
	}
	v.Problems = []problemView{{"agent_not_running", text, remedy}}
	if a.deps.CheckConfig != nil {
		if _, err := a.deps.CheckConfig(a.config, false); err != nil {
			v.Problems = append(v.Problems, problemView{"config_broken", err.Error(), "correct it, then: sallyport config check"})
		}
	}
	return v
}

func (a *app) printStatus(w io.Writer, v statusView) {
	p := a.paint(w)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "  %-10s %s\n", name, textout.Fold(clean(fmt.Sprintf(format, args...)), a.columns(w), 13))
	}
	state := p.Green("healthy")
	switch {
	case !v.Running:
		state = p.Red("not running")
	case !v.Healthy:
		state = p.Yellow("needs attention")
	}
	_, _ = fmt.Fprintf(w, "sallyport %s: %s\n", clean(v.Version), state)
	if v.Running {
		line("agent", "pid %d, %s, %s, since %s, %s, %s open", v.PID, v.account(), v.Platform, when(*orZero(v.Started)),
			size(v.RSSBytes), plural(int(v.LoginsOpen), "login", "logins"))
	}
	if v.Service != "" {
		line("service", "%s", v.Service)
	}
	if v.Vault != nil {
		detail := ""
		if v.Vault.Detail != "" {
			detail = ": " + v.Vault.Detail
		}
		line("vault", "%s%s, generation %d, %s", v.Vault.State, detail, v.Vault.Generation, size(v.Vault.SizeBytes))
		line("keychain", "%s", v.Vault.Keychain)
		line("events", "%d kept, %d dropped", v.Vault.EventsKept, v.Vault.EventsDropped)
		if v.Vault.ClockBehind > 0 {
			line("clock", "%s behind the highest time seen",
				howLong(time.Duration(v.Vault.ClockBehind*float64(time.Second))))
		}
	}
	if v.Running {
		line("users", "%d enrolled, %d locked, %d pending", v.Users.Enrolled, v.Users.Locked, v.Users.Pending)
		line("offline", "%d of %d can log in without a network", v.Users.OfflineReady, v.Users.Enrolled)
		if len(v.Users.LockedNames) > 0 {
			line("locked", "%s", strings.Join(v.Users.LockedNames, ", "))
		}
		line("policy", "%s", v.Policy)
		printAuthority(v.Authority, line)
	}
	line("config", "%s%s", v.Config.Path, loadedAt(v.Config.Loaded))
	line("sockets", "%s, %s", v.Sockets.Login, v.Sockets.Admin)
	v.printHooks(line)
	if len(v.Problems) > 0 {
		_, _ = fmt.Fprintf(w, "\n%s\n", p.Bold("needs attention:"))
		for _, problem := range v.Problems {
			code := clean(problem.Code)
			text := textout.Fold(code+": "+clean(problem.Text), a.columns(w), 4)
			_, _ = fmt.Fprintf(w, "  %s%s\n", p.Red(code), strings.TrimPrefix(text, code))
			if problem.Remedy != "" {
				_, _ = fmt.Fprintf(w, "    %s\n", textout.Fold(clean(problem.Remedy), a.columns(w), 4))
			}
		}
	}
	if len(v.LastEvents) > 0 {
		_, _ = fmt.Fprintf(w, "\n%s\n", p.Bold("last events:"))
		for _, e := range v.LastEvents {
			_, _ = fmt.Fprintf(w, "  %s\n", eventLine(e, p))
		}
	}
}

// account is whom the agent runs as, for people.
func (v statusView) account() string {
	switch id := identity.ID(v.Account); id {
	case "": // of an older agent
		return fmt.Sprintf("uid %d", v.UID)
	case identity.System:
		return "SYSTEM"
	default:
		return strings.Replace(v.Account, ":", " ", 1)
	}
}

func orZero(t *time.Time) *time.Time {
	if t == nil {
		return &time.Time{}
	}
	return t
}

func loadedAt(t *time.Time) string {
	if t == nil {
		return ""
	}
	return ", loaded " + when(*t)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "no service"
	}
	return strings.Join(names, ", ")
}
