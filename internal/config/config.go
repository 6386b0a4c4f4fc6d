// Package config is the agent's configuration: one struct, one TOML file, and
// drop-ins beside it that win over it. Unknown keys are errors with the line.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport/internal/policy"
	"sallyport/internal/tomlfile"
)

// Config is every setting of the agent. The tags: comment is what the setting
// does, also for the policy templates; os is the one system that has it, if not
// all do, or "unix" for all but Windows; managed is "no" for what neither Group Policy nor MDM can set, and
// "only" for what stands in the registry alone.
type Config struct {
	StateDir   string       `toml:"state_dir" comment:"the sealed vault and its key" managed:"no"`
	RuntimeDir string       `toml:"runtime_dir" comment:"login.sock and admin.sock; on Windows what the pipes' names begin with" managed:"no"`
	Keychain   string       `toml:"keychain" comment:"where the vault's key is; see 'sallyport vault rekey'"`
	TPMDevice  string       `toml:"tpm_device" comment:"the TPM that keychain names" os:"linux"`
	AdminGroup string       `toml:"admin_group" comment:"group that may read status, users and events; empty: root or Administrators only"`
	Issuer     string       `toml:"issuer" comment:"what the authenticator app shows; empty: this computer's name"`
	Log        string       `toml:"log" comment:"where messages go; stderr is for a program in a terminal, or under systemd"`
	Events     int          `toml:"events" comment:"how many events the local file keeps"`
	Policy     policy.Rules `toml:"policy"`
	Enrolment  Enrolment    `toml:"enrolment"`
	Limits     Limits       `toml:"limits"`
	Push       Push         `toml:"push"`
	Authority  Authority    `toml:"authority"`

	CredentialProvider  CredentialProvider  `toml:"credential_provider" os:"windows" managed:"only"`
	SessionGuard        SessionGuard        `toml:"session_guard" os:"windows"`
	AuthorizationPlugin AuthorizationPlugin `toml:"authorization_plugin" os:"macos"`
}

// Push says how logins are approved on a phone, where there is an authority.
type Push struct {
	Enabled       bool     `toml:"enabled" comment:"whoever has a phone enrolled is asked by push and code together"`
	Digits        int      `toml:"digits" comment:"how many digits the number to type on the phone has"`
	Life          Duration `toml:"life" comment:"how long a request may be answered; not above gap"`
	AllowSynced   bool     `toml:"allow_synced" comment:"passkeys that are copied between a person's devices count (most phones have only those)"`
	Concurrent    int      `toml:"concurrent" comment:"requests pending at once of one user; 0: no limit"`
	PerService    int      `toml:"per_service" comment:"requests pending at once of one user for one service, such as sshd; 0: no limit"`
	Gap           Duration `toml:"gap" comment:"how long a request that is not answered counts as pending"`
	InFiveMinutes int      `toml:"in_five_minutes" comment:"requests of one user in five minutes; 0: no limit"`
	InAnHour      int      `toml:"in_an_hour" comment:"requests of one user in an hour; 0: no limit"`
	Misses        int      `toml:"misses" comment:"requests denied or not answered in a row that switch push off; 0: never"`
	Pause         Duration `toml:"pause" comment:"for how long misses switch push off"`
}

// Authority says what root lets the authority do on this computer.
type Authority struct {
	Accept          []string `toml:"accept" comment:"what is taken when the organisation's key signed it"`
	AllowExemptions bool     `toml:"allow_exemptions" comment:"its policy may exempt people and networks; otherwise it can only require more"`
}

// Enrolment says where people may enrol at the login itself.
type Enrolment struct {
	AtLogin bool `toml:"at_login" comment:"required users may enrol at the login, with 'sallyport enrolment open'"`
	Remote  bool `toml:"remote" comment:"also over the network, where whoever has the password could be anybody"`
}

// Limits bound what local callers can use up.
type Limits struct {
	LoginsPerUID int      `toml:"logins_per_uid" comment:"logins at once of one user that is not root or the system"`
	LoginsTotal  int      `toml:"logins_total" comment:"logins at once of all users that are not root or the system"`
	PromptTime   Duration `toml:"prompt_time" comment:"how long a person may take at one prompt; below sshd's LoginGraceTime"`
}

// CredentialProvider is what the credential provider does on Windows. It reads
// the registry itself, because it has to work while the agent does not; the
// agent checks and shows what it reads.
type CredentialProvider struct {
	Enabled    bool     `toml:"enabled" comment:"the emergency switch: when disabled, Sallyport shows no tile and hides nobody else's"`
	Logon      bool     `toml:"logon" comment:"logging on is guarded; else it is left to Windows"`
	Unlock     bool     `toml:"unlock" comment:"unlocking is guarded; else it is left to Windows, which on Windows 10 and 11 often unlocks by logging on"`
	CredUI     bool     `toml:"credui" comment:"prompts for credentials inside a session are guarded; else they are left to Windows"`
	Allow      []string `toml:"allow" comment:"CLSIDs of other credential providers that stay visible; whoever logs in with one of them is asked for no second factor"`
	BreakGlass []string `toml:"break_glass" comment:"SIDs of accounts that get in with the password alone at the console, whether the agent answers or not"`
	Message    string   `toml:"message" comment:"shown when the agent does not answer, such as the helpdesk's telephone number"`
	Pipe       string   `toml:"pipe" comment:"the agent's pipe for logins, for a second installation"`
}

