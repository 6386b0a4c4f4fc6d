//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
)

// before is the last commit whose devices said nothing of themselves, and whose
// policies had no rules.
const before = "1c6124f"

// Where TestMain, outside the sandbox, has built the programs of before; or why not.
const (
	beforeVariable    = "SALLYPORT_BEFORE"
	beforeWhyVariable = "SALLYPORT_BEFORE_WHY"
)

// buildBefore builds the programs of before from this repository's own history, once
// for this machine: they never change.
func buildBefore() {
	if sandbox.Inside() || sandbox.Possible() != nil || os.Getenv(beforeVariable) != "" {
		return
	}
	dir, err := programsBefore()
	if err != nil {
		_ = os.Setenv(beforeWhyVariable, err.Error())
		return
	}
	_ = os.Setenv(beforeVariable, dir)
}

// errNoHistory begins why the programs cannot be built where that is no fault.
const errNoHistory = "there is no history here to build the previous version from: "

func programsBefore() (string, error) {
	if out, err := exec.Command("git", "cat-file", "-e", before+"^{commit}").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s%v %s", errNoHistory, err, out)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sallyport-test", before)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", err
	}
	script := `set -e
mkdir src dist
git -C "$1" archive "$2" | tar -x -C src
cd src
go build -trimpath -buildmode=pie -ldflags "-X main.version=before" -o ../dist/sallyport ./agent
CGO_ENABLED=0 go build -trimpath -buildmode=pie -ldflags "-X main.version=before" -o ../dist/sallyport-authority ./authority`
	cmd := exec.Command("sh", "-c", script, "sh", strings.TrimSpace(string(top)), before)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the previous version does not build: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(work, "dist"), dir); err != nil && !os.IsExist(err) { // another may have been quicker
		return "", err
	}
	return dir, nil
}

// older is the directory with the programs of before.
func older(t *testing.T) string {
	t.Helper()
	sandbox.Need(t)
	dir := os.Getenv(beforeVariable)
	switch why := os.Getenv(beforeWhyVariable); {
	case dir == "" && strings.HasPrefix(why, errNoHistory):
		t.Skip(why)
	case dir == "":
		t.Fatal(why)
	}
	return dir
}

// fleet is what "sallyport-authority device status" says of a computer.
type fleet struct {
	State      string
	Agent      string
	Reported   string
	AgentState string `json:"agent_state"`
	Policy     uint64 `json:"policy_version"`
	Newest     uint64 `json:"policy_newest"`
	People     struct{ Known, Locked int }
	Persons    []struct {
		User    string
		TOTP    bool
		Phones  int
		Push    string `json:"push_state"`
		Offline bool   `json:"offline_ready"`
	}
	Problems []struct{ Code, Text, Remedy string }
}

// stands is how the authority thinks that a computer stands. The command exits with 1
// where it needs attention.
func (s *site) stands(name string) (f fleet) {
	s.t.Helper()
	out, err := s.authority.Run("", "device", "status", name, "--json")
	if json.Unmarshal([]byte(out), &f) != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return f
}

// problem is what it says with that code.
func (f fleet) problem(code string) (text string) {
	for _, p := range f.Problems {
		if p.Code == code {
			text = p.Text + " " + p.Remedy
		}
	}
	return text
}

// policy sets the organisation's.
func (s *site) policy(text string) error {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "rules.toml")
	ok(s.t, os.WriteFile(file, []byte(text), 0o600))
	return s.authority.Do(nil, "policy", "set", file, "--json")
}

const ruled = "rules = ['nobody: deny when user == \"nobody\"']\n"

// uploaded waits until the authority has the event of a login there.
func (s *site) uploaded(c *computer) {
	s.t.Helper()
	eventually(s.t, "the events of "+c.name+" come", func() bool {
		list, err := s.authority.Events()
		ok(s.t, err)
		for _, e := range list {
			if e.Device == c.id && e.Event.Name == event.LoginAttempt {
				return true
			}
		}
		return false
	})
}

