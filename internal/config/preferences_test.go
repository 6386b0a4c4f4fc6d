package config

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"howett.net/plist"

	"sallyport/internal/tomlfile"
)

// dict is a dictionary of a property list.
type dict = map[string]any

// inXML and inBinary are the two forms of a property list.
func inXML(t testing.TB, v any) []byte    { return marshal(t, v, plist.XMLFormat) }
func inBinary(t testing.TB, v any) []byte { return marshal(t, v, plist.BinaryFormat) }

func marshal(t testing.TB, v any, format int) []byte {
	t.Helper()
	b, err := plist.Marshal(v, format)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ownPreferences has this computer have a file of managed preferences, below a
// directory that is not there yet, and returns its path.
func ownPreferences(t *testing.T) string {
	t.Helper()
	was := preferencesPath
	t.Cleanup(func() { preferencesPath = was })
	preferencesPath = filepath.Join(t.TempDir(), "Managed Preferences", "com.sallyport.agent.plist")
	return preferencesPath
}

// prefers writes the file, as MDM does: whole, and with a rename.
func prefers(t *testing.T, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(preferencesPath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(preferencesPath+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(preferencesPath+".new", preferencesPath); err != nil {
		t.Fatal(err)
	}
}

// everyPreference sets every setting that can be managed on macOS, to something
// that is not its default.
const everyPreference = `keychain = "system-keychain"
admin_group = "helpdesk"
issuer = "ACME – grüezi & <co>"
log = "stderr"
events = 500
[policy]
ask = "required"
required = { users = ["alice"], uids = [501, 4294967295], groups = ["staff"], services = ["loginwindow"], remote = ["192.0.2.0/24"] }
rules = ["all: any"]
offline = { days = 30, logins = 100, warn_days = 5, warn_logins = 10 }
exempt = { users = ["bob"], uids = [502], groups = ["wheel"], services = ["sudo"], remote = ["198.51.100.1"] }
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
accept = []
allow_exemptions = true
[authorization_plugin]
login = false
unlock = true
elevate = true
repair = false
`

func TestEveryPreference(t *testing.T) {
	root, err := Preferences([]byte(everyPreference))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults(MacOS, "/state")
	if err := tomlfile.Decode([]byte(everyPreference), &want); err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string][]byte{"XML": inXML(t, root), "binary": inBinary(t, root)} {
		c, sources := defaults(MacOS, "/state"), map[string]string{}
		var unknown []string
		if err := c.prefer(text, PreferencesPath, sources, &unknown); err != nil || len(unknown) > 0 || !reflect.DeepEqual(c, want) {
			t.Errorf("%s: %+v\nwant %+v, %q, %v", form, c, want, unknown, err)
		}
		n := 0
		for _, s := range Settings(MacOS) {
			if !s.Managed {
				continue
			}
			n++
			if sources[s.Key] != PreferencesPath+": "+s.Key {
				t.Errorf("%s: %s comes from %s", form, s.Key, sources[s.Key])
			}
			if got := reflect.ValueOf(c).FieldByIndex(s.index).Interface(); reflect.DeepEqual(got, s.Default) {
				t.Errorf("%s: %s is still %v", form, s.Key, got)
			}
		}
		if n != len(sources) || n < 35 {
			t.Errorf("%s: %d settings, %d sources", form, n, len(sources))
		}
	}
}

func TestPreferencesWin(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "issuer = \"file\"\nevents = 500\n[policy.required]\nusers = [\"alice\", \"bob\"]\ngroups = [\"staff\"]\n")
	put(t, dir, "config.d/a.toml", "issuer = \"drop-in\"\nadmin_group = \"ops\"\n")
	managed := ownPreferences(t)
	if l, err := Load(path); err != nil || l.Config.Issuer != "drop-in" {
		t.Fatalf("without any: %+v, %v", l, err)
	}
	prefers(t, inBinary(t, dict{"issuer": "managed", "policy": dict{"required": dict{"users": []string{"carol"}}}, "authority": dict{"accept": []string{}}}))
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.Issuer != "managed" || c.AdminGroup != "ops" || c.Events != 500 || !slices.Equal(c.Policy.Required.Users, []string{"carol"}) ||
		!slices.Equal(c.Policy.Required.Groups, []string{"staff"}) || len(c.Authority.Accept) != 0 {
		t.Errorf("%+v", c)
	}
	for key, want := range map[string]string{"issuer": managed + ": issuer", "policy.required.users": managed + ": policy.required.users", "events": path + ":2"} {
		if _, from := source(t, l, key); from != want {
			t.Errorf("%s comes from %s, want %s", key, from, want)
		}
	}
}

// TestWhatPreferencesDoNotKnow: as on Windows, a profile may be newer than the
// agent, unless it says who is asked.
func TestWhatPreferencesDoNotKnow(t *testing.T) {
	at := PreferencesPath + ": "
	for _, c := range []struct {
		d       dict
		unknown string
	}{
		{dict{"isuer": "x"}, "isuer"},
		{dict{"": "x"}, ""},
		{dict{"Issuer": "x"}, "Issuer"},
		{dict{"tpm_device": "x"}, "tpm_device"},
		{dict{"PayloadUUID": "x"}, "PayloadUUID"},
		{dict{"push.digits": 4}, "push.digits"}, // not nested
		{dict{"push": dict{"later": dict{"x": []any{dict{"y": 1}}}}}, "push.later"},
		{dict{"session_guard": dict{"action": "off"}}, "session_guard"},
	} {
		c.d["events"] = 500
		got, unknown, err := Preferred(inBinary(t, c.d))
		if err != nil || got.Events != 500 || !slices.Equal(unknown, []string{at + c.unknown + " is not a setting"}) {
			t.Errorf("%v: %d events, %q, %v", c.d, got.Events, unknown, err)
		}
	}
}

func TestABadPreferenceIsNamedWithItsKey(t *testing.T) {
	long := strings.Repeat("ü", MaxText+1)
	for says, d := range map[string]dict{
		"policy.isuer is not a setting":                                            {"policy": dict{"isuer": "x"}},
		"policy.required.sids is not a setting":                                    {"policy": dict{"required": dict{"sids": []string{"S-1-5-18"}}}},
		"policy.users is not a setting":                                            {"policy": dict{"users": []string{"alice"}}},
		"Policy is not a setting":                                                  {"Policy": dict{"ask": "required"}},
		"policy.ask is not a setting":                                              {"policy.ask": "required"},
		"policy.required.users is not a setting":                                   {"policy": dict{"required.users": []string{"alice"}}},
		"policy is a string; it must be a dictionary":                              {"policy": "required"},
		"policy.required is an array; it must be a dictionary":                     {"policy": dict{"required": []string{"users"}}},
		"state_dir cannot be set by policy: it belongs into the configuration":     {"state_dir": "/x"},
		"runtime_dir cannot be set by policy":                                      {"runtime_dir": "/x"},
		"events is a string; it must be an integer":                                {"events": "500"},
		"events is a real; it must be an integer":                                  {"events": 500.0},
		"events is a boolean; it must be an integer":                               {"events": true},
		"issuer is an integer; it must be a string":                                {"issuer": 1},
		"issuer is a dictionary; it must be a string":                              {"issuer": dict{}},
		"issuer is neither of use nor known; it must be a string":                  {"issuer": []byte("x")},
		"issuer has a text of 1024 characters; there is room for 1023":             {"issuer": long},
		"push.enabled is an integer; it must be a boolean":                         {"push": dict{"enabled": 1}},
		"push.enabled is a string; it must be a boolean":                           {"push": dict{"enabled": "true"}},
		`push.life is an integer; it must be a string such as "90s"`:               {"push": dict{"life": 60}},
		`push.life is "soon"; it must be a duration such as "90s"`:                 {"push": dict{"life": "soon"}},
		"authority.accept is a string; it must be an array of strings":             {"authority": dict{"accept": "policy"}},
		"authority.accept is an array; it must be an array of strings":             {"authority": dict{"accept": []any{"policy", 1}}},
		"authority.accept has 1001 entries; there is room for 1000":                {"authority": dict{"accept": slices.Repeat([]string{"x"}, maxEntries+1)}},
		"policy.required.uids is an array; it must be an array of integers":        {"policy": dict{"required": dict{"uids": []string{"0"}}}},
		"policy.required.uids has an entry -1; it must be 0 to 4294967295":         {"policy": dict{"required": dict{"uids": []int{-1}}}},
		"policy.required.uids has an entry 4294967296; it must be 0 to 4294967295": {"policy": dict{"required": dict{"uids": []int{1 << 32}}}},
		"policy.required.uids has 1001 entries; there is room for 1000":            {"policy": dict{"required": dict{"uids": make([]int, maxEntries+1)}}},
	} {
		for _, text := range [][]byte{inXML(t, d), inBinary(t, d)} {
			if c, unknown, err := Preferred(text); err == nil || !strings.HasPrefix(err.Error(), PreferencesPath+": "+says) {
				t.Errorf("%v, want %s: %+v, %q", err, says, c, unknown)
			}
		}
	}
	// Bounds are those of the file, whoever sets a value.
	managed := ownPreferences(t)
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	for says, d := range map[string]dict{
		": push.digits: push.digits is 7; it must be 2 to 6":               {"push": dict{"digits": 7}},
		": push.life: push.life is 4s; it must be 5s to 10m":               {"push": dict{"life": "4s"}},
		": events: events is -1; it must be 100":                           {"events": uint64(1<<64 - 1)},
		`: policy.ask: policy.ask is "everyone"; it must be`:               {"policy": dict{"ask": "everyone"}},
		`: policy.exempt.remote: policy.exempt.remote: "office" is not an`: {"policy": dict{"exempt": dict{"remote": []string{"office"}}}},
		`: authority.accept: authority.accept names "settings"`:            {"authority": dict{"accept": []string{"settings"}}},
	} {
		prefers(t, inXML(t, d))
		if why := refused(t, path); !strings.HasPrefix(why, managed+says) {
			t.Errorf("%s\nwant %s", why, says)
		}
	}
}

// textPlist is one of OpenStep's, which today's macOS does not write.
const textPlist = `{ issuer = "x"; }`

// TestAFileOfPreferencesThatIsNone: what is wrong, and which setting is lost by it,
// nobody knows.
func TestAFileOfPreferencesThatIsNone(t *testing.T) {
	managed := ownPreferences(t)
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	good := dict{"issuer": "ACME", "policy": dict{"ask": "required"}}
	x, b := inXML(t, good), inBinary(t, good)
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"empty":              {nil, " is empty: it is being written"},
		"white space":        {[]byte(" \n"), " is no property list"},
		"half of XML":        {x[:len(x)/2], " is no property list"},
		"half of binary":     {b[:len(b)/2], " is no property list"},
		"binary of zeros":    {append([]byte("bplist00"), make([]byte, 100)...), " is no property list"},
		"OpenStep's":         {[]byte(textPlist), " is no property list: it is neither XML nor binary"},
		"JSON":               {[]byte(`{"issuer": "x"}`), " is no property list"},
		"XML of another":     {[]byte("<html></html>"), " is no property list"},
		"an empty list":      {[]byte(`<plist version="1.0"></plist>`), " is neither of use nor known; it must be a dictionary"},
		"an array":           {inXML(t, []string{"x"}), " is an array; it must be a dictionary"},
		"an array in binary": {inBinary(t, []string{"x"}), " is an array; it must be a dictionary"},
		"a key with no end":  {[]byte("<plist><dict><key>issuer</key></dict></plist>"), " is no property list"},
		"too big":            {inXML(t, dict{"issuer": strings.Repeat("x", maxPreferences)}), " is over 131072 bytes"},
	} {
		prefers(t, c.text)
		if why := refused(t, path); !strings.HasPrefix(why, managed+c.says) {
			t.Errorf("%s: %s", name, why)
		}
	}
	for n := range b[:len(b)-1] { // a write that is cut off anywhere
		prefers(t, b[:n])
		refused(t, path)
	}
}

