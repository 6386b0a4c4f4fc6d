package config

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"sallyport/internal/identity"
	"sallyport/internal/policy"
)

// System is a kind of operating system, as far as settings go.
type System string

// The systems, which differ in their settings.
const (
	Linux   System = "linux"
	MacOS   System = "macos"
	Windows System = "windows"
)

// Here is the system that this program was made for.
const Here = system

// Name is what people call the system.
func (sys System) Name() string {
	return map[System]string{Linux: "Linux", MacOS: "macOS", Windows: "Windows"}[sys]
}

// usualStateDir is where the state is, unless the configuration says otherwise; on
// Windows, where that computer has its ProgramData in the usual place.
func (sys System) usualStateDir() string {
	return map[System]string{Linux: "/var/lib/sallyport", MacOS: "/Library/Application Support/Sallyport/state", Windows: `C:\ProgramData\Sallyport\state`}[sys]
}

// Kind is what a setting is.
type Kind string

// The kinds of settings.
const (
	Bool    Kind = "switch"
	Number  Kind = "number"
	Time    Kind = "duration"
	Text    Kind = "text"
	List    Kind = "list"
	Numbers Kind = "list of numbers" // not on Windows
)

// Setting describes one setting: what the documents, the policy templates, the
// profiles and the readers of managed settings have in common.
type Setting struct {
	Key     string // "policy.required.users"
	Comment string
	Kind    Kind
	Bound   Bound
	Default any // of the field's type
	// Managed says whether Group Policy or MDM can set it; Only, that no file can.
	Managed, Only bool

	index []int // of the field in Config
}

// Bound is what a setting may be. The zero value bounds nothing.
type Bound struct {
	Min, Max int64    // of a number, or of a duration in nanoseconds
	Values   []string // all that a text, or an entry of a list, may be
	Length   int      // of a text, or an entry of a list, in characters as Windows counts them: UTF-16
	Entries  int      // of a list
	// bad says what is wrong with a text or an entry of a list, or "".
	bad func(string) string
}

// bounds are those of every setting that has some.
func bounds(sys System) map[string]Bound {
	keychains, logs := []string{"auto", "tpm", "systemd-credential", "file"}, []string{"stderr", "syslog"}
	switch sys {
	case MacOS:
		keychains, logs = []string{"auto", "system-keychain", "file"}, []string{"oslog", "stderr"}
	case Windows:
		keychains, logs = []string{"auto", "wincred", "file"}, []string{"eventlog", "stderr"}
	}
	number := func(lo, hi int64) Bound { return Bound{Min: lo, Max: hi} }
	between := func(lo, hi time.Duration) Bound { return Bound{Min: int64(lo), Max: int64(hi)} }
	oneOf := func(values ...string) Bound { return Bound{Values: values} }
	return map[string]Bound{
		"state_dir":                  {bad: func(s string) string { return badStateDir(sys, s) }},
		"runtime_dir":                {bad: func(s string) string { return badRuntimeDir(sys, s) }},
		"keychain":                   oneOf(keychains...),
		"log":                        oneOf(logs...),
		"events":                     number(100, 1_000_000),
		"policy.ask":                 oneOf(policy.AskEnrolled, policy.AskRequired),
		"policy.rules":               {Entries: 1000, Length: 1000}, // as package policy has it
		"policy.offline.days":        number(0, 3650),
		"policy.offline.logins":      number(0, 10_000),
		"policy.offline.warn_days":   number(0, 3650),
		"policy.offline.warn_logins": number(0, 10_000),
		"limits.logins_per_uid":      number(1, 1000),
		"limits.logins_total":        number(1, 10000),
		"limits.prompt_time":         between(10*time.Second, 10*time.Minute),
		"push.digits":                number(2, 6),
		"push.life":                  between(5*time.Second, 10*time.Minute),
		"push.concurrent":            number(0, 100),
		"push.per_service":           number(0, 100),
		"push.gap":                   between(5*time.Second, 10*time.Minute),
		"push.in_five_minutes":       number(0, 1000),
		"push.in_an_hour":            number(0, 1000),
		"push.misses":                number(0, 1000),
		"push.pause":                 between(time.Minute, 24*time.Hour),
		"authority.accept":           oneOf(defaults(sys, "").Authority.Accept...),
		// What the provider has room for: credprovider/settings.h.
		"credential_provider.allow":       {Entries: 32, bad: badCLSID},
		"credential_provider.break_glass": {Entries: 32, bad: badSID},
		"credential_provider.message":     {Length: 200, bad: badMessage},
		"credential_provider.pipe":        {Length: 255, bad: badPipe},
		"session_guard.action":            oneOf(GuardOff, GuardReport, GuardLock),
		"session_guard.within":            between(10*time.Second, 10*time.Minute),
	}
}

