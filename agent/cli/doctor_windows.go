package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"sallyport/agent/cli/doctor"
	"sallyport/installer/windows/setup"
	"sallyport/internal/localsock"
	"sallyport/internal/winacl"
	"sallyport/internal/winreg"
)

const doctorLong = `Looks for the usual mistakes: in the service, the pipes, how the credential
provider and its filter are registered and set, the emergency accounts, the
authority, the clock; and lists the ways in that the provider does not cover. Run it
as administrator: some of it is not for others to read.`

// platformEnv fills in what only Windows can say.
func (a *app) platformEnv(e *doctor.Env) { e.Windows = a.windows() }

// windows is this computer.
func (a *app) windows() *doctor.Windows {
	if a.deps.Windows != nil {
		return a.deps.Windows
	}
	return &doctor.Windows{Key: winreg.Read, Service: queryService, Closed: closedToOthers, ProductVersion: productVersion, Account: lookUpAccount, Holder: localsock.Holder}
}

// queryService asks the service manager, with no more rights than anybody has.
func queryService() (*doctor.Service, error) {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return nil, fmt.Errorf("OpenSCManager: %w", err)
	}
	defer func() { _ = windows.CloseServiceHandle(m) }()
	h, err := windows.OpenService(m, windows.StringToUTF16Ptr(setup.ServiceName), windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("OpenService: %w", err)
	}
	s := &mgr.Service{Name: setup.ServiceName, Handle: h}
	defer func() { _ = s.Close() }()
	status, err := s.Query()
	if err != nil {
		return nil, fmt.Errorf("QueryServiceStatus: %w", err)
	}
	config, err := s.Config()
	if err != nil {
		return nil, fmt.Errorf("QueryServiceConfig: %w", err)
	}
	actions, err := s.RecoveryActions()
	if err != nil {
		return nil, fmt.Errorf("QueryServiceConfig2: %w", err)
	}
	return &doctor.Service{Running: status.State == svc.Running, Automatic: config.StartType == mgr.StartAutomatic,
		Account: config.ServiceStartName, Command: config.BinaryPathName,
		// The last action is repeated for ever.
		Restarts: len(actions) > 0 && actions[len(actions)-1].Type == mgr.ServiceRestart}, nil
}

// closedToOthers is about the file or directory itself, not about those above it.
func closedToOthers(path string) error {
	f, err := winacl.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	o, err := winacl.Of(f)
	if err != nil {
		return err
	}
	o.Self = "" // whoever asks; the agent is the system
	return o.Check(winacl.Readable)
}

// productVersion reads the ProductVersion of a VERSIONINFO resource.
func productVersion(path string) (string, error) {
	size, err := windows.GetFileVersionInfoSize(path, nil)
	if errors.Is(err, windows.ERROR_RESOURCE_TYPE_NOT_FOUND) || errors.Is(err, windows.ERROR_RESOURCE_DATA_NOT_FOUND) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if size == 0 {
		return "", nil
	}
	info := make([]byte, size)
	if err := windows.GetFileVersionInfo(path, 0, size, unsafe.Pointer(&info[0])); err != nil {
		return "", err
	}
	// The languages that there are; the first will do.
	var at unsafe.Pointer
	var n uint32
	if err := windows.VerQueryValue(unsafe.Pointer(&info[0]), `\VarFileInfo\Translation`, unsafe.Pointer(&at), &n); err != nil || n < 4 {
		return "", nil
	}
	language := *(*[2]uint16)(at)
	name := fmt.Sprintf(`\StringFileInfo\%04x%04x\ProductVersion`, language[0], language[1])
	if err := windows.VerQueryValue(unsafe.Pointer(&info[0]), name, unsafe.Pointer(&at), &n); err != nil || n == 0 {
		return "", nil
	}
	return windows.UTF16ToString(unsafe.Slice((*uint16)(at), n)), nil
}

// lookUpAccount finds a SID's account. Whether one of a domain is disabled only
// its domain knows: it is not asked.
func lookUpAccount(text string) (doctor.Account, error) {
	sid, err := windows.StringToSid(text)
	if err != nil {
		return doctor.Account{}, fmt.Errorf("%s: %w", text, err)
	}
	name, domain, _, err := sid.LookupAccount("")
	if errors.Is(err, windows.ERROR_NONE_MAPPED) {
		return doctor.Account{}, fmt.Errorf("%s: %w", text, fs.ErrNotExist)
	}
	if err != nil {
		return doctor.Account{}, err
	}
	out := doctor.Account{Name: domain + `\` + name}
	if computer, err := windows.ComputerName(); err != nil || !strings.EqualFold(domain, computer) {
		return out, nil
	}
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return doctor.Account{}, err
	}
	var b *byte
	if err := windows.NetUserGetInfo(nil, name16, 1, &b); err != nil {
		return doctor.Account{}, fmt.Errorf("%s: NetUserGetInfo: %w", out.Name, err)
	}
	defer func() { _ = windows.NetApiBufferFree(b) }()
	out.Disabled = (*userInfo1)(unsafe.Pointer(b)).flags&accountDisable != 0
	return out, nil
}

// accountDisable is UF_ACCOUNTDISABLE (lmaccess.h).
const accountDisable = 0x2

// userInfo1 is USER_INFO_1 (lmaccess.h).
type userInfo1 struct {
	name, password *uint16
	passwordAge    uint32
	priv           uint32
	homeDir        *uint16
	comment        *uint16
	flags          uint32
	scriptPath     *uint16
}
