package cli

import (
	"context"
	"strings"
	"testing"

	"sallyport/installer/windows/setup"
	"sallyport/internal/organisation"
	"sallyport/internal/winreg"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// registry is a Windows of which only the registry is kept.
type registry map[string]*winreg.Key

func (r registry) Key(path string) (*winreg.Key, error) { return r[path], nil }
func (r registry) SetKey(path string, k *winreg.Key) error {
	r[path] = k
	return nil
}
func (registry) Service() (*setup.Service, error) { return nil, nil }
func (registry) Configure(string) error           { return nil }
func (registry) Start() error                     { return nil }
func (registry) Stop(context.Context) error       { return nil }
func (registry) DeleteService() error             { return nil }
func (registry) Saved() ([]byte, error)           { return nil, nil }
func (registry) Save([]byte) error                { return nil }
func (registry) PrepareData() error               { return nil }

func TestSetupActivatesTheVersionThatAnswers(t *testing.T) {
	token := organisation.Token{Secret: [20]byte{1, 2, 3}}.String()
	f := newFake()
	s := newSession(t, f)
	changed := registry{}
	s.deps.System, s.deps.Version = changed, f.status.GetVersion()
	s.stdin("message=Call 1234\nserver_url=https://push.example.com:7443\ntoken="+token+"\n").run("setup", "activate").wantExit(ExitOK)
	s.wantOut("the service answers", "the tile is registered", "this computer joins https://push.example.com:7443")
	if strings.Contains(s.out+s.err, token) {
		t.Errorf("the token is shown:\n%s%s", s.out, s.err)
	}
	if len(changed) != 7 {
		t.Errorf("it wrote %d keys: %v", len(changed), changed)
	}
	join, ok := f.requests[len(f.requests)-1].(*adminv1.JoinRequest)
	if !ok || !join.GetKeepTrying() || join.GetToken() != token {
		t.Errorf("the agent was asked %v", f.requests)
	}
}

func TestAnAgentOfAnotherVersionIsNoAnswer(t *testing.T) {
	s := newSession(t, newFake())
	a := &app{deps: s.deps, runtimeDir: s.dir}
	a.deps.fill()
	if err := a.answers(t.Context()); err == nil || err.Error() != "the agent that answers is version 1.2.3, not 9.9.9" {
		t.Errorf("it says %v", err)
	}
	s = newSession(t, nil)
	a = &app{deps: s.deps, runtimeDir: s.dir}
	a.deps.fill()
	if err := a.answers(t.Context()); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("nobody answers: %v, want one line", err)
	}
}

func TestThereIsNoSetupWithoutAnInstaller(t *testing.T) {
	runCLI(t, newFake(), "setup", "activate").wantExit(ExitUsage)
}