// TestPreferencesAreTakenOnceTheyHaveSettled: MDM takes the file away, and puts
// another one there; an editor, or a full disk, leaves half of one.
func TestPreferencesAreTakenOnceTheyHaveSettled(t *testing.T) {
	before, after := inBinary(t, dict{"policy": dict{"ask": "required"}}), inBinary(t, dict{"policy": dict{"ask": "enrolled"}})
	for name, c := range map[string]struct {
		then, last []byte // after half a second, and after one; nil: there is none
		want       []byte
		within     time.Duration
		says       string
	}{
		"nothing changes":             {before, before, before, 0, ""},
		"replaced":                    {after, after, after, settle, ""},
		"taken away and put back":     {nil, before, before, settle, ""},
		"taken away and another":      {nil, after, after, settle, ""},
		"half written, and then all":  {after[:20], after, after, 2 * settle, ""},
		"half written, and as before": {after[:20], before, before, settle, ""},
		"half written for good":       {after[:20], after[:20], nil, settle, "is no property list"},
		"emptied for good":            {[]byte{}, []byte{}, nil, settle, "is empty"},
		"away for ten seconds":        {nil, before, before, 10 * time.Second, ""},
		"taken away for good":         {nil, nil, nil, vanished, ""},
	} {
		t.Run(name, func(t *testing.T) {
			managed := ownPreferences(t)
			prefers(t, before)
			write := func(text []byte) {
				if text != nil {
					prefers(t, text)
				} else if err := os.Remove(managed); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				known, err := readPolicies(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				write(c.then)
				if name == "away for ten seconds" {
					time.AfterFunc(c.within-settle/4, func() { write(c.last) })
				} else if name == "taken away and another" || name == "half written, and then all" {
					time.AfterFunc(settle/2, func() { write(c.last) })
				} else {
					time.AfterFunc(settle/4, func() { write(c.last) })
				}
				began := time.Now()
				got, err := Settled(t.Context(), known)
				if c.says != "" {
					if err == nil || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%+v, %v", got, err)
					}
				} else if err != nil || !bytes.Equal(got.Preferences, c.want) {
					t.Errorf("%+v, %v", got, err)
				}
				if time.Since(began) < c.within {
					t.Errorf("after %s", time.Since(began))
				}
			})
		})
	}
}

