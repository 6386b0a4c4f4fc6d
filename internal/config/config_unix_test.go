//go:build !windows

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/policy"
	"sallyport/internal/tomlfile"
)

func TestAFileOfCommentsIsTheDefaults(t *testing.T) {
	l, err := Load(put(t, t.TempDir(), "sallyport.toml", "# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l.Config, Default()) {
		t.Errorf("%+v", l.Config)
	}
	c := l.Config
	if c.StateDir != "/var/lib/sallyport" || c.RuntimeDir != "/run/sallyport" || c.Policy.Ask != policy.AskEnrolled || c.AdminGroup != "" ||
		c.Enrolment.AtLogin || c.Enrolment.Remote || time.Duration(c.Limits.PromptTime) != 90*time.Second {
		t.Errorf("the defaults let more happen than they should: %+v", c)
	}
	for _, v := range l.Values {
		if v.Source != "default" {
			t.Errorf("%s comes from %s", v.Key, v.Source)
		}
	}
	if len(c.Authority.Accept) != 8 || c.Authority.AllowExemptions || c.Push.Concurrent != 1 || c.Push.InFiveMinutes != 3 || c.Push.Misses != 3 {
		t.Errorf("the authority may more than it should, or phones ring more often: %+v", c)
	}
	if len(l.Values) != 42 {
		t.Errorf("%d settings are listed", len(l.Values))
	}
}

func TestEverySettingAndWhereItCameFrom(t *testing.T) {
	path := put(t, t.TempDir(), "sallyport.toml", `# comment
state_dir = "/srv/state"
runtime_dir = '/srv/run'
keychain = "tpm"
tpm_device = "/dev/tpmrm1"
admin_group = "helpdesk"
issuer = "ACME"
log = "syslog"
events = 500

[policy]
ask = "required"
required.users = ["alice",
  "bob"]
required.uids = [ 1000 ]
rules = ["all: any"]
[policy.exempt]
groups = ["breakglass"]
services = ["cron"]
remote = ["192.0.2.0/24"]

[enrolment]
at_login = true
remote = true
[limits]
logins_per_uid = 3
logins_total = 30
prompt_time = "2m"
[push]
enabled = false
digits = 6
life = "30s"
allow_synced = false
concurrent = 2
per_service = 0
gap = "45s"
in_five_minutes = 4
in_an_hour = 20
misses = 5
pause = "1h"
[authority]
accept = ["policy", "approvers"]
allow_exemptions = true
[policy.offline]
days = 30
logins = 100
warn_days = 5
warn_logins = 10
`)
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{StateDir: "/srv/state", RuntimeDir: "/srv/run", Keychain: "tpm", TPMDevice: "/dev/tpmrm1", AdminGroup: "helpdesk",
		Issuer: "ACME", Log: "syslog", Events: 500,
		Policy: policy.Rules{Ask: "required", Required: policy.Match{Users: []string{"alice", "bob"}, UIDs: []uint32{1000}},
			Exempt: policy.Match{Groups: []string{"breakglass"}, Services: []string{"cron"}, Remote: []string{"192.0.2.0/24"}},
			Rules:  []string{"all: any"}, Offline: policy.Offline{Days: 30, Logins: 100, WarnDays: 5, WarnLogins: 10}},
		Enrolment: Enrolment{AtLogin: true, Remote: true},
		Limits:    Limits{LoginsPerUID: 3, LoginsTotal: 30, PromptTime: Duration(2 * time.Minute)},
		Push: Push{Digits: 6, Life: Duration(30 * time.Second), Concurrent: 2, Gap: Duration(45 * time.Second), InFiveMinutes: 4, InAnHour: 20,
			Misses: 5, Pause: Duration(time.Hour)},
		Authority: Authority{Accept: []string{"policy", "approvers"}, AllowExemptions: true},
		// No file on this system can set these.
		CredentialProvider: Default().CredentialProvider, SessionGuard: Default().SessionGuard, AuthorizationPlugin: Default().AuthorizationPlugin}
	if !reflect.DeepEqual(l.Config, want) {
		t.Errorf("%+v", l.Config)
	}
	for key, line := range map[string]int{"state_dir": 2, "runtime_dir": 3, "events": 9, "policy.ask": 12, "policy.required.users": 13,
		"policy.required.uids": 15, "policy.rules": 16, "policy.exempt.groups": 18, "policy.exempt.remote": 20, "enrolment.at_login": 23,
		"limits.prompt_time": 28, "push.enabled": 30, "push.pause": 40, "authority.accept": 42, "policy.offline.days": 45} {
		if _, from := source(t, l, key); from != fmt.Sprintf("%s:%d", path, line) {
			t.Errorf("%s comes from %s, want line %d", key, from, line)
		}
	}
	if _, from := source(t, l, "policy.required.groups"); from != "default" {
		t.Errorf("policy.required.groups comes from %s", from)
	}
	for key, want := range map[string]string{"state_dir": "'/srv/state'", "events": "500", "limits.prompt_time": "'2m0s'", "policy.required.users": "['alice', 'bob']"} {
		if value, _ := source(t, l, key); value != want {
			t.Errorf("%s is shown as %s, want %s", key, value, want)
		}
	}
}

func TestSourcesOfOtherSpellings(t *testing.T) {
	path := put(t, t.TempDir(), "sallyport.toml", `
policy = { ask = "required", required = { users = ["alice"] } }
"issuer" = "ACME"
EVENTS = 500
limits.prompt_time = "60s"
`)
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for key, line := range map[string]int{"policy.ask": 2, "policy.required.users": 2, "issuer": 3, "events": 4, "limits.prompt_time": 5} {
		if _, from := source(t, l, key); from != fmt.Sprintf("%s:%d", path, line) {
			t.Errorf("%s comes from %s, want line %d", key, from, line)
		}
	}
	if _, from := source(t, l, "policy.required.groups"); from != "default" {
		t.Errorf("policy.required.groups comes from %s", from)
	}
}

func TestWhatIsRefusedIsNamedWithItsLine(t *testing.T) {
	for text, says := range map[string]string{
		"state_dir = \"/srv\"\n\nstate_dri = \"/srv\"\n": `: line 3: unknown key "state_dri"`,
		"[policy]\nask = \"enrolled\"\nexmpt = 1\n":      `: line 3: unknown key "policy.exmpt"`,
		"[policy.required]\nuser = [\"alice\"]\n":        `: line 2: unknown key "policy.required.user"`,
		"[polcy]\n":                                                    `: line 1: unknown key "polcy"`,
		"[[policy]]\nask = \"enrolled\"\n":                             ": line 1",
		"issuer = \"a\"\nissuer = \"b\"\n":                             ": line 2",
		"[policy]\n[policy]\n":                                         ": line 2",
		"\n\nevents = \"many\"\n":                                      ": line 3",
		"events = 99999999999999999999\n":                              ": line 1",
		"events = 1.5\n":                                               ": line 1",
		"[policy.required]\nusers = \"alice\"\n":                       ": line 2",
		"[policy.required]\nuids = [-1]\n":                             ": line 2",
		"[policy.required]\nuids = [4294967296]\n":                     ": line 2",
		"[policy.required]\nuids = [\"1000\"]\n":                       ": line 2",
		"[enrolment]\nat_login = \"yes\"\n":                            ": line 2",
		"state_dir = \n":                                               ": line 1",
		"state_dir\n":                                                  ": line 1",
		"\x00\n":                                                       ": line 1",
		"issuer = \"\xff\"\n":                                          ": line 1",
		"state_dir = \"relative\"\n":                                   ":1: state_dir is \"relative\"; it must be an absolute path",
		"\nruntime_dir = \"\"\n":                                       ":2: runtime_dir is \"\"; it must be an absolute path",
		"runtime_dir = \"/" + strings.Repeat("r", 90) + "\"\n":         ":1: runtime_dir is 91 bytes long",
		"keychain = \"tmp\"\n":                                         ":1: keychain is \"tmp\"",
		"log = \"stdout\"\n":                                           ":1: log is \"stdout\"",
		"events = 99\n":                                                ":1: events is 99; it must be 100 to 1000000",
		"events = 1000001\n":                                           ":1: events is 1000001",
		"[limits]\nlogins_per_uid = 0\n":                               ":2: limits.logins_per_uid is 0",
		"[limits]\nlogins_total = 10001\n":                             ":2: limits.logins_total is 10001",
		"[limits]\nprompt_time = \"9s\"\n":                             ":2: limits.prompt_time is 9",
		"[limits]\nprompt_time = \"9999ms\"\n":                         ":2: limits.prompt_time is 9",
		"[limits]\nprompt_time = \"-60s\"\n":                           ":2: limits.prompt_time is -1m0s",
		"[limits]\nprompt_time = \"11m\"\n":                            ":2: limits.prompt_time is 11m0s; it must be 10s to 10m, written as \"90s\"",
		"[limits]\nprompt_time = \"soon\"\n":                           ": line 2",
		"[push]\ndigits = 1\n":                                         ":2: push.digits is 1; it must be 2 to 6",
		"[push]\ndigits = 7\n":                                         ":2: push.digits is 7",
		"[push]\nconcurrent = -1\n":                                    ":2: push.concurrent is -1; it must be 0 to 100",
		"[push]\nper_service = 101\n":                                  ":2: push.per_service is 101",
		"[push]\nin_five_minutes = -1\n":                               ":2: push.in_five_minutes is -1",
		"[push]\nin_an_hour = 1001\n":                                  ":2: push.in_an_hour is 1001",
		"[push]\nmisses = -3\n":                                        ":2: push.misses is -3",
		"[push]\nlife = \"61s\"\n":                                     ":2: push.life is 1m1s; it must be 5s to push.gap, which is 1m0s",
		"[push]\nlife = \"4s\"\n":                                      ":2: push.life is 4s",
		"[push]\ngap = \"11m\"\n":                                      ":2: push.gap is 11m0s; it must be 5s to 10m",
		"[push]\ngap = \"0s\"\n":                                       ":2: push.gap is 0s",
		"[push]\npause = \"59s\"\n":                                    ":2: push.pause is 59s; it must be 1m to 24h",
		"[push]\nnumbers = 2\n":                                        ": line 2: unknown key \"push.numbers\"",
		"[authority]\naccept = [\"approvers\", \"settings\"]\n":        ":2: authority.accept names \"settings\"; it may name approvers, policy, totp, recovery, bypass",
		"[limits]\nprompt_time = 60\n":                                 ":2: limits.prompt_time is 60ns",
		"[policy]\nask = \"everyone\"\n":                               ":2: policy.ask is \"everyone\"",
		"[policy]\nask = \"\"\n":                                       ":2: policy.ask is \"\"",
		"[policy.exempt]\nremote = [\"192.0.2.1\", \"office\"]\n":      ":2: policy.exempt.remote: \"office\"",
		"[policy.required]\n\nusers = [\"alice\", \" bob\"]\n":         ":3: policy.required.users: \" bob\" begins",
		"issuer = \"" + strings.Repeat("x", tomlfile.MaxSize) + "\"\n": " is over 1048576 bytes",
		"policy.exempt.groups = [\"ops\"]\npolicy.exempt = {}\n":       ": line 2",
		"issuer = \"a\"\n[policy.required]\nusers = [\"a\"\n":          ": line ",
		"[policy]\nrequired = [\"alice\"]\n":                           ": line 2",
		"[policy.required]\nusers = [\"alice\", [\"bob\"]]\n":          ": line ",
		"[policy.required]\nusers = [\"alice\", 1000]\n":               ": line 2",
		"policy.required.users = [\"alice\"]\n[policy.required]\n":     ": line 2",
	} {
		path := put(t, t.TempDir(), "sallyport.toml", text)
		if why := refused(t, path); !strings.HasPrefix(why, path+says) {
			t.Errorf("%.60q: %s, want %s", text, why, path+says)
		}
	}
}

func TestTheLongestRuntimeDirHasRoomForItsSockets(t *testing.T) {
	dir := "/" + strings.Repeat("r", 88)
	if _, err := Load(put(t, t.TempDir(), "sallyport.toml", fmt.Sprintf("runtime_dir = %q\n", dir))); err != nil {
		t.Fatal(err)
	}
	// unix(7): sun_path holds 108 bytes with the NUL. This is the longest name
	// that localsock makes.
	if n := len(filepath.Join(dir, ".admin.sock.new", "s")) + 1; n > 108 {
		t.Errorf("the path takes %d bytes", n)
	}
}

func TestDropInsWinInTheOrderOfTheirNames(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "issuer = \"main\"\nlog = \"syslog\"\n[policy.required]\nusers = [\"alice\", \"bob\"]\ngroups = [\"staff\"]\n")
	last := put(t, dir, "config.d/50-b.toml", "issuer = \"b\"\n")
	// Written later, but its name comes first.
	first := put(t, dir, "config.d/10-a.toml", "issuer = \"a\"\n[policy.required]\nusers = [\"carol\"]\n[policy]\nask = \"required\"\n")
	put(t, dir, "config.d/60-backup.toml.bak", "nonsense")
	put(t, dir, "config.d/README", "nonsense")
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Issuer, want.Log = "b", "syslog"
	// A list is replaced as a whole; what no drop-in names stays.
	want.Policy.Ask, want.Policy.Required = "required", policy.Match{Users: []string{"carol"}, Groups: []string{"staff"}}
	if !reflect.DeepEqual(l.Config, want) {
		t.Errorf("%+v", l.Config)
	}
	for key, want := range map[string]string{"issuer": last + ":1", "log": path + ":2", "policy.required.users": first + ":3",
		"policy.required.groups": path + ":5", "policy.ask": first + ":5", "events": "default"} {
		if _, from := source(t, l, key); from != want {
			t.Errorf("%s comes from %s, want %s", key, from, want)
		}
	}
}

