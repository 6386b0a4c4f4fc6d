package vault

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/windows"
)

// dieWithUs has nothing to do: the writer ends when nobody listens to it.
func dieWithUs(*exec.Cmd) {}

const ours = "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"

// private lets nobody else at a file. Windows would see to that, by what the
// directory hands down; Wine hands nothing down.
func private(t testing.TB, path string) { setDACL(t, path, ours) }

func readableByAll(t testing.TB, path string) { setDACL(t, path, ours+"(A;OICI;FR;;;WD)") }

func writableByAll(t testing.TB, path string) { setDACL(t, path, ours+"(A;OICI;FA;;;WD)") }

func giveAway(t testing.TB, path string) {
	t.Helper()
	users, err := windows.CreateWellKnownSid(windows.WinBuiltinUsersSid)
	must(t, err)
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION, users, nil, nil, nil); err != nil {
		t.Skipf("this account gives no file away: %v", err)
	}
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	must(t, err)
	owner, _, err := sd.Owner()
	must(t, err)
	if !owner.Equals(users) {
		t.Skip("this Windows takes the call that gives a file away, and changes nothing (Wine)")
	}
}

// setDACL gives a file these entries and no others.
func setDACL(t testing.TB, path, entries string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString("D:P" + entries)
	must(t, err)
	p, err := windows.UTF16PtrFromString(path)
	must(t, err)
	const shareAll = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(p, windows.WRITE_DAC, shareAll, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	must(t, err)
	err = windows.SetKernelObjectSecurity(h, windows.DACL_SECURITY_INFORMATION, sd)
	must(t, windows.CloseHandle(h))
	must(t, err)
}
