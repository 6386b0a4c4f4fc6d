package cli

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"sallyport/agent/cli/doctor"
	"sallyport/installer/windows/setup"
	"sallyport/internal/config"
	"sallyport/internal/testkit/wine/prime"
	"sallyport/internal/winreg"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// What status says where nothing is set up.
const noHook = "no sign-in asks for a code yet"

var prefixes atomic.Int32

// runtimeDir is a prefix for pipes of this test's own.
func runtimeDir(*testing.T) string {
	return fmt.Sprintf(`\\.\pipe\sallyport-test-%d\%d`, windows.GetCurrentProcessId(), prefixes.Add(1))
}

// listened primes the pipe.
func listened(t *testing.T, path string) {
	t.Helper()
	if err := prime.Pipe(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

func TestWhatMakesNoSenseOnWindowsSaysSo(t *testing.T) {
	runCLI(t, newFake(), "try", "alice").wantExit(5).wantErr("only the sign-in screen", "Windows+L")
	runCLI(t, newFake(), "import", "google-authenticator", "--all-homes").wantExit(5)
	runCLI(t, newFake(), "import", "google-authenticator").wantExit(5).wantErr("on Windows")
	runCLI(t, newFake(), "completion", "powershell").wantExit(0).wantOut("Register-ArgumentCompleter")
}

// A hung agent takes no connection, or takes it and never answers.
func TestHungAgent(t *testing.T) {
	s := newSession(t, nil)
	l := listenAdmin(t, s.dir)
	s.run("user", "list").wantExit(2).wantErr("does not take connections", "sallyport service restart")
	go func() {
		for { // until the test ends
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	s.deps.CallTimeout = 200 * time.Millisecond
	s.run("user", "list").wantExit(2).wantErr("does not answer", "sallyport service restart")
	s.run("status").wantExit(2).wantOut("does not answer")
}

func TestStatusOfTheProvider(t *testing.T) {
	f := newFake()
	f.status.Account = "sid:S-1-5-18"
	s := newSession(t, f)
	const id = setup.CLSID
	s.deps.Windows.Key = func(path string) (*winreg.Key, error) {
		switch path {
		case `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Authentication\Credential Providers\` + id,
			`HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Authentication\Credential Provider Filters\` + id:
			return &winreg.Key{}, nil
		case `HKLM\SOFTWARE\Classes\CLSID\` + id:
			return &winreg.Key{Keys: []winreg.Subkey{{Name: "InprocServer32", Key: winreg.Key{Values: []winreg.Value{winreg.NewText("", `C:\x.dll`)}}}}}, nil
		case config.PoliciesKey + `\CredentialProvider`:
			return &winreg.Key{Values: []winreg.Value{winreg.NewNumber("credui", 0)}}, nil
		}
		return nil, nil
	}
	s.run("status").wantExit(0).wantOut("SYSTEM", `C:\x.dll guards: signing in, unlocking`+"\n", "0 break-glass accounts")
	p, ok := s.run("status", "--json").wantExit(0).object()["credential_provider"].(map[string]any)
	if !ok || p["registered"] != true || p["logon"] != true || p["credui"] != false || p["dll"] != `C:\x.dll` {
		t.Errorf("%v", p)
	}
}

func TestDoctor(t *testing.T) {
	f := newFake()
	s := newSession(t, f)
	f.status.LoginSocket, f.status.AdminSocket = s.dir+`\login`, s.dir+`\admin`
	s.run("doctor").wantExit(1).wantOut("ok    agent", "fail  service", "not registered", "fail  pipes", "warn  provider", "warn  break-glass").wantNot("\x1b", "pam")
	if v := s.run("doctor", "--json").wantExit(1).object(); v["ok"] != false || len(v["results"].([]any)) == 0 {
		t.Errorf("%v", v)
	}
	f.status.Problems = []*adminv1.Problem{{Code: "x", Text: "a problem", Remedy: "a remedy"}}
	s.run("doctor").wantExit(1).wantOut("fail  agent", "a problem", "-> a remedy")
	newSession(t, nil).run("doctor").wantExit(1).wantOut("fail  agent", "the agent is not running", "sallyport service start")
}

// TestThisComputerCanBeAsked runs what reads the real registry, service manager and
// files; there is no agent of ours here.
func TestThisComputerCanBeAsked(t *testing.T) {
	w := (&app{}).windows()
	if s, err := w.Service(); s != nil || err != nil {
		t.Errorf("the service: %+v, %v", s, err)
	}
	if p, err := w.Provider(); err != nil || p.Registered || !p.Enabled {
		t.Errorf("the provider: %+v, %v", p, err)
	}
	const kernel = `C:\windows\system32\kernel32.dll`
	if v, err := w.ProductVersion(kernel); err != nil || v == "" {
		t.Errorf("the version of %s: %q, %v", kernel, v, err)
	}
	if _, err := w.ProductVersion(`C:\windows\nothing.dll`); err == nil {
		t.Error("what is not there has a version")
	}
	if err := w.Closed(`C:\windows\nothing.dll`); err == nil {
		t.Error("what is not there is closed")
	}
	if a, err := w.Account("S-1-5-18"); err != nil || a.Name == "" || a.Disabled {
		t.Errorf("SYSTEM: %+v, %v", a, err)
	}
	if a, err := w.Account("S-1-5-21-9-9-9-9999"); err == nil {
		t.Errorf("nobody is %+v", a)
	}
	for _, r := range doctor.Check(t.Context(), &doctor.Env{Windows: w, Run: runProgram, Peer: socketPeer, AgentDown: "none"}) {
		if r.Text == "" || (r.Status == doctor.Fail || r.Status == doctor.Warn) && r.Check != "agent" && r.Remedy == "" {
			t.Errorf("%+v", r)
		}
	}
}