func TestADropInCanEmptyAList(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "[policy.exempt]\nusers = [\"alice\"]\n")
	put(t, dir, "config.d/a.toml", "[policy.exempt]\nusers = []\n")
	l, err := Load(path)
	if err != nil || len(l.Config.Policy.Exempt.Users) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
	// Also one that is full by default: root takes nothing of the authority's.
	put(t, dir, "config.d/a.toml", "[authority]\naccept = []\n")
	if l, err = Load(path); err != nil || len(l.Config.Authority.Accept) != 0 || len(Default().Authority.Accept) != 8 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestAMistakeIsReportedInTheFileThatMadeIt(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "events = 500\n")
	dropin := put(t, dir, "config.d/a.toml", "\nevents = 5\n")
	if why := refused(t, path); !strings.HasPrefix(why, dropin+":2: events is 5") {
		t.Error(why)
	}
	put(t, dir, "config.d/a.toml", "\n\nevnts = 500\n")
	if why := refused(t, path); !strings.HasPrefix(why, dropin+": line 3: unknown key \"evnts\"") {
		t.Error(why)
	}
	if err := os.Remove(dropin); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("gone", dropin); err != nil {
		t.Fatal(err)
	}
	if why := refused(t, path); !strings.Contains(why, dropin) {
		t.Error(why)
	}
}

func TestAMissingFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "sallyport.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Between ">" and the write, or after a write to a full disk, the file has no
// byte in it. That is no wish for the defaults, which may ask nobody.
func TestTruncatedFileIsNotTheDefaults(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "[policy]\nask = \"required\"\n")
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "sallyport.toml", "")
	want := path + " is empty: it is being written, or the disk was full; put at least a comment line into it"
	if why := refused(t, path); why != want {
		t.Error(why)
	}
	if !l.Changed(path) {
		t.Error("nothing has changed")
	}
	if fresh, err := l.Reload(path, nil); err == nil || fresh != nil || err.Error() != want {
		t.Errorf("%+v, %v", fresh, err)
	}
	for _, text := range []string{"# nothing\n", "#", "\n"} {
		if _, err := Load(put(t, dir, "sallyport.toml", text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// An editor takes the file away and writes it anew. An agent that looks between
// the two must not find itself without rules.
func TestUnlinkedFileIsNotTheDefaults(t *testing.T) {
	const required = "[policy]\nask = \"required\"\n"
	gone := func(t *testing.T, l *Loaded, path string) {
		t.Helper()
		// By the name of a file that need not be there, too.
		for _, optional := range []bool{true, false} {
			fresh, err := load(path, optional, l.there, tomlfile.Own, once)
			if err == nil || fresh != nil || err.Error() != path+" was there and is gone: put it back, or restart the agent to go on without it" {
				t.Errorf("optional %v: %+v, %v", optional, fresh, err)
			}
		}
		if fresh, err := l.Reload(path, nil); err == nil || fresh != nil {
			t.Errorf("%+v, %v", fresh, err)
		}
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("while the agent runs", func(t *testing.T) {
		dir := t.TempDir()
		path := put(t, dir, "sallyport.toml", required)
		l, err := load(path, true, false, tomlfile.Own, once)
		if err != nil {
			t.Fatal(err)
		}
		remove(t, path)
		gone(t, l, path)
		_, _ = l.Reload(path, nil) // however often it is looked for
		put(t, dir, "config.d/a.toml", "events = 500\n")
		gone(t, l, path)
		put(t, dir, "sallyport.toml", required)
		fresh, err := l.Reload(path, nil)
		if err != nil || fresh.Config.Policy.Ask != policy.AskRequired {
			t.Fatalf("%+v, %v", fresh, err)
		}
		remove(t, path)
		gone(t, fresh, path)
	})
	t.Run("that was written after the start", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "sallyport.toml")
		l, err := load(path, true, false, tomlfile.Own, once)
		if err != nil || !reflect.DeepEqual(l.Config, Default()) {
			t.Fatalf("a computer without a file: %+v, %v", l, err)
		}
		if l, err = load(path, true, l.there, tomlfile.Own, once); err != nil {
			t.Fatalf("still without a file: %v", err)
		}
		put(t, dir, "sallyport.toml", required)
		if l, err = l.Reload(path, nil); err != nil {
			t.Fatal(err)
		}
		remove(t, path)
		gone(t, l, path)
	})
	t.Run("that was broken at the start", func(t *testing.T) {
		path := put(t, t.TempDir(), "sallyport.toml", "broken")
		l := Salvaged(path)
		remove(t, path)
		gone(t, l, path)
	})
	t.Run("that broke before it ever was loaded", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "sallyport.toml")
		l, err := load(path, true, false, tomlfile.Own, once)
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, "sallyport.toml", "broken")
		if _, err := l.Reload(path, nil); err == nil {
			t.Fatal("broken, and taken")
		}
		_, _ = l.Reload(path, nil)
		remove(t, path)
		gone(t, l, path)
	})
	t.Run("of a computer that never had one", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir, "config.d/a.toml", "broken")
		path := filepath.Join(dir, "sallyport.toml")
		l := Salvaged(path)
		put(t, dir, "config.d/a.toml", "events = 500\n")
		if fresh, err := load(path, true, l.there, tomlfile.Own, once); err != nil || fresh.Config.Events != 500 {
			t.Errorf("mended, and refused: %+v, %v", fresh, err)
		}
	})
	t.Run("that is a link to nowhere", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sallyport.toml")
		if err := os.Symlink("nowhere", path); err != nil {
			t.Fatal(err)
		}
		if l, err := load(path, true, false, tomlfile.Own, once); err == nil {
			t.Errorf("%+v", l)
		}
	})
}

