//go:build linux

package plugintest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

// officeSettings are the office's agent's: requests live shorter than by default, so
// that nobody waits a minute to see one time out; and for longer than it takes a busy
// machine to answer one.
var officeSettings = []string{
	"[push]", `life = "30s"`, `gap = "30s"`, "in_five_minutes = 1000", "in_an_hour = 1000", "misses = 0", "per_service = 0",
	"[policy.required]", `users = ["newcomer-shipped", "newcomer-asan", "nora", "nora2", "nora3"]`,
	"[enrolment]", "at_login = true",
}

// person is somebody with a second factor at a computer.
type person struct {
	account
	at       *machine.Computer
	phone    *machine.Phone
	recovery []string
}

// enrolled is a new account with one.
func enrolled(t *testing.T, at *machine.Computer) *person {
	t.Helper()
	p := &person{account: newAccount(t, "u"), at: at}
	phone, e, err := at.Enrol(p.name)
	must(t, err)
	p.phone, p.recovery = phone, e.RecoveryCodes
	return p
}

// ownAgent starts an agent of this test's own.
func ownAgent(t *testing.T, settings ...string) *machine.Computer {
	t.Helper()
	sandbox.Need(t)
	at, err := machine.NewComputer(dist, filepath.Join(t.TempDir(), "computer"), settings...)
	must(t, err)
	t.Cleanup(func() { _ = at.Kill() })
	return at
}

// sockets is where a computer's agent listens.
func sockets(at *machine.Computer) string { return filepath.Dir(at.Socket()) }

// attempts are what a computer's agent has recorded of somebody's logins.
func attempts(t *testing.T, at *machine.Computer, who account) (list []event.Event) {
	t.Helper()
	events, err := at.Events(0)
	must(t, err)
	for _, e := range events {
		if e.Name == event.LoginAttempt && e.Key == fmt.Sprintf("uid:%d", who.uid) {
			list = append(list, e)
		}
	}
	return list
}

// wantReasons compares the verdicts on somebody's logins: "allow code_accepted". A
// hook that hangs up says so first; which of the two the agent sees is chance, and
// "cancelled" stands for both. The list of mechanisms ends before the agent has heard of
// it, so what is wanted may come later.
func wantReasons(t *testing.T, at *machine.Computer, who account, want ...string) {
	t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		got = nil
		for _, e := range attempts(t, at, who) {
			got = append(got, e.Verdict+" "+strings.Replace(e.Reason, "hook_vanished", "cancelled", 1))
		}
		if len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("the agent recorded\n %s\nwant\n %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}
