package winreg

import "golang.org/x/sys/windows"

var (
	userenv              = windows.NewLazySystemDLL("userenv.dll")
	enterCriticalSection = userenv.NewProc("EnterCriticalPolicySection")
	leaveCriticalSection = userenv.NewProc("LeaveCriticalPolicySection")
)

// lock waits until Group Policy is not being applied to this computer, and keeps it
// from that. "Reading Policy Data from the Registry" asks every reader for it.
//
// Where the lock is not to be had, nothing is locked: there is no Group Policy
// client that could write, or another program, which may be anybody's, held the lock
// for the ten minutes after which EnterCriticalPolicySection gives up. Nor does the
// lock hold MDM off, or a script. So whoever reads must not rely on one look alone.
func lock() (unlock func()) {
	if enterCriticalSection.Find() != nil || leaveCriticalSection.Find() != nil {
		return func() {}
	}
	const machine = 1
	h, _, _ := enterCriticalSection.Call(machine)
	if h == 0 {
		return func() {}
	}
	return func() { _, _, _ = leaveCriticalSection.Call(h) }
}
