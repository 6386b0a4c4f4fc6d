// Package setup makes the files of a Windows package effective, and takes that
// back: the service, the tile and the filter at the sign-in screen, and what the
// installer was told. It is one transaction of our own: a version whose service
// does not answer is never registered, and what was there before is there again.
//
// The tile and the filter are registered last and taken out first. So there is no
// moment with a filter, which hides the other tiles, and without a tile.
package setup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/internal/organisation"
	"sallyport/internal/winreg"
)

// CLSID is the credential provider's, and its filter's.
const CLSID = "{7C4B3E1A-52D8-4F6B-9A0E-3D1F5B8C2E47}"

// ServiceName is the agent's, for the service manager of any system.
const ServiceName = "sallyport"

// The keys that are changed, below HKLM.
const (
	authentication = `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Authentication\`

	class    = `HKLM\SOFTWARE\Classes\CLSID\` + CLSID
	provider = authentication + `Credential Providers\` + CLSID
	filter   = authentication + `Credential Provider Filters\` + CLSID
	eventLog = `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\Sallyport`
	minimal  = `HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\Minimal\` + ServiceName
	network  = `HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\Network\` + ServiceName

	settings   = `HKLM\SOFTWARE\Sallyport\CredentialProvider`
	boot       = `HKLM\SOFTWARE\Sallyport\Boot` // the name of this boot: internal/clock
	breakGlass = "break_glass"
	message    = "message"
)

// The order in which keys are written; they are taken away in the opposite one.
var (
	first = []string{settings, eventLog, minimal, network}
	tile  = []string{class, provider, filter} // once the service answers
	keys  = slices.Concat(first, tile)
)

// answerTime is how long a service that was started has to answer.
const answerTime = 15 * time.Second

// One question whether it does gets attemptTime, and the next comes after
// retryAfter.
const (
	attemptTime = 3 * time.Second
	retryAfter  = 200 * time.Millisecond
)

// Service is the agent as the service manager has it.
type Service struct {
	Command string `json:"command"`
	Running bool   `json:"running"`
}

// State is what this package changes, as it is at one moment.
type State struct {
	Service *Service               `json:"service"` // nil: there is none
	Keys    map[string]*winreg.Key `json:"keys"`    // nil: there is none
}

// System is the part of Windows that is changed.
type System interface {
	Key(path string) (*winreg.Key, error)    // nil: there is none
	SetKey(path string, k *winreg.Key) error // as it is here and nothing else; nil: no such key
	Service() (*Service, error)              // nil: there is none
	Configure(command string) error          // makes the service, or changes it
	Start() error                            // without waiting until it works
	Stop(ctx context.Context) error          // until its process has ended
	DeleteService() error                    // of one that is stopped
	Saved() ([]byte, error)                  // what Save has kept; nil: nothing
	Save(state []byte) error                 // nil: forget it
	PrepareData() error                      // the directory of configuration and state
}

// Setup does the installer's work.
type Setup struct {
	System System
	// Dir is where the package's files are.
	Dir string
	// Answers asks the service whether it is there and of this version.
	Answers func(ctx context.Context) error
	// Join has the agent join an authority, now or as soon as it can be reached.
	Join func(ctx context.Context, url, token string) error
	// Log hears what is done, a line each.
	Log io.Writer
}

// order is what the installer was told: name=value, a line each. What is empty is
// left as it is.
type order struct {
	serverURL, token string
	breakGlass       []string
	message          string
}

// SID: [MS-DTYP] 2.4.2.1.
var sid = regexp.MustCompile(`^S-1-[0-9]{1,15}(-[0-9]{1,10}){1,15}$`)

const (
	maxOrder   = 64 << 10
	maxMessage = 200 // characters; the sign-in screen has no room for more
)

func parse(in io.Reader) (o order, err error) {
	lines := bufio.NewScanner(io.LimitReader(in, maxOrder))
	lines.Buffer(nil, maxOrder)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		if !utf8.ValidString(value) {
			return order{}, fmt.Errorf("%s is not UTF-8", name)
		}
		switch name {
		case "server_url":
			o.serverURL = value
		case "token":
			if value != "" {
				if _, err := organisation.ParseToken(value); err != nil {
					return order{}, fmt.Errorf("ENROLL_TOKEN: %w", err) // does not quote it
				}
			}
			o.token = value
		case "break_glass":
			for s := range strings.SplitSeq(value, ";") {
				s = strings.ToUpper(strings.TrimSpace(s))
				switch {
				case s == "":
				case !sid.MatchString(s):
					return order{}, fmt.Errorf("BREAK_GLASS: %q is no SID; give SIDs such as S-1-5-21-1111111111-2222222222-3333333333-1108, split by ;", s)
				case !slices.Contains(o.breakGlass, s):
					o.breakGlass = append(o.breakGlass, s)
				}
			}
		case "message":
			if n := utf8.RuneCountInString(value); n > maxMessage {
				return order{}, fmt.Errorf("MESSAGE has %d characters; there is room for %d", n, maxMessage)
			}
			o.message = value
		default:
			return order{}, errors.New("the installer says what this version does not know; they do not belong together")
		}
	}
	if err := lines.Err(); err != nil {
		return order{}, err
	}
	if (o.serverURL == "") != (o.token == "") {
		return order{}, errors.New("SERVER_URL and ENROLL_TOKEN belong together: give both, or neither")
	}
	return o, nil
}

// Activate has the files in s.Dir do their work. What it changed is taken back
// when it fails; after success, Back takes it back.
func (s *Setup) Activate(ctx context.Context, in io.Reader) error {
	told, err := parse(in)
	if err != nil {
		return err
	}
	if err := s.System.PrepareData(); err != nil {
		return err
	}
	err = s.change(ctx, func(before *State) error {
		want := s.wanted(before, told)
		for _, key := range first {
			if err := s.System.SetKey(key, want.Keys[key]); err != nil {
				return err
			}
		}
		if err := s.run(ctx, before.Service, want.Service.Command); err != nil {
			return err
		}
		for _, key := range tile {
			if err := s.System.SetKey(key, want.Keys[key]); err != nil {
				return err
			}
		}
		s.log("the tile is registered: %s", filepath.Join(s.Dir, dll))
		return nil
	})
	if err != nil || told.token == "" {
		return err
	}
	// The computer is guarded by now; a phone that does not ring yet is no reason
	// to take that away.
	if err := s.Join(ctx, told.serverURL, told.token); err != nil {
		s.log("this computer did not join %s: %v", told.serverURL, err)
	} else {
		s.log("this computer joins %s, now or as soon as it can be reached", told.serverURL)
	}
	return nil
}

// Deactivate takes out what Activate made. Configuration and state stay. A version
// that another one has taken the place of has nothing to take out.
func (s *Setup) Deactivate(ctx context.Context) error {
	is, err := s.System.Service()
	if err != nil {
		return err
	}
	if is != nil && is.Command != s.command() {
		s.log("another version is at work here: %s", is.Command)
		return nil
	}
	return s.change(ctx, func(before *State) error {
		gone := &State{Keys: map[string]*winreg.Key{settings: without(before.Keys[settings], breakGlass, message)}}
		if err := s.restore(ctx, gone); err != nil {
			return err
		}
		// Not among the keys that are restored: it must not outlive this boot, and an
		// agent that starts makes it anew.
		return s.System.SetKey(boot, nil)
	})
}

// Back restores what was there before the last Activate or Deactivate, when that
// was not taken back already.
func (s *Setup) Back(ctx context.Context) error {
	b, err := s.System.Saved()
	if err != nil || b == nil {
		return err
	}
	var before State
	if err := json.Unmarshal(b, &before); err != nil {
		return fmt.Errorf("what was kept of the state before: %w", err)
	}
	if err := s.restore(ctx, &before); err != nil {
		return err
	}
	s.log("what was there before is there again")
	return s.System.Save(nil)
}

// change does something that is taken back when it fails.
func (s *Setup) change(ctx context.Context, do func(before *State) error) error {
	before, err := s.capture()
	if err != nil {
		return err
	}
	b, err := json.Marshal(before)
	if err != nil {
		return err
	}
	if err := s.System.Save(b); err != nil {
		return err
	}
	failed := do(before)
	if failed == nil {
		return nil
	}
	// Also when it was ctx that ended it.
	if err := s.Back(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%w; and it could not be taken back: %w", failed, err)
	}
	return failed
}

func (s *Setup) capture() (*State, error) {
	state := &State{Keys: map[string]*winreg.Key{}}
	var err error
	if state.Service, err = s.System.Service(); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if state.Keys[key], err = s.System.Key(key); err != nil {
			return nil, err
		}
	}
	return state, nil
}

const dll = "SallyportCredentialProvider.dll"

// command is the service's command line.
func (s *Setup) command() string {
	return `"` + filepath.Join(s.Dir, "sallyport.exe") + `" run --service`
}

// wanted is the state with this version at work.
func (s *Setup) wanted(before *State, told order) *State {
	w := &State{Service: &Service{Command: s.command(), Running: true}, Keys: map[string]*winreg.Key{}}
	name := []winreg.Value{winreg.NewText("", "Sallyport")}
	w.Keys[class] = &winreg.Key{Values: name, Keys: []winreg.Subkey{{Name: "InprocServer32", Key: winreg.Key{
		Values: []winreg.Value{winreg.NewText("", filepath.Join(s.Dir, dll)), winreg.NewText("ThreadingModel", "Apartment")}}}}}
	w.Keys[provider] = &winreg.Key{Values: name}
	w.Keys[filter] = &winreg.Key{Values: name}
	// The texts are the events themselves: "Message Files". EventCreate.exe has one
	// for each number up to 1000 that is just the text.
	messages := winreg.NewText("EventMessageFile", `%SystemRoot%\System32\EventCreate.exe`)
	messages.Type = winreg.ExpandSZ
	w.Keys[eventLog] = &winreg.Key{Values: []winreg.Value{messages, winreg.NewNumber("TypesSupported", 7)}}
	w.Keys[minimal], w.Keys[network] = inSafeMode, inSafeMode

	k := before.Keys[settings]
	if told.breakGlass != nil {
		k = with(without(k, breakGlass), winreg.NewTexts(breakGlass, told.breakGlass...))
	}
	if told.message != "" {
		k = with(without(k, message), winreg.NewText(message, told.message))
	}
	w.Keys[settings] = k
	return w
}

// run has the service run this version, and waits until it answers.
func (s *Setup) run(ctx context.Context, before *Service, command string) error {
	if before == nil || *before != (Service{Command: command, Running: true}) {
		if err := s.restart(ctx, before, command); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		err := s.answers(ctx)
		if err == nil {
			s.log("the service answers: %s", command)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the service did not answer within %s: %w", answerTime, err)
		case <-time.After(retryAfter):
		}
	}
}

func (s *Setup) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	return s.Answers(ctx)
}

// restore makes the computer what it was. It goes on after an error, as much as
// possible has to be there again; but not past the tile and the filter, which need
// what is before them.
func (s *Setup) restore(ctx context.Context, state *State) error {
	var all error
	for _, key := range slices.Backward(keys) {
		if state.Keys[key] != nil {
			continue
		}
		if err := s.System.SetKey(key, nil); err != nil {
			if all = errors.Join(all, err); slices.Contains(tile, key) {
				return all
			}
		}
	}
	all = errors.Join(all, s.restoreService(ctx, state.Service))
	for _, key := range keys {
		if state.Keys[key] == nil {
			continue
		}
		if err := s.System.SetKey(key, state.Keys[key]); err != nil {
			if all = errors.Join(all, err); slices.Contains(tile, key) {
				return all
			}
		}
	}
	return all
}

func (s *Setup) restoreService(ctx context.Context, want *Service) error {
	is, err := s.System.Service()
	if err != nil {
		return err
	}
	if is != nil && want != nil && *is == *want {
		return nil
	}
	switch {
	case want == nil && is == nil:
		return nil
	case want == nil:
		if err := s.System.Stop(ctx); err != nil {
			return err
		}
		return s.System.DeleteService()
	case want.Running:
		return s.restart(ctx, is, want.Command)
	}
	if err := s.System.Configure(want.Command); err != nil || is == nil {
		return err
	}
	return s.System.Stop(ctx)
}

// restart has the service run a command. It is configured first: whatever starts
// it from then on, such as its recovery actions, starts the right one.
func (s *Setup) restart(ctx context.Context, is *Service, command string) error {
	if err := s.System.Configure(command); err != nil {
		return err
	}
	if is != nil {
		if err := s.System.Stop(ctx); err != nil {
			return err
		}
	}
	return s.System.Start()
}

func (s *Setup) log(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Log, "sallyport: "+format+"\n", args...)
}

// inSafeMode is a key that has Windows start a service in safe mode, too: where the
// tile is loaded there (ProhibitFallbacks), it must find an agent.
var inSafeMode = &winreg.Key{Values: []winreg.Value{winreg.NewText("", "Service")}}

// SafeMode has Windows start the service in safe mode, too, or no longer.
func SafeMode(s System, on bool) error {
	var k *winreg.Key
	if on {
		k = inSafeMode
	}
	return errors.Join(s.SetKey(minimal, k), s.SetKey(network, k))
}

// without is a key without what is set under this name, as a value or as a key;
// nil when nothing is left.
func without(k *winreg.Key, names ...string) *winreg.Key {
	if k == nil {
		return nil
	}
	named := func(name string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	}
	left := &winreg.Key{
		Values: slices.DeleteFunc(slices.Clone(k.Values), func(v winreg.Value) bool { return named(v.Name) }),
		Keys:   slices.DeleteFunc(slices.Clone(k.Keys), func(k winreg.Subkey) bool { return named(k.Name) }),
	}
	if len(left.Values) == 0 && len(left.Keys) == 0 {
		return nil
	}
	return left
}

func with(k *winreg.Key, v winreg.Value) *winreg.Key {
	if k == nil {
		k = &winreg.Key{}
	}
	return &winreg.Key{Values: append(slices.Clone(k.Values), v), Keys: k.Keys}
}
