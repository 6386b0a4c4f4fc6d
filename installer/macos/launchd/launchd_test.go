//go:build unix

package launchd

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// value reads one value of a property list (its DTD: key, string, integer, true,
// false, array, dict).
func value(d *xml.Decoder, start xml.StartElement) (any, error) {
	switch start.Name.Local {
	case "string", "key":
		var s string
		err := d.DecodeElement(&s, &start)
		return s, err
	case "integer":
		var s string
		if err := d.DecodeElement(&s, &start); err != nil {
			return nil, err
		}
		return strconv.Atoi(s)
	case "true", "false":
		return start.Name.Local == "true", d.Skip()
	}
	var list []any
	for {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			v, err := value(d, t)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return nil, fmt.Errorf("text in <%s>: %q", start.Name.Local, t)
			}
		case xml.EndElement:
			switch start.Name.Local {
			case "array":
				return list, nil
			case "plist":
				if len(list) != 1 {
					return nil, fmt.Errorf("%d values", len(list))
				}
				return list[0], nil
			case "dict":
				dict := map[string]any{}
				for i := 0; i+1 < len(list); i += 2 {
					key, ok := list[i].(string)
					if _, twice := dict[key]; !ok || twice {
						return nil, fmt.Errorf("key %v", list[i])
					}
					dict[key] = list[i+1]
				}
				return dict, nil
			}
			return nil, fmt.Errorf("unknown <%s>", start.Name.Local)
		}
	}
}

func parse(t *testing.T, text []byte) any {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(text)))
	for {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			v, err := value(d, start)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Token(); err != io.EOF {
				if _, err := d.Token(); err != io.EOF {
					t.Error("something follows the list")
				}
			}
			return v
		}
	}
}

// TestEachKeyOfTheDaemon: one that is not here is launchd's default, and one that
// is misspelt is ignored there without a word.
func TestEachKeyOfTheDaemon(t *testing.T) {
	config := "/Library/Application Support/Sallyport/sallyport.toml"
	text, err := Plist(Program, Arguments(config))
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]any{"Core": 0, "NumberOfFiles": 10240}
	want := map[string]any{
		"Label":            "com.sallyport.agent",
		"ProgramArguments": []any{"/Library/Application Support/Sallyport/bin/sallyport", "run", "--service", "--config", config},
		"RunAtLoad":        true, "KeepAlive": true, "ThrottleInterval": 1, "ExitTimeOut": 10,
		"ProcessType": "Interactive", "Umask": 0o077,
		"SoftResourceLimits": limits, "HardResourceLimits": limits,
		"StandardErrorPath": "/var/log/com.sallyport.agent.log",
	}
	got, _ := parse(t, text).(map[string]any)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if keys := slices.Sorted(maps.Keys(got)); got["Label"] != Label || got["StandardErrorPath"] != Stderr || Path != "/Library/LaunchDaemons/"+Label+".plist" {
		t.Errorf("the constants say something else: %v", keys)
	}
	if !strings.HasPrefix(string(text), "<?xml ") || strings.Contains(string(text), "{{") {
		t.Errorf("%s", text)
	}
}

