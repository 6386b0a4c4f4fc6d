package event

// ids are the events' numbers in the Windows Event Log. Collectors filter by them:
// add, never renumber. The message file that is used there has 1 to 1000
// (EventCreate.exe); 1 is whatever is logged and no event.
var ids = map[Name]uint32{
	AgentStarted: 100, AgentStopped: 101, ConfigLoaded: 102, ConfigRejected: 103, PipeTaken: 104,
	ClockWentBack: 110, ClockReset: 111,
	VaultInitialised: 120, VaultAccepted: 121, VaultRekeyed: 122, VaultUnavailable: 123,
	LoginAttempt: 200, RequestRefused: 201, SessionUnguarded: 202, BreakGlassUsed: 203,
	RightsMissing: 204, RightsRepaired: 205, PluginUnusable: 206,
	UserLocked: 210, UserUnlocked: 211,
	UserEnrolled: 300, UserImported: 301, UserRemoved: 302, RecoveryIssued: 303, BypassIssued: 304, EnrolmentOpened: 305,
	PhoneEnrolled: 310, PhoneRemoved: 311,
	PushFailed: 400, PushReported: 401, PushPaused: 402, PushCleared: 403,
	AuthorityJoined: 500, AuthorityLeft: 501, AuthorityRefused: 502, SyncApplied: 510, SyncRefused: 511,
}

// ID is the event's number in the Windows Event Log; 1 for what is no event.
func (n Name) ID() uint32 {
	if id, ok := ids[n]; ok {
		return id
	}
	return 1
}
