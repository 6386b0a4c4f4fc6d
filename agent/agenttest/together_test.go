//go:build linux

package agenttest

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/msteinert/pam/v2"

	"sallyport/internal/event"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

const crowd = 32

// together starts n logins through the PAM module. Each answers its prompt only
// when all of them are asked.
func (a *agent) together(users []*account, answers []string) []error {
	var asked, done sync.WaitGroup
	asked.Add(len(users))
	results := make([]error, len(users))
	for i := range users {
		done.Go(func() {
			once := sync.OnceFunc(asked.Done)
			defer once() // one that was never asked must not hold up the others
			p := a.pamLogin("sshd", users[i].name, "")
			p.answer = func(string) (string, error) {
				once()
				asked.Wait()
				return answers[i], nil
			}
			results[i] = p.run()
		})
	}
	done.Wait()
	return results
}

func repeat[T any](v T, n int) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// CVE-2023-20123 and both Linux peers: two logins at the same instant.
func TestOneCodeOpensOneOfManySimultaneousLogins(t *testing.T) {
	need(t)
	a := startAgent(t)
	for round := range 100 {
		u, phone := a.enrolled()
		in := 0
		for _, err := range a.together(repeat(u, crowd), repeat(phone.code(t, 0), crowd)) {
			if err == nil {
				in++
			} else {
				wantPAM(t, err, pam.ErrAuth)
			}
		}
		if in != 1 {
			t.Fatalf("round %d: %d logins got in with one code", round, in)
		}
		if round == 0 {
			events := a.events()
			if n := count(events, event.LoginAttempt, u, "code_accepted"); n != 1 {
				t.Errorf("%d events of a success", n)
			}
			if n := count(events, event.LoginAttempt, u, "code_already_used"); n != crowd-1 {
				t.Errorf("%d events of a replay, want %d", n, crowd-1)
			}
			if got := a.user(u); got.GetFailures() != 0 || got.GetLocked() {
				t.Errorf("a replay was counted as a failure: %v", got)
			}
		}
	}
}

// The same, straight to the socket, where nothing of ours slows a caller down.
func TestOneCodeOpensOneOfManySimultaneousConversations(t *testing.T) {
	need(t)
	a := startAgent(t)
	for round := range 20 {
		u, phone := a.enrolled()
		type asked struct {
			s *stream
			p *loginv1.Prompt
		}
		var open []asked
		for range crowd {
			s, p := a.ask(0, begin(u.name))
			open = append(open, asked{s, p})
		}
		code := phone.code(t, 0)
		start := make(chan struct{})
		results := make([]result, crowd)
		var wg sync.WaitGroup
		for i := range open {
			wg.Go(func() {
				<-start
				results[i] = open[i].s.reply(open[i].p, code)
			})
		}
		close(start)
		wg.Wait()
		in := 0
		for _, r := range results {
			if r.in() {
				in++
				want(t, r, allow, "code_accepted")
			} else {
				want(t, r, deny, "code_already_used")
			}
		}
		if in != 1 {
			t.Fatalf("round %d: %d conversations got in with one code", round, in)
		}
	}
}

func TestManyUsersAtOnceAllGetIn(t *testing.T) {
	need(t)
	a := startAgent(t)
	users := newUsers(t, crowd)
	phones, codes := make([]phone, crowd), make([]string, crowd)
	for i, u := range users {
		phones[i] = a.enrol(u)
	}
	for i, p := range phones {
		codes[i] = p.code(t, 0)
	}
	for i, err := range a.together(users, codes) {
		if err != nil {
			t.Errorf("%s: %v", users[i].name, err)
		}
	}
	a.wantStatus(0, "")
}

func TestManyWrongCodesAtOnceLockOnce(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	for _, err := range a.together(repeat(u, crowd), repeat(phone.wrong(t), crowd)) {
		wantPAM(t, err, pam.ErrAuth)
	}
	events := a.events()
	for reason, n := range map[string]int{"": crowd, "wrong_code": 10, "locked": crowd - 10} {
		if got := count(events, event.LoginAttempt, u, reason); got != n {
			t.Errorf("%d login_attempt events with reason %q, want %d", got, reason, n)
		}
	}
	if n := count(events, event.UserLocked, u, ""); n != 1 {
		t.Errorf("%d user_locked events, want one", n)
	}
	if got := a.user(u); !got.GetLocked() {
		t.Errorf("not locked: %v", got)
	}
	want(t, a.as(u, phone.code(t, 0)), deny, "locked")
	a.wantStatus(1, "users_locked")
	// A lockout of TOTP blocks no recovery code.
	want(t, a.as(u, phone.recovery[0]), allow, "code_accepted")
	a.cli(nil, "unlock", u.name)
	want(t, a.as(u, phone.code(t, 0)), allow, "code_accepted")
}

