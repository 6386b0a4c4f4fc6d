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

// Config is every setting of the agent.
type Config struct {
	StateDir   string       `toml:"state_dir" comment:"the sealed vault and its key"`
	RuntimeDir string       `toml:"runtime_dir" comment:"login.sock and admin.sock"`
	Keychain   string       `toml:"keychain" comment:"auto, tpm, systemd-credential or file; see 'sallyport vault rekey'"`
	TPMDevice  string       `toml:"tpm_device"`
	AdminGroup string       `toml:"admin_group" comment:"group that may read status, users and events; empty: root only"`
	Issuer     string       `toml:"issuer" comment:"what the authenticator app shows; empty: this computer's name"`
	Log        string       `toml:"log" comment:"stderr (the journal, under systemd) or syslog"`
	Events     int          `toml:"events" comment:"how many events the local file keeps"`
	Policy     policy.Rules `toml:"policy"`
	Enrolment  Enrolment    `toml:"enrolment"`
	Limits     Limits       `toml:"limits"`
	Push       Push         `toml:"push"`
	Authority  Authority    `toml:"authority"`
}

// Push says how logins are approved on a phone, where there is an authority.
type Push struct {
	Enabled       bool     `toml:"enabled" comment:"whoever has a phone enrolled is asked by push and code together"`
	Digits        int      `toml:"digits" comment:"of the number to type on the phone, 2 to 6"`
	Life          Duration `toml:"life" comment:"how long a request may be answered; not above gap"`
	AllowSynced   bool     `toml:"allow_synced" comment:"passkeys that are copied between a person's devices count (most phones have only those)"`
	Concurrent    int      `toml:"concurrent" comment:"requests pending at once of one user; 0: no limit"`
	PerService    int      `toml:"per_service" comment:"the same for one service, such as sshd; 0: no limit"`
	Gap           Duration `toml:"gap" comment:"how long a request that is not answered counts as pending"`
	InFiveMinutes int      `toml:"in_five_minutes" comment:"requests of one user; 0: no limit"`
	InAnHour      int      `toml:"in_an_hour" comment:"requests of one user; 0: no limit"`
	Misses        int      `toml:"misses" comment:"requests denied or not answered in a row that switch push off; 0: never"`
	Pause         Duration `toml:"pause" comment:"for how long they do"`
}

// Authority says what root lets the authority do on this computer.
type Authority struct {
	Accept          []string `toml:"accept" comment:"what is taken when the organisation's key signed it: approvers, policy, totp, recovery, bypass"`
	AllowExemptions bool     `toml:"allow_exemptions" comment:"its policy may exempt people and networks; otherwise it can only require more"`
}

// Enrolment says where people may enrol at the login itself.
type Enrolment struct {
	AtLogin bool `toml:"at_login" comment:"required users may enrol at the login, with 'sallyport enrolment open'"`
	Remote  bool `toml:"remote" comment:"also over the network, where whoever has the password could be anybody"`
}

// Limits bound what local callers can use up.
type Limits struct {
	LoginsPerUID int      `toml:"logins_per_uid" comment:"logins at once of one user that is not root"`
	LoginsTotal  int      `toml:"logins_total" comment:"logins at once of all users that are not root"`
	PromptTime   Duration `toml:"prompt_time" comment:"how long a person may take at one prompt; below sshd's LoginGraceTime"`
}

// Duration is a time.Duration written as "90s".
type Duration = tomlfile.Duration

// Default returns the configuration of a computer without a file.
func Default() Config {
	return Config{
		StateDir:   defaultStateDir,
		RuntimeDir: defaultRuntimeDir,
		Keychain:   "auto",
		TPMDevice:  "/dev/tpmrm0",
		Log:        defaultLog,
		Events:     20000,
		Policy:     policy.Rules{Ask: policy.AskEnrolled},
		Limits:     Limits{LoginsPerUID: 8, LoginsTotal: 64, PromptTime: Duration(90 * time.Second)},
		Push: Push{Enabled: true, Digits: 2, Life: Duration(time.Minute), AllowSynced: true, Concurrent: 1, PerService: 1, Gap: Duration(time.Minute),
			InFiveMinutes: 3, InAnHour: 10, Misses: 3, Pause: Duration(15 * time.Minute)},
		Authority: Authority{Accept: []string{"approvers", "policy", "totp", "recovery", "bypass"}},
	}
}

// Value is one setting and where it came from.
type Value = tomlfile.Value

// Loaded is a configuration and its origins.
type Loaded struct {
	Config Config
	Values []Value // every setting, by key
	stamp  string
	// there: the file was seen at least once. From then on its absence is an error.
	there bool
}

// Load reads path and the drop-ins in config.d beside it, in the order of their
// names. A missing file is an error unless it is DefaultPath: a computer without
// one has the defaults.
func Load(path string) (*Loaded, error) { return load(path, path == DefaultPath, false) }

// Reload is Load for an agent that runs. It also refuses a file that was there
// before: an editor that takes it away and writes it anew must not put the
// defaults in force meanwhile, under which fewer people may be asked.
func (l *Loaded) Reload(path string) (*Loaded, error) {
	return load(path, path == DefaultPath, l.there)
}

