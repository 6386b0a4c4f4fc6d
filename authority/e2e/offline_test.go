//go:build linux

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/hook"
	"sallyport/internal/testkit/sandbox"
)

// fewLogins takes four logins of one person without contact, and warns before the
// last two.
var fewLogins = []string{"[policy.offline]", "logins = 4", "warn_logins = 2"}

// escrowed waits until the helpdesk could answer this computer's challenges.
func (c *computer) escrowed() {
	c.t.Helper()
	eventually(c.t, c.name+"'s key is in escrow", func() bool { return c.status().Authority.OfflineBypass })
}

// cut takes the authority away.
func (s *site) cut(computers ...*computer) {
	s.t.Helper()
	ok(s.t, s.authority.Stop())
	for _, c := range computers {
		eventually(s.t, c.name+" noticed that", func() bool { return !c.status().Authority.Connected })
	}
}

var challengeRE = regexp.MustCompile(`challenge ([0-9A-Z]{4}-[0-9A-Z]{4})\.`)

// challenge is what the prompt shows, or "".
func (l *login) challenge() string {
	m := challengeRE.FindStringSubmatch(l.Text)
	if m == nil {
		return ""
	}
	return m[1]
}

// asks types a question mark, and returns the challenge that is shown.
func (l *login) asks() string {
	l.t.Helper()
	ok(l.t, l.Type("?"))
	asked, err := l.Prompt(patience)
	ok(l.t, err)
	l.Asked = asked
	if l.challenge() == "" {
		l.t.Fatalf("no challenge is shown: %q", l.Text)
	}
	return l.challenge()
}

// answer is what the helpdesk reads out.
func (s *site) answer(user string, c *computer, challenge string, with ...string) (string, error) {
	var out struct{ Code string }
	err := s.authority.Do(&out, append([]string{"bypass", "answer", user, "--challenge", challenge, "--on", c.id, "--reason", "on a plane", "--json"}, with...)...)
	return out.Code, err
}

// recovery is a recovery code that was not used yet.
func (c *computer) recovery(user string) string {
	c.t.Helper()
	if len(c.paper[user]) == 0 {
		c.t.Fatal("no recovery code is left")
	}
	code := c.paper[user][0]
	c.paper[user] = c.paper[user][1:]
	return code
}

