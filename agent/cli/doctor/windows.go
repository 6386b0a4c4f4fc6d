package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"sallyport/installer/windows/setup"
	"sallyport/internal/config"
	"sallyport/internal/identity"
	"sallyport/internal/winreg"
)

// Windows is a Windows computer, as the checks see it.
type Windows struct {
	// Key reads a key of the registry and what is below it; nil: it is not there.
	Key func(path string) (*winreg.Key, error)
	// Service is what the service manager knows of the agent; nil: nothing.
	Service func() (*Service, error)
	// Closed says why a file or a directory can be changed by others than the
	// system and the administrators; fs.ErrNotExist: it is not there.
	Closed func(path string) error
	// ProductVersion is what the resources of a program or a DLL say; "": nothing.
	ProductVersion func(path string) (string, error)
	// Account is whose a SID is; fs.ErrNotExist: nobody's.
	Account func(sid string) (Account, error)
	// Holder is which process made a pipe, in words.
	Holder func(pipe string) string
}

// Service is the agent's entry in the service manager.
type Service struct {
	Running   bool
	Automatic bool   // starts with Windows
	Account   string // as the service manager spells it
	Command   string
	Restarts  bool // it is started again after it failed
}

// Account is an account of this computer or its domain.
type Account struct {
	Name     string
	Disabled bool
}

// Where Windows and the provider look. "Credential Providers in Windows",
// "ICredentialProviderFilter".
const (
	authentication  = `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Authentication\`
	providersKey    = authentication + `Credential Providers`
	filtersKey      = authentication + `Credential Provider Filters`
	classKey        = `HKLM\SOFTWARE\Classes\CLSID\` + setup.CLSID
	policiesKey     = config.PoliciesKey + `\CredentialProvider`
	excludedKey     = `HKLM\SOFTWARE\Policies\Microsoft\Windows\System`
	winlogonKey     = `HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon`
	safeBootKey     = `HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\`
	lsaKey          = `HKLM\SYSTEM\CurrentControlSet\Control\Lsa`
	remoteKey       = `HKLM\SOFTWARE\Policies\Microsoft\Windows NT\Terminal Services`
	timeServiceKey  = `HKLM\SYSTEM\CurrentControlSet\Services\W32Time`
	repair          = "repair it: Settings > Apps > Sallyport, or run the installer again"
	restartProvider = "; it takes effect at the next sign-in screen"
)

// genericFilter is Windows' own filter, which every computer has.
const genericFilter = "{DDC0EED2-ADBE-40B6-A217-EDE16A79A0DE}"

// value finds a value of a key by its name; nil when either is not there.
func value(k *winreg.Key, name string) *winreg.Value {
	if k == nil {
		return nil
	}
	for i := range k.Values {
		if strings.EqualFold(k.Values[i].Name, name) {
			return &k.Values[i]
		}
	}
	return nil
}

// subkey finds a key below another one; nil when either is not there.
func subkey(k *winreg.Key, name string) *winreg.Key {
	if k == nil {
		return nil
	}
	for i := range k.Keys {
		if strings.EqualFold(k.Keys[i].Name, name) {
			return &k.Keys[i].Key
		}
	}
	return nil
}

// text is a string of a key; "" when it is not there, or no string.
func text(k *winreg.Key, name string) string {
	v := value(k, name)
	if v == nil {
		return ""
	}
	s, err := v.Text()
	if err != nil {
		return ""
	}
	return s
}

// isNumber says whether a value is there and is that number.
func isNumber(k *winreg.Key, name string, want uint32) bool {
	v := value(k, name)
	if v == nil {
		return false
	}
	n, err := v.Number()
	return err == nil && n == want
}

func unreadable(check string, err error) Result {
	return info(check, "cannot be told: %v (run doctor as administrator)", err)
}

func checkService(_ context.Context, e *Env) []Result {
	s, err := e.Windows.Service()
	switch {
	case err != nil:
		return []Result{unreadable("service", err)}
	case s == nil:
		return []Result{fail("service", repair+"; or: sallyport service install && sallyport service start",
			"the service sallyport is not registered: the agent does not start with Windows")}
	}
	var out []Result
	add := func(r Result) { out = append(out, r) }
	if !s.Running {
		add(fail("service", "sallyport service start; if it does not stay up: the Event Log, Application, source Sallyport", "it is not running"))
	}
	if !s.Automatic {
		add(fail("service", "sc.exe config sallyport start= auto", "it does not start with Windows: nobody who is asked gets in after a restart"))
	}
	if !strings.EqualFold(s.Account, "LocalSystem") {
		add(fail("service", "sc.exe config sallyport obj= LocalSystem", "it runs as %s, not as LocalSystem: the sign-in screen does not trust it", s.Account))
	}
	if !s.Restarts {
		add(warn("service", "sc.exe failure sallyport reset= 86400 actions= restart/0/restart/1000/restart/5000",
			"it is not started again when it fails: nobody who is asked gets in until somebody does"))
	}
	if program := programOf(s.Command); program == "" {
		add(fail("service", repair, "it is not plain which program its command is: %s", s.Command))
	} else if err := e.Windows.Closed(program); err != nil {
		add(fail("service", repair, "%v", err))
	}
	for _, mode := range []string{"Minimal", "Network"} {
		k, err := e.Windows.Key(safeBootKey + mode + `\sallyport`)
		if err == nil && text(k, "") != "Service" {
			add(warn("service", repair, "Windows does not start it in Safe Mode (%s%s\\sallyport): where the provider is loaded there, only break-glass accounts get in", safeBootKey, mode))
			break
		}
	}
	if len(out) == 0 {
		add(ok("service", "it runs as LocalSystem, starts with Windows and in Safe Mode, and is started again when it fails"))
	}
	return out
}

// programOf is the program of a service's command line; "" where Windows would
// have to guess where its path ends.
func programOf(command string) string {
	if rest, quoted := strings.CutPrefix(command, `"`); quoted {
		program, _, closed := strings.Cut(rest, `"`)
		if !closed {
			return ""
		}
		return program
	}
	program, _, _ := strings.Cut(command, " ")
	if !strings.HasSuffix(strings.ToLower(program), ".exe") {
		return ""
	}
	return program
}