// Where the sockets are is looked for where Load would have looked: an agent
// with its runtime_dir in a drop-in must be found by its hooks to deny.
func TestSalvageReadsDropIns(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "state_dir = \"/srv/main\"\nruntime_dir = \"/srv/run\"\nbroken")
	put(t, dir, "config.d/20.toml", "state_dir = \"/srv/20\"\n")
	first := put(t, dir, "config.d/10.toml", "state_dir = \"/srv/10\"\nruntime_dir = \"/srv/run10\"\nbroken")
	last := put(t, dir, "config.d/30.toml", "state_dir = \"/srv/30\"\n")
	found := func(state, run string) {
		t.Helper()
		if c := Salvage(path); c.StateDir != state || c.RuntimeDir != run {
			t.Errorf("state %s, sockets %s; want %s, %s", c.StateDir, c.RuntimeDir, state, run)
		}
	}
	found("/srv/30", "/srv/run10")
	// A file that others can change may be anybody's.
	if err := os.Chmod(last, 0o666); err != nil {
		t.Fatal(err)
	}
	found("/srv/20", "/srv/run10")
	if err := os.Remove(path); err != nil { // a drop-in alone will do
		t.Fatal(err)
	}
	found("/srv/20", "/srv/run10")
	if err := os.Chmod(filepath.Dir(first), 0o777); err != nil {
		t.Fatal(err)
	}
	found(Default().StateDir, Default().RuntimeDir)
}

