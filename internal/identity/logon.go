package identity

import (
	"slices"
	"strings"
)

// logonGroups are the groups that Windows puts into a token for how its session
// came to be: by whom, from where, and what proved it ("Well-known SIDs",
// [MS-DTYP] 2.4.2.4).
var logonGroups = []ID{
	"sid:S-1-2-0",            // LOCAL
	"sid:S-1-2-1",            // CONSOLE LOGON
	"sid:S-1-5-1",            // DIALUP
	"sid:S-1-5-2",            // NETWORK
	"sid:S-1-5-3",            // BATCH
	"sid:S-1-5-4",            // INTERACTIVE
	"sid:S-1-5-6",            // SERVICE
	"sid:S-1-5-8",            // PROXY
	"sid:S-1-5-12",           // RESTRICTED
	"sid:S-1-5-13",           // TERMINAL SERVER USER
	"sid:S-1-5-14",           // REMOTE INTERACTIVE LOGON
	"sid:S-1-5-33",           // WRITE RESTRICTED
	"sid:S-1-5-21-0-0-0-496", // Compounded authentication
	"sid:S-1-5-21-0-0-0-497", // Claims valid
	"sid:S-1-5-64-10",        // NTLM Authentication
	"sid:S-1-5-64-14",        // SChannel Authentication
	"sid:S-1-5-64-21",        // Digest Authentication
	"sid:S-1-5-65-1",         // This Organization Certificate
	"sid:S-1-18-1",           // Authentication authority asserted identity
	"sid:S-1-18-2",           // Service asserted identity
	"sid:S-1-18-3",           // Fresh public key identity
	"sid:S-1-18-4",           // Key trust identity
	"sid:S-1-18-5",           // Key property multifactor authentication
	"sid:S-1-18-6",           // Key property attestation
}

// LogonGroups are the groups of a logon that have a name (IsLogonGroup).
func LogonGroups() []ID { return slices.Clone(logonGroups) }

// IsLogonGroup says whether a group tells of a logon and not of the account: the
// next logon of the same account may not be in it.
func (id ID) IsLogonGroup() bool {
	for _, family := range []string{"sid:S-1-5-5-", "sid:S-1-5-64-", "sid:S-1-5-65-", "sid:S-1-16-", "sid:S-1-18-"} { // logon sessions, ..., integrity, ...
		if strings.HasPrefix(string(id), family) {
			return true
		}
	}
	return slices.Contains(logonGroups, id)
}
