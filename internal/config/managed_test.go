package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/winreg"
)

var dword, sz, multi = winreg.NewNumber, winreg.NewText, winreg.NewTexts

// key makes a key of values and subkeys.
func key(parts ...any) *winreg.Key {
	k := &winreg.Key{}
	for _, p := range parts {
		switch p := p.(type) {
		case winreg.Value:
			k.Values = append(k.Values, p)
		case winreg.Subkey:
			k.Keys = append(k.Keys, p)
		}
	}
	return k
}

func sub(name string, parts ...any) winreg.Subkey {
	return winreg.Subkey{Name: name, Key: *key(parts...)}
}

// fakeRegistry has these keys read in the place of the computer's own.
func fakeRegistry(t *testing.T, keys map[string]*winreg.Key) {
	t.Helper()
	was := readKey
	t.Cleanup(func() { readKey = was })
	readKey = func(path string) (*winreg.Key, error) { return keys[path], nil }
}

// registryNow is what the registry holds.
func registryNow(t *testing.T) *Policies {
	t.Helper()
	p, err := readPolicies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everyPolicy sets every setting that a policy can set, to something that is not
// its default.
func everyPolicy() *winreg.Key {
	match := func(name, who string) winreg.Subkey {
		return sub(name, sub("users", sz("1", who)), multi("sids", "S-1-5-21-1-2-3-1001"), multi("groups", "domain users", "S-1-5-32-545"),
			multi("services", "logonui"), sub("remote", sz("10", "198.51.100.1"), sz("9", "192.0.2.0/24")))
	}
	return key(sz("keychain", "wincred"), sz("admin_group", "helpdesk"), sz("issuer", "ACME"), sz("log", "stderr"), dword("events", 500),
		sub("Policy", sz("ask", "required"), multi("rules", "all: any"), sub("Offline", dword("days", 30), dword("logins", 100), dword("warn_days", 5), dword("warn_logins", 10)), match("Required", "alice"), match("Exempt", "bob")),
		sub("Enrolment", dword("at_login", 1), dword("remote", 1)),
		sub("Limits", dword("logins_per_uid", 3), dword("logins_total", 30), sz("prompt_time", "2m")),
		sub("Push", dword("enabled", 0), dword("digits", 6), sz("life", "30s"), dword("allow_synced", 0), dword("concurrent", 2), dword("per_service", 0),
			sz("gap", "45s"), dword("in_five_minutes", 4), dword("in_an_hour", 20), dword("misses", 5), sz("pause", "1h")),
		sub("Authority", multi("accept", "policy"), dword("allow_exemptions", 1)),
		sub("CredentialProvider", dword("enabled", 0), dword("logon", 0), dword("unlock", 0), dword("credui", 0),
			sub("allow", sz("x", "{60b78e88-ead8-445c-9cfd-0b87f74ea6cd}")), sub("break_glass", sz("S-1-5-21-1-2-3-500", "S-1-5-21-1-2-3-500")),
			sz("message", "Call 4711 – grüezi"), sz("pipe", `\\.\pipe\sallyport-2\login`)),
		sub("SessionGuard", sz("action", "lock"), sz("within", "1m")))
}

func TestEveryPolicy(t *testing.T) {
	c := defaults(Windows, `C:\ProgramData\Sallyport\state`)
	sources := map[string]string{}
	if err := c.lay(everyPolicy(), PoliciesKey, "", sources, new([]string)); err != nil {
		t.Fatal(err)
	}
	if err := c.validate(Windows); err != nil {
		t.Fatal(err)
	}
	fresh := defaults(Windows, c.StateDir)
	n := 0
	for _, s := range Settings(Windows) {
		if !s.Managed {
			continue
		}
		n++
		path, name := s.Registry()
		if path = strings.TrimSuffix(PoliciesKey+`\`+path, `\`); sources[s.Key] != path+": "+name {
			t.Errorf("%s comes from %s", s.Key, sources[s.Key])
		}
		if got := reflect.ValueOf(c).FieldByIndex(s.index).Interface(); reflect.DeepEqual(got, reflect.ValueOf(fresh).FieldByIndex(s.index).Interface()) {
			t.Errorf("%s is still %v", s.Key, got)
		}
	}
	if n != len(sources) || n < 40 {
		t.Errorf("%d settings, %d sources", n, len(sources))
	}
	// One of each kind, to the letter.
	want := []string{"domain users", "S-1-5-32-545"}
	if !reflect.DeepEqual(c.Policy.Required.Groups, want) || !reflect.DeepEqual(c.Policy.Exempt.Users, []string{"bob"}) ||
		!reflect.DeepEqual(c.Policy.Required.Remote, []string{"192.0.2.0/24", "198.51.100.1"}) || c.Events != 500 || c.Push.Enabled || !c.Enrolment.Remote ||
		time.Duration(c.Limits.PromptTime) != 2*time.Minute || c.CredentialProvider.Message != "Call 4711 – grüezi" || c.SessionGuard.Action != GuardLock {
		t.Errorf("%+v", c)
	}
}

// TestPoliciesWin: over the file, over its drop-ins, and over the defaults.
func TestPoliciesWin(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "issuer = \"file\"\nevents = 500\n[policy.required]\nusers = [\"alice\", \"bob\"]\ngroups = [\"staff\"]\n")
	put(t, dir, "config.d/a.toml", "issuer = \"drop-in\"\nadmin_group = \"ops\"\n")
	fakeRegistry(t, map[string]*winreg.Key{PoliciesKey: key(sz("ISSUER", "policy"),
		sub("policy", sub("REQUIRED", sub("Users", sz("1", "carol")))), sub("Authority", multi("accept")))})
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.Issuer != "policy" || c.AdminGroup != "ops" || c.Events != 500 || !reflect.DeepEqual(c.Policy.Required.Users, []string{"carol"}) ||
		!reflect.DeepEqual(c.Policy.Required.Groups, []string{"staff"}) || len(c.Authority.Accept) != 0 {
		t.Errorf("%+v", c)
	}
	for key, want := range map[string]string{"issuer": PoliciesKey + ": issuer", "policy.required.users": PoliciesKey + `\policy\REQUIRED: users`,
		"authority.accept": PoliciesKey + `\Authority: accept`, "events": path + ":2"} {
		if _, from := source(t, l, key); from != want {
			t.Errorf("%s comes from %s, want %s", key, from, want)
		}
	}
	if value, _ := source(t, l, "authority.accept"); value != "[]" {
		t.Errorf("authority.accept is %s", value)
	}
}

func TestThisComputersOwnProviderValuesComeBeforeThePolicies(t *testing.T) {
	fakeRegistry(t, map[string]*winreg.Key{
		ProviderKey: key(sz("message", "local"), dword("credui", 0), sub("break_glass", sz("a", "S-1-5-21-1-2-3-500"))),
		PoliciesKey: key(sub("CredentialProvider", sz("message", "policy"))),
	})
	c, sources := Default(), map[string]string{}
	if _, err := c.manage(registryNow(t), sources); err != nil {
		t.Fatal(err)
	}
	if p := c.CredentialProvider; p.Message != "policy" || p.CredUI || !p.Logon || !reflect.DeepEqual(p.BreakGlass, []string{"S-1-5-21-1-2-3-500"}) {
		t.Errorf("%+v", p)
	}
	if sources["credential_provider.credui"] != ProviderKey+": credui" || sources["credential_provider.message"] != PoliciesKey+`\CredentialProvider: message` {
		t.Errorf("%q", sources)
	}
	// Nothing else can be set there.
	fakeRegistry(t, map[string]*winreg.Key{ProviderKey: key(sz("ask", "enrolled"))})
	if unknown, err := c.manage(registryNow(t), map[string]string{}); err != nil || !slices.Equal(unknown, []string{ProviderKey + ": ask is not a setting"}) {
		t.Errorf("%q, %v", unknown, err)
	}
}

func TestWhatIsLeftOfAPolicyThatWasTakenBackSetsNothing(t *testing.T) {
	fakeRegistry(t, map[string]*winreg.Key{PoliciesKey: key(sub("Policy", sub("Required", sub("users"))), sub("Authority", sub("accept")), sub("Push"))})
	c, sources := Default(), map[string]string{}
	if unknown, err := c.manage(registryNow(t), sources); err != nil || len(unknown)+len(sources) != 0 || !reflect.DeepEqual(c, Default()) {
		t.Errorf("%+v, %q, %q, %v", c, sources, unknown, err)
	}
}

// TestWhatIsNotKnown: templates may be newer than the agent, and must not make it
// refuse everybody, unless they say who is asked.
func TestWhatIsNotKnown(t *testing.T) {
	for _, c := range []struct {
		k       *winreg.Key
		unknown string
	}{
		{key(sz("isuer", "x")), PoliciesKey + ": isuer is not a setting"},
		{key(sz("", "x")), PoliciesKey + ": (Default) is not a setting"},
		{key(sz("tpm_device", "x")), PoliciesKey + ": tpm_device is not a setting"},
		{key(sub("Polcy", dword("ask", 1))), PoliciesKey + `\Polcy is neither a section nor a list of settings`},
		{key(sub("issuer", sz("1", "x"))), PoliciesKey + `\issuer is neither a section nor a list of settings`},
		{key(sub("Push", sz("session_guard.action", "off"))), PoliciesKey + `\Push: session_guard.action is not a setting`},
		{key(sub("Push", sub("Later", sub("x", dword("y", 1))))), PoliciesKey + `\Push\Later is neither a section nor a list of settings`},
		{key(sz("", ""), sub("Policy", sz("", ""), sub("Required", winreg.Value{}))), ""}, // tools leave these behind
		{key(sub("Polcy"), sub("Policy", sub("Later"))), ""},                              // and these are left of what was taken back
	} {
		c.k.Values = append(c.k.Values, dword("events", 500))
		fakeRegistry(t, map[string]*winreg.Key{PoliciesKey: c.k})
		l, err := Load(put(t, t.TempDir(), "sallyport.toml", "# nothing\n"))
		if err != nil {
			t.Errorf("%s: %v", c.unknown, err)
			continue
		}
		if got := strings.Join(l.Unknown, "; "); got != c.unknown || l.Config.Events != 500 {
			t.Errorf("%q, want %q; events %d", got, c.unknown, l.Config.Events)
		}
	}
}

func TestABadPolicyIsNamedWithItsKey(t *testing.T) {
	at := func(section string) string { return PoliciesKey + `\` + section }
	many := make([]string, maxEntries+1)
	for i := range many {
		many[i] = "x"
	}
	for says, k := range map[string]*winreg.Key{
		at("Policy") + ": isuer is not a setting":                                          key(sub("Policy", sz("isuer", "x"))),
		at("policy") + ": (Default) is not a setting":                                      key(sub("policy", sz("", "x"))),
		at("Policy") + `\Require is neither a section nor a list of settings`:              key(sub("Policy", sub("Require", sub("users")))),
		at("Policy") + ": users is not a setting":                                          key(sub("Policy", multi("users", "alice"))),
		at("Policy") + `\Required\ is neither`:                                             key(sub("Policy", sub("Required", sub("", dword("x", 1))))),
		at(`Policy\Required`) + ": uids is not a setting":                                  key(sub("Policy", sub("Required", multi("uids", "0")))),
		PoliciesKey + ": state_dir cannot be set by policy":                                key(sz("state_dir", `C:\x`)),
		PoliciesKey + ": runtime_dir cannot be set by policy":                              key(sz("runtime_dir", `\\.\pipe\x`)),
		PoliciesKey + ": events is REG_SZ; it must be REG_DWORD":                           key(sz("events", "500")),
		PoliciesKey + ": events: events is 99; it must be 100 to 1000000":                  key(dword("events", 99)),
		PoliciesKey + ": events: events is 4294967295":                                     key(dword("events", 1<<32-1)),
		PoliciesKey + ": issuer is REG_DWORD; it must be REG_SZ":                           key(dword("issuer", 1)),
		PoliciesKey + ": issuer is REG_EXPAND_SZ":                                          key(winreg.Value{Name: "issuer", Type: 2}),
		PoliciesKey + ": issuer has a text of 1024 characters; there is room for 1023":     key(sz("issuer", strings.Repeat("ü", 1024))),
		at("Push") + ": enabled is 2; it must be 0 or 1":                                   key(sub("Push", dword("enabled", 2))),
		at("Push") + ": enabled is REG_SZ":                                                 key(sub("Push", sz("enabled", "1"))),
		at("Push") + ": digits: push.digits is 7; it must be 2 to 6":                       key(sub("Push", dword("digits", 7))),
		at("Push") + `: life is "soon"; it must be a duration such as "90s"`:               key(sub("Push", sz("life", "soon"))),
		at("Push") + `: life is ""; it must be a duration`:                                 key(sub("Push", sz("life", ""))),
		at("Push") + `: life is REG_DWORD; it must be REG_SZ`:                              key(sub("Push", dword("life", 60))),
		at("Push") + ": life: push.life is 4s; it must be 5s to 10m":                       key(sub("Push", sz("life", "4s"))),
		at("Limits") + `: prompt_time: limits.prompt_time is 1ms`:                          key(sub("Limits", sz("prompt_time", "1ms"))),
		at("Policy") + `: ask: policy.ask is "everyone"; it must be enrolled or required`:  key(sub("Policy", sz("ask", "everyone"))),
		PoliciesKey + `: keychain: keychain is "nosuch"; it must be auto`:                  key(sz("keychain", "nosuch")),
		at("Authority") + ": accept is REG_SZ; it must be REG_MULTI_SZ":                    key(sub("Authority", sz("accept", "policy"))),
		at("Authority") + `: accept: authority.accept names "settings"`:                    key(sub("Authority", multi("accept", "settings"))),
		at("Authority") + ": accept is there twice":                                        key(sub("Authority", multi("accept", "policy"), sub("Accept", sz("1", "totp")))),
		at("Authority") + `: accept has an entry "2" that is REG_DWORD; it must be REG_SZ`: key(sub("Authority", sub("accept", sz("1", "totp"), dword("2", 1)))),
		at("Authority") + ": accept is a list and has the key x below it":                  key(sub("Authority", sub("accept", sub("x")))),
		at("Authority") + ": accept has 1001 entries; there is room for 1000":              key(sub("Authority", multi("accept", many...))),
		at(`Policy\Required`) + `: users: policy.required.users: "" is empty`:              key(sub("Policy", sub("Required", sub("users", sz("1", ""))))),
		at(`Policy\Exempt`) + `: sids: policy.exempt.sids: "S-1" is not a SID`:             key(sub("Policy", sub("Exempt", sub("sids", sz("1", "S-1"))))),
		at(`Policy\Exempt`) + `: remote: policy.exempt.remote: "office" is not an address`: key(sub("Policy", sub("Exempt", multi("remote", "office")))),
	} {
		fakeRegistry(t, map[string]*winreg.Key{PoliciesKey: k})
		path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
		if why := refused(t, path); !strings.HasPrefix(why, says) {
			t.Errorf("%s\nwant %s", why, says)
		}
	}
}

// TestBadWindowsSettings: those that no other system has are judged in the same
// way, wherever this runs.
func TestBadWindowsSettings(t *testing.T) {
	for says, k := range map[string]*winreg.Key{
		`keychain is "tpm"; it must be auto, wincred or file`:                  key(sz("keychain", "tpm")),
		`log is "syslog"; it must be eventlog or stderr`:                       key(sz("log", "syslog")),
		`session_guard.action is "kill"; it must be off, report or lock`:       key(sub("SessionGuard", sz("action", "kill"))),
		"session_guard.within is 1s; it must be 10s to 10m":                    key(sub("SessionGuard", sz("within", "1s"))),
		`credential_provider.allow: "{1}" is not a CLSID`:                      key(sub("CredentialProvider", sub("allow", sz("1", "{1}")))),
		`credential_provider.break_glass: "Administrator" is not a SID`:        key(sub("CredentialProvider", multi("break_glass", "Administrator"))),
		"credential_provider.message has 201 characters; there is room for 2":  key(sub("CredentialProvider", sz("message", strings.Repeat("ü", 201)))),
		"credential_provider.message has 202 characters":                       key(sub("CredentialProvider", sz("message", strings.Repeat("😀", 101)))),
		"credential_provider.pipe has 256 characters; there is room for 255":   key(sub("CredentialProvider", sz("pipe", `\\.\pipe\`+strings.Repeat("x", 247)))),
		"credential_provider.break_glass has 33 entries; there is room for 32": key(sub("CredentialProvider", multi("break_glass", strings.Fields(strings.Repeat("S-1-5-18 ", 33))...))),
		"credential_provider.allow has 33 entries":                             key(sub("CredentialProvider", multi("allow", strings.Fields(strings.Repeat("{1} ", 33))...))),
		"credential_provider.message has a control character":                  key(sub("CredentialProvider", sz("message", "a\r\nb"))),
		`credential_provider.pipe is "`:                                        key(sub("CredentialProvider", sz("pipe", `\\server\pipe\sallyport\login`))),
	} {
		c := defaults(Windows, `C:\state`)
		if err := c.lay(k, PoliciesKey, "", map[string]string{}, new([]string)); err != nil {
			t.Error(err)
		}
		if err := c.validate(Windows); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v\nwant %s", err, says)
		}
	}
	c := defaults(Windows, `C:\state`)
	c.CredentialProvider.Message = strings.Repeat("ü", 200)
	if err := c.validate(Windows); err != nil {
		t.Error(err)
	}
}

func TestWherePipesAndTheStateMayBe(t *testing.T) {
	for name, ok := range map[string]bool{`\\.\pipe\sallyport`: true, `\\.\PIPE\a\b.c\d`: true, `\\.\pipe\ProtectedPrefix\Administrators\sallyport`: true, `\\.\pipe\x-1_2`: true,
		`\\.\pipe\`: false, `\\.\pipe`: false, `\\.\pipe\\x`: false, `\\.\pipe\x\`: false, `\\.\pipe\..\x`: false, `\\.\pipe\x.`: false, `\\.\pipe\x `: false,
		`\\.\pipe\a/b`: false, `\\server\pipe\x`: false, `//./pipe/x`: false, `\\?\pipe\x`: false, `C:\x`: false, "": false, `\\.\pipe\ü`: false,
		`\\.\pipe\x` + "\n": false, `\\.\pipe\` + strings.Repeat("x", 241): true, `\\.\pipe\` + strings.Repeat("x", 242): false} {
		if why := badRuntimeDir(Windows, name); ok != (why == "") {
			t.Errorf("%q: %s", name, why)
		}
	}
	// With what is appended to it, the longest is a name that there can be.
	if n := len(`\\.\pipe\`) + 241 + len(`\admin`); n != 256 {
		t.Errorf("a pipe's name has %d characters", n)
	}
	for dir, ok := range map[string]bool{`C:\ProgramData\Sallyport\state`: true, `d:/x`: true, `\\server\share\x`: false, `C:x`: false, `\x`: false, `/x`: false, "": false} {
		if why := badStateDir(Windows, dir); ok != (why == "") {
			t.Errorf("%q: %s", dir, why)
		}
	}
}

// A registry that cannot be read may hold what requires a second factor.
func TestARegistryThatCannotBeReadIsAnError(t *testing.T) {
	for _, broken := range []string{PoliciesKey, ProviderKey} {
		was := readKey
		t.Cleanup(func() { readKey = was })
		readKey = func(path string) (*winreg.Key, error) {
			if path == broken {
				return nil, errors.New(path + " cannot be read: access denied")
			}
			return nil, nil
		}
		if why := refused(t, put(t, t.TempDir(), "sallyport.toml", "# nothing\n")); why != broken+" cannot be read: access denied" {
			t.Error(why)
		}
	}
}

func TestSettingsOfAnotherSystemAreRefusedInFiles(t *testing.T) {
	texts := map[string]string{"state_dir = 'x'\n[session_guard]\naction = \"off\"\n": ": line 3: session_guard.action is a setting on Windows only",
		"[credential_provider]\nlogon = false\n":            ": line 2: credential_provider.logon is a setting on Windows only",
		"policy = { required = { sids = [\"S-1-5-18\"] } }": ": line 1: policy.required.sids is a setting on Windows only"}
	if system == Windows {
		texts = map[string]string{"\ntpm_device = 'x'\n": ": line 2: tpm_device is no setting on Windows",
			"[policy.exempt]\nuids = [0]\n": ": line 2: policy.exempt.uids is no setting on Windows",
			"[credential_provider]\nlogon = false\n": ": line 2: credential_provider.logon is read from the registry alone, for it counts while the agent does not run: " +
				`set it by Group Policy, or in HKLM\Software\Sallyport\CredentialProvider`}
	}
	for text, says := range texts {
		path := put(t, t.TempDir(), "sallyport.toml", text)
		if why := refused(t, path); why != path+says {
			t.Error(why)
		}
	}
	l, err := Load(put(t, t.TempDir(), "sallyport.toml", "# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Values) != len(Settings(system)) {
		t.Errorf("%d values of %d settings are shown", len(l.Values), len(Settings(system)))
	}
}

// TestTheTableIsAboutSettings: a bound with a wrong key bounds nothing.
func TestTheTableIsAboutSettings(t *testing.T) {
	for _, sys := range []System{Linux, MacOS, Windows} {
		keys := map[string]Setting{}
		for _, s := range slices.Concat(Settings(Linux), Settings(MacOS), Settings(Windows)) {
			keys[s.Key] = s
		}
		for key, b := range bounds(sys) {
			s, ok := keys[key]
			if !ok {
				t.Errorf("there is no setting %s", key)
			}
			if (b.Max != 0) != (s.Kind == Number || s.Kind == Time) {
				t.Errorf("%s is a %s, with the bounds %v", key, s.Kind, b)
			}
		}
		for _, s := range Settings(sys) {
			if (s.Kind == Number || s.Kind == Time) && s.Bound.Max == 0 {
				t.Errorf("%s has no bounds", s.Key)
			}
			if s.Comment == "" {
				t.Errorf("%s says nothing about itself", s.Key)
			}
			if s.Kind == Numbers && sys == Windows {
				t.Errorf("%s cannot be set by policy", s.Key)
			}
		}
		c := defaults(sys, map[System]string{Linux: "/state", MacOS: "/state", Windows: `C:\state`}[sys])
		if err := c.validate(sys); err != nil {
			t.Errorf("the defaults of %s: %v", sys, err)
		}
	}
}

func TestWhereASettingStandsInTheRegistry(t *testing.T) {
	for key, want := range map[string]string{"events": `: events`, "policy.ask": "Policy: ask", "policy.required.users": `Policy\Required: users`,
		"session_guard.within": "SessionGuard: within", "credential_provider.break_glass": "CredentialProvider: break_glass"} {
		s := Setting{Key: key}
		if k, v := s.Registry(); fmt.Sprintf("%s: %s", k, v) != want {
			t.Errorf("%s is at %s: %s", key, k, v)
		}
	}
}