func TestWhoCanChangeAFile(t *testing.T) {
	for mode, accepted := range map[fs.FileMode]bool{0o644: true, 0o600: true, 0o640: true, 0o444: true,
		0o664: false, 0o646: false, 0o666: false, 0o620: false, 0o602: false} {
		path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if accepted != (err == nil) {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), path+" can be changed by others") {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
	// A drop-in is no better.
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "# nothing\n")
	dropin := put(t, dir, "config.d/a.toml", "")
	if err := os.Chmod(dropin, 0o666); err != nil {
		t.Fatal(err)
	}
	if why := refused(t, path); !strings.HasPrefix(why, dropin+" can be changed by others (mode 0666): chmod go-w "+dropin) {
		t.Error(why)
	}
}

func TestWhoCanChangeItsDirectory(t *testing.T) {
	for _, sub := range []string{".", "config.d"} {
		for mode, accepted := range map[fs.FileMode]bool{0o755: true, 0o700: true, 0o777 | fs.ModeSticky: true, 0o777: false, 0o775: false, 0o757: false} {
			dir := t.TempDir()
			path := put(t, dir, "sallyport.toml", "# nothing\n")
			put(t, dir, "config.d/a.toml", "")
			in := filepath.Join(dir, sub)
			if err := os.Chmod(in, mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if accepted != (err == nil) {
				t.Errorf("%s with mode %v: %v", sub, mode, err)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "the directory "+in+" can be changed by others") {
				t.Errorf("%s with mode %v: %v", sub, mode, err)
			}
		}
	}
}

// stranger is a uid that is neither root nor whoever runs the test.
const stranger = 54321

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
}