// SessionGuard is what the service on Windows does about a session that came up
// without a verdict of ours: by another credential provider, or none.
type SessionGuard struct {
	Action string   `toml:"action" comment:"what happens to a session that came up without a second factor"`
	Within Duration `toml:"within" comment:"how old the verdict that a session rests on may be"`
}

// AuthorizationPlugin says which of macOS's rights ask for a second factor. The
// installer and 'sallyport authdb install' put our mechanisms into those.
type AuthorizationPlugin struct {
	Login   bool `toml:"login" comment:"logging in at the login window is guarded"`
	Unlock  bool `toml:"unlock" comment:"unlocking the screen is guarded, and with it what elevate guards; Touch ID then no longer unlocks it"`
	Elevate bool `toml:"elevate" comment:"prompts for an administrator's password inside a session are guarded"`
	Repair  bool `toml:"repair" comment:"at its start the agent puts back what an upgrade of macOS took out of the rights"`
}

// Actions of the session guard.
const (
	GuardOff    = "off"
	GuardReport = "report"
	GuardLock   = "lock"
)

// Duration is a time.Duration written as "90s".
type Duration = tomlfile.Duration

// Default returns the configuration of a computer without a file.
func Default() Config { return defaults(system, defaultStateDir) }

// defaults are those of either system: the policy templates are made on another
// one than they are for.
func defaults(sys System, stateDir string) Config {
	c := Config{
		StateDir:   stateDir,
		RuntimeDir: "/run/sallyport",
		Keychain:   "auto",
		TPMDevice:  "/dev/tpmrm0",
		Log:        "stderr",
		Events:     20000,
		Policy:     policy.Rules{Ask: policy.AskEnrolled, Offline: policy.Offline{WarnDays: 2, WarnLogins: 3}},
		Limits:     Limits{LoginsPerUID: 8, LoginsTotal: 64, PromptTime: Duration(90 * time.Second)},
		Push: Push{Enabled: true, Digits: 2, Life: Duration(time.Minute), AllowSynced: true, Concurrent: 1, PerService: 1, Gap: Duration(time.Minute),
			InFiveMinutes: 3, InAnHour: 10, Misses: 3, Pause: Duration(15 * time.Minute)},
		Authority:          Authority{Accept: []string{"approvers", "policy", "totp", "recovery", "bypass", "unlock", "push_clear", "offline_bypass"}},
		CredentialProvider: CredentialProvider{Enabled: true, Logon: true, Unlock: true, CredUI: true, Pipe: `\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`},
		SessionGuard:       SessionGuard{Action: GuardReport, Within: Duration(2 * time.Minute)},

		AuthorizationPlugin: AuthorizationPlugin{Login: true, Repair: true},
	}
	switch sys {
	case MacOS:
		c.RuntimeDir, c.Log = "/var/run/sallyport", "oslog"
	case Windows:
		c.RuntimeDir, c.Log = `\\.\pipe\ProtectedPrefix\Administrators\sallyport`, "eventlog"
	}
	return c
}

// Value is one setting and where it came from.
type Value = tomlfile.Value

// Loaded is a configuration and its origins.
type Loaded struct {
	Config Config
	Values []Value // every setting, by key
	// Unknown are policies that this version does not know, and goes on without.
	Unknown []string

	stamp    string    // of the files, when they were last looked at
	policies *Policies // that were last looked at; nil: not yet
	// there: the file was seen at least once. From then on its absence is an error.
	there bool
}

// Load reads path, the drop-ins in config.d beside it in the order of their
// names, and the managed settings, each over what came before. A missing file is
// an error unless it is DefaultPath: a computer without one has the defaults.
func Load(path string) (*Loaded, error) {
	return load(path, path == DefaultPath, false, tomlfile.Own, once)
}

// Check is Load for whoever is not the agent's service and asks whether that would
// take the files.
func Check(path string) (*Loaded, error) {
	return load(path, path == DefaultPath, false, tomlfile.System, once)
}

// Files is Load without the managed settings.
func Files(path string) (*Loaded, error) {
	return load(path, path == DefaultPath, false, tomlfile.Own, func(string) (*Policies, error) { return &Policies{}, nil })
}

// Start is Load for an agent that starts.
func Start(path string) (*Loaded, error) {
	return load(path, path == DefaultPath, false, tomlfile.Own, atStart)
}

// Reload reads the files anew, for an agent that runs, and takes p for the managed
// settings; nil: those that it has. Good or bad, they were looked at: Changed and
// Policies tell of what came after them.
//
// It also refuses a file that was there before: an editor that takes it away and
// writes it anew must not put the defaults in force meanwhile, under which fewer
// people may be asked.
func (l *Loaded) Reload(path string, p *Policies) (*Loaded, error) {
	l.stamp = stamp(path)
	if p != nil {
		l.policies = p
	}
	find := atStart
	if l.policies != nil {
		find = func(string) (*Policies, error) { return l.policies, nil }
	}
	fresh, err := load(path, path == DefaultPath, l.there, tomlfile.Own, find)
	if err != nil {
		l.there = l.there || exists(path)
	}
	return fresh, err
}

