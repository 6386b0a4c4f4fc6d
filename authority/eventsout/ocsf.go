package eventsout

import (
	"cmp"
	"net/netip"

	"sallyport/authority/enrol"
	"sallyport/internal/event"
)

// OCSFVersion is the schema that events are mapped to: Open Cybersecurity Schema
// Framework, schema.ocsf.io/1.5.0.
const OCSFVersion = "1.5.0"

// class is one of the schema's event classes.
type class struct {
	uid, category int
	name          string
}

var (
	baseEvent        = class{0, 0, "Base Event"}
	accountChange    = class{3001, 3, "Account Change"}
	authentication   = class{3002, 3, "Authentication"}
	entityManagement = class{3004, 3, "Entity Management"}
	userAccess       = class{3005, 3, "User Access Management"}
	appLifecycle     = class{6002, 6, "Application Lifecycle"}
)

// The activities of those classes that occur.
const (
	other = 99

	logon, logoff = 1, 2

	create, remove = 1, 4

	lock, mfaEnable, mfaDisable, unlock = 9, 10, 11, 12

	update, enroll, unenroll, enable, disable = 3, 6, 7, 8, 9

	assign, revoke = 1, 2

	start, stop = 3, 4
)

// The severities of the schema that occur.
const (
	info   = 1
	low    = 2
	medium = 3
	high   = 4
)

// severities are those of syslog, RFC 5424 section 6.2.1: informational, notice,
// warning, error.
var severities = map[int]int{info: 6, low: 5, medium: 4, high: 3}

// kind is what an event is to others.
type kind struct {
	class    class
	activity int
	severity int
	entity   string // of Entity Management: the type of what is managed
	failed   bool
}