// TestAColdStartWithPreferencesThatCannotBeRead goes by those that were in force, and
// without those it does not start; a running agent keeps what it has.
func TestAColdStartWithPreferencesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ownPreferences(t)
	good := inBinary(t, dict{"policy": dict{"ask": "required"}})
	prefers(t, good)
	p, err := readPolicies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string][]byte{"empty": {}, "half": good[:20], "an array": inXML(t, []string{"x"})}
	for name, text := range broken {
		prefers(t, text)
		if got, err := atStart(dir); err == nil {
			t.Errorf("%s, and nothing is known: %+v", name, got)
		}
	}
	if err := p.keep(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range broken {
		prefers(t, text)
		synctest.Test(t, func(t *testing.T) {
			if got, err := atStart(dir); err != nil || !got.Same(p) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		})
	}
	// A file that says something else counts.
	prefers(t, inBinary(t, dict{}))
	synctest.Test(t, func(t *testing.T) {
		if got, err := atStart(dir); err != nil || got.Same(p) {
			t.Errorf("%+v, %v", got, err)
		}
	})
	path := put(t, t.TempDir(), "sallyport.toml", "# nothing\n")
	prefers(t, good)
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	prefers(t, good[:20])
	put(t, filepath.Dir(path), "sallyport.toml", "events = 500\n")
	if l, err = l.Reload(path, nil); err != nil || l.Config.Policy.Ask != "required" || l.Config.Events != 500 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestPreferencesOfAnotherSystemAreRefusedAsAProfile(t *testing.T) {
	for text, says := range map[string]string{
		"issuer = 'x'\ntpm_device = 'x'\n":             "line 2: tpm_device is no setting on macOS",
		"[session_guard]\naction = 'off'\n":            "line 2: session_guard.action is no setting on macOS",
		"state_dir = '/x'\n":                           "line 1: state_dir cannot be managed",
		"isuer = 'x'\n":                                `line 1: unknown key "isuer"`,
		"[push]\ndigits = 9\n":                         "push.digits is 9; it must be 2 to 6",
		"[push]\nlife = '2m'\n":                        "push.life is 2m0s; it must be 5s to push.gap",
		"keychain = 'tpm'\n":                           `keychain is "tpm"; it must be auto, system-keychain or file`,
		"issuer = '" + strings.Repeat("x", 1024) + "'": PreferencesPath + ": issuer has a text of 1024 characters",
	} {
		if root, err := Preferences([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%v, %v, want %s", root, err, says)
		}
	}
}

// binaryList is a binary property list of these objects, one behind the other, with
// references and offsets of two bytes. The first is the root.
func binaryList(objects ...[]byte) []byte {
	b, offsets := []byte("bplist00"), []byte{}
	for _, o := range objects {
		offsets = binary.BigEndian.AppendUint16(offsets, uint16(len(b)))
		b = append(b, o...)
	}
	return withTable(b, offsets, len(objects))
}

func withTable(b, offsets []byte, n int) []byte {
	table := len(b)
	b = append(append(b, offsets...), 0, 0, 0, 0, 0, 0, 2, 2)
	for _, x := range []int{n, 0, table} {
		b = binary.BigEndian.AppendUint64(b, uint64(x))
	}
	return b
}

// TestListsThatAreMadeToHurt: nothing but an error comes of them, and soon.
func TestListsThatAreMadeToHurt(t *testing.T) {
	var laughs [][]byte // each array has the next one twice
	laughs = append(laughs, []byte{0xD1, 0, 1, 0, 2}, []byte{0x51, 'x'})
	for i := 3; i < 60; i++ {
		laughs = append(laughs, []byte{0xA2, 0, byte(i), 0, byte(i)})
	}
	laughs = append(laughs, []byte{0x09})
	var deep [][]byte
	for i := range 15000 {
		deep = append(deep, binary.BigEndian.AppendUint16([]byte{0xA1}, uint16(i+1)))
	}
	deep = append(deep, []byte{0x09})
	one := append([]byte{0xAF, 0x11, 0x20, 0}, make([]byte, 0x4000)...) // 8192 times the first
	same, offsets := append(append([]byte("bplist00"), 0x09), one...), []byte{0, 8}
	for range 0x2000 {
		offsets = append(offsets, 0, 9)
	}
	xml := func(s string) []byte { return []byte(`<plist version="1.0">` + s) }
	for name, text := range map[string][]byte{
		"a length that wraps":        binaryList([]byte{0xD1, 0, 1, 0, 2}, []byte{0x5F, 0x13, 255, 255, 255, 255, 255, 255, 255, 0xF0}, []byte{0x09}),
		"a length beyond the end":    binaryList([]byte{0xD1, 0, 1, 0, 2}, []byte{0x5F, 0x12, 255, 255, 255, 255}, []byte{0x09}),
		"an array in itself":         binaryList([]byte{0xA1, 0, 0}),
		"a dictionary in itself":     binaryList([]byte{0xD1, 0, 1, 0, 0}, []byte{0x51, 'x'}),
		"a number of no such width":  binaryList([]byte{0xD1, 0, 1, 0, 2}, []byte{0x51, 'x'}, []byte{0x1F}),
		"an object that is not":      binaryList([]byte{0xA1, 0, 9}),
		"an array in many places":    withTable(same, offsets, 0x2001),
		"twice and twice and twice":  binaryList(laughs...),
		"deep":                       binaryList(deep...),
		"deep in XML":                xml(strings.Repeat("<array>", maxPreferences/8)),
		"an entity":                  []byte(`<!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><plist><dict><key>issuer</key><string>&b;</string></dict></plist>`),
		"a file's entity":            []byte(`<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist><dict><key>issuer</key><string>&a;</string></dict></plist>`),
		"a panic of the text reader": []byte(`(plist versionGetValue<*B"">`),
	} {
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		c, unknown, err := Preferred(text)
		runtime.ReadMemStats(&m1)
		if err == nil && !(name == "twice and twice and twice" && len(unknown) == 1) {
			t.Errorf("%s: %+v, %q", name, c, unknown)
		}
		if used := m1.TotalAlloc - m0.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: took %d bytes", name, used)
		}
	}
}

// TestObjectsThatDoNotLieOneBehindTheOther: they could be read again and again, or
// from beyond the list.
func TestObjectsThatDoNotLieOneBehindTheOther(t *testing.T) {
	good := binaryList([]byte{0xD1, 0, 1, 0, 2}, []byte{0x51, 'x'}, []byte{0xA2, 0, 3, 0, 3}, []byte{0x09})
	if _, unknown, err := Preferred(good); err != nil || len(unknown) != 1 {
		t.Fatalf("%q, %v", unknown, err)
	}
	at := func(n int, x byte) []byte { // the good one, with another byte, counted from the end of the objects
		b := slices.Clone(good)
		b[8+13+n] = x
		return b
	}
	for name, b := range map[string][]byte{
		"two at one place":        at(5, 8),
		"an array into the next":  at(-6, 0xA3),
		"a string into the next":  at(-8, 0x52),
		"a UTF-16 string":         at(-8, 0x61),
		"a dictionary":            at(-13, 0xD2),
		"a long one's length":     at(-8, 0x5F),
		"the first in the header": at(1, 7),
		"the last in the table":   at(7, 21),
		"no width of an offset":   at(8+6, 0),
		"offsets of nine bytes":   at(8+6, 9),
		"references of no width":  at(8+7, 0),
		"references of nine":      at(8+7, 9),
		"no objects":              at(8+15, 0),
		"more than there are":     at(8+15, 5),
		"very many":               at(8+8, 0x80), // which is none, doubled
		"a table elsewhere":       at(8+31, 20),
		"a table far away":        at(8+24, 255),
	} {
		if c, unknown, err := Preferred(b); err == nil || !strings.HasSuffix(err.Error(), "its binary form is damaged") {
			t.Errorf("%s: %+v, %q, %v", name, c, unknown, err)
		}
	}
}

// FuzzPreferences: whatever the file holds, nothing panics, an error says where, and
// what is accepted is shown with the key that it came from.
func FuzzPreferences(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		c, sources := defaults(MacOS, "/state"), map[string]string{}
		var unknown []string
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := c.prefer(append([]byte{}, text...), PreferencesPath, sources, &unknown)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20+2000*uint64(len(text)) {
			t.Errorf("%d bytes take %d", len(text), used)
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), PreferencesPath) {
				t.Errorf("it says %q", err)
			}
			return
		}
		for _, text := range unknown {
			if !strings.HasPrefix(text, PreferencesPath+": ") {
				t.Errorf("it goes on without %q", text)
			}
		}
		if c.StateDir != "/state" || c.RuntimeDir != defaults(MacOS, "").RuntimeDir {
			t.Errorf("what cannot be managed is set: %+v", c)
		}
		fresh := defaults(MacOS, "/state")
		shown := map[string]string{}
		for _, v := range tomlfile.Values(&fresh, nil) {
			shown[v.Key] = v.Value
		}
		for _, v := range tomlfile.Values(&c, sources) {
			if v.Source == "default" && v.Value != shown[v.Key] {
				t.Errorf("%s is %s and is said to be the default", v.Key, v.Value)
			}
			if v.Source != "default" && v.Source != fmt.Sprintf("%s: %s", PreferencesPath, v.Key) {
				t.Errorf("%s comes from %s", v.Key, v.Source)
			}
		}
	})
}