func checkPipes(_ context.Context, e *Env) []Result {
	var out []Result
	for _, pipe := range []string{e.LoginSocket, e.AdminSocket} {
		who, err := e.Peer(pipe)
		known := err == nil && (who == identity.System || who == identity.Administrators)
		switch {
		case e.AgentDown != "" && (known || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
			// Said already. Whoever else is there may be why.
		case errors.Is(err, fs.ErrPermission):
			out = append(out, info("pipes", "%s is not for you (run doctor as administrator to check it)", pipe))
		case err != nil:
			out = append(out, fail("pipes", "restart the agent, which makes it: sallyport service restart", "%s: %v; who listens there: %s", pipe, err, e.Windows.Holder(pipe)))
		case who == identity.System:
			out = append(out, ok("pipes", "%s is the system's", pipe))
		case who == identity.Administrators:
			out = append(out, warn("pipes", "stop it, and start the service: sallyport service start", "%s is the administrators': the agent was started by hand, and ends with that session", pipe))
		default:
			out = append(out, fail("pipes", "end the program that listens there; the agent takes its place within a second, if it runs", "%s belongs to %s (%s): the sign-in screen and these commands refuse such an agent", pipe, who, e.Windows.Holder(pipe)))
		}
	}
	return out
}

// checkFiles looks at who may change what the agent and the provider rely on.
func checkFiles(_ context.Context, e *Env) []Result {
	if e.Config == "" {
		return nil
	}
	var out []Result
	// Below %ProgramData% everybody may make files: the directory counts too.
	for _, name := range []string{e.Config[:max(0, strings.LastIndexAny(e.Config, `\/`))], e.Config} {
		err := e.Windows.Closed(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == e.Config:
			out = append(out, info("configuration", "%s is not there: policies and defaults are in force", name))
		case errors.Is(err, fs.ErrPermission):
			out = append(out, unreadable("configuration", err))
		case err != nil:
			out = append(out, fail("configuration", repair, "%v", err))
		}
	}
	if len(out) == 0 {
		out = append(out, ok("configuration", "%s, which only administrators can change", e.Config))
	}
	return out
}

// checkKeychain looks for what takes the vault's key away.
func checkKeychain(_ context.Context, e *Env) []Result {
	if e.Keychain != "wincred" && e.Keychain != "auto" { // the same, on Windows
		return nil
	}
	lsa, err := e.Windows.Key(lsaKey)
	switch {
	case err != nil:
		return []Result{unreadable("keychain", err)}
	case isNumber(lsa, "DisableDomainCreds", 1):
		return []Result{warn("keychain", "sallyport vault rekey --to file, and keychain = \"file\"; or take the policy back",
			"the vault's key is in the Credential Manager, and Windows is set to keep nothing there (DisableDomainCreds = 1 in %s): after a restart it may be gone, and everybody who is enrolled refused", lsaKey)}
	}
	return []Result{ok("keychain", "the vault's key is in the Credential Manager")}
}

// Provider is how the credential provider stands.
type Provider struct {
	Registered bool   `json:"registered"` // with its filter
	DLL        string `json:"dll,omitempty"`
	Enabled    bool   `json:"enabled"` // the emergency switch is not thrown
	Logon      bool   `json:"logon"`   // these are guarded
	Unlock     bool   `json:"unlock"`
	CredUI     bool   `json:"credui"`
	BreakGlass int    `json:"break_glass"` // accounts that get in without an agent
}

// ProviderKeys are the keys of the registry that make Windows use our provider, or not.
func ProviderKeys() []string {
	return []string{providersKey + `\` + setup.CLSID, filtersKey + `\` + setup.CLSID, classKey}
}

// Provider reads how the credential provider stands.
func (w *Windows) Provider() (Provider, error) {
	provider, err := w.Key(providersKey + `\` + setup.CLSID)
	filter, err2 := w.Key(filtersKey + `\` + setup.CLSID)
	class, err3 := w.Key(classKey)
	set, err4 := readSettings(w)
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return Provider{}, err
	}
	p := Provider{Registered: provider != nil && filter != nil, DLL: text(subkey(class, "InprocServer32"), "")}
	p.Enabled, _ = set.on("enabled")
	p.Logon, _ = set.on("logon")
	p.Unlock, _ = set.on("unlock")
	p.CredUI, _ = set.on("credui")
	sids, _ := set.list("break_glass")
	p.BreakGlass = len(sids)
	return p, nil
}

func checkProvider(_ context.Context, e *Env) []Result {
	w := e.Windows
	provider, err := w.Key(providersKey + `\` + setup.CLSID)
	filter, err2 := w.Key(filtersKey + `\` + setup.CLSID)
	class, err3 := w.Key(classKey)
	if err := errors.Join(err, err2, err3); err != nil {
		return []Result{unreadable("provider", err)}
	}
	switch {
	case provider == nil && filter == nil:
		return []Result{warn("provider", repair, "it is not registered: no sign-in asks for a code")}
	case filter == nil:
		return []Result{fail("provider", repair, "its filter is not registered (%s): Windows' own tiles are beside it, and let in with a password alone", filtersKey)}
	case provider == nil:
		return []Result{fail("provider", repair, "it is not registered (%s), and its filter hides the others: nobody gets in", providersKey)}
	}
	var out []Result
	add := func(r Result) { out = append(out, r) }
	if isNumber(provider, "Disabled", 1) {
		add(fail("provider", `delete the value Disabled of `+providersKey+`\`+setup.CLSID, "it is disabled in the registry"))
	}
	if excluded, err := w.Key(excludedKey); err == nil && strings.Contains(strings.ToUpper(text(excluded, "ExcludedCredentialProviders")), setup.CLSID) {
		add(fail("provider", "take it out of the policy: Computer Configuration > Administrative Templates > System > Logon > Exclude credential providers",
			"the policy \"Exclude credential providers\" names it: no sign-in asks for a code"))
	}
	server := subkey(class, "InprocServer32")
	dll := text(server, "")
	switch {
	case dll == "":
		add(fail("provider", repair, `its DLL is not registered (%s\InprocServer32): Windows shows its own tiles, which let in with a password alone`, classKey))
		return out
	case !strings.EqualFold(text(server, "ThreadingModel"), "Apartment"):
		add(fail("provider", repair, `%s\InprocServer32 has the ThreadingModel %q, not Apartment`, classKey, text(server, "ThreadingModel")))
	}
	out = append(out, checkDLL(e, dll)...)
	if len(out) == 0 {
		add(ok("provider", "%s is registered, with its filter", dll))
	}
	add(info("provider", "whether %s is signed is not checked here; see: Get-AuthenticodeSignature", dll))
	return out
}

// isAbsolute says whether a Windows path says where it begins.
func isAbsolute(path string) bool {
	return len(path) > 3 && path[1] == ':' && path[2] == '\\'
}

func checkDLL(e *Env, dll string) []Result {
	if !isAbsolute(dll) {
		return []Result{fail("provider", repair, "its DLL is registered as %s, which is no full path: Windows may load another one", dll)}
	}
	err := e.Windows.Closed(dll)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Result{fail("provider", repair, "%s is not there: Windows shows its own tiles, which let in with a password alone", dll)}
	case err != nil:
		return []Result{fail("provider", repair, "%v", err)}
	}
	version, err := e.Windows.ProductVersion(dll)
	switch {
	case err != nil:
		return []Result{info("provider", "the version of %s cannot be told: %v", dll, err)}
	case version != "" && e.Version != "" && version != e.Version:
		return []Result{warn("provider", repair+"; where an upgrade replaced it just now, restart the computer",
			"%s is version %s, and the agent %s", dll, version, e.Version)}
	}
	return nil
}

// settings are what is set for the credential provider, as it reads it itself:
// the policies' key before the installed one, value by value.
type settings struct{ keys []*winreg.Key }

func readSettings(w *Windows) (settings, error) {
	policies, err := w.Key(policiesKey)
	if err != nil {
		return settings{}, err
	}
	installed, err := w.Key(config.ProviderKey)
	return settings{[]*winreg.Key{policies, installed}}, err
}

// on is a switch; wrong says why its value counts as the default, which is on.
func (p settings) on(name string) (on bool, wrong error) {
	for _, k := range p.keys {
		v := value(k, name)
		if v == nil {
			continue
		}
		n, err := v.Number()
		if err == nil && n > 1 {
			err = fmt.Errorf("%d is neither 0 nor 1", n)
		}
		return err != nil || n == 1, err
	}
	return true, nil
}

// list are the entries of a list: the values of a subkey, as the policy editor
// writes them, and those of a REG_MULTI_SZ.
func (p settings) list(name string) (list []string, err error) {
	for _, k := range p.keys {
		below, v := subkey(k, name), value(k, name)
		if below == nil && v == nil {
			continue
		}
		if below != nil {
			for _, entry := range below.Values {
				s, wrong := entry.Text()
				if wrong != nil {
					err = errors.Join(err, fmt.Errorf(`%s\%s: %w`, name, entry.Name, wrong))
					continue
				}
				list = append(list, s)
			}
		}
		if v != nil {
			texts, wrong := v.Texts()
			if wrong != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", name, wrong))
			}
			list = append(list, texts...)
		}
		break
	}
	return list, err
}

// text is a string; the first key that has it.
func (p settings) text(name string) string {
	for _, k := range p.keys {
		if value(k, name) != nil {
			return text(k, name)
		}
	}
	return ""
}

// scenarios are what can be left to Windows' own providers.
var scenarios = []struct{ name, what string }{
	{"logon", "signing in (and on Windows 10 and later mostly unlocking) asks for no code"},
	{"unlock", "unlocking asks for no code"},
	{"credui", "User Account Control and other credential prompts ask for no code"},
}

// settingsRemedy says where the settings are.
const settingsRemedy = "set it, by policy or in " + policiesKey + restartProvider

// checkSettings looks at what is set for the provider, which reads it itself.
func checkSettings(_ context.Context, e *Env) []Result {
	p, err := readSettings(e.Windows)
	if err != nil {
		return []Result{unreadable("settings", err)}
	}
	var out []Result
	add := func(r Result) { out = append(out, r) }
	enabled, wrong := p.on("enabled")
	if wrong != nil {
		add(warn("settings", settingsRemedy, "enabled is not to be used (%v): it counts as 1", wrong))
	}
	if !enabled {
		add(warn("settings", "when the emergency is over, delete the value enabled, or set it to 1, in "+policiesKey+" and "+config.ProviderKey,
			"the emergency switch is thrown (enabled = 0): no sign-in asks for a code"))
	}
	for _, s := range scenarios {
		on, wrong := p.on(s.name)
		if wrong != nil {
			add(warn("settings", settingsRemedy, "%s is not to be used (%v): it counts as 1", s.name, wrong))
		}
		if !on && enabled {
			add(warn("settings", settingsRemedy, "%s = 0: %s", s.name, s.what))
		}
	}
	if pipe := cmp.Or(p.text("pipe"), config.Default().CredentialProvider.Pipe); !strings.EqualFold(pipe, e.LoginSocket) && e.AgentDown == "" {
		add(fail("settings", settingsRemedy, "the provider asks at %s, and the agent listens on %s: nobody who is asked gets in", pipe, e.LoginSocket))
	}
	allowed, wrong := p.list("allow")
	if wrong != nil {
		add(warn("settings", settingsRemedy, "%v: that entry is left out", wrong))
	}
	all, err := e.Windows.Key(providersKey)
	for _, id := range allowed {
		name := ""
		if err == nil {
			name = text(subkey(all, id), "")
		}
		add(info("settings", "this provider stays visible, and asks for no code: %s %s", id, cmp.Or(name, "(not registered here)")))
	}
	if registered, err := e.Windows.Key(providersKey + `\` + setup.CLSID); len(out) == 0 && err == nil && registered != nil {
		add(ok("settings", "signing in, unlocking and credential prompts are guarded"))
	}
	return out
}

// checkEmergencyAccounts looks at the accounts that get in without an agent.
func checkEmergencyAccounts(_ context.Context, e *Env) []Result {
	p, err := readSettings(e.Windows)
	if err != nil {
		return []Result{unreadable("break-glass", err)}
	}
	sids, wrong := p.list("break_glass")
	var out []Result
	if wrong != nil {
		out = append(out, warn("break-glass", settingsRemedy, "%v: that entry is left out", wrong))
	}
	if len(sids) == 0 {
		return append(out, warn("break-glass", "make a local account for emergencies and set its SID as the policy break_glass",
			"not set up: while the agent is broken, nobody gets in"))
	}
	var names []string
	for _, sid := range sids {
		if _, err := identity.SID(sid); err != nil {
			out = append(out, warn("break-glass", settingsRemedy, "%v", err))
			continue
		}
		account, err := e.Windows.Account(sid)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, warn("break-glass", settingsRemedy, "%s is no account here", sid))
		case err != nil:
			out = append(out, info("break-glass", "%s cannot be looked up now: %v", sid, err))
		case account.Disabled:
			out = append(out, warn("break-glass", "net user "+account.Name[strings.LastIndexByte(account.Name, '\\')+1:]+" /active:yes", "%s is disabled", account.Name))
		default:
			names = append(names, account.Name)
		}
	}
	if len(names) > 0 {
		out = append(out, ok("break-glass", "at the console, with the password alone: %s", strings.Join(names, ", ")))
	}
	return out
}

func checkWindowsTime(ctx context.Context, e *Env) []Result {
	const remedy = "turn it on: sc.exe config w32time start= auto; net start w32time; w32tm /resync"
	const off = "codes are refused once it is more than about a minute off"
	k, err := e.Windows.Key(timeServiceKey + `\Parameters`)
	if err != nil {
		return []Result{unreadable("clock", err)}
	}
	if text(k, "Type") == "NoSync" {
		return []Result{warn("clock", "w32tm /config /syncfromflags:all /update; then: w32tm /resync", "it is set not to be synchronised: %s", off)}
	}
	answer, err := e.Run(ctx, "w32tm", "/query", "/status")
	if err != nil {
		return []Result{warn("clock", remedy, "the time service does not run (w32tm /query /status): %s", off)}
	}
	// The texts are in Windows' language; the first line is the leap indicator of
	// RFC 5905, and 3 is "not synchronised".
	first, _, _ := strings.Cut(string(answer), "\n")
	_, leap, found := strings.Cut(first, ":")
	leap = strings.TrimSpace(leap)
	switch {
	case !found || leap == "":
		return []Result{info("clock", "whether it is synchronised cannot be told from: w32tm /query /status")}
	case leap[0] == '3':
		return []Result{warn("clock", "w32tm /resync", "it is not synchronised: %s", off)}
	}
	return []Result{ok("clock", "synchronised")}
}

// checkOtherWays lists what nothing here guards.
func checkOtherWays(_ context.Context, e *Env) []Result {
	var out []Result
	add := func(r Result) { out = append(out, r) }
	w := e.Windows
	if k, err := w.Key(winlogonKey); err == nil {
		if text(k, "AutoAdminLogon") == "1" {
			add(warn("not covered", "take it out: AutoAdminLogon in "+winlogonKey, "Windows signs %s in by itself at the start", cmp.Or(text(k, "DefaultUserName"), "an account")))
		}
	}
	if k, err := w.Key(providersKey); err == nil && !isNumber(k, "ProhibitFallbacks", 1) {
		add(info("not covered", "Safe Mode asks for the password alone (ProhibitFallbacks of %s is not 1)", providersKey))
	}
	if k, err := w.Key(remoteKey); err == nil && !isNumber(k, "fDisableAutoReconnect", 1) {
		add(info("not covered", "Remote Desktop reconnects by itself without asking for a code (fDisableAutoReconnect of %s is not 1)", remoteKey))
	}
	if k, err := w.Key(lsaKey); err == nil && isNumber(k, "DisableRestrictedAdmin", 0) {
		add(warn("not covered", "delete DisableRestrictedAdmin of "+lsaKey+", or set it to 1",
			"Remote Desktop in Restricted Admin mode is on: administrators sign in with a hash or a ticket, and whether a code is asked for is not shown"))
	}
	if k, err := w.Key(filtersKey); err == nil && k != nil {
		var others []string
		for _, f := range k.Keys {
			if !strings.EqualFold(f.Name, setup.CLSID) && !strings.EqualFold(f.Name, genericFilter) {
				others = append(others, f.Name+" "+text(&f.Key, ""))
			}
		}
		if len(others) > 0 {
			slices.Sort(others)
			add(info("not covered", "other filters decide as well which tiles are shown: %s", strings.Join(others, ", ")))
		}
	}
	add(info("not covered", "no code is asked for by: file shares, WinRM, OpenSSH, scheduled tasks, runas"))
	return out
}