// kinds has every name that an authority can have an event of.
var kinds = map[event.Name]kind{
	event.LoginAttempt:     {class: authentication, activity: logon, severity: info}, // see of
	event.BreakGlassUsed:   {class: authentication, activity: logon, severity: high},
	event.SessionUnguarded: {class: authentication, activity: other, severity: high, failed: true},
	event.PushFailed:       {class: authentication, activity: other, severity: low, failed: true},
	event.PushReported:     {class: authentication, activity: other, severity: high, failed: true},

	event.UserLocked:       {class: accountChange, activity: lock, severity: medium},
	event.UserUnlocked:     {class: accountChange, activity: unlock, severity: low},
	event.UserEnrolled:     {class: accountChange, activity: mfaEnable, severity: low},
	event.UserImported:     {class: accountChange, activity: mfaEnable, severity: low},
	event.UserRemoved:      {class: accountChange, activity: mfaDisable, severity: medium},
	event.RecoveryIssued:   {class: accountChange, activity: mfaEnable, severity: low},
	event.BypassIssued:     {class: accountChange, activity: mfaEnable, severity: medium},
	event.EnrolmentOpened:  {class: accountChange, activity: other, severity: low},
	event.PhoneEnrolled:    {class: accountChange, activity: mfaEnable, severity: low},
	event.PhoneRemoved:     {class: accountChange, activity: mfaDisable, severity: low},
	event.PushPaused:       {class: accountChange, activity: mfaDisable, severity: medium},
	event.PushCleared:      {class: accountChange, activity: mfaEnable, severity: low},
	enrol.UserAdded:        {class: accountChange, activity: create, severity: low},
	enrol.TOTPIssued:       {class: accountChange, activity: mfaEnable, severity: low},
	enrol.EnrolmentRefused: {class: accountChange, activity: other, severity: medium, failed: true},

	enrol.UserAllowed:    {class: userAccess, activity: assign, severity: low},
	enrol.UserDisallowed: {class: userAccess, activity: revoke, severity: low},

	event.AuthorityJoined:  {class: entityManagement, activity: enroll, severity: low, entity: "computer"},
	event.AuthorityLeft:    {class: entityManagement, activity: unenroll, severity: medium, entity: "computer"},
	event.AuthorityRefused: {class: entityManagement, activity: disable, severity: high, entity: "computer", failed: true},
	enrol.DeviceJoined:     {class: entityManagement, activity: enroll, severity: low, entity: "computer"},
	enrol.DeviceRevoked:    {class: entityManagement, activity: unenroll, severity: medium, entity: "computer"},
	enrol.TokenCreated:     {class: entityManagement, activity: create, severity: low, entity: "token"},
	enrol.TokenRefused:     {class: entityManagement, activity: other, severity: medium, entity: "token", failed: true},
	enrol.ManifestSigned:   {class: entityManagement, activity: update, severity: low, entity: "manifest"},
	enrol.PolicyChanged:    {class: entityManagement, activity: update, severity: medium, entity: "policy"},
	enrol.SettingsChanged:  {class: entityManagement, activity: update, severity: medium, entity: "settings"},
	event.SyncApplied:      {class: entityManagement, activity: update, severity: info, entity: "signed item"},
	event.SyncRefused:      {class: entityManagement, activity: update, severity: high, entity: "signed item", failed: true},
	event.ClockWentBack:    {class: entityManagement, activity: other, severity: medium, entity: "clock"},
	event.ClockReset:       {class: entityManagement, activity: update, severity: medium, entity: "clock"},
	event.VaultInitialised: {class: entityManagement, activity: create, severity: medium, entity: "vault"},
	event.VaultAccepted:    {class: entityManagement, activity: update, severity: medium, entity: "vault"},
	event.VaultRekeyed:     {class: entityManagement, activity: update, severity: low, entity: "vault"},
	enrol.VaultRolledBack:  {class: entityManagement, activity: other, severity: high, entity: "vault", failed: true},
	event.ConfigLoaded:     {class: entityManagement, activity: update, severity: info, entity: "configuration"},
	event.ConfigRejected:   {class: entityManagement, activity: update, severity: medium, entity: "configuration", failed: true},
	event.PipeTaken:        {class: entityManagement, activity: disable, severity: high, entity: "pipe", failed: true},
	event.RightsMissing:    {class: entityManagement, activity: disable, severity: high, entity: "login rights", failed: true},
	event.RightsRepaired:   {class: entityManagement, activity: enable, severity: medium, entity: "login rights"},
	event.PluginUnusable:   {class: entityManagement, activity: disable, severity: high, entity: "plug-in", failed: true},
	enrol.EventsDropped:    {class: entityManagement, activity: other, severity: medium, entity: "events", failed: true},
	enrol.EventsMissed:     {class: entityManagement, activity: other, severity: medium, entity: "events", failed: true},

	enrol.UnlockIssued:           {class: accountChange, activity: unlock, severity: low},
	enrol.PushClearIssued:        {class: accountChange, activity: mfaEnable, severity: low},
	enrol.OfflineBypassAnswered:  {class: accountChange, activity: mfaEnable, severity: medium},
	enrol.BypassKeyEscrowed:      {class: entityManagement, activity: create, severity: info, entity: "bypass key"},
	enrol.EscrowKeyUnusable:      {class: entityManagement, activity: disable, severity: high, entity: "escrow key", failed: true},
	enrol.OperatorAdded:          {class: entityManagement, activity: create, severity: medium, entity: "operator"},
	enrol.OperatorRemoved:        {class: entityManagement, activity: remove, severity: medium, entity: "operator"},
	enrol.OperatorRoleChanged:    {class: entityManagement, activity: update, severity: medium, entity: "operator"},
	enrol.OperatorInvited:        {class: entityManagement, activity: other, severity: medium, entity: "operator"},
	enrol.OperatorPasskeyAdded:   {class: entityManagement, activity: update, severity: medium, entity: "operator"},
	enrol.OperatorPasskeyRemoved: {class: entityManagement, activity: update, severity: medium, entity: "operator"},
	enrol.OperatorRefused:        {class: entityManagement, activity: other, severity: medium, entity: "console", failed: true},
	enrol.ApprovalRequested:      {class: entityManagement, activity: create, severity: low, entity: "approval"},
	enrol.ApprovalGiven:          {class: entityManagement, activity: update, severity: low, entity: "approval"},
	enrol.ApprovalRefused:        {class: entityManagement, activity: update, severity: low, entity: "approval", failed: true},
	enrol.OperatorLogin:          {class: authentication, activity: logon, severity: low},
	enrol.OperatorLoginRefused:   {class: authentication, activity: logon, severity: medium, failed: true},
	enrol.OperatorLogout:         {class: authentication, activity: logoff, severity: info},

	event.AgentStarted: {class: appLifecycle, activity: start, severity: info},
	event.AgentStopped: {class: appLifecycle, activity: stop, severity: low},
}