// Settings lists every setting that a system has, in the order of the struct, but those
// of a section before the sections in it: a file can have them in no other order.
func Settings(sys System) []Setting {
	var list []Setting
	bound, from := bounds(sys), defaults(sys, sys.usualStateDir())
	var walk func(t reflect.Type, prefix string, index []int, managed string)
	walk = func(t reflect.Type, prefix string, index []int, managed string) {
		var below []func()
		for i := range t.NumField() {
			f := t.Field(i)
			if on := f.Tag.Get("os"); on != "" && on != string(sys) && (on != "unix" || sys == Windows) {
				continue
			}
			tag := managed
			if own := f.Tag.Get("managed"); own != "" {
				tag = own
			}
			key, at := prefix+f.Tag.Get("toml"), append(slices.Clone(index), i)
			if f.Type.Kind() == reflect.Struct {
				below = append(below, func() { walk(f.Type, key+".", at, tag) })
				continue
			}
			list = append(list, Setting{Key: key, Comment: f.Tag.Get("comment"), Kind: kindOf(f.Type), Bound: bound[key],
				Default: reflect.ValueOf(from).FieldByIndex(at).Interface(), Managed: tag != "no", Only: tag == "only", index: at})
		}
		for _, section := range below {
			section()
		}
	}
	walk(reflect.TypeFor[Config](), "", nil, "")
	return list
}

func kindOf(t reflect.Type) Kind {
	switch t {
	case reflect.TypeFor[bool]():
		return Bool
	case reflect.TypeFor[int]():
		return Number
	case reflect.TypeFor[Duration]():
		return Time
	case reflect.TypeFor[string]():
		return Text
	case reflect.TypeFor[[]string]():
		return List
	case reflect.TypeFor[[]uint32]():
		return Numbers
	}
	panic("config: no setting can be of the type " + t.String()) // our own struct: a programming error
}

func isSetting(all []Setting, key string) bool {
	return slices.ContainsFunc(all, func(s Setting) bool { return s.Key == key })
}

// notInFiles says why no file on this system may have that key, or "".
func notInFiles(all []Setting, key string) string {
	i := slices.IndexFunc(all, func(s Setting) bool { return s.Key == key })
	switch {
	case i < 0 && system == Windows:
		return "is no setting on Windows"
	case i < 0:
		for _, other := range []System{Windows, MacOS, Linux} {
			if other != system && isSetting(Settings(other), key) {
				return "is a setting on " + other.Name() + " only"
			}
		}
		return "is no setting"
	case all[i].Only:
		return "is read from the registry alone, for it counts while the agent does not run: set it by Group Policy, or in " + ProviderKey
	}
	return ""
}

// validate says what is wrong, beginning with the key.
func (c *Config) validate(sys System) error {
	for _, s := range Settings(sys) {
		if err := s.check(reflect.ValueOf(c).Elem().FieldByIndex(s.index).Interface()); err != nil {
			return err
		}
	}
	if c.Push.Life > c.Push.Gap {
		return fmt.Errorf("push.life is %s; it must be 5s to push.gap, which is %s", time.Duration(c.Push.Life), time.Duration(c.Push.Gap))
	}
	if err := c.Policy.Validate(); err != nil {
		return err
	}
	for key, list := range map[string][]string{"policy.required.groups": c.Policy.Required.Groups, "policy.exempt.groups": c.Policy.Exempt.Groups} {
		for _, entry := range list {
			if isLogonGroup(entry) {
				return fmt.Errorf("%s: %w", key, policy.LogonGroupError(entry))
			}
		}
	}
	return nil
}

// check says what is wrong with one value, beginning with the key.
func (s *Setting) check(value any) error {
	b := s.Bound
	switch v := value.(type) {
	case int:
		if b.Max != 0 && (int64(v) < b.Min || int64(v) > b.Max) {
			return fmt.Errorf("%s is %d; it must be %s", s.Key, v, b)
		}
	case Duration:
		if b.Max != 0 && (int64(v) < b.Min || int64(v) > b.Max) {
			return fmt.Errorf(`%s is %s; it must be %s to %s, written as "90s"`, s.Key, time.Duration(v), Short(b.Min), Short(b.Max))
		}
	case string:
		if len(b.Values) > 0 && !slices.Contains(b.Values, v) {
			return fmt.Errorf("%s is %q; it must be %s", s.Key, v, either(b.Values))
		}
		if n := length(v); b.Length != 0 && n > b.Length {
			return fmt.Errorf("%s has %d characters; there is room for %d", s.Key, n, b.Length)
		}
		if b.bad != nil {
			if why := b.bad(v); why != "" {
				return fmt.Errorf("%s %s", s.Key, why)
			}
		}
	case []string:
		if b.Entries != 0 && len(v) > b.Entries {
			return fmt.Errorf("%s has %d entries; there is room for %d", s.Key, len(v), b.Entries)
		}
		for _, entry := range v {
			if len(b.Values) > 0 && !slices.Contains(b.Values, entry) {
				return fmt.Errorf("%s names %q; it may name %s", s.Key, entry, strings.Join(b.Values, ", "))
			}
			if n := length(entry); b.Length != 0 && n > b.Length {
				return fmt.Errorf("%s: an entry has %d characters; there is room for %d", s.Key, n, b.Length)
			}
			if b.bad != nil {
				if why := b.bad(entry); why != "" {
					return fmt.Errorf("%s: %s", s.Key, why)
				}
			}
		}
	}
	return nil
}