// A recovery code and a bypass are good once too, however many come at once.
func TestOneTimeCodesOpenOneOfManySimultaneousLogins(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	var bypass struct{ Code string }
	a.cli(&bypass, "bypass", u.name, "--for", "10m", "--reason", "test")
	for name, code := range map[string]string{"recovery": phone.recovery[3], "bypass": bypass.Code} {
		t.Run(name, func(t *testing.T) {
			in := 0
			for _, err := range a.together(repeat(u, 8), repeat(code, 8)) {
				if err == nil {
					in++
				}
			}
			if in != 1 {
				t.Errorf("%d logins got in with one code", in)
			}
		})
	}
}

// Logins of different users do not wait for each other: one who takes their time
// at the prompt holds nobody up.
func TestAnOpenPromptHoldsNobodyUp(t *testing.T) {
	need(t)
	a := startAgent(t)
	slow, slowPhone := a.enrolled()
	s, p := a.ask(0, begin(slow.name))
	for range 5 {
		u, phone := a.enrolled()
		want(t, a.as(u, phone.code(t, 0)), allow, "")
	}
	want(t, s.reply(p, slowPhone.code(t, 0)), allow, "")
	if status := a.command("", "status"); status.exit != 0 {
		t.Error(fmt.Sprint(status))
	}
}

// Everything at once: logins, enrolments, changes of the configuration and of
// the vault's key, status, and followers. With the race detector, the agent that
// does it has it too.
func TestEverythingAtOnce(t *testing.T) {
	need(t)
	c := newClocked(t)
	a := c.agent
	const each = 15
	users := newUsers(t, 4*each)
	follow := a.follow(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for _, u := range users[i*each : (i+1)*each] {
				p := a.enrol(u)
				code := p.code(t, 0)
				results := make([]result, 2)
				var both sync.WaitGroup
				for j := range results {
					both.Go(func() { results[j] = a.as(u, code) })
				}
				both.Wait()
				if results[0].in() == results[1].in() {
					t.Errorf("%s: %s and %s", u.name, results[0], results[1])
				}
				want(t, a.as(u, p.recovery[0]), allow, "")
				want(t, a.as(u, p.wrong(t)), deny, "wrong_code")
			}
		})
	}
	for _, what := range []func(n int){
		func(int) { a.cli(nil, "status") },
		func(int) { a.cli(nil, "user", "list", "--json") },
		func(int) { a.cli(nil, "events", "--last", "50") },
		func(n int) {
			a.configure(fmt.Sprintf("events = %d", 1000+n))
			a.signal(syscall.SIGHUP)
		},
		func(n int) {
			if n%5 == 0 {
				a.cli(nil, "vault", "rekey", "--to", "file", "--yes")
			}
		},
		func(int) {
			u := newUser(t)
			a.enrol(u)
			a.cli(nil, "bypass", u.name, "--reason", "test")
			a.cli(nil, "recovery", u.name)
			a.cli(nil, "user", "remove", u.name, "--yes")
		},
	} {
		wg.Go(func() {
			for n := range each {
				what(n)
			}
		})
	}
	wg.Wait()
	var v struct{ Users struct{ Enrolled int } }
	a.cli(&v, "status")
	if v.Users.Enrolled != len(users) {
		t.Errorf("%d users are enrolled, want %d", v.Users.Enrolled, len(users))
	}
	a.kill()
	a.start()
	a.cli(&v, "status")
	if v.Users.Enrolled != len(users) {
		t.Errorf("after a kill %d users are enrolled, want %d", v.Users.Enrolled, len(users))
	}
	<-follow.done
	seen := follow.want(event.AgentStarted).Seq
	for len(follow.events) > 0 {
		e := <-follow.events
		if e.Seq != seen+1 {
			t.Fatalf("event %d came after %d", e.Seq, seen)
		}
		seen = e.Seq
	}
}
