//go:build linux

package agenttest

import (
	"encoding/base32"
	"regexp"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

var shownKey = regexp.MustCompile(`app: ([A-Z2-7]{32})\n`)

// A window to enrol belongs to whoever has shown the password to one of root's
// programs at this computer. A process of the user's own has shown none, and may
// say of itself what it likes.
func TestOnlyRootsHooksEarnEnrolmentAtTheLogin(t *testing.T) {
	need(t)
	a := startAgent(t, "[policy]", `ask = "required"`, "[enrolment]", "at_login = true")
	u := newUser(t)
	a.cli(nil, "enrolment", "open", u.name)
	want(t, a.login(u.uid, begin(u.name), "123456"), deny, "not_enrolled")
	want(t, a.login(0, begin(u.name, func(b *loginv1.Begin) { b.Scenario = loginv1.Scenario_SCENARIO_REMOTE }), "123456"), deny, "not_enrolled")
	want(t, a.login(0, begin(u.name, func(b *loginv1.Begin) { b.RemoteHost = []byte("192.0.2.7") }), "123456"), deny, "not_enrolled")
	s, p := a.ask(0, begin(u.name))
	defer s.close()
	if !shownKey.Match(p.GetText()) {
		t.Errorf("root's hook at the console is asked: %q", p.GetText())
	}
}

// Once the helpdesk has closed the window, it is closed also for a login that was
// already showing its new secret.
func TestClosedWindowEnrolsNobody(t *testing.T) {
	need(t)
	a := startAgent(t, "[policy]", `ask = "required"`, "[enrolment]", "at_login = true")
	u := newUser(t)
	a.cli(nil, "enrolment", "open", u.name)
	s, p := a.ask(0, begin(u.name))
	defer s.close()
	key := shownKey.FindSubmatch(p.GetText())
	if key == nil {
		t.Fatalf("no key in %q", p.GetText())
	}
	if _, err := base32.StdEncoding.DecodeString(string(key[1])); err != nil {
		t.Fatal(err)
	}
	a.cli(nil, "enrolment", "close", u.name)
	code, err := totp.GenerateCode(string(key[1]), time.Now())
	must(t, err)
	want(t, s.reply(p, code), deny, "enrolment_failed")
	want(t, a.as(u, code), deny, "not_enrolled")
}