// unmapped are the names that no authority has an event of, and why.
var unmapped = map[event.Name]string{
	event.VaultUnavailable: "a vault that cannot be used keeps no events",
	event.RequestRefused:   "it is in the computer's own log only",
}

// alarms are reasons that say that somebody tampers, or was reported.
var alarms = map[string]bool{"identity_changed": true, "not_your_account": true, "push_reported": true, "push_answer_forged": true,
	"push_enrolment_forged": true, "push_answer_repeated": true}

// of is what a record is. A name that is not known, of a newer agent, is a base event.
func of(r Record) kind {
	k, ok := kinds[r.event.Name]
	if !ok {
		k = kind{class: baseEvent, activity: other, severity: info}
	}
	switch {
	case alarms[r.event.Reason]:
		k.severity = high
	case r.event.Verdict == "deny":
		k.severity = max(k.severity, low)
	}
	if r.event.Verdict == "deny" {
		k.failed = true
	}
	return k
}

// OCSFEvent is an event in OCSF. Attributes of the schema that we know nothing of are
// left out; everything of ours is in unmapped as well.
type OCSFEvent struct {
	Activity    int               `json:"activity_id"`
	Category    int               `json:"category_uid"`
	Class       int               `json:"class_uid"`
	ClassName   string            `json:"class_name"`
	Type        int               `json:"type_uid"`
	Severity    int               `json:"severity_id"`
	Time        int64             `json:"time"` // milliseconds
	Status      int               `json:"status_id"`
	StatusCode  string            `json:"status_code,omitempty"`
	Message     string            `json:"message"`
	Metadata    ocsfMetadata      `json:"metadata"`
	Actor       *ocsfActor        `json:"actor,omitempty"`
	User        *ocsfUser         `json:"user,omitempty"`
	Device      *ocsfDevice       `json:"device,omitempty"`
	Service     *ocsfNamed        `json:"service,omitempty"`
	Source      *ocsfEndpoint     `json:"src_endpoint,omitempty"`
	Destination *ocsfEndpoint     `json:"dst_endpoint,omitempty"`
	Remote      *bool             `json:"is_remote,omitempty"`
	MFA         *bool             `json:"is_mfa,omitempty"`
	Factors     []ocsfFactor      `json:"auth_factors,omitempty"`
	LogonType   int               `json:"logon_type_id,omitempty"`
	Privileges  []string          `json:"privileges,omitempty"`
	Entity      *ocsfEntity       `json:"entity,omitempty"`
	App         *ocsfProduct      `json:"app,omitempty"`
	Unmapped    map[string]string `json:"unmapped"`
}

