//go:build windows

package setup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"sallyport/internal/config"
	"sallyport/internal/tomlfile"
	"sallyport/internal/vault/statefile"
	"sallyport/internal/winreg"
)

// Windows is this computer.
func Windows() System { return system{} }

type system struct{}

// saved is where the state before is kept. The package's commit action forgets it
// (action/run.c).
const (
	saved       = `HKLM\SOFTWARE\Sallyport\Setup`
	savedBefore = "before"
	ours        = `SOFTWARE\Sallyport`
)

// stopTime is how long a service has to end: open logins hear that they are denied.
const stopTime = 30 * time.Second

func (system) Key(path string) (*winreg.Key, error) { return winreg.Read(path) }

func (system) SetKey(path string, k *winreg.Key) error {
	below, _ := strings.CutPrefix(path, `HKLM\`)
	err := setKey(registry.LOCAL_MACHINE, below, k)
	if err == nil && k == nil {
		forgetEmpty(below)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// forgetEmpty takes our own key away once nothing is in it any more.
func forgetEmpty(path string) {
	if !strings.HasPrefix(path, ours+`\`) {
		return
	}
	if k, err := winreg.Read(`HKLM\` + ours); err == nil && k != nil && len(k.Values) == 0 && len(k.Keys) == 0 {
		_ = registry.DeleteKey(registry.LOCAL_MACHINE, ours)
	}
}

// setKey writes first and then takes away what is too much, so that whoever reads
// meanwhile finds the one or the other of each value.
func setKey(parent registry.Key, path string, k *winreg.Key) error {
	if k == nil {
		return deleteTree(parent, path)
	}
	key, _, err := registry.CreateKey(parent, path, registry.ALL_ACCESS|registry.WOW64_64KEY)
	if err != nil {
		return err
	}
	defer key.Close()
	keep := map[string]bool{}
	for _, v := range k.Values {
		if err := setValue(key, v); err != nil {
			return fmt.Errorf("%q: %w", v.Name, err)
		}
		keep["="+strings.ToLower(v.Name)] = true
	}
	for _, sub := range k.Keys {
		if err := setKey(key, sub.Name, &sub.Key); err != nil {
			return fmt.Errorf("%s: %w", sub.Name, err)
		}
		keep[strings.ToLower(sub.Name)] = true
	}
	values, err := key.ReadValueNames(0)
	if err != nil {
		return err
	}
	for _, name := range values {
		if !keep["="+strings.ToLower(name)] {
			if err := key.DeleteValue(name); err != nil {
				return err
			}
		}
	}
	subkeys, err := key.ReadSubKeyNames(0)
	if err != nil {
		return err
	}
	for _, name := range subkeys {
		if !keep[strings.ToLower(name)] {
			if err := deleteTree(key, name); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	advapi32       = windows.NewLazySystemDLL("advapi32.dll")
	regSetValueEx  = advapi32.NewProc("RegSetValueExW")
	regDeleteTreeW = advapi32.NewProc("RegDeleteTreeW")
)

// setValue writes a value as it is, whatever its type: x/sys has no function for
// that.
func setValue(k registry.Key, v winreg.Value) error {
	name, err := windows.UTF16PtrFromString(v.Name)
	if err != nil {
		return err
	}
	return status(regSetValueEx.Call(uintptr(k), uintptr(unsafe.Pointer(name)), 0, uintptr(v.Type), uintptr(unsafe.Pointer(unsafe.SliceData(v.Data))), uintptr(len(v.Data))))
}

func deleteTree(k registry.Key, path string) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	err = status(regDeleteTreeW.Call(uintptr(k), uintptr(unsafe.Pointer(name))))
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	return err
}

func status(r, _ uintptr, _ error) error {
	if r != 0 {
		return windows.Errno(r)
	}
	return nil
}

// withService calls f with the service; with nil when there is none.
func withService(f func(s *mgr.Service) error) error {
	m, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("the service manager: %w", err)
	}
	defer m.Disconnect()
	s, err := m.OpenService(ServiceName)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return f(nil)
	}
	if err != nil {
		return fmt.Errorf("the service %s: %w", ServiceName, err)
	}
	defer s.Close()
	if err := f(s); err != nil {
		return fmt.Errorf("the service %s: %w", ServiceName, err)
	}
	return nil
}

func (system) Service() (is *Service, err error) {
	err = withService(func(s *mgr.Service) error {
		if s == nil {
			return nil
		}
		command, err := commandOf(s.Handle)
		if err != nil {
			return err
		}
		st, err := s.Query()
		if err != nil {
			return err
		}
		is = &Service{Command: command, Running: st.State != svc.Stopped && st.State != svc.StopPending}
		return nil
	})
	return is, err
}

func commandOf(service windows.Handle) (string, error) {
	const most = 8 << 10 // "QueryServiceConfigW": the maximum
	var b [most / 8]uint64
	var n uint32
	c := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&b))
	if err := windows.QueryServiceConfig(service, c, most, &n); err != nil {
		return "", err
	}
	return windows.UTF16PtrToString(c.BinaryPathName), nil
}

func (system) Configure(command string) error {
	return withService(func(s *mgr.Service) error {
		path, err := windows.UTF16PtrFromString(command)
		if err != nil {
			return err
		}
		display, account := windows.StringToUTF16Ptr("Sallyport"), windows.StringToUTF16Ptr("LocalSystem")
		if s == nil {
			m, err := mgr.Connect()
			if err != nil {
				return err
			}
			defer m.Disconnect()
			h, err := windows.CreateService(m.Handle, windows.StringToUTF16Ptr(ServiceName), display, windows.SERVICE_ALL_ACCESS,
				windows.SERVICE_WIN32_OWN_PROCESS, windows.SERVICE_AUTO_START, windows.SERVICE_ERROR_NORMAL, path, nil, nil, nil, account, nil)
			if err != nil {
				return err
			}
			s = &mgr.Service{Name: ServiceName, Handle: h}
			defer s.Close()
		} else if err := windows.ChangeServiceConfig(s.Handle,
			windows.SERVICE_WIN32_OWN_PROCESS, windows.SERVICE_AUTO_START, windows.SERVICE_ERROR_NORMAL, path, nil, nil, nil, account, nil, display); err != nil {
			return err
		}
		description := windows.SERVICE_DESCRIPTION{Description: windows.StringToUTF16Ptr("Second factor at the login")}
		return windows.ChangeServiceConfig2(s.Handle, windows.SERVICE_CONFIG_DESCRIPTION, (*byte)(unsafe.Pointer(&description)))
	})
}

func (system) Start() error {
	return withService(func(s *mgr.Service) error {
		if s == nil {
			return windows.ERROR_SERVICE_DOES_NOT_EXIST
		}
		err := s.Start()
		if errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return nil
		}
		return err
	})
}

func (system) Stop(ctx context.Context) error {
	return withService(func(s *mgr.Service) error {
		if s == nil {
			return nil
		}
		st, err := s.Query()
		if err != nil || st.State == svc.Stopped {
			return err
		}
		process, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_TERMINATE, false, st.ProcessId)
		if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
			return nil // it has just ended
		}
		if err != nil {
			return fmt.Errorf("its process: %w", err)
		}
		defer windows.CloseHandle(process)
		// While it starts it takes no orders; then it takes one.
		for deadline := time.Now().Add(stopTime); time.Now().Before(deadline) && ctx.Err() == nil; {
			if _, err := s.Control(svc.Stop); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) &&
				!errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL) && !errors.Is(err, windows.ERROR_SERVICE_REQUEST_TIMEOUT) {
				return err
			}
			// Not until the service says that it stopped: it has its pipes until the
			// process ends.
			if e, err := windows.WaitForSingleObject(process, uint32(retryAfter.Milliseconds())); err != nil || e == windows.WAIT_OBJECT_0 {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		// One that hangs must not keep the version out that mends it.
		if err := windows.TerminateProcess(process, 1); err != nil {
			return fmt.Errorf("it does not stop: %w", err)
		}
		_, err = windows.WaitForSingleObject(process, uint32(stopTime.Milliseconds()))
		return err
	})
}

func (system) DeleteService() error {
	return withService(func(s *mgr.Service) error {
		if s == nil {
			return nil
		}
		return s.Delete()
	})
}

func (system) Saved() ([]byte, error) {
	k, err := winreg.Read(saved)
	if err != nil || k == nil {
		return nil, err
	}
	for _, v := range k.Values {
		if v.Name == savedBefore {
			return v.Data, nil
		}
	}
	return nil, nil
}

func (s system) Save(state []byte) error {
	if state == nil {
		return s.SetKey(saved, nil)
	}
	return s.SetKey(saved, &winreg.Key{Values: []winreg.Value{{Name: savedBefore, Type: registry.BINARY, Data: state}}})
}

// PrepareData makes %ProgramData%\Sallyport, in which every user could make it
// before us, and refuses one that others can change.
func (system) PrepareData() error {
	dir := filepath.Dir(config.DefaultPath)
	if err := statefile.MkdirAll(dir); err != nil {
		return err
	}
	return tomlfile.CheckDir(dir)
}