func TestAFileOfSomebodyElseIsRefused(t *testing.T) {
	needsRoot(t)
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	if err := os.Chown(path, stranger, 0); err != nil {
		t.Fatal(err)
	}
	if why := refused(t, path); !strings.HasPrefix(why, path+" belongs to uid 54321; it must belong to root: chown root "+path) {
		t.Error(why)
	}
	// By way of a symlink, too: what counts is the file it leads to.
	link := filepath.Join(t.TempDir(), "sallyport.toml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if why := refused(t, link); !strings.Contains(why, "belongs to uid 54321") {
		t.Error(why)
	}
	dir := t.TempDir()
	main := put(t, dir, "sallyport.toml", "# nothing\n")
	put(t, dir, "config.d/a.toml", "")
	if err := os.Symlink(path, filepath.Join(dir, "config.d", "b.toml")); err != nil {
		t.Fatal(err)
	}
	if why := refused(t, main); !strings.Contains(why, "belongs to uid 54321") {
		t.Error(why)
	}
	// A symlink to a file of root's is not.
	good := put(t, t.TempDir(), "other.toml", "issuer = \"linked\"\n")
	if err := os.Remove(filepath.Join(dir, "config.d", "b.toml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(good, filepath.Join(dir, "config.d", "b.toml")); err != nil {
		t.Fatal(err)
	}
	if l, err := Load(main); err != nil || l.Config.Issuer != "linked" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestADirectoryOfSomebodyElseIsRefused(t *testing.T) {
	needsRoot(t)
	for _, sub := range []string{".", "config.d"} {
		dir := t.TempDir()
		path := put(t, dir, "sallyport.toml", "# nothing\n")
		put(t, dir, "config.d/a.toml", "")
		if err := os.Chown(filepath.Join(dir, sub), stranger, 0); err != nil {
			t.Fatal(err)
		}
		if why := refused(t, path); !strings.Contains(why, "belongs to uid 54321") {
			t.Error(why)
		}
	}
}

func TestWhatIsNoFileIsRefusedAndNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo.toml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "dir.toml")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, sub, "/dev/null"} {
		if why := refused(t, path); path != "/dev/null" && !strings.Contains(why, "is not a regular file") {
			t.Error(why)
		}
		if c := Salvage(path); !reflect.DeepEqual(c, Default()) {
			t.Errorf("%s: %+v", path, c)
		}
	}
}