// TestAPathIsNoMarkup: a path may hold anything but NUL.
func TestAPathIsNoMarkup(t *testing.T) {
	odd := []string{"run", `</string><string>"&'`, "{{Path}}", "ü"}
	text, err := Plist("/a <b> & c", odd)
	if err != nil {
		t.Fatal(err)
	}
	got := parse(t, text).(map[string]any)["ProgramArguments"]
	if want := []any{"/a <b> & c", odd[0], odd[1], odd[2], odd[3]}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// fake is a launchctl that knows what it was told.
type fake struct {
	print string // what it prints of the service; empty: it knows none
	fails string // the verb that fails
	with  string // what it says then; empty: an I/O error
	times int    // so often; 0: always
	slow  int    // how often the service is still printed behind a bootout
	calls []string
}

func (f *fake) run(_ context.Context, name string, args ...string) ([]byte, error) {
	if name != "/bin/launchctl" {
		return nil, errors.New("not launchctl: " + name)
	}
	f.calls = append(f.calls, strings.Join(args, " "))
	out := f.print
	switch {
	case args[0] == f.fails:
		if f.times--; f.times == 0 {
			f.fails = ""
		}
		if f.with == "" || args[0] != "bootout" {
			return nil, errors.New(cmp.Or(f.with, "exit status 5: Bootstrap failed: 5: Input/output error"))
		}
		f.print = "" // it ends all the same
		return nil, errors.New(f.with)
	case args[0] == "bootout":
		if f.slow == 0 {
			f.print = ""
		}
	case args[0] == "bootstrap":
		f.print = running
	case args[0] == "print" && f.print == "":
		return nil, errors.New("exit status 113: Could not find service \"com.sallyport.agent\" in domain for system")
	case args[0] == "print" && f.slow > 0 && slices.Contains(f.calls, "bootout "+Target):
		if f.slow--; f.slow == 0 {
			f.print = ""
		}
	}
	return []byte(out), nil
}

// told are the calls but those that ask.
func (f *fake) told() []string {
	return slices.DeleteFunc(slices.Clone(f.calls), func(c string) bool { return strings.HasPrefix(c, "print ") })
}

func (f *fake) control() Control {
	return Control{Run: f.run, pause: func(context.Context) error { return nil }}
}

// What `launchctl print` says, as seen in public reports: the state comes among
// others, and other services' words further in.
const (
	running = "system/com.sallyport.agent = {\n\tactive count = 1\n\tpath = /Library/LaunchDaemons/com.sallyport.agent.plist\n\ttype = LaunchDaemon\n\tstate = running\n\n" +
		"\tprogram = /Library/Application Support/Sallyport/bin/sallyport\n\tpid = 321\n\tlast exit code = (never exited)\n\n\tendpoints = {\n\t\tstate = not running\n\t\tpid = 7\n\t}\n}\n"
	waiting = "system/com.sallyport.agent = {\n\tactive count = 0\n\tstate = spawn scheduled\n\tlast exit code = 1\n}\n"
	newer   = "system/com.sallyport.agent = {\n\twords of a later macOS\n}\n"
)

func TestWhatLaunchdIsTold(t *testing.T) {
	const out = "bootout system/com.sallyport.agent"
	in := []string{"enable system/com.sallyport.agent", "bootstrap system /Library/LaunchDaemons/com.sallyport.agent.plist", "kickstart system/com.sallyport.agent"}
	for _, c := range []struct {
		action, print string
		told          []string
	}{
		{"start", "", in},
		{"start", waiting, in[2:]},
		{"start", running, in[2:]},
		{"stop", running, []string{out}},
		{"stop", waiting, []string{out}},
		{"stop", "", nil},
		{"restart", running, append([]string{out}, in...)},
		{"restart", newer, append([]string{out}, in...)},
		{"restart", "", in},
	} {
		f := &fake{print: c.print}
		if _, err := f.control().Do(t.Context(), c.action); err != nil {
			t.Errorf("%s: %v", c.action, err)
		}
		if got := f.told(); !slices.Equal(got, c.told) || slices.ContainsFunc(f.calls, func(s string) bool { return strings.HasPrefix(s, "print ") && s != "print system/com.sallyport.agent" }) {
			t.Errorf("%s of %.60q: launchctl %q, want %q", c.action, c.print, f.calls, c.told)
		}
	}
	if _, err := (&fake{}).control().Do(t.Context(), "reload"); err == nil {
		t.Error("an action that is none is taken")
	}
}

// TestLoadedByAnotherIsLoaded: launchd refuses to load what somebody has loaded just
// now, and nothing is wrong.
func TestLoadedByAnotherIsLoaded(t *testing.T) {
	f := &fake{}
	c := f.control()
	c.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		out, err := f.run(ctx, name, args...)
		if args[0] == "bootstrap" {
			err = errors.New("exit status 37: Bootstrap failed: 37: Operation already in progress")
		}
		return out, err
	}
	if err := c.Start(t.Context()); err != nil || f.told()[len(f.told())-1] != "kickstart "+Target {
		t.Errorf("%v, %q", err, f.told())
	}
}