// Policies are those that were last looked at; nil: none were yet.
func (l *Loaded) Policies() *Policies { return l.policies }

// load reads everything. optional: the file need not be there, unless it was.
// policies finds the managed
// settings of an agent whose state is in a directory.
func load(path string, optional, was bool, trust tomlfile.Trust, policies func(stateDir string) (*Policies, error)) (*Loaded, error) {
	l := &Loaded{Config: Default(), stamp: stamp(path)}
	all, sources := Settings(system), map[string]string{}
	for _, dir := range []string{filepath.Dir(path), dropinsOf(path)} {
		if err := trust.CheckDir(dir); err != nil {
			return nil, err
		}
	}
	dropins, err := listDropins(path)
	if err != nil {
		return nil, err
	}
	for i, p := range append([]string{path}, dropins...) {
		text, err := trust.ReadOwned(p)
		switch missing := i == 0 && errors.Is(err, os.ErrNotExist) && !exists(p); {
		case missing && was:
			return nil, fmt.Errorf("%s was there and is gone: put it back, or restart the agent to go on without it", p)
		case missing && optional:
			continue
		case err != nil:
			return nil, err
		case i == 0 && len(text) == 0:
			// What is left between the truncation and the write, or of a write to a
			// full disk. It says nothing, least of all that nobody is required.
			return nil, fmt.Errorf("%s is empty: it is being written, or the disk was full; put at least a comment line into it", p)
		}
		l.there = l.there || i == 0
		if err := tomlfile.Decode(text, &l.Config); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		for key, line := range tomlfile.Lines(text) {
			if why := notInFiles(all, key); why != "" {
				return nil, fmt.Errorf("%s: line %d: %s %s", p, line, key, why)
			}
			sources[key] = fmt.Sprintf("%s:%d", p, line)
		}
	}
	if l.policies, err = policies(l.Config.StateDir); err != nil {
		return nil, err
	}
	if l.Unknown, err = l.Config.manage(l.policies, sources); err != nil {
		return nil, err
	}
	if err := l.Config.validate(system); err != nil {
		// What is to be mended is where the value came from.
		for key, source := range sources {
			if strings.HasPrefix(err.Error(), key+" ") || strings.HasPrefix(err.Error(), key+":") {
				return nil, fmt.Errorf("%s: %w", source, err)
			}
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.Values = slices.DeleteFunc(tomlfile.Values(&l.Config, sources), func(v Value) bool { return !isSetting(all, v.Key) })
	return l, nil
}

// Changed says whether the files are no longer those that were last looked at.
func (l *Loaded) Changed(path string) bool { return stamp(path) != l.stamp }

// stamp tells versions of the files apart without reading them.
func stamp(path string) string {
	var b strings.Builder
	dropins, _ := listDropins(path) // Load tells of the error
	for _, p := range append([]string{path, filepath.Dir(path), dropinsOf(path)}, dropins...) {
		if stamp := tomlfile.Stamp(p); stamp != "" {
			fmt.Fprintf(&b, "%s %s\n", p, stamp)
		}
	}
	return b.String()
}

// dropinsOf is the directory of the drop-ins to the file at path.
func dropinsOf(path string) string { return filepath.Join(filepath.Dir(path), "config.d") }

// listDropins returns them in the order of their names. A directory that cannot
// be read is an error: the drop-ins may be what requires a second factor.
func listDropins(path string) ([]string, error) {
	entries, err := os.ReadDir(dropinsOf(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") {
			list = append(list, filepath.Join(dropinsOf(path), e.Name()))
		}
	}
	return list, nil
}

var dirLine = regexp.MustCompile(`(?m)^[ \t]*(?:state_dir|runtime_dir)[ \t]*=[^\r\n]*`)

// Salvage finds where the state and the sockets are in files that are otherwise
// broken, so that an agent that starts with them can still deny, and say why.
// As in Load, the drop-ins win. A file that others can change is not read.
func Salvage(path string) Config {
	c := Default()
	files := []string{path}
	if tomlfile.CheckDir(dropinsOf(path)) == nil {
		dropins, _ := listDropins(path)
		files = append(files, dropins...)
	}
	for _, p := range files {
		text, err := tomlfile.ReadOwned(p)
		if err != nil {
			continue
		}
		for _, line := range dirLine.FindAll(text, -1) {
			found := c
			if tomlfile.Decode(line, &found) == nil && badStateDir(system, found.StateDir) == "" && badRuntimeDir(system, found.RuntimeDir) == "" {
				c = found
			}
		}
	}
	return c
}

// Salvaged is what an agent that starts with a broken configuration has in the
// place of a loaded one, until Reload takes the mended one.
func Salvaged(path string) *Loaded { return &Loaded{Config: Salvage(path), there: exists(path)} }

// exists says whether anything has that name, were it a link to nowhere.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