// MayBe says what a setting may be, for the documents; a switch is written in many
// ways.
func (s *Setting) MayBe(aSwitch string) string {
	switch {
	case s.Kind == Bool:
		return aSwitch
	case s.Kind == List && len(s.Bound.Values) > 0:
		return "any of " + strings.Join(s.Bound.Values, ", ")
	case s.Kind == Time:
		return Short(s.Bound.Min) + " to " + Short(s.Bound.Max)
	}
	return s.Bound.String()
}

// String is the bound as a person reads it; "" when there is none.
func (b Bound) String() string {
	switch {
	case len(b.Values) > 0:
		return either(b.Values)
	case b.Max != 0:
		return fmt.Sprintf("%d to %d", b.Min, b.Max)
	case b.Length != 0 && b.Entries != 0:
		return fmt.Sprintf("at most %d entries of at most %d characters", b.Entries, b.Length)
	case b.Length != 0:
		return fmt.Sprintf("at most %d characters", b.Length)
	case b.Entries != 0:
		return fmt.Sprintf("at most %d entries", b.Entries)
	}
	return ""
}

// length is that of a text in UTF-16.
func length(text string) int { return len(utf16.Encode([]rune(text))) }

// Short writes a duration as people do: 10m, not 10m0s.
func Short(nanoseconds int64) string {
	s := time.Duration(nanoseconds).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// either lists alternatives: a, b or c.
func either(values []string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// drive is the beginning of a path on a disk of this computer. A share may be
// out of reach when somebody logs in.
var drive = regexp.MustCompile(`^[A-Za-z]:[\\/]`)

func badStateDir(sys System, dir string) string {
	if sys == Windows && !drive.MatchString(dir) {
		return fmt.Sprintf("is %q; it must be an absolute path on a disk, such as C:\\ProgramData\\Sallyport\\state", dir)
	}
	if sys != Windows && !path.IsAbs(dir) {
		return fmt.Sprintf("is %q; it must be an absolute path", dir)
	}
	return ""
}

func badRuntimeDir(sys System, dir string) string {
	switch {
	case sys == Windows && len(dir) > maxPipe-len(`\admin`):
		return fmt.Sprintf("is %d bytes long; a pipe's name has room for %d", len(dir), maxPipe-len(`\admin`))
	case sys == Windows:
		return badPipe(dir)
	case !path.IsAbs(dir):
		return fmt.Sprintf("is %q; it must be an absolute path", dir)
	case sys == Linux && len(dir) > 89: // with /.login.sock.new/s; sun_path holds 108 bytes: unix(7)
		return fmt.Sprintf("is %d bytes long; a socket's path has room for 89", len(dir))
	case sys == MacOS && len(dir) > 85: // there it holds 104: unix(4)
		return fmt.Sprintf("is %d bytes long; a socket's path has room for 85", len(dir))
	}
	return ""
}

// maxPipe bounds the name of a pipe: CreateNamedPipe.
const maxPipe = 256

// pipeName is a local pipe. Names are held to what nothing on the way rewrites:
// CreateFile takes dots and spaces at the end of a part away.
var pipeName = regexp.MustCompile(`^(?i:\\\\\.\\pipe)(\\[A-Za-z0-9._-]*[A-Za-z0-9_-])+$`)

func badPipe(name string) string {
	if !pipeName.MatchString(name) {
		return fmt.Sprintf(`is %q; it must be a pipe of this computer, such as \\.\pipe\sallyport, of letters, digits, ".", "_" and "-"`, name)
	}
	return ""
}

var clsid = regexp.MustCompile(`^\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}$`)

func badCLSID(entry string) string {
	if !clsid.MatchString(entry) {
		return fmt.Sprintf("%q is not a CLSID such as {60B78E88-EAD8-445C-9CFD-0B87F74EA6CD}", entry)
	}
	return ""
}

func badSID(entry string) string {
	if _, err := identity.SID(entry); err != nil {
		return fmt.Sprintf("%q is not a SID such as S-1-5-21-1-2-3-500", entry)
	}
	return ""
}

func badMessage(text string) string {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "has a control character in it; it is one line"
	}
	return ""
}