// TestAVerbThatFailsIsSaid: none is passed over, and nothing follows.
func TestAVerbThatFailsIsSaid(t *testing.T) {
	for _, c := range []struct{ action, print, fails string }{
		{"start", "", "enable"}, {"start", "", "bootstrap"}, {"start", running, "kickstart"}, {"stop", running, "bootout"},
		{"restart", running, "bootout"}, {"restart", running, "bootstrap"}, {"restart", "", "kickstart"},
	} {
		f := &fake{print: c.print, fails: c.fails}
		_, err := f.control().Do(t.Context(), c.action)
		if err == nil || !strings.Contains(err.Error(), "launchctl "+c.fails) || !strings.Contains(err.Error(), "Bootstrap failed: 5") {
			t.Errorf("%s, where %s fails: %v", c.action, c.fails, err)
		}
		if told := f.told(); !strings.HasPrefix(told[len(told)-1], c.fails+" ") {
			t.Errorf("%s goes on: %q", c.action, f.calls)
		}
	}
}

// TestAnAgentThatTakesItsTime: open logins hear first that they are denied, and
// launchd answers before that.
func TestAnAgentThatTakesItsTime(t *testing.T) {
	for name, f := range map[string]*fake{
		"it is told":      {print: running, fails: "bootout", with: "exit status 36: Boot-out failed: 36: Operation now in progress"},
		"and waited for":  {print: running, slow: 9},
		"not loaded yet":  {print: running, fails: "bootstrap", times: 3},
		"somebody did it": {print: running, slow: 1, fails: "bootstrap", times: 1},
	} {
		if _, err := f.control().Do(t.Context(), "restart"); err != nil || f.told()[len(f.told())-1] != "kickstart "+Target {
			t.Errorf("%s: %v, %q", name, err, f.told())
		}
	}
	f := &fake{print: running, slow: 1000}
	if _, err := f.control().Do(t.Context(), "restart"); err == nil || slices.Contains(f.told(), "kickstart "+Target) {
		t.Errorf("one that does not end: %v, %q", err, f.told())
	}
	ctx, cancel := context.WithCancel(t.Context())
	f = &fake{print: running, slow: 1000}
	c := Control{Run: f.run}
	cancel()
	if err := c.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}

func TestWhatLaunchdSays(t *testing.T) {
	for print, want := range map[string]State{
		"":      {},
		running: {Loaded: true, State: "running", PID: "321"},
		waiting: {Loaded: true, State: "spawn scheduled"},
		newer:   {Loaded: true},
	} {
		c := (&fake{print: print}).control()
		if got := c.State(t.Context()); got != want {
			t.Errorf("%.60q: %+v", print, got)
		}
	}
	for want, print := range map[string]string{"not loaded": "", "running, pid 321": running, "spawn scheduled": waiting, "loaded": newer} {
		if got, err := (&fake{print: print}).control().Do(t.Context(), "status"); got != want || err != nil {
			t.Errorf("status: %q, %v, want %q", got, err, want)
		}
	}
	for print, want := range map[string]bool{
		"disabled services = {\n\t\"com.example\" => disabled\n\t\"com.sallyport.agent\" => enabled\n}\n":         false,
		"disabled services = {\n\t\"com.sallyport.agent\" => disabled\n}\n":                                       true,
		"disabled services = {\n\t\"com.sallyport.agent\" => true\n}\n":                                           true,
		"disabled services = {\n\t\"com.sallyport.agent\" => false\n\t\"com.sallyport.agent.x\" => disabled\n}\n": false,
		"disabled services = {\n}\n": false,
	} {
		if got, err := (&fake{print: print}).control().Disabled(t.Context()); got != want || err != nil {
			t.Errorf("%q: %v, %v", print, got, err)
		}
	}
	if _, err := (&fake{fails: "print-disabled"}).control().Disabled(t.Context()); err == nil {
		t.Error("what cannot be told is no")
	}
}