// TestAComputerWithoutContact is the whole life of the limit and of the way out.
func TestAComputerWithoutContact(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, nil)
	laptop, desk := s.computer("laptop", fewLogins...), s.computer("desk", fewLogins...)
	laptop.escrowed()
	desk.escrowed()
	leaks := canaries{}
	answered := func(code string) string {
		leaks.text("an answer", code)
		leaks.text("an answer", strings.ReplaceAll(code, "-", ""))
		return code
	}

	t.Log("connected, nothing is counted")
	laptop.codeOnly(maya).types(laptop.recovery(maya), true, "code_accepted")
	if p := laptop.person(maya); p.OfflineLogins != 0 || p.OfflineLeft == nil || *p.OfflineLeft != 4 {
		t.Errorf("%+v", p)
	}

	t.Log("offline, four logins, and a warning before the last two")
	s.cut(laptop, desk)
	for i, warning := range []string{"", "", "1 more login after this one, before this computer must reach the network.\n", "This is the last login before this computer must reach the network.\n"} {
		l := laptop.codeOnly(maya)
		if got, _, _ := strings.Cut(l.Text, "Code from"); got != warning {
			t.Errorf("login %d: the prompt begins with %q, want %q", i, got, warning)
		}
		l.types(laptop.recovery(maya), true, "code_accepted")
	}
	if p := laptop.person(maya); p.OfflineLogins != 4 || !p.OfflineReached || p.OfflineReady {
		t.Errorf("%+v", p)
	}
	if problems := fmt.Sprint(laptop.status().Problems); !strings.Contains(problems, "offline_limit") || !strings.Contains(problems, maya) {
		t.Errorf("status says %s", problems)
	}

	t.Log("no code is taken, and none is used up")
	code, paper := laptop.codes[maya].Next(), laptop.recovery(maya)
	for range 3 {
		laptop.codeOnly(maya).types(code, false, "offline_limit")
		laptop.codeOnly(maya).types(paper, false, "offline_limit")
	}
	if p := laptop.person(maya); p.Failures != 0 || p.Locked {
		t.Errorf("refused codes were counted: %+v", p)
	}
	laptop.codeOnly(zoe).types(laptop.recovery(zoe), true, "code_accepted")

	t.Log("the challenge is on the screen, and stays over kill -9")
	challenge := laptop.codeOnly(maya).challenge()
	if challenge == "" {
		t.Fatal("no challenge is shown at the limit")
	}
	ok(t, laptop.Kill())
	laptop.restart()
	l := laptop.codeOnly(maya)
	if l.challenge() != challenge || l.asks() != challenge {
		t.Errorf("another challenge after a restart: %q", l.Text)
	}

	t.Log("whatever is not the answer is refused")
	right, err := s.answer(maya, laptop, challenge)
	ok(t, err)
	answered(right)
	refusal := func(what, code string, err error) {
		t.Helper()
		if err != nil { // the challenge's checksum gave it away
			return
		}
		t.Log(what)
		laptop.codeOnly(maya).types(answered(code), false, "wrong_code")
	}
	for what, of := range map[string]struct {
		user string
		on   *computer
	}{"another user's": {zoe, laptop}, "another computer's": {maya, desk}} {
		code, err := s.answer(of.user, of.on, challenge)
		refusal(what, code, err)
	}
	code, err = s.answer(maya, laptop, "7777-7777")
	refusal("of another challenge", code, err)
	last := right[len(right)-1]
	refusal("a wrong digit", right[:len(right)-1]+string('0'+(last-'0'+1)%10), nil)
	refusal("another life", string('1'+(right[0]-'0')%4)+right[1:], nil)

	t.Log("the answer lets in, once, also after kill -9")
	if now := laptop.codeOnly(maya).challenge(); now != challenge {
		challenge = now // five wrong ones ended it
		right, err = s.answer(maya, laptop, challenge)
		ok(t, err)
	}
	laptop.codeOnly(maya).types(answered(right), true, "code_accepted")
	ok(t, laptop.Kill())
	laptop.restart()
	l = laptop.codeOnly(maya)
	if l.challenge() == challenge {
		t.Error("the challenge was answered, and is shown again")
	}
	l.types(right, false, "wrong_code")

	t.Log("of 32 logins at once with one answer, one gets in")
	challenge = laptop.codeOnly(zoe).asks()
	right, err = s.answer(zoe, laptop, challenge, "--for", "15m")
	ok(t, err)
	answered(right)
	var logins []*login
	for range 32 {
		logins = append(logins, laptop.codeOnly(zoe))
	}
	var together sync.WaitGroup
	verdicts := make([]hook.Verdict, len(logins))
	for i, l := range logins {
		together.Go(func() {
			if err := l.Type(right); err != nil {
				t.Error(err)
				return
			}
			var err error
			if verdicts[i], err = l.Verdict(patience); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	in := 0
	for _, v := range verdicts {
		if v.In {
			in++
		}
	}
	if in != 1 {
		t.Errorf("%d of 32 got in", in)
	}

	t.Log("back online: codes are taken again, and the authority learns what happened")
	ok(t, laptop.JSON(new(any), "unlock", zoe))
	s.restart()
	laptop.connected()
	eventually(t, "the count begins anew", func() bool { return laptop.person(maya).OfflineLogins == 0 })
	laptop.codeOnly(maya).types(paper, true, "code_accepted")
	s.event("offline_bypass_answered", "laptop.*for 1h0m0s: on a plane")
	eventually(t, "the authority has the events", func() bool {
		list, err := s.authority.Events()
		ok(t, err)
		bypasses, limits := 0, 0
		for _, e := range list {
			if e.Device == laptop.id && e.Event.Name == event.LoginAttempt && e.Event.Factor == "offline_bypass" && e.Event.Verdict == "allow" {
				bypasses++
			}
			if e.Device == laptop.id && e.Event.Reason == "offline_limit" {
				limits++
			}
		}
		return bypasses == 2 && limits == 6
	})

	t.Log("no answer is kept anywhere")
	list, err := s.authority.Run("", "events", "--json", "-n", "10000")
	ok(t, err)
	leaks.in(t, "the authority's events", []byte(list))
	leaks.in(t, "the authority's log", []byte(s.authority.Output()))
	leaks.in(t, "the agent's log", []byte(laptop.Output()))
	leaks.files(t, "the agent's directory", laptop.Dir())
	leaks.files(t, "the authority's directory", s.authority.StateDir)

	t.Log("a revoked computer gets no answers, and one that left has no key")
	challenge = laptop.codeOnly(maya).asks()
	ok(t, s.authority.Do(nil, "device", "revoke", "laptop", "--reason", "lost", "--json"))
	if _, err := s.answer(maya, laptop, challenge); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked computer's challenge: %v", err)
	}
	ok(t, desk.JSON(new(any), "leave", "--yes"))
	l = desk.codeOnly(maya)
	ok(t, l.Type("?"))
	if l.Asked, err = l.Prompt(patience); err != nil || l.challenge() != "" || !strings.Contains(l.Text, "no challenge on this computer") {
		t.Errorf("a computer that left: %q, %v", l.Text, err)
	}
}