// TestDropInsThatCannotBeListed: they may be what requires a second factor.
func TestDropInsThatCannotBeListed(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "# nothing\n")
	put(t, dir, "config.d", "a file")
	refused(t, path)

	// A directory's name is no pattern.
	odd := filepath.Join(t.TempDir(), "[a]*?")
	path = put(t, odd, "sallyport.toml", "# nothing\n")
	put(t, odd, "config.d/a.toml", "issuer = \"odd\"\n")
	if l, err := Load(path); err != nil || l.Config.Issuer != "odd" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestSalvage(t *testing.T) {
	for text, want := range map[string][2]string{
		"":                                    {},
		"state_dir = \"/srv/s\"\nbroken":      {"/srv/s"},
		"\truntime_dir='/srv/r'  # where\n[[": {"", "/srv/r"},
		"state_dir = \"/a\"\nruntime_dir = \"/b\"\nunknown = 1\n": {"/a", "/b"},
		"state_dir = \"relative\"\nx":                             {},
		"state_dir = \"/a\nruntime_dir = /b\n":                    {},
		"# state_dir = \"/a\"\nx":                                 {},
		"my_state_dir = \"/a\"\nx":                                {},
		"state_dir = \"/a\" x\n":                                  {},
	} {
		c := Salvage(put(t, t.TempDir(), "sallyport.toml", text))
		expect := Default()
		if want[0] != "" {
			expect.StateDir = want[0]
		}
		if want[1] != "" {
			expect.RuntimeDir = want[1]
		}
		if !reflect.DeepEqual(c, expect) {
			t.Errorf("%q: %+v", text, c)
		}
	}
	if c := Salvage(filepath.Join(t.TempDir(), "gone")); !reflect.DeepEqual(c, Default()) {
		t.Errorf("%+v", c)
	}
	// What others can change says nothing.
	path := put(t, t.TempDir(), "sallyport.toml", "state_dir = \"/srv/s\"\nbroken")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if c := Salvage(path); !reflect.DeepEqual(c, Default()) {
		t.Errorf("%+v", c)
	}
}

// othersMay are changes of what others may do to the file, or to its directory.
func othersMay(path string) []change {
	return []change{
		{"others may write to it", func() error { return os.Chmod(path, 0o666) }},
		{"they no longer may", func() error { return os.Chmod(path, 0o644) }},
		{"others may write to the directory", func() error { return os.Chmod(filepath.Dir(path), 0o777) }},
	}
}

// TestWhoCanChangeTheManagedPreferences: only root, and not by way of a link, or of
// the directory.
func TestWhoCanChangeTheManagedPreferences(t *testing.T) {
	managed := ownPreferences(t)
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	good := inBinary(t, dict{"issuer": "ACME"})
	elsewhere := filepath.Join(t.TempDir(), "x.plist")
	for name, c := range map[string]struct {
		spoil func() error
		says  string
	}{
		"others may write":         {func() error { return os.Chmod(managed, 0o646) }, managed + " can be changed by others (mode 0646)"},
		"a group may write":        {func() error { return os.Chmod(managed, 0o664) }, managed + " can be changed by others (mode 0664)"},
		"the directory is open":    {func() error { return os.Chmod(filepath.Dir(managed), 0o777) }, "the directory " + filepath.Dir(managed) + " can be changed by others"},
		"a link to nowhere":        {func() error { return errors.Join(os.Remove(managed), os.Symlink(elsewhere, managed)) }, "open " + managed},
		"a directory in its place": {func() error { return errors.Join(os.Remove(managed), os.Mkdir(managed, 0o755)) }, managed + " is not a regular file"},
		"a pipe, which waits":      {func() error { return errors.Join(os.Remove(managed), syscall.Mkfifo(managed, 0o600)) }, managed + " is not a regular file"},
	} {
		prefers(t, good)
		if l, err := Load(path); err != nil || l.Config.Issuer != "ACME" {
			t.Fatalf("%+v, %v", l, err)
		}
		if err := c.spoil(); err != nil {
			t.Fatal(err)
		}
		if why := refused(t, path); !strings.HasPrefix(why, c.says) {
			t.Errorf("%s: %s", name, why)
		}
		if err := os.RemoveAll(filepath.Dir(managed)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPreferencesOfSomebodyElseAreRefused(t *testing.T) {
	needsRoot(t)
	managed := ownPreferences(t)
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	for p, says := range map[string]string{managed: managed, filepath.Dir(managed): "the directory " + filepath.Dir(managed)} {
		prefers(t, inBinary(t, dict{"issuer": "ACME"}))
		if err := os.Chown(p, stranger, 0); err != nil {
			t.Fatal(err)
		}
		if why := refused(t, path); !strings.HasPrefix(why, says+" belongs to uid 54321; it must belong to root") {
			t.Error(why)
		}
		if err := os.RemoveAll(filepath.Dir(managed)); err != nil {
			t.Fatal(err)
		}
	}
}