type (
	ocsfMetadata struct {
		Version  string      `json:"version"`
		Product  ocsfProduct `json:"product"`
		Profiles []string    `json:"profiles,omitempty"`
		UID      string      `json:"uid"`
		Code     string      `json:"event_code"`
		Sequence uint64      `json:"sequence"`
		Logged   int64       `json:"logged_time"`
	}
	ocsfProduct struct {
		Name    string `json:"name"`
		Vendor  string `json:"vendor_name"`
		Version string `json:"version,omitempty"`
	}
	ocsfNamed struct {
		Name string `json:"name"`
	}
	ocsfUser struct {
		Name string `json:"name,omitempty"`
		UID  string `json:"uid,omitempty"`
	}
	ocsfActor struct {
		User ocsfUser `json:"user"`
	}
	ocsfDevice struct {
		Name string `json:"name,omitempty"`
		UID  string `json:"uid"`
		Type int    `json:"type_id"`
	}
	ocsfEndpoint struct {
		IP   string `json:"ip,omitempty"`
		Name string `json:"hostname,omitempty"`
		UID  string `json:"uid,omitempty"`
	}
	ocsfFactor struct {
		Type     int    `json:"factor_type_id"`
		TypeName string `json:"factor_type"`
		TOTP     bool   `json:"is_totp,omitempty"`
	}
	ocsfEntity struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
)

// factors are those of the schema: 5 is a push notification, 7 a one-time password.
var factors = map[string]ocsfFactor{
	"totp":     {7, "OTP", true},
	"recovery": {7, "OTP", false},
	"bypass":   {7, "OTP", false},
	"push":     {5, "Push Notification", false},
}

// OCSF maps a record. version is this program's.
func OCSF(r Record, version string) OCSFEvent {
	e, k := r.event, of(r)
	product := ocsfProduct{Name: "Sallyport", Vendor: "Sallyport", Version: version}
	o := OCSFEvent{Activity: k.activity, Category: k.class.category, Class: k.class.uid, ClassName: k.class.name, Type: k.class.uid*100 + k.activity,
		Severity: k.severity, Time: e.Time.UnixMilli(), Status: 1, StatusCode: e.Reason, Message: summary(r),
		Metadata: ocsfMetadata{Version: OCSFVersion, Product: product, UID: r.ID, Code: string(e.Name), Sequence: e.Seq, Logged: r.Kept.UnixMilli()},
		Unmapped: map[string]string{}}
	if k.failed {
		o.Status = 2
	}
	for _, a := range e.LogValue().Group() {
		o.Unmapped[a.Key] = a.Value.String()
	}
	if r.Device != "" { // the schema's profile that has device
		o.Metadata.Profiles = []string{"host"}
		o.Device = &ocsfDevice{Name: r.Name, UID: r.Device}
	}
	if e.By != "" {
		o.Actor = &ocsfActor{ocsfUser{Name: e.By}}
		o.Metadata.Profiles = []string{"host"}
	}
	if e.Remote != "" {
		o.Source = &ocsfEndpoint{Name: e.Remote}
		if a, err := netip.ParseAddr(e.Remote); err == nil {
			o.Source = &ocsfEndpoint{IP: a.Unmap().WithZone("").String()}
		}
	}
	switch k.class {
	case authentication, accountChange, userAccess:
		o.User = &ocsfUser{Name: e.User, UID: e.Key}
		if e.User == "" && e.Key == "" { // the schema wants one
			o.User.Name = cmp.Or(e.By, "unknown")
		}
	case entityManagement:
		o.Entity = &ocsfEntity{Name: k.entity, Type: k.entity}
		if k.entity == "computer" && r.Name != "" {
			o.Entity.Name = r.Name
		}
	case appLifecycle:
		o.App = &ocsfProduct{Name: "sallyport", Vendor: "Sallyport"}
	}
	switch k.class {
	case authentication:
		o.Destination = &ocsfEndpoint{Name: r.Name, UID: r.Device}
		if r.Device == "" {
			o.Destination.Name = "authority"
		}
		if e.Service != "" {
			o.Service = &ocsfNamed{e.Service}
		}
		if e.Name == event.LoginAttempt {
			remote, mfa := e.Remote != "", e.Factor != ""
			o.Remote, o.MFA = &remote, &mfa
			o.LogonType = map[string]int{"login": 2, "unlock": 7, "remote": 10}[e.Scenario]
		}
		if f, ok := factors[e.Factor]; ok {
			o.Factors = []ocsfFactor{f}
		}
	case userAccess:
		o.Privileges = []string{"approve logins by phone"}
	}
	return o
}
