package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"sallyport/internal/identity"
	"sallyport/internal/winreg"
)

func TestTheDefaultsOfWindows(t *testing.T) {
	c := Default()
	if err := c.validate(system); err != nil {
		t.Error(err)
	}
	// The environment is the user's to set.
	t.Setenv("ProgramData", `C:\elsewhere`)
	if dir := programData(); strings.Contains(dir, "elsewhere") || DefaultPath != dir+`\Sallyport\sallyport.toml` || c.StateDir != dir+`\Sallyport\state` {
		t.Errorf("%s, %s, %s", dir, DefaultPath, c.StateDir)
	}
	if c.RuntimeDir != `\\.\pipe\ProtectedPrefix\Administrators\sallyport` || c.CredentialProvider.Pipe != c.RuntimeDir+`\login` || c.Log != "eventlog" {
		t.Errorf("%+v", c)
	}
}

func TestAFileAsEditorsOnWindowsWriteIt(t *testing.T) {
	for name, text := range map[string]string{"CRLF": "issuer = \"ACME\"\r\n[policy]\r\nask = \"required\"\r\n", "BOM": "\xef\xbb\xbfissuer = \"ACME\"\n[policy]\nask = \"required\"\n"} {
		path := put(t, t.TempDir(), "sallyport.toml", text)
		l, err := Load(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, from := source(t, l, "policy.ask"); l.Config.Issuer != "ACME" || l.Config.Policy.Ask != "required" || from != path+":3" {
			t.Errorf("%s: %+v, %s", name, l.Config, from)
		}
	}
	path := put(t, t.TempDir(), "sallyport.toml", "\xff\xfei\x00")
	if why := refused(t, path); why != path+" is UTF-16: save it as UTF-8" {
		t.Error(why)
	}
	path = put(t, t.TempDir(), "sallyport.toml", "\xef\xbb\xbf")
	if why := refused(t, path); !strings.HasPrefix(why, path+" is empty") {
		t.Error(why)
	}
}

func TestSalvageOfBackslashes(t *testing.T) {
	for text, want := range map[string][2]string{
		"state_dir = 'D:\\srv\\s'\r\nbroken":                          {`D:\srv\s`},
		"state_dir = \"D:\\\\srv\\\\s\" # where\r\n[[":                {`D:\srv\s`},
		"runtime_dir = '\\\\.\\pipe\\other'\r\nunknown = 1\r\n":       {"", `\\.\pipe\other`},
		"state_dir = \"D:\\srv\"\r\nbroken":                           {}, // \s is no escape
		"state_dir = '\\\\server\\share'\r\nbroken":                   {},
		"runtime_dir = '\\\\server\\pipe\\sallyport'\r\nstate_dir =x": {},
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
}

// allow gives a file another access list.
func allow(t *testing.T, path, sddl string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhoCanChangeAFileOrItsDirectory(t *testing.T) {
	me, _ := identity.Self().SID()
	ours := "D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + me + ")"
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "issuer = \"ACME\"\n")
	dropin := put(t, dir, "config.d/a.toml", "# nothing\n")
	for p, says := range map[string]string{path: path, dropin: dropin, dir: "the directory " + dir, filepath.Dir(dropin): "the directory " + filepath.Dir(dropin)} {
		l, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		allow(t, p, ours+"(A;;0x2;;;WD)")
		if why := refused(t, path); !strings.HasPrefix(why, says+" can be changed by others (") || !strings.Contains(why, `: icacls "`+p+`" /inheritance:r /grant:r "*S-1-5-18:`) {
			t.Error(why)
		}
		if !l.Changed(path) {
			t.Errorf("others can change %s, and nothing has changed", p)
		}
		allow(t, p, ours)
	}
}

// othersMay: see TestWhoCanChangeAFileOrItsDirectory.
func othersMay(string) []change { return nil }

func TestWhatIsNoFileIsRefused(t *testing.T) {
	sub := filepath.Join(t.TempDir(), "dir.toml")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if why := refused(t, sub); !strings.Contains(why, "is not a regular file") {
		t.Error(why)
	}
	refused(t, filepath.Join(t.TempDir(), "NUL"))
}

// TestTheRegistryIsReadAndWatched: by way of a real key, in the place of that of
// this computer's policies.
func TestTheRegistryIsReadAndWatched(t *testing.T) {
	scratch := fmt.Sprintf(`Software\SallyportTest%d`, os.Getpid())
	was := readKey
	t.Cleanup(func() { readKey = was })
	readKey = func(path string) (*winreg.Key, error) {
		return winreg.Read(`HKLM\` + scratch + map[string]string{PoliciesKey: "", ProviderKey: "Other"}[path])
	}
	remove := func() {
		for _, k := range []string{`\Policy\Required\users`, `\Policy\Required`, `\Policy`, "", "Other"} {
			if err := registry.DeleteKey(registry.LOCAL_MACHINE, scratch+k); err != nil && err != registry.ErrNotExist {
				t.Error(err)
			}
		}
	}
	t.Cleanup(remove)
	set := func(k, name, text string) {
		t.Helper()
		h, _, err := registry.CreateKey(registry.LOCAL_MACHINE, scratch+k, registry.SET_VALUE|registry.WOW64_64KEY)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.SetStringValue(name, text); err != nil {
			t.Fatal(err)
		}
	}
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	type look struct {
		p   *Policies
		err error
	}
	looks := make(chan look, 100)
	ended := make(chan error, 1)
	go func() {
		known := l.Policies()
		ended <- watch(ctx, []string{`HKLM\` + scratch + "Other", `HKLM\` + scratch}, func() {
			p, err := Settled(ctx, known)
			looks <- look{p, err}
			known = p
		})
	}()
	// wait waits until what the watch sees fulfils something.
	wait := func(what string, is func(*Policies) bool) {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			select {
			case got := <-looks:
				if got.err != nil {
					t.Fatal(got.err)
				}
				if is(got.p) {
					return
				}
				// A refresh deletes what it writes anew: nobody is ever told so.
				if got.p.Managed == nil && l.Policies().Managed != nil {
					t.Fatalf("%s: the policies are gone", what)
				}
			case err := <-ended:
				t.Fatal(err)
			case <-deadline:
				t.Fatalf("%s, and nobody was told", what)
			}
		}
	}
	wait("the beginning", l.Policies().Same)
	set("", "issuer", "ACME")
	set(`\Policy`, "ask", "required")
	wait("a policy is made", func(p *Policies) bool { return p.Managed != nil && len(p.Managed.Keys) == 1 })
	if l, err = l.Reload(path, registryNow(t)); err != nil || l.Config.Policy.Ask != "required" {
		t.Fatalf("%+v, %v", l, err)
	}
	remove()
	set(`\Policy`, "ask", "required")
	set("", "issuer", "ACME")
	wait("a refresh", l.Policies().Same)
	set("Other", "message", "x")
	wait("a value of this computer's own", func(p *Policies) bool { return p.Local != nil })
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the watch does not end")
	}
	set(`\Policy\Required\users`, "1", "alice")
	l, err = l.Reload(path, registryNow(t))
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.Issuer != "ACME" || !reflect.DeepEqual(l.Config.Policy.Required.Users, []string{"alice"}) {
		t.Errorf("%+v", l.Config)
	}
	if _, from := source(t, l, "policy.required.users"); from != PoliciesKey+`\Policy\Required: users` {
		t.Error(from)
	}
	set(`\Policy`, "asks", "x")
	if fresh, err := l.Reload(path, registryNow(t)); err == nil || fresh != nil || err.Error() != PoliciesKey+`\Policy: asks is not a setting` {
		t.Errorf("%+v, %v", fresh, err)
	}
}

func TestGroupsOfLogonsAreRefusedByName(t *testing.T) {
	for _, group := range []string{`NT AUTHORITY\INTERACTIVE`, "interactive", "S-1-5-4"} {
		why := refused(t, put(t, t.TempDir(), "sallyport.toml", "[policy.exempt]\ngroups = ['"+group+"']\n"))
		if !strings.Contains(why, "policy.exempt.groups") || !strings.Contains(why, "tells how somebody logs on") {
			t.Errorf("%s: %s", group, why)
		}
	}
}

// TestRulesFromTheRealRegistry: as the Group Policy editor writes a list, and in the
// order of its numbers, whatever order Windows returns them in.
func TestRulesFromTheRealRegistry(t *testing.T) {
	const top = `Software\Sallyport-test-rules`
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, top+`\Policy\rules`, registry.ALL_ACCESS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = k.Close()
		for _, name := range []string{`\Policy\rules`, `\Policy`, ""} {
			if err := registry.DeleteKey(registry.LOCAL_MACHINE, top+name); err != nil {
				t.Error(err)
			}
		}
	})
	rules := manyRules()
	for i := len(rules); i > 0; i-- {
		if err := k.SetStringValue(fmt.Sprint(i), rules[i-1]); err != nil {
			t.Fatal(err)
		}
	}
	read, err := winreg.Read(`HKLM\` + top)
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	if err := c.lay(read, PoliciesKey, "", map[string]string{}, new([]string)); err != nil {
		t.Fatal(err)
	}
	inOrder(t, "the real registry", Windows, &c)
}
