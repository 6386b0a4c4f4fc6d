package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"sallyport/installer/windows/setup"
	"sallyport/internal/config"
	"sallyport/internal/identity"
	"sallyport/internal/winreg"
)

// registry is a registry, flat: "KEY!value" is a string, a number, or strings;
// "KEY!" is its default value.
type registry map[string]any

func (r registry) key(path string) (*winreg.Key, error) {
	var k *winreg.Key
	below := map[string]bool{}
	for _, full := range slices.Sorted(maps.Keys(r)) {
		dir, name, _ := strings.Cut(full, "!")
		if rest, ok := strings.CutPrefix(dir, path+`\`); ok {
			first, _, _ := strings.Cut(rest, `\`)
			below[first] = true
		} else if dir != path {
			continue
		}
		if k == nil {
			k = &winreg.Key{}
		}
		if dir != path {
			continue
		}
		var v winreg.Value
		switch data := r[full].(type) {
		case error:
			return nil, data
		case string:
			v = winreg.NewText(name, data)
		case int:
			v = winreg.NewNumber(name, uint32(data))
		case []string:
			v = winreg.NewTexts(name, data...)
		}
		k.Values = append(k.Values, v)
	}
	for _, name := range slices.Sorted(maps.Keys(below)) {
		sub, err := r.key(path + `\` + name)
		if err != nil {
			return nil, err
		}
		k.Keys = append(k.Keys, winreg.Subkey{Name: name, Key: *sub})
	}
	return k, nil
}

const (
	dll        = `C:\Program Files\Sallyport\SallyportCredentialProvider.dll`
	rescue     = "S-1-5-21-1-2-3-1108"
	configFile = `C:\ProgramData\Sallyport\sallyport.toml`
)

// windowsPC is a healthy Windows with Sallyport; a case changes what it is about.
// A nil value takes it away.
func windowsPC(changes registry) (*Env, *Service) {
	r := registry{
		providersKey + `\` + setup.CLSID + "!":                    "Sallyport",
		providersKey + `\{60B78E88-EAD8-445C-9CFD-0B87F74EA6CD}!`: "PasswordProvider",
		providersKey + "!ProhibitFallbacks":                       1,
		filtersKey + `\` + setup.CLSID + "!":                      "Sallyport",
		filtersKey + `\` + genericFilter + "!":                    "GenericFilter",
		classKey + "!":                                            "Sallyport",
		classKey + `\InprocServer32!`:                             dll,
		classKey + `\InprocServer32!ThreadingModel`:               "Apartment",
		safeBootKey + `Minimal\sallyport!`:                        "Service",
		safeBootKey + `Network\sallyport!`:                        "Service",
		timeServiceKey + `\Parameters!Type`:                       "NT5DS",
		config.ProviderKey + `\break_glass!1`:                     rescue,
		winlogonKey + "!Shell":                                    "explorer.exe",
		remoteKey + "!fDisableAutoReconnect":                      1,
		lsaKey + "!DisableRestrictedAdmin":                        1,
		lsaKey + "!DisableDomainCreds":                            0,
	}
	maps.Copy(r, changes)
	maps.DeleteFunc(r, func(_ string, v any) bool { return v == nil })
	s := &Service{Running: true, Automatic: true, Account: "LocalSystem", Restarts: true,
		Command: `"C:\Program Files\Sallyport\sallyport.exe" run --service`}
	e := &Env{
		Version: "1.2.3", Keychain: "wincred", Config: configFile, RuntimeDir: `\\.\pipe\ProtectedPrefix\Administrators\sallyport`, LoginSocket: `\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`, AdminSocket: `\\.\pipe\ProtectedPrefix\Administrators\sallyport\admin`,
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			if name != "w32tm" {
				return nil, errors.New("no such program")
			}
			return []byte("Sprungindikator: 0(keine Warnung)\r\nStratum: 3 (Sekundärreferenz)\r\n"), nil
		},
		Peer: func(string) (identity.ID, error) { return identity.System, nil },
		Windows: &Windows{
			Key:            r.key,
			Service:        func() (*Service, error) { return s, nil },
			Closed:         func(string) error { return nil },
			Holder:         func(string) string { return "process 7" },
			ProductVersion: func(string) (string, error) { return "1.2.3", nil },
			Account: func(sid string) (Account, error) {
				if sid != rescue {
					return Account{}, fs.ErrNotExist
				}
				return Account{Name: `PC1\rescue`}, nil
			},
		},
	}
	return e, s
}

func TestAHealthyWindows(t *testing.T) {
	e, _ := windowsPC(nil)
	results := Check(context.Background(), e)
	if bad := said(results, Fail, Warn); bad != "" {
		t.Errorf("%s", bad)
	}
	for _, check := range []string{"agent", "service", "pipes", "configuration", "keychain", "provider", "settings", "clock", "break-glass"} {
		if !slices.ContainsFunc(results, func(r Result) bool { return r.Check == check && r.Status == OK }) {
			t.Errorf("nothing is well with %s:\n%s", check, said(results, OK, Info))
		}
	}
}

func TestWhatIsWrongWithAWindows(t *testing.T) {
	notThere := func(path string) func(*Env) {
		return func(e *Env) {
			e.Windows.Closed = func(p string) error {
				if p == path {
					return fmt.Errorf("%s: %w", p, fs.ErrNotExist)
				}
				return nil
			}
		}
	}
	open := func(path string) func(*Env) {
		return func(e *Env) {
			e.Windows.Closed = func(p string) error {
				if p == path {
					return fmt.Errorf("%s can be changed by others (Users): icacls", p)
				}
				return nil
			}
		}
	}
	time := func(text string, err error) func(*Env) {
		return func(e *Env) {
			e.Run = func(context.Context, string, ...string) ([]byte, error) { return []byte(text), err }
		}
	}
	owner := func(id identity.ID, err error) func(*Env) {
		return func(e *Env) { e.Peer = func(string) (identity.ID, error) { return id, err } }
	}
	for _, c := range []struct {
		name    string
		changes registry
		env     func(*Env)
		service func(*Service)
		status  Status
		check   string
		want    string
	}{
		{"the agent is down", nil, func(e *Env) { e.AgentDown, e.AgentRemedy = "it is not running", "start it" }, nil, Fail, "agent", "not running"},
		{"no service", nil, func(e *Env) { e.Windows.Service = func() (*Service, error) { return nil, nil } }, nil, Fail, "service", "not registered"},
		{"a service that may not be seen", nil, func(e *Env) { e.Windows.Service = func() (*Service, error) { return nil, errors.New("denied") } }, nil, Info, "service", "denied"},
		{"a stopped service", nil, nil, func(s *Service) { s.Running = false }, Fail, "service", "not running"},
		{"a service started by hand", nil, nil, func(s *Service) { s.Automatic = false }, Fail, "service", "start with Windows"},
		{"a service of a user", nil, nil, func(s *Service) { s.Account = `.\alice` }, Fail, "service", `runs as .\alice`},
		{"a service that stays down", nil, nil, func(s *Service) { s.Restarts = false }, Warn, "service", "not started again"},
		{"a path without quotes", nil, nil, func(s *Service) { s.Command = `C:\Program Files\Sallyport\sallyport.exe run` }, Fail, "service", "not plain which program"},
		{"quotes that do not end", nil, nil, func(s *Service) { s.Command = `"C:\x.exe` }, Fail, "service", "not plain which program"},
		{"a program that everybody can change", nil, open(`C:\Program Files\Sallyport\sallyport.exe`), nil, Fail, "service", "can be changed by others"},
		{"not in Safe Mode", registry{safeBootKey + `Network\sallyport!`: nil}, nil, nil, Warn, "service", `SafeBoot\Network`},
		{"a squatter", nil, owner("sid:S-1-5-21-1-2-3-1001", nil), nil, Fail, "pipes", "belongs to sid:S-1-5-21-1-2-3-1001 (process 7)"},
		{"a squatter, and the agent waits", nil, func(e *Env) {
			e.AgentDown, e.AgentRemedy = "it is not running", "start it"
			e.Peer = func(pipe string) (identity.ID, error) {
				if pipe == e.LoginSocket {
					return "sid:S-1-5-21-1-2-3-1001", nil
				}
				return "", fs.ErrNotExist
			}
		}, nil, Fail, "pipes", "belongs to sid:S-1-5-21-1-2-3-1001 (process 7)"},
		{"an agent started by hand", nil, owner("sid:S-1-5-32-544", nil), nil, Warn, "pipes", "by hand"},
		{"a pipe that is not for the caller", nil, owner("", fs.ErrPermission), nil, Info, "pipes", "not for you"},
		{"no pipe", nil, owner("", fs.ErrNotExist), nil, Fail, "pipes", "not exist"},
		{"a configuration for everybody", nil, open(configFile), nil, Fail, "configuration", "can be changed by others"},
		{"its directory is", nil, open(`C:\ProgramData\Sallyport`), nil, Fail, "configuration", "can be changed by others"},
		{"no directory", nil, notThere(`C:\ProgramData\Sallyport`), nil, Fail, "configuration", "not exist"},
		{"no configuration", nil, notThere(configFile), nil, Info, "configuration", "defaults are in force"},
		{"no provider, no filter", registry{providersKey + `\` + setup.CLSID + "!": nil, filtersKey + `\` + setup.CLSID + "!": nil}, nil, nil, Warn, "provider", "not registered"},
		{"no filter", registry{filtersKey + `\` + setup.CLSID + "!": nil}, nil, nil, Fail, "provider", "password alone"},
		{"a filter alone", registry{providersKey + `\` + setup.CLSID + "!": nil}, nil, nil, Fail, "provider", "nobody gets in"},
		{"no class", registry{classKey + `\InprocServer32!`: nil}, nil, nil, Fail, "provider", "DLL is not registered"},
		{"another threading model", registry{classKey + `\InprocServer32!ThreadingModel`: "Both"}, nil, nil, Fail, "provider", `"Both", not Apartment`},
		{"a DLL without its path", registry{classKey + `\InprocServer32!`: "Sallyport.dll"}, nil, nil, Fail, "provider", "no full path"},
		{"no DLL", nil, notThere(dll), nil, Fail, "provider", "is not there"},
		{"a DLL that everybody can change", nil, open(dll), nil, Fail, "provider", "can be changed by others"},
		{"a DLL of another version", nil, func(e *Env) { e.Windows.ProductVersion = func(string) (string, error) { return "1.2.2", nil } }, nil, Warn, "provider", "is version 1.2.2, and the agent 1.2.3"},
		{"disabled", registry{providersKey + `\` + setup.CLSID + "!Disabled": 1}, nil, nil, Fail, "provider", "disabled"},
		{"excluded by policy", registry{excludedKey + "!ExcludedCredentialProviders": "{X}," + strings.ToLower(setup.CLSID)}, nil, nil, Fail, "provider", "Exclude credential providers"},
		{"a registry that cannot be read", registry{classKey + "!": errors.New("broken")}, nil, nil, Info, "provider", "broken"},
		{"the emergency switch", registry{policiesKey + "!enabled": 0}, nil, nil, Warn, "settings", "emergency switch"},
		{"the emergency switch, as installed", registry{config.ProviderKey + "!enabled": 0}, nil, nil, Warn, "settings", "emergency switch"},
		{"a switch that is no number", registry{policiesKey + "!enabled": "0", config.ProviderKey + "!enabled": 0}, nil, nil, Warn, "settings", "counts as 1"},
		{"a switch of 2", registry{policiesKey + "!logon": 2}, nil, nil, Warn, "settings", "neither 0 nor 1"},
		{"logon is not guarded", registry{policiesKey + "!logon": 0}, nil, nil, Warn, "settings", "logon = 0"},
		{"prompts are not guarded", registry{config.ProviderKey + "!credui": 0}, nil, nil, Warn, "settings", "credui = 0"},
		{"another pipe", registry{policiesKey + "!pipe": `\\.\pipe\x`}, nil, nil, Fail, "settings", `asks at \\.\pipe\x`},
		{"a provider that stays", registry{policiesKey + `\allow!1`: "{60B78E88-EAD8-445C-9CFD-0B87F74EA6CD}"}, nil, nil, Info, "settings", "PasswordProvider"},
		{"a provider that stays and is unknown", registry{policiesKey + "!allow": []string{"{X}"}}, nil, nil, Info, "settings", "{X} (not registered here)"},
		{"a list of numbers", registry{policiesKey + `\allow!1`: 7}, nil, nil, Warn, "settings", `allow\1`},
		{"no break-glass", registry{config.ProviderKey + `\break_glass!1`: nil}, nil, nil, Warn, "break-glass", "not set up"},
		{"an empty list by policy", registry{policiesKey + "!break_glass": []string{}}, nil, nil, Warn, "break-glass", "not set up"},
		{"a name for a SID", registry{policiesKey + `\break_glass!1`: "rescue"}, nil, nil, Warn, "break-glass", "is not a SID"},
		{"a SID of nobody", registry{policiesKey + `\break_glass!1`: "S-1-5-21-9-9-9-9"}, nil, nil, Warn, "break-glass", "no account here"},
		{"a disabled account", nil, func(e *Env) {
			e.Windows.Account = func(string) (Account, error) { return Account{Name: `PC1\rescue`, Disabled: true}, nil }
		}, nil, Warn, "break-glass", `PC1\rescue is disabled`},
		{"a domain that does not answer", nil, func(e *Env) {
			e.Windows.Account = func(string) (Account, error) { return Account{}, errors.New("the trust relationship failed") }
		}, nil, Info, "break-glass", "trust relationship"},
		{"time that is not synchronised", nil, time("Leap Indicator: 3(not synchronized)\r\n", nil), nil, Warn, "clock", "not synchronised"},
		{"no time service", nil, time("", errors.New("exit status 1062")), nil, Warn, "clock", "does not run"},
		{"a time service that says nothing", nil, time("", nil), nil, Info, "clock", "cannot be told"},
		{"time off by setting", registry{timeServiceKey + `\Parameters!Type`: "NoSync"}, nil, nil, Warn, "clock", "not to be synchronised"},
		{"Safe Mode is open", registry{providersKey + "!ProhibitFallbacks": nil}, nil, nil, Info, "not covered", "Safe Mode"},
		{"automatic logon", registry{winlogonKey + "!AutoAdminLogon": "1", winlogonKey + "!DefaultUserName": "kiosk"}, nil, nil, Warn, "not covered", "kiosk"},
		{"automatic reconnection", registry{remoteKey + "!fDisableAutoReconnect": nil}, nil, nil, Info, "not covered", "fDisableAutoReconnect"},
		{"automatic reconnection, allowed", registry{remoteKey + "!fDisableAutoReconnect": 0}, nil, nil, Info, "not covered", "fDisableAutoReconnect"},
		{"Restricted Admin", registry{lsaKey + "!DisableRestrictedAdmin": 0}, nil, nil, Warn, "not covered", "Restricted Admin"},
		{"nothing is stored", registry{lsaKey + "!DisableDomainCreds": 1}, nil, nil, Warn, "keychain", "everybody who is enrolled refused"},
		{"nothing is to be stored", registry{lsaKey + "!DisableDomainCreds": 1}, func(e *Env) { e.Keychain = "auto" }, nil, Warn, "keychain", "DisableDomainCreds"},
		{"a key that cannot be told of", registry{lsaKey + "!DisableDomainCreds": errors.New("denied")}, nil, nil, Info, "keychain", "denied"},
		{"a policy of a later version", nil, func(e *Env) { e.Problems = []Problem{{Text: "does not know", Remedy: "update", Warning: true}} }, nil, Warn, "agent", "does not know"},
		{"a broken vault", nil, func(e *Env) { e.Problems = []Problem{{Text: "broken", Remedy: "mend"}} }, nil, Fail, "agent", "broken"},
		{"another filter", registry{filtersKey + `\{X}!`: "Other"}, nil, nil, Info, "not covered", "{X} Other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, s := windowsPC(c.changes)
			if c.env != nil {
				c.env(e)
			}
			if c.service != nil {
				c.service(s)
			}
			results := Check(context.Background(), e)
			for _, r := range results {
				if (r.Status == Fail || r.Status == Warn) && r.Remedy == "" {
					t.Errorf("no remedy for: %s", r.Text)
				}
			}
			if !slices.ContainsFunc(results, func(r Result) bool {
				return r.Status == c.status && r.Check == c.check && strings.Contains(r.Text, c.want)
			}) {
				t.Errorf("no %s %s with %q in:\n%s", c.status, c.check, c.want, said(results, Fail, Warn, Info, OK))
			}
			if slices.ContainsFunc(results, func(r Result) bool { return r.Status == OK && r.Check == c.check }) && c.status == Fail && c.check != "agent" {
				t.Errorf("and all is well with it:\n%s", said(results, OK))
			}
		})
	}
}

// TestAKeyInAFile is none of the Credential Manager's business; and Restricted Admin
// is off unless it is switched on.
func TestAKeyInAFile(t *testing.T) {
	e, _ := windowsPC(registry{lsaKey + "!DisableDomainCreds": 1, lsaKey + "!DisableRestrictedAdmin": nil})
	e.Keychain = "file"
	if bad := said(Check(context.Background(), e), Fail, Warn); bad != "" {
		t.Errorf("%s", bad)
	}
}

// TestNothingIsGuardedWithoutAProvider: its settings alone are not well.
func TestNothingIsGuardedWithoutAProvider(t *testing.T) {
	e, _ := windowsPC(registry{providersKey + `\` + setup.CLSID + "!": nil, filtersKey + `\` + setup.CLSID + "!": nil})
	if got := said(Check(context.Background(), e), OK); strings.Contains(got, "guarded") {
		t.Errorf("%s", got)
	}
}

// TestThePolicysValueWins: what was installed counts only where the policy says
// nothing, and an empty list is something.
func TestThePolicysValueWins(t *testing.T) {
	e, _ := windowsPC(registry{policiesKey + "!logon": 1, config.ProviderKey + "!logon": 0,
		policiesKey + `\break_glass!9`: rescue, config.ProviderKey + `\break_glass!1`: "S-1-5-21-9-9-9-9"})
	if bad := said(Check(context.Background(), e), Fail, Warn); bad != "" {
		t.Errorf("%s", bad)
	}
}
