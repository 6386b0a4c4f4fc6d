//go:build linux

package agenttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/msteinert/pam/v2"
)

// childVar makes this program do one job and nothing else; see pamAs.
const childVar = "SALLYPORT_AGENTTEST_CHILD"

// noRaceSleep keeps the race detector from sleeping a second at every exit.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

// pamJob is a PAM login to do as another user.
type pamJob struct {
	ConfDir, Service, User, Rhost string
	Answer                        string
}

type pamDone struct {
	Status  pam.Error // 0 is in
	Failed  string    // not a PAM status
	Prompts []string
}

func child(text string) int {
	var job pamJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p := &pamLogin{confDir: job.ConfDir, service: job.Service, user: job.User, rhost: job.Rhost,
		answer: func(string) (string, error) { return job.Answer, nil }}
	var done pamDone
	if err := p.run(); err != nil && !errors.As(err, &done.Status) {
		done.Failed = err.Error()
	}
	done.Prompts = p.prompts
	if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
		return 1
	}
	return 0
}

// pamAs logs in through libpam in a process of that user, as a screen locker
// does, and returns what PAM said and what it asked.
func (a *agent) pamAs(uid uint32, p *pamLogin) (asked []string, status error) {
	a.t.Helper()
	answer, err := p.answer("")
	if err != nil {
		a.t.Fatal(err)
	}
	job, err := json.Marshal(pamJob{p.confDir, p.service, p.user, p.rhost, answer})
	if err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.Command(program("agenttest"))
	cmd.Env = append(os.Environ(), childVar+"="+string(job), noRaceSleep)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 100}}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatalf("a login as uid %d: %v: %s", uid, err, errOut.String())
	}
	var done pamDone
	if err := json.Unmarshal(out, &done); err != nil {
		a.t.Fatal(err)
	}
	switch {
	case done.Failed != "":
		return done.Prompts, errors.New(done.Failed)
	case done.Status != 0:
		return done.Prompts, done.Status
	}
	return done.Prompts, nil
}

func TestAUserLogsInThroughTheirOwnLocker(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	other, otherPhone := a.enrolled()
	prompts, got := a.pamAs(u.uid, a.pamLogin("login", u.name, phone.code(t, 0)))
	wantPAM(t, got, 0)
	if len(prompts) != 1 {
		t.Errorf("prompts %q, want one", prompts)
	}
	_, got = a.pamAs(u.uid, a.pamLogin("login", u.name, phone.wrong(t)))
	wantPAM(t, got, pam.ErrAuth)
	// With somebody else's code, right as it is, a user does not get in as them.
	prompts, got = a.pamAs(u.uid, a.pamLogin("login", other.name, otherPhone.code(t, 0)))
	wantPAM(t, got, pam.ErrAuth)
	if len(prompts) != 0 {
		t.Errorf("asked %q on behalf of somebody else", prompts)
	}
	wantPAM(t, a.pam("login", other, otherPhone.code(t, 0)), 0) // it was not used up
}
