// Package event names what Sallyport reports: every login attempt and every
// administrative action, one JSON object each. The names are stable; other
// programs match on them (docs/events.md lists them).
package event

import (
	"log/slog"
	"time"
)

// Name says what happened.
type Name string

// The names. Add, never rename.
const (
	LoginAttempt     Name = "login_attempt"           // a login reached its verdict
	UserLocked       Name = "user_locked"             // too many wrong codes in a row
	UserUnlocked     Name = "user_unlocked"           // the helpdesk ended a lockout
	UserEnrolled     Name = "user_enrolled"           // a TOTP secret was set
	UserImported     Name = "user_imported"           // a TOTP secret came from another product
	UserRemoved      Name = "user_removed"            // the record is gone
	RecoveryIssued   Name = "recovery_issued"         // new recovery codes; the old ones ended
	BypassIssued     Name = "bypass_issued"           // the helpdesk made a one-time code
	EnrolmentOpened  Name = "enrolment_opened"        // a window or a one-time code to enrol at the login
	PhoneEnrolled    Name = "phone_enrolled"          // a phone may approve this user's logins
	PhoneRemoved     Name = "phone_removed"           // and no longer
	PushFailed       Name = "push_mfa_attempt_failed" // no phone was rung, or an answer did not verify
	PushReported     Name = "push_mfa_reported"       // "Not me" on the phone; push is off until the helpdesk clears it
	PushPaused       Name = "push_paused"             // too many denied or unanswered in a row
	PushCleared      Name = "push_cleared"            // the helpdesk switched push on again
	AuthorityJoined  Name = "authority_joined"        //
	AuthorityLeft    Name = "authority_left"          //
	AuthorityRefused Name = "authority_refused"       // the authority ended the link on purpose: revoked, rolled back, replaced
	SyncApplied      Name = "sync_applied"            // something the organisation signed is in force
	SyncRefused      Name = "sync_refused"            // something came from the authority that this computer does not take
	ClockWentBack    Name = "clock_went_back"         // the wall clock lies behind a time seen before
	ClockReset       Name = "clock_reset"             // the helpdesk cleared the highest time seen
	VaultInitialised Name = "vault_initialised"       // a new, empty vault
	VaultAccepted    Name = "vault_accepted"          // a copied or restored vault was taken as this computer's own
	VaultRekeyed     Name = "vault_rekeyed"           // the vault's key was changed or moved
	VaultUnavailable Name = "vault_unavailable"       // the vault cannot be opened, read or written
	ConfigRejected   Name = "config_rejected"         // a broken configuration file; the last good one stays
	ConfigLoaded     Name = "config_loaded"           // a configuration took effect
	RequestRefused   Name = "request_refused"         // a local caller asked for what it may not do
	SessionUnguarded Name = "session_unguarded"       // somebody is in without having come by us
	BreakGlassUsed   Name = "break_glass_used"        // an emergency account is in
	PipeTaken        Name = "pipe_taken"              // another program has the agent's place (Windows)
	RightsMissing    Name = "login_rights_missing"    // our mechanisms are not where they were installed, and were not put back (macOS)
	RightsRepaired   Name = "login_rights_repaired"   // our mechanisms were put back into the rights (macOS)
	PluginUnusable   Name = "plugin_unusable"         // the rights ask for a plug-in that macOS cannot load (macOS)
	AgentStarted     Name = "agent_started"           //
	AgentStopped     Name = "agent_stopped"           //
)

// Event is one thing that happened. It never holds a code, a secret or a
// password; Text is for people, everything else for programs.
type Event struct {
	Seq      uint64    `json:"seq"`               // rises by one, never reused; set by the vault
	Time     time.Time `json:"time"`              // the wall clock
	Name     Name      `json:"event"`             //
	User     string    `json:"user,omitempty"`    // name as the system knows it; "" when it does not resolve
	Key      string    `json:"key,omitempty"`     // "uid:1000": the record it is about
	Hook     string    `json:"hook,omitempty"`    // "pam"
	Service  string    `json:"service,omitempty"` // PAM service
	Scenario string    `json:"scenario,omitempty"`
	Remote   string    `json:"remote,omitempty"`  // where from, as the hook gave it
	Session  string    `json:"session,omitempty"` // terminal
	Verdict  string    `json:"verdict,omitempty"` // "allow", "deny", "skip"
	Reason   string    `json:"reason,omitempty"`  // stable, such as "wrong_code"
	Factor   string    `json:"factor,omitempty"`  // "totp", "recovery", "bypass", "push"
	Rule     string    `json:"rule,omitempty"`    // which policy rule decided who is asked
	By       string    `json:"by,omitempty"`      // local peer, "uid:0"
	Text     string    `json:"text,omitempty"`    // one line for the helpdesk
}

// LogValue implements slog.LogValuer: an event in the log has the same names as
// in the file.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("event", string(e.Name))}
	for _, f := range []struct{ k, v string }{
		{"user", e.User}, {"key", e.Key}, {"hook", e.Hook}, {"service", e.Service}, {"scenario", e.Scenario},
		{"remote", e.Remote}, {"session", e.Session}, {"verdict", e.Verdict}, {"reason", e.Reason},
		{"factor", e.Factor}, {"rule", e.Rule}, {"by", e.By}, {"text", e.Text},
	} {
		if f.v != "" {
			attrs = append(attrs, slog.String(f.k, f.v))
		}
	}
	return slog.GroupValue(attrs...)
}
