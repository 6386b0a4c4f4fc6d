package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/organisation"
	"sallyport/internal/winreg"
)

// computer is a System in memory. Its operation number fails, counted from 1, does
// not work; what it did is in done.
type computer struct {
	t      *testing.T
	state  State
	saved  []byte
	closed bool // the data directory is somebody else's
	fails  int
	count  int
	done   []string
	mute   string // the service with this command never answers
}

var errBroken = errors.New("it does not work")

func newComputer(t *testing.T) *computer {
	return &computer{t: t, state: State{Keys: map[string]*winreg.Key{}}}
}

// step is one change.
func (c *computer) step(format string, args ...any) error {
	c.count++
	if c.count == c.fails {
		return errBroken
	}
	c.done = append(c.done, fmt.Sprintf(format, args...))
	return nil
}

// check says what must hold at every moment: a filter hides the other tiles.
func (c *computer) check() {
	c.t.Helper()
	k := c.state.Keys
	if k[filter] != nil && (k[provider] == nil || k[class] == nil) {
		c.t.Errorf("after %q there is a filter without a tile", c.done)
	}
	if k[filter] != nil && c.state.Service == nil {
		c.t.Errorf("after %q there is a filter and no service", c.done)
	}
}

func (c *computer) Key(path string) (*winreg.Key, error) { return c.state.Keys[path], nil }

