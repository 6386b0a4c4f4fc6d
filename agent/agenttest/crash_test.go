//go:build linux

package agenttest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
)

// told is what verdicts have said of one user: what may never be forgotten.
type told struct {
	u        *account
	phone    phone
	used     []string // codes that were accepted
	failures int32    // wrong codes in a row
	unsure   int32    // wrong codes whose verdict never came
	drift    int32
	lastSure bool // the last success was told, so the drift is known
	verdicts int
}

// stepNow is the time step that it is.
func stepNow() int64 { return time.Now().Unix() / 30 }

// stand checks an agent against what was told.
func (w *told) stand(a *agent) {
	a.t.Helper()
	got := a.user(w.u)
	if n := got.GetFailures(); n < w.failures || n > w.failures+w.unsure {
		a.t.Errorf("%s: %d failures, want %d and at most %d more", w.u.name, n, w.failures, w.unsure)
	}
	if w.lastSure && got.GetDriftSteps() != w.drift {
		a.t.Errorf("%s: drift %d, want %d", w.u.name, got.GetDriftSteps(), w.drift)
	}
	for _, code := range w.used {
		if r := a.as(w.u, code); r.err != nil || r.decision != deny {
			a.t.Errorf("%s: a used code got %s", w.u.name, r)
		}
	}
}

// live logs a user in and out of luck until a login ends without a verdict, and
// notes each verdict. tell is called after each.
func (w *told) live(a *agent, random *rand.Rand, tell func()) {
	step := int64(0)
	recovery := w.phone.recovery
	for {
		var code string
		right, byPhone := true, false
		switch random.IntN(4) {
		case 0:
			if step > 2 { // each is good once, and the window follows the drift
				continue
			}
			code, byPhone = w.phone.code(a.t, step), true
		case 1:
			if len(recovery) == 0 {
				return
			}
			code, recovery = recovery[0], recovery[1:]
		default:
			if w.failures+w.unsure == 8 { // a lockout is shown elsewhere
				continue
			}
			code, right = w.phone.wrong(a.t), false
		}
		before := stepNow()
		r := a.as(w.u, code)
		switch {
		case r.err != nil && right: // it may have been recorded, or not
			w.lastSure = w.lastSure && !byPhone
			w.failures, w.unsure = 0, w.failures
			return
		case r.err != nil:
			w.unsure = 1
			return
		case right && r.decision == allow:
			w.used, w.failures = append(w.used, code), 0
			if byPhone {
				w.drift, w.lastSure = int32(step), before == stepNow()
				if w.lastSure { // else it may have been learnt to be one less
					step++
				}
			}
		case !right && r.reason == "wrong_code":
			w.failures++
		default:
			a.t.Errorf("%s: %s", w.u.name, r)
			return
		}
		w.verdicts++
		tell()
	}
}

// Lockout counters that reset on restart; a restart that gives a used code a
// second life.
func TestWhatAVerdictSaidSurvivesKill9(t *testing.T) {
	need(t)
	a := startAgent(t)
	for round := range uint64(20) {
		random := rand.New(rand.NewPCG(2, round)) // the moment, not a secret
		users := make([]*told, 6)
		for i := range users {
			u, phone := a.enrolled()
			users[i] = &told{u: u, phone: phone}
		}
		verdicts := make(chan struct{}, 1000)
		var wg sync.WaitGroup
		for _, w := range users {
			own := rand.New(rand.NewPCG(random.Uint64(), 0))
			wg.Go(func() { w.live(a, own, func() { verdicts <- struct{}{} }) })
		}
		for range 1 + random.IntN(25) {
			<-verdicts
		}
		a.kill()
		wg.Wait()
		a.start()
		events := a.events()
		for _, w := range users {
			if n := count(events, event.LoginAttempt, w.u, ""); n < w.verdicts {
				t.Errorf("round %d: %s: %d verdicts, %d events", round, w.u.name, w.verdicts, n)
			}
			w.stand(a)
		}
		if t.Failed() {
			t.Fatalf("in round %d; the agent's log:\n%s", round, a.log)
		}
	}
}

// A lockout goes on after kill -9, and so does its doubling.
func TestALockoutSurvivesKill9(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	for range 10 {
		want(t, a.as(u, phone.wrong(t)), deny, "wrong_code")
	}
	a.kill()
	a.start()
	want(t, a.as(u, phone.code(t, 0)), deny, "locked")
	if left := a.user(u).GetLockedFor().AsDuration().Minutes(); left < 14 || left > 15 {
		t.Errorf("locked for %.1f minutes", left)
	}
}

// Both Linux peers forget a used code when the power goes right behind a success.
func TestNothingToldIsForgottenInAPowerCut(t *testing.T) {
	need(t)
	disk, err := sandbox.NewDisk(t.TempDir(), 24)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	a := newAgent(t)
	a.state = filepath.Join(disk.Dir, "state")
	a.configure()
	a.start()
	t.Cleanup(a.stop) // before the disk goes
	for round := range 20 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			wrong, wrongPhone := a.enrolled()
			for range round % 9 {
				want(t, a.as(wrong, wrongPhone.wrong(t)), deny, "wrong_code")
			}
			saved, savedPhone := a.enrolled()
			want(t, a.as(saved, savedPhone.recovery[0]), allow, "")
			u, phone := a.enrolled()
			step := int64(round % 2)
			code := phone.code(t, step)
			began := stepNow()
			wantPAM(t, a.pam("sshd", u, code), 0)
			sure := stepNow() == began

			after, err := disk.Cut()
			if err != nil {
				t.Fatal(err)
			}
			b := newAgent(t)
			b.state = filepath.Join(after.Dir, "state")
			b.configure()
			b.start()
			defer func() {
				b.stop()
				if err := after.Close(); err != nil {
					t.Error(err)
				}
			}()
			if got := b.vaultState(); got != "open" {
				t.Fatalf("the vault after the power cut is %s\n%s", got, b.log)
			}
			want(t, b.as(u, code), deny, "code_already_used")
			if got := b.user(u).GetDriftSteps(); got != int32(step) && sure {
				t.Errorf("drift %d, want %d", got, step)
			}
			want(t, b.as(saved, savedPhone.recovery[0]), deny, "wrong_code")
			if got := b.user(wrong).GetFailures(); got != int32(round%9) {
				t.Errorf("%d failures, want %d", got, round%9)
			}
			if sure {
				step++
			}
			want(t, b.as(u, phone.code(t, step)), allow, "") // it is not that everything is denied
		})
	}
}

// A verdict that was on its way when the agent died was none: the hook denies,
// and whatever was recorded stands.
func TestAgentKilledMidLoginDenies(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	p := a.pamLogin("sshd", u.name, "")
	code := phone.code(t, 0)
	p.answer = func(string) (string, error) {
		a.kill()
		return code, nil
	}
	if err := p.run(); err == nil {
		t.Fatal("in, with the agent dead")
	}
	// With nobody at the socket it is 'unavailable', which the stacks deny too.
	if err := a.pam("sshd", u, code); err == nil {
		t.Fatal("in, with no agent")
	}
	a.start()
	wantPAM(t, a.pam("sshd", u, code), 0) // it never reached the agent
	wantPAM(t, a.pam("sshd", u, code), pamAuthErr)
}
