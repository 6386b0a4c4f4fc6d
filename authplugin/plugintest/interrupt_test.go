//go:build linux

package plugintest

import (
	"math/rand/v2"
	"slices"
	"testing"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Ours between two of another product's, of which the first can interrupt: authd's
// engine.c, _evaluate_mechanisms, and agent.c have what happens then.
const amongOthers = "other:x,privileged " + atLogin + " other:slow"

// An interrupt that comes with a result: authd deactivates who has set it, and asks
// everybody again.
func TestDeactivateBehindTheResult(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, plays(t, codeAgent), options{})
		for _, point := range []string{"begin", "prompt", "verify"} {
			l := s.login(t, newAccount(t, "d"), amongOthers)
			l.do("cross other:x %s", point)
			l.runs()
			l.isAsked("Code")
			l.types("123456")
			if point != "begin" { // the answer is gone, and so is an Allow
				l.isAsked("Code")
				l.types("123456")
			}
			l.until("busy")
			l.do("go")
			l.isIn()
			if !slices.Contains(l.trail, "deactivated "+point) {
				t.Errorf("%s: %s", point, l.story())
			}
			l.closes()
		}
	})
}

// What verify has allowed counts for nothing once all are asked again: another code is
// asked for, and a wrong one does not get in.
func TestInterruptedBehindVerify(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, plays(t, codeAgent), options{})
		l := s.login(t, newAccount(t, "d"), amongOthers).runs()
		l.isAsked("Code")
		l.types("123456")
		l.until("busy")
		l.do("interrupt other:x")
		for range 3 {
			l.isAsked("Code")
			l.types("654321")
		}
		l.isTold("")
		l.cancels()
		l.isOut()
	})
}

// Between two mechanisms authd deactivates nobody, and does not ask again who had their
// say (mechinterrupting): what they said counts again, until one is interrupted while
// it runs. Nobody hangs, and nobody is let in whom verify has not allowed.
func TestInterruptedBetweenMechanisms(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, plays(t, codeAgent), options{})
		for _, first := range []string{"123456", "654321"} {
			for _, point := range []string{"begin", "prompt", "verify", "other:slow"} {
				for _, pass := range []int{1, 2} { // the second one is behind a wrong code
					l := s.login(t, newAccount(t, "d"), amongOthers)
					l.do("step")
					l.runs()
					how := l.seeks(first, func(f []string, passes int) bool { return f[0] == "pause" && f[1] == point && passes == pass })
					// Behind a wrong code authd may have nothing of verify's to go by, and ends the list.
					if how != "allow" && first == "123456" {
						t.Errorf("interrupted before %s: the list ended with %s; %s", point, how, l.story())
					}
				}
			}
		}
	})
}

// Interrupts at whatever moment, several in one login, while the phone approves and
// codes are typed: each login ends, by one result of each invocation.
func TestInterruptedAtAnyMoment(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for worker := range uint64(4) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				approve := make(chan struct{})
				s := b.start(t, plays(t, ringingAgent(approve)), options{})
				for seed := range uint64(8) {
					random := rand.New(rand.NewPCG(worker, seed))
					l := s.login(t, newAccount(t, "d"), amongOthers)
					if seed%2 == 0 {
						l.do("step")
					}
					l.runs()
					interrupts := 1 + random.IntN(6)
					l.seeks("654321", func(f []string, _ int) bool {
						if random.IntN(4) == 0 {
							select {
							case approve <- struct{}{}:
								l.right = true
							default:
							}
						}
						if interrupts == 0 || random.IntN(3) > 0 {
							return false
						}
						interrupts--
						return true
					})
				}
			})
		}
	})
}

// ringingAgent is codeAgent beside a phone, which approves when somebody says so.
func ringingAgent(approve <-chan struct{}) func(s loginv1.LoginService_ConverseServer) error {
	return func(s loginv1.LoginService_ConverseServer) error {
		if err := says(rings(), asks(1, "Code: "))(s); err != nil {
			return err
		}
		typed := make(chan string, 1)
		go func() {
			if m, err := s.Recv(); err == nil {
				typed <- string(m.GetAnswer().GetText())
			}
		}()
		select {
		case <-approve:
			return says(&loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: 1}}},
				decides(loginv1.Verdict_DECISION_ALLOW, "push_approved"))(s)
		case code := <-typed:
			if code == "123456" {
				return s.Send(decides(loginv1.Verdict_DECISION_ALLOW, "code_accepted"))
			}
			return s.Send(decides(loginv1.Verdict_DECISION_DENY, "wrong_code"))
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// seeks takes a login to its end: the first code, and then the right one; other:x
// interrupts whenever when says so. It reports who gets in without the right code and
// without the phone.
func (l *login) seeks(code string, when func(f []string, passes int) bool) (how string) {
	l.t.Helper()
	passes := 0
	for {
		f := l.until("pause", "invoke", "shown", "busy", "idle", "ended")
		if f[0] == "pause" && f[1] == "begin" {
			passes++
		}
		if when(f, passes) {
			l.do("interrupt other:x")
		}
		switch {
		case f[0] == "pause", f[0] == "busy":
			l.do("go")
		case f[0] == "shown" && l.shown.kind == "ask":
			l.types(code)
			l.right = l.right || code == "123456"
			code = "123456"
		case f[0] == "shown":
			l.cancels()
		case f[0] == "ended":
			if f[1] == "allow" && !l.right {
				l.t.Errorf("let in without the right code; %s", l.story())
			}
			l.closes()
			return f[1]
		}
	}
}