// load reads the file and its drop-ins. optional: it need not be there, unless
// it was.
func load(path string, optional, was bool) (*Loaded, error) {
	l := &Loaded{Config: Default(), stamp: stamp(path)}
	sources := map[string]string{}
	for _, dir := range []string{filepath.Dir(path), dropinsOf(path)} {
		if err := tomlfile.CheckDir(dir); err != nil {
			return nil, err
		}
	}
	dropins, err := listDropins(path)
	if err != nil {
		return nil, err
	}
	for i, p := range append([]string{path}, dropins...) {
		text, err := tomlfile.ReadOwned(p)
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
			sources[key] = fmt.Sprintf("%s:%d", p, line)
		}
	}
	if err := l.Config.validate(); err != nil {
		// The file to mend is the one the value came from.
		for key, source := range sources {
			if strings.HasPrefix(err.Error(), key+" ") || strings.HasPrefix(err.Error(), key+":") {
				return nil, fmt.Errorf("%s: %w", source, err)
			}
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.Values = tomlfile.Values(&l.Config, sources)
	return l, nil
}

// Changed says whether the files are no longer those that were loaded.
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

// validate says what is wrong, beginning with the key.
func (c *Config) validate() error {
	for key, dir := range map[string]string{"state_dir": c.StateDir, "runtime_dir": c.RuntimeDir} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%s is %q; it must be an absolute path", key, dir)
		}
	}
	if len(c.RuntimeDir) > 90 { // sun_path holds 108 bytes: unix(7)
		return fmt.Errorf("runtime_dir is %d bytes long; a socket's path has room for 90", len(c.RuntimeDir))
	}
	if !slices.Contains([]string{"auto", "tpm", "systemd-credential", "file"}, c.Keychain) {
		return fmt.Errorf("keychain is %q; it must be auto, tpm, systemd-credential or file", c.Keychain)
	}
	if c.Log != "stderr" && c.Log != "syslog" {
		return fmt.Errorf("log is %q; it must be stderr or syslog", c.Log)
	}
	for _, b := range []struct {
		key       string
		v, lo, hi int
	}{
		{"events", c.Events, 100, 1_000_000},
		{"limits.logins_per_uid", c.Limits.LoginsPerUID, 1, 1000},
		{"limits.logins_total", c.Limits.LoginsTotal, 1, 10000},
		{"push.digits", c.Push.Digits, 2, 6},
		{"push.concurrent", c.Push.Concurrent, 0, 100},
		{"push.per_service", c.Push.PerService, 0, 100},
		{"push.in_five_minutes", c.Push.InFiveMinutes, 0, 1000},
		{"push.in_an_hour", c.Push.InAnHour, 0, 1000},
		{"push.misses", c.Push.Misses, 0, 1000},
	} {
		if b.v < b.lo || b.v > b.hi {
			return fmt.Errorf("%s is %d; it must be %d to %d", b.key, b.v, b.lo, b.hi)
		}
	}
	if d := time.Duration(c.Limits.PromptTime); d < 10*time.Second || d > 10*time.Minute {
		return fmt.Errorf("limits.prompt_time is %s; it must be 10s to 10m, written as \"90s\"", d)
	}
	life, gap, pause := time.Duration(c.Push.Life), time.Duration(c.Push.Gap), time.Duration(c.Push.Pause)
	switch {
	case gap < 5*time.Second || gap > 10*time.Minute:
		return fmt.Errorf("push.gap is %s; it must be 5s to 10m", gap)
	case life < 5*time.Second || life > gap:
		return fmt.Errorf("push.life is %s; it must be 5s to push.gap, which is %s", life, gap)
	case pause < time.Minute || pause > 24*time.Hour:
		return fmt.Errorf("push.pause is %s; it must be 1m to 24h", pause)
	}
	for _, kind := range c.Authority.Accept {
		if !slices.Contains(Default().Authority.Accept, kind) {
			return fmt.Errorf("authority.accept names %q; it may name %s", kind, strings.Join(Default().Authority.Accept, ", "))
		}
	}
	return c.Policy.Validate()
}

var dirLine = regexp.MustCompile(`(?m)^\s*(state_dir|runtime_dir)\s*=\s*["']([^"']+)["']\s*(?:#.*)?$`)

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
		for _, m := range dirLine.FindAllSubmatch(text, -1) {
			if dir := string(m[2]); !filepath.IsAbs(dir) {
				continue
			} else if string(m[1]) == "state_dir" {
				c.StateDir = dir
			} else {
				c.RuntimeDir = dir
			}
		}
	}
	return c
}

// Salvaged is what an agent that starts with a broken configuration has in the
// place of a loaded one, until Reload takes the mended one.
func Salvaged(path string) *Loaded { return &Loaded{Config: Salvage(path), there: exists(path)} }

// Seen makes Changed compare with what is on disk now: a broken file is read
// once, not at every login.
func (l *Loaded) Seen(path string) { l.stamp, l.there = stamp(path), l.there || exists(path) }

// exists says whether anything has that name, were it a link to nowhere.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
