//go:build linux

package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
	"sallyport/pam/e2e/machine"
)

var (
	enrolPrompt    = regexp.MustCompile(`Code to enrol with[^\n]*: $`)
	confirmPrompt  = regexp.MustCompile(`Code the app shows now: $`)
	writtenPrompt  = regexp.MustCompile(`Press Enter[^\n]*: $`)
	shownKey       = regexp.MustCompile(`type in this key: ([A-Z2-7]+)`)
	shownRecovery  = regexp.MustCompile(`\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`)
	loginRefused   = regexp.MustCompile(`Login incorrect|Authentication failure`)
	enrolmentAsked = regexp.MustCompile(`Code to enrol with`)
)

// openEnrolment opens a window and returns the one-time code.
func openEnrolment(t *testing.T, name string) string {
	t.Helper()
	var window struct {
		Code string `json:"code"`
	}
	if err := machine.JSON(&window, "enrolment", "open", name, "--for", "1h", "--code"); err != nil {
		t.Fatal(err)
	}
	return window.Code
}

// A user who must have a second factor and has none gets one at the console:
// the helpdesk's code, the QR code, a code of the phone, the recovery codes, in.
func TestEnrolmentAtTheLogin(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	u := addUser(t, newcomer)
	// Without an open window it looks like any other login, and leads nowhere.
	wantOut(t, sandbox.Login(newcomer, ""), sandbox.Password(password), sandbox.Code("123456"))

	code := openEnrolment(t, newcomer)
	d := talk(t, exec.Command("login", newcomer))
	d.answer(sandbox.PasswordPrompt, password)
	d.answer(enrolPrompt, code)
	key := d.see(shownKey)[1]
	if screen := d.Screen(); strings.Count(screen, "█") < 100 || strings.Count(screen, "\n") < 15 {
		t.Errorf("no QR code is shown:\n%s", screen)
	}
	phone, err := machine.NewPhone("otpauth://totp/x?secret=" + key)
	if err != nil {
		t.Fatal(err)
	}
	d.answer(confirmPrompt, phone.Wrong(1)) // mistyped: asked again
	d.answer(confirmPrompt, phone.Next())
	d.see(writtenPrompt)
	recovery := shownRecovery.FindAllString(d.Screen(), -1)
	if len(recovery) != 10 {
		t.Fatalf("want ten recovery codes shown, got %q", recovery)
	}
	d.press("\r")
	d.answer(shellPrompt, proof)
	if got := d.see(insideAs); got[1] != newcomer {
		t.Errorf("in as %s", got[1])
	}
	d.Close()

	// From now on it is a login like any other.
	wantIn(t, newcomer, sshd.SSH(newcomer), sandbox.Password(password), sandbox.Code(phone.Next()))
	wantIn(t, newcomer, sshd.SSH(newcomer), sandbox.Password(password), sandbox.Code(recovery[9]))
	wantOut(t, sandbox.Login(newcomer, ""), sandbox.Password(password), sandbox.Code(code)) // used up
	events, err := machine.Events(0)
	if err != nil {
		t.Fatal(err)
	}
	var opened, enrolled int
	for _, e := range events {
		if e.User == newcomer && e.Name == event.EnrolmentOpened {
			opened++
		}
		if e.User == newcomer && e.Name == event.UserEnrolled {
			enrolled++
		}
	}
	if opened != 1 || enrolled != 1 {
		t.Errorf("want one event of each, got opened %d, enrolled %d", opened, enrolled)
	}
	if got := attempts(t, u.UID); got[1].Verdict != "allow" || got[1].Reason != "enrolled_at_login" {
		t.Errorf("want the login itself let in by its enrolment, got %+v", got[1])
	}
}

// Over the network whoever has the password could be anybody.
func TestEnrolmentIsNotOfferedOverSSH(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	addUser(t, remoteNewcomer)
	code := openEnrolment(t, remoteNewcomer)
	got := wantOut(t, sshd.SSH(remoteNewcomer), sandbox.Password(password), sandbox.Code(code))
	if enrolmentAsked.MatchString(got.Screen) {
		t.Errorf("ssh offers to enrol:\n%s", got.Screen)
	}
	got = wantOut(t, sandbox.Login(remoteNewcomer, "192.0.2.7"), sandbox.Password(password), sandbox.Code(code))
	if enrolmentAsked.MatchString(got.Screen) {
		t.Errorf("login -h offers to enrol:\n%s", got.Screen)
	}
}

// Five wrong one-time codes end the window.
func TestEnrolmentCodeIsNotGuessed(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	addUser(t, mistaken)
	code := openEnrolment(t, mistaken)
	for range 5 {
		d := talk(t, exec.Command("login", mistaken))
		d.answer(sandbox.PasswordPrompt, password)
		d.answer(enrolPrompt, "0000-0000-0000")
		d.see(loginRefused)
		d.Close()
	}
	got := wantOut(t, sandbox.Login(mistaken, ""), sandbox.Password(password), sandbox.Code(code))
	if enrolmentAsked.MatchString(got.Screen) {
		t.Errorf("the window is still open:\n%s", got.Screen)
	}
}
