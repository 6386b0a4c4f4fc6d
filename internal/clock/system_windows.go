package clock

import (
	"crypto/rand"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

func newSystem() Clock {
	// Without a boot id deadlines go by the wall clock.
	id, _ := bootID()
	return system{id}
}

type system struct{ bootID string }

// Now takes the boot clock from GetTickCount64, which counts on in sleep and
// hibernation and which setting the clock leaves alone; it goes in steps of 10 to
// 16 ms, and nothing here is shorter than a second.
func (s system) Now() Instant {
	return Instant{Wall: time.Now().Round(0), Boot: windows.DurationSinceBoot(), BootID: s.bootID}
}

// bootKey holds the name of this boot. It is a volatile key, one that is kept in
// memory and is gone when the system was shut down in full (RegCreateKeyExW,
// REG_OPTION_VOLATILE). The fast start-up of Windows is no full shutdown: the
// kernel is hibernated, the key stays, and the boot clock counts on; they belong
// together.
//
// Windows has no such name itself. SystemBootEnvironmentInformation's
// BootIdentifier names the entry of the boot menu; the boot time of
// SystemTimeOfDayInformation, which is not documented, moves when the clock is set;
// PrefetchParameters\BootId is a setting, and counts where the prefetcher does.
//
// Only administrators may write below HKLM\SOFTWARE. Whoever may not, and comes
// before the agent, has no boot id.
const (
	bootParent = `SOFTWARE\Sallyport`
	bootKey    = bootParent + `\Boot`
	bootValue  = "Id"
)

// bootID returns the name of this boot, and gives it one if it has none. Of two
// processes that do so at the same moment one may be left with a name that nobody
// else knows: its deadlines then go by the wall clock.
func bootID() (string, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, bootKey, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err == nil {
		defer k.Close()
		if id, _, err := k.GetStringValue(bootValue); err == nil {
			return id, nil
		}
	}
	// The parent first: RegCreateKeyExW would make it volatile, too, and then
	// nothing that lasts could be kept below it.
	parent, _, err := registry.CreateKey(registry.LOCAL_MACHINE, bootParent, registry.CREATE_SUB_KEY|registry.WOW64_64KEY)
	if err != nil {
		return "", err
	}
	defer parent.Close()
	if k, err = createVolatile(bootKey); err != nil {
		return "", err
	}
	defer k.Close()
	if err := k.SetStringValue(bootValue, rand.Text()); err != nil {
		return "", err
	}
	id, _, err := k.GetStringValue(bootValue)
	return id, err
}

var regCreateKeyEx = windows.NewLazySystemDLL("advapi32.dll").NewProc("RegCreateKeyExW")

// createVolatile makes or opens a volatile key below HKLM. (registry.CreateKey makes none that are.)
func createVolatile(path string) (registry.Key, error) {
	const volatile = 1 // REG_OPTION_VOLATILE
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var k registry.Key
	r, _, _ := regCreateKeyEx.Call(uintptr(registry.LOCAL_MACHINE), uintptr(unsafe.Pointer(p)), 0, 0, volatile,
		registry.QUERY_VALUE|registry.SET_VALUE|registry.WOW64_64KEY, 0, uintptr(unsafe.Pointer(&k)), 0)
	if r != 0 {
		return 0, windows.Errno(r)
	}
	return k, nil
}