func TestAnOlderAgentWithThisAuthority(t *testing.T) {
	old := older(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computerOf(old, "laptop", pushOften...)
	laptop.byCode(maya)
	s.uploaded(laptop)
	laptop.byPhone(laptop.pin(s.phone("Pixel"), maya), maya)

	t.Log("a policy that it knows, and one with rules, which it refuses")
	seq := laptop.last()
	ok(t, s.policy("[required]\nusers = [\"carl\"]\n"))
	laptop.event(seq, event.SyncApplied, "^ policy")
	if got := laptop.reason(carl); got != "" {
		t.Errorf("required by the organisation: %q", got)
	}
	seq = laptop.last()
	ok(t, s.policy(ruled+"[required]\nusers = [\"carl\"]\n"))
	laptop.event(seq, event.SyncRefused, "policy.*unknown field")
	eventually(t, "the fleet's status says so", func() bool { return s.stands("laptop").problem("sync_refused") != "" })
	is := s.stands("laptop")
	if text := is.problem("sync_refused"); !strings.Contains(text, "Its agent, before, is too old for that: update Sallyport on that computer") {
		t.Errorf("%q", text)
	}
	if is.Agent != "before" || is.Reported != "" || is.State != "online" {
		t.Errorf("%+v", is)
	}
	if got := laptop.reason(carl); got != "" {
		t.Errorf("the policy before stays: %q", got)
	}

	t.Log("what it does not know it refuses")
	if out, err := s.authority.Run("", "user", "unlock", maya, "--on", "laptop"); err == nil || !strings.Contains(out, "knows no such kind") {
		t.Errorf("%v: %s", err, out)
	}
	laptop.connected()
	laptop.login(maya).types(laptop.codes[maya].Next(), true, "code_accepted")
}

func TestThisAgentWithAnOlderAuthority(t *testing.T) {
	old := older(t)
	t.Parallel()
	s := newSiteOf(t, old, allowOften)
	laptop := s.computer("laptop", pushOften...)
	laptop.byCode(maya)
	s.uploaded(laptop)
	laptop.byPhone(laptop.pin(s.phone("Pixel"), maya), maya)
	seq := laptop.last()
	ok(t, s.policy("[required]\nusers = [\"carl\"]\n"))
	laptop.event(seq, event.SyncApplied, "^ policy")
	if got := laptop.reason(carl); got != "" {
		t.Errorf("required by the organisation: %q", got)
	}
	if err := s.policy(ruled); err == nil || !strings.Contains(err.Error(), "rules") {
		t.Errorf("an authority that knows no rules: %v", err)
	}
	var st struct{ Authority struct{ Version string } }
	ok(t, laptop.JSON(&st, "status"))
	if st.Authority.Version != "before" {
		t.Errorf("status says that the authority is %q", st.Authority.Version)
	}
	// It was connected all the time: it said nothing that the authority does not know.
	if n := laptop.count(event.AuthorityRefused, "malformed"); n != 0 {
		t.Errorf("the authority cut it off %d times", n)
	}
	laptop.connected()
}

// Both are updated, the authority first, and nobody has to enrol again; neither
// goes back to what was before it.
func TestAnUpgradeOfBothKeepsEverything(t *testing.T) {
	old := older(t)
	t.Parallel()
	s := newSiteOf(t, old, allowOften)
	laptop := s.computerOf(old, "laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	laptop.byPhone(p, maya)

	ok(t, s.authority.Stop())
	s.authority.Use(shipped)
	s.restart()
	laptop.connected()
	laptop.byPhone(p, maya)

	ok(t, laptop.Stop())
	laptop.Use(shipped)
	laptop.restart()
	laptop.connected()
	laptop.byPhone(p, maya)
	laptop.login(maya).types(laptop.codes[maya].Next(), true, "code_accepted")
	eventually(t, "it says how it stands", func() bool {
		is := s.stands("laptop")
		return is.Reported != "" && is.People.Known == 2 && len(is.Persons) == 2 && is.Persons[0].User == maya && is.Persons[0].TOTP && is.Persons[0].Phones == 1 && is.Persons[0].Push == "ready"
	})
	seq := laptop.last()
	ok(t, s.policy(ruled))
	laptop.event(seq, event.SyncApplied, "^ policy")
	eventually(t, "the policy is in force there", func() bool { is := s.stands("laptop"); return is.Policy == is.Newest && is.Policy != 0 })

	t.Log("a lockout is ended from afar")
	for range 10 {
		l := laptop.loginTo("sudo", zoe)
		ok(t, l.Type(laptop.codes[zoe].Wrong(1)))
		if v, err := l.Verdict(patience); err != nil || v.In {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if !laptop.person(zoe).Locked {
		t.Fatalf("%+v", laptop.person(zoe))
	}
	if out, err := s.authority.Run("", "user", "unlock", zoe, "--on", "laptop"); err != nil || !strings.Contains(out, "Done:") {
		t.Errorf("%v: %s", err, out)
	}
	if laptop.person(zoe).Locked {
		t.Error("zoe is locked out still")
	}
	laptop.event(seq, event.UserUnlocked, "")

	t.Log("the older authority does not open the newer database, and says what to do")
	ok(t, s.authority.Stop())
	s.authority.Use(old)
	_, err := s.authority.Run("", "status")
	if err == nil || !strings.Contains(err.Error(), "newer version of sallyport-authority") || !strings.Contains(err.Error(), "its schema is version") {
		t.Errorf("%v", err)
	}
	s.authority.Use(shipped)
	s.restart()
}