func (c *computer) SetKey(path string, k *winreg.Key) error {
	if reflect.DeepEqual(k, c.state.Keys[path]) {
		return nil
	}
	if err := c.step("set %s %v", path[strings.LastIndex(path, `\`)+1:], k != nil); err != nil {
		return err
	}
	if k == nil {
		delete(c.state.Keys, path)
	} else {
		c.state.Keys[path] = k
	}
	c.check()
	return nil
}

func (c *computer) Service() (*Service, error) {
	if c.state.Service == nil {
		return nil, nil
	}
	s := *c.state.Service
	return &s, nil
}

func (c *computer) Configure(command string) error {
	if err := c.step("configure"); err != nil {
		return err
	}
	if c.state.Service == nil {
		c.state.Service = &Service{}
	}
	c.state.Service.Command = command
	return nil
}

func (c *computer) Start() error {
	if err := c.step("start"); err != nil {
		return err
	}
	c.state.Service.Running = true
	return nil
}

func (c *computer) Stop(context.Context) error {
	if err := c.step("stop"); err != nil {
		return err
	}
	if c.state.Service != nil {
		c.state.Service.Running = false
	}
	return nil
}

func (c *computer) DeleteService() error {
	if c.state.Service != nil && c.state.Service.Running {
		c.t.Error("the service is deleted while it runs")
	}
	if err := c.step("delete the service"); err != nil {
		return err
	}
	c.state.Service = nil
	c.check()
	return nil
}

func (c *computer) Saved() ([]byte, error)  { return c.saved, nil }
func (c *computer) Save(state []byte) error { c.saved = state; return nil }
func (c *computer) PrepareData() error {
	if c.closed {
		return errBroken
	}
	return nil
}

// setup is the program of the version in dir.
func (c *computer) setup(dir string) *Setup {
	return &Setup{System: c, Dir: dir, Log: io.Discard,
		Answers: func(ctx context.Context) error {
			switch s := c.state.Service; {
			case s == nil || !s.Running:
				return errors.New("it does not run")
			case c.mute != "" && strings.Contains(s.Command, c.mute):
				return errors.New("not a word")
			}
			return nil
		},
		Join: func(context.Context, string, string) error { c.t.Error("it joins unasked"); return nil },
	}
}

// now is a copy of the state.
func (c *computer) now() State {
	s, _ := c.Service()
	return State{Service: s, Keys: maps.Clone(c.state.Keys)}
}

func (c *computer) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func activate(s *Setup, told string) error {
	return s.Activate(context.Background(), strings.NewReader(told))
}

var token = organisation.Token{Secret: [20]byte{1, 2, 3}}.String()

const nothing = "server_url=\ntoken=\nbreak_glass=\nmessage=\n"

func TestATileIsRegisteredOnceTheServiceAnswers(t *testing.T) {
	c := newComputer(t)
	c.must(activate(c.setup("/new"), nothing))
	want := []string{"set Sallyport true", "set sallyport true", "set sallyport true", "configure", "start", "set " + CLSID + " true", "set " + CLSID + " true", "set " + CLSID + " true"}
	if !slices.Equal(c.done, want) {
		t.Errorf("it did %q, want %q", c.done, want)
	}
	if got := *c.state.Service; got != (Service{`"` + filepath.FromSlash("/new/sallyport.exe") + `" run --service`, true}) {
		t.Errorf("the service is %+v", got)
	}
	dll, err := c.state.Keys[class].Keys[0].Key.Values[0].Text()
	if err != nil || dll != filepath.FromSlash("/new/SallyportCredentialProvider.dll") {
		t.Errorf("the tile is %q, %v", dll, err)
	}
	// Again, as a repair does: there is nothing to do.
	c.done = nil
	c.must(activate(c.setup("/new"), nothing))
	if len(c.done) != 0 {
		t.Errorf("the second time it did %q", c.done)
	}
}

func TestAnUpgradeWhoseServiceDoesNotAnswerIsTakenBack(t *testing.T) {
	c := newComputer(t)
	c.must(activate(c.setup("/old"), "message=Call 1234\nbreak_glass=S-1-5-21-1-2-3-500\n"))
	before := c.now()
	c.mute = filepath.FromSlash("/new/")
	ctx, cancel := context.WithCancelCause(context.Background())
	s := c.setup("/new")
	answers := s.Answers
	s.Answers = func(ctx context.Context) error {
		cancel(nil) // 15 s have passed
		return answers(ctx)
	}
	err := s.Activate(ctx, strings.NewReader("message=Call 5678\n"))
	if err == nil || !strings.Contains(err.Error(), "did not answer") || !strings.Contains(err.Error(), "not a word") {
		t.Errorf("it says %v", err)
	}
	if got := c.now(); !reflect.DeepEqual(got, before) {
		t.Errorf("the computer is %+v, was %+v", got, before)
	}
	if c.saved != nil {
		t.Error("what was kept to take it back is there still")
	}
}

// TestWhateverFailsIsTakenBack has every single change fail, one at a time.
func TestWhateverFailsIsTakenBack(t *testing.T) {
	old := func(c *computer) { c.must(activate(c.setup("/old"), "break_glass=S-1-5-21-1-2-3-500\n")) }
	activated := func(c *computer) error { return activate(c.setup("/new"), "message=Call 1234\n") }
	for name, test := range map[string]struct {
		before  func(c *computer)
		do      func(c *computer) error
		changes int
	}{
		"first installation": {func(*computer) {}, activated, 9},
		"upgrade":            {old, activated, 5},
		"removal":            {old, func(c *computer) error { return c.setup("/old").Deactivate(context.Background()) }, 9},
	} {
		failed := 0
		for ; ; failed++ {
			c := newComputer(t)
			test.before(c)
			before := c.now()
			c.count, c.done, c.fails = 0, nil, failed+1
			err := test.do(c)
			if err == nil {
				break
			}
			if !errors.Is(err, errBroken) {
				t.Errorf("%s: change %d: %v", name, failed+1, err)
			}
			if got := c.now(); !reflect.DeepEqual(got, before) {
				t.Errorf("%s: change %d failed; it did %q, and the computer is\n%s, was\n%s", name, failed+1, c.done, shown(got), shown(before))
			}
		}
		if failed != test.changes {
			t.Errorf("%s: %d changes were tried, want %d", name, failed, test.changes)
		}
	}
}

func shown(s State) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestBackAfterSuccess is the rollback of an installation of which a later step
// failed, run by another process.
func TestBackAfterSuccess(t *testing.T) {
	c := newComputer(t)
	c.must(activate(c.setup("/old"), "message=Call 1234\n"))
	before := c.now()
	c.must(activate(c.setup("/new"), "message=Call 5678\n"))
	if reflect.DeepEqual(c.now(), before) {
		t.Fatal("the upgrade changed nothing")
	}
	c.must(c.setup("/new").Back(context.Background()))
	if got := c.now(); !reflect.DeepEqual(got, before) {
		t.Errorf("the computer is %s, was %s", shown(got), shown(before))
	}
	// There is nothing to take back any more.
	c.done = nil
	c.must(c.setup("/new").Back(context.Background()))
	if len(c.done) != 0 {
		t.Errorf("it did %q", c.done)
	}
}

func TestRemovalOfAVersionThatWasReplacedTakesNothingOut(t *testing.T) {
	c := newComputer(t)
	c.must(activate(c.setup("/new"), "message=Call 1234\n"))
	c.done = nil
	c.must(c.setup("/old").Deactivate(context.Background()))
	if len(c.done) != 0 {
		t.Errorf("it did %q", c.done)
	}
}

func TestRemovalLeavesWhatOthersHaveSet(t *testing.T) {
	c := newComputer(t)
	c.state.Keys[settings] = &winreg.Key{Values: []winreg.Value{winreg.NewNumber("enabled", 1)}, Keys: []winreg.Subkey{{Name: "Break_Glass"}}}
	c.must(activate(c.setup("/new"), "break_glass= s-1-5-32-544 ;S-1-5-32-544;;S-1-5-21-1-2-3-500\nmessage=Grüße\n"))
	k := c.state.Keys[settings]
	if len(k.Keys) != 0 || len(k.Values) != 3 {
		t.Fatalf("the settings are %+v", k)
	}
	if list, err := k.Values[1].Texts(); err != nil || !slices.Equal(list, []string{"S-1-5-32-544", "S-1-5-21-1-2-3-500"}) {
		t.Errorf("the emergency accounts are %q, %v", list, err)
	}
	if s, err := k.Values[2].Text(); err != nil || s != "Grüße" {
		t.Errorf("the message is %q, %v", s, err)
	}
	c.must(c.setup("/new").Deactivate(context.Background()))
	if got, want := c.now(), (State{Keys: map[string]*winreg.Key{settings: {Values: []winreg.Value{winreg.NewNumber("enabled", 1)}, Keys: []winreg.Subkey{}}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("the computer is %s, want %s", shown(got), shown(want))
	}
}

func TestOrdersThatMakeNoSense(t *testing.T) {
	for told, says := range map[string]string{
		"break_glass=rescue\n":                            "BREAK_GLASS: \"RESCUE\" is no SID",
		"break_glass=S-1-5-21-1-2-3-500,S-1-5-32-544\n":   "is no SID",
		"message=" + strings.Repeat("ä", 201) + "\n":      "201 characters",
		"message=\xff\n":                                  "not UTF-8",
		"token=sallyport1.canary\n":                       "ENROLL_TOKEN: that is not an enrolment token",
		"token=" + token + "\n":                           "belong together",
		"server_url=https://push.example.com:7443\n":      "belong together",
		"colour=canary\n":                                 "do not belong together",
		"message=" + strings.Repeat("x", maxOrder) + "\n": "token too long",
	} {
		c := newComputer(t)
		err := activate(c.setup("/new"), told)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v, want %q", told, err, says)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), token)) {
			t.Errorf("%q is quoted: %v", told, err)
		}
		if len(c.done) != 0 {
			t.Errorf("%.40q: it did %q", told, c.done)
		}
	}
}

func TestADataDirectoryOfSomebodyElseStopsEverything(t *testing.T) {
	c := newComputer(t)
	c.closed = true
	if err := activate(c.setup("/new"), nothing); !errors.Is(err, errBroken) || len(c.done) != 0 {
		t.Errorf("it did %q, %v", c.done, err)
	}
}

func TestItJoinsLastAndStaysWhenThatFails(t *testing.T) {
	for _, fails := range []error{nil, errBroken} {
		c := newComputer(t)
		s := c.setup("/new")
		var log bytes.Buffer
		joined := ""
		s.Log = &log
		s.Join = func(_ context.Context, url, token string) error {
			if c.state.Keys[filter] == nil {
				t.Error("it joins before the computer is guarded")
			}
			joined = url + " " + token
			return fails
		}
		if err := activate(s, "server_url=https://push.example.com:7443\ntoken="+token+"\n"); err != nil {
			t.Error(err)
		}
		if joined != "https://push.example.com:7443 "+token || c.state.Keys[filter] == nil {
			t.Errorf("it joined %q; the filter is %v", joined, c.state.Keys[filter])
		}
		if strings.Contains(log.String(), token) || !strings.Contains(log.String(), "https://push.example.com:7443") {
			t.Errorf("it says %q", log.String())
		}
	}
}
