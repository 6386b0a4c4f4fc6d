package hosttest

import (
	"context"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/phone"
	"sallyport/pam/e2e/machine"
)

// pushPolicies are as the policy editor writes them: requests live shorter than by
// default, so that nobody has to wait a minute to see one time out; and long enough for
// a busy machine to answer one.
var pushPolicies = map[string]map[string]any{
	`\Push`: {"life": "30s", "gap": "30s", "in_five_minutes": uint32(100), "in_an_hour": uint32(100), "misses": uint32(0)},
}

// approver is somebody whose phone rings.
type approver struct {
	*enrolled
	agent *agent
	phone *phone.Phone
}

// withPhone starts an authority on Linux and the agent under Wine, has the latter
// join, and gives its user a phone. The phone is a program with a passkey that uses
// the page's own interface.
func withPhone(t *testing.T) *approver {
	t.Helper()
	need(t)
	if err := authority(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	for key, values := range pushPolicies {
		for name, value := range values {
			setValue(t, `HKLM\Software\Policies\Sallyport`+key, name, value)
		}
	}
	server, err := machine.NewAuthority(dist, filepath.Join(t.TempDir(), "authority"), []string{"[limits]", `gap = "30s"`, "in_five_minutes = 100", "in_an_hour = 100", "misses = 0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	a := startAgent(t)
	p := &approver{enrolled: a.enrol(), agent: a}
	token, err := server.Token(nil, "--any-user")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = a.try("leave", "--yes") // what a test before has joined
	join := windows(t).Command(ctx, filepath.Join(dist, "sallyport.exe"), "join", "https://"+server.Devices, "--token-stdin", "--name", "laptop-17")
	join.Stdin = strings.NewReader(token + "\n")
	if err := run(join); err != nil {
		t.Fatal(err)
	}
	if err := server.Do(nil, "user", "add", p.name, "--json"); err != nil {
		t.Fatal(err)
	}
	p.phone = phone.New(server.Origin, "Alice's phone")
	enroll := windows(t).Command(ctx, filepath.Join(dist, "sallyport.exe"), "enroll", p.name, "--push", "--json")
	out, err := enroll.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := enroll.Start(); err != nil {
		t.Fatal(err)
	}
	var shown struct{ URL string }
	if err = json.NewDecoder(out).Decode(&shown); err == nil {
		err = p.phone.Enrol(ctx, shown.URL)
	}
	if err != nil {
		cancel() // the command waits for the phone
	}
	if ended := enroll.Wait(); err != nil || ended != nil {
		t.Fatalf("enrolling the phone: %v, %v", err, ended)
	}
	return p
}

var typeNumber = regexp.MustCompile(`Type (\d\d) on your phone`)

// begins gives the password, and returns the number that the tile shows.
func (p *approver) begins(s *screen) string {
	s.t.Helper()
	s.typesPassword()
	return s.number()
}

// number is the one to type on the phone.
func (s *screen) number() string {
	s.t.Helper()
	s.isAsked("on your phone (Alice's phone) to approve")
	m := typeNumber.FindStringSubmatch(s.look())
	if m == nil {
		s.t.Fatalf("the tile shows no number: %s", s.look())
	}
	return m[1]
}

// answers decides on the phone, and wants its page to say how it ended.
func (p *approver) answers(d push.Decision, number, want string) {
	t := p.agent.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := p.phone.Answer(ctx, d, number)
	if err != nil {
		t.Fatal(err)
	}
	if outcome, err := p.phone.Outcome(ctx, w.ID); err != nil || outcome != want {
		t.Errorf("the page says %q (%v), want %q", outcome, err, want)
	}
}

// ignores waits until the phone has rung for nothing.
func (p *approver) ignores() {
	t := p.agent.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := p.phone.Rings(ctx); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Second) // oftener would be too often for the page
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the phone does not stop ringing")
		}
		shown, err := p.phone.Shown(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(shown) == 0 {
			return
		}
	}
}

func TestShippedAgentPush(t *testing.T) {
	besideOthers(t)
	p := withPhone(t)
	s := p.atTile(t)

	number := p.begins(s)
	p.answers(push.Approve, number, "approved")
	s.goesOnByItself(0)
	s.isIn(p.domain, p.user)

	p.begins(s)
	p.answers(push.Deny, "", "denied")
	s.comesBackWith("You denied this login on your phone.")

	number = p.begins(s)
	p.answers(push.Approve, map[bool]string{false: "10", true: "11"}[number == "10"], "wrong_number")
	s.comesBackWith("The number typed on the phone was not the one shown here.")

	// A code, while the phone rings.
	p.begins(s)
	s.typesCode(p.Next())
	s.isIn(p.domain, p.user)

	// Enter too early, and once more when nobody has answered in time.
	number = p.begins(s)
	s.submits()
	s.isAsked("Not approved yet. Type " + number)
	p.ignores()
	s.submits()
	number = s.number()
	p.answers(push.Approve, number, "approved")
	s.goesOnByItself(0)
	s.isIn(p.domain, p.user)
	s.leaves()
	p.agent.ended("allow push_approved push", "deny push_denied push", "deny wrong_number push",
		"allow code_accepted totp", "allow push_approved push")
}

// TestShippedAgentPushKilled: an approval after the agent's death opens nothing.
func TestShippedAgentPushKilled(t *testing.T) {
	besideOthers(t)
	p := withPhone(t)
	s := p.atTile(t)
	number := p.begins(s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := p.phone.Rings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.agent.kill()
	if err := p.phone.Post(ctx, w.ID, p.phone.Key.Answer(w.Challenge, push.Approve, number)); err != nil {
		t.Fatal(err)
	}
	s.comesBackWith(cannotCheck)
	s.leaves()
}

// comesBackWith wants the tile to come back blank, with what it says.
func (s *screen) comesBackWith(why string) {
	s.t.Helper()
	if a := s.comesBack(); a.Automatic {
		s.t.Error("the screen is to log in by itself")
	}
	s.selects(0)
	s.isBlank()
	s.reads(why)
}
