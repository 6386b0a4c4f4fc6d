package engine

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"sallyport/internal/factor"
	"sallyport/internal/policy"
	"sallyport/internal/secret"
)

const lastState = Done

// oneOfEach is an input of every kind.
var oneOfEach = map[inputKind]Input{
	begun:    Begun{Decision: policy.Decision{Effect: policy.Skip}, Resolved: true},
	answered: Answered{PromptID: 1, Text: secret.New("123456")},
	checked:  Checked{right},
	prepared: Prepared{SeedText: "SEEDTEXT"},
	enrolled: Enrolled{RecoveryCodes: []string{"AAAAA-AAAAA"}},

	pushStarted:  PushStarted{Number: "47", Phone: "Pixel", For: time.Minute},
	pushRefused:  PushRefused{factor.PushOffline},
	pushAnswered: PushAnswered{},
	pushChecked:  PushChecked{approved},
	pushExpired:  PushExpired{},

	challenged: Challenged{Text: "K7QF-9M2X", Device: "laptop"},

	cancelled: Cancelled{},
	timedOut:  TimedOut{},
	failed:    Failed{Reason: "vault_unavailable"},
}

// TestEveryInputInEveryState: what the table does not have ends in a denial,
// and so do giving up, waiting too long and failing, wherever they come.
func TestEveryInputInEveryState(t *testing.T) {
	if len(oneOfEach) != int(failed)+1 {
		t.Fatal("not every kind of input is here")
	}
	legal := 0
	for state := Fresh; state <= lastState; state++ {
		for kind, in := range oneOfEach {
			m := Machine{state: state, facts: Begun{Resolved: true, Enrolled: true}, promptID: 1}
			_, ok := transitions[transition{state, kind}]
			out := m.Step(in)
			switch {
			case state == Done:
				if out != nil || m.state != Done {
					t.Errorf("%s, %T: %+v", state, in, out)
				}
			case ok:
				legal++
				if len(out) == 0 {
					t.Errorf("%s, %T: nothing to do, and nothing will come", state, in)
				}
			default:
				v, isVerdict := out[0].(Verdict)
				if len(out) != 1 || !isVerdict || v.Decision != Deny || m.state != Done {
					t.Errorf("%s, %T: %+v, then %s", state, in, out, m.state)
				}
				if kind != cancelled && kind != timedOut && kind != failed && v.Reason != ReasonProtocol {
					t.Errorf("%s, %T: denied for %q", state, in, v.Reason)
				}
			}
		}
	}
	if legal != len(transitions) {
		t.Errorf("%d of %d transitions were walked", legal, len(transitions))
	}
}

// TestNoInputDenies: an input that is none ends the login, it does not crash.
func TestNoInputDenies(t *testing.T) {
	for state := Fresh; state < Done; state++ {
		m := Machine{state: state, promptID: 1}
		if v, ok := m.Step(nil)[0].(Verdict); !ok || v.Decision != Deny || v.Reason != ReasonProtocol {
			t.Errorf("%s: %+v", state, v)
		}
	}
}

// TestPromptZeroIsNone: an answer that names no prompt answers none.
func TestPromptZeroIsNone(t *testing.T) {
	for state := Fresh; state < Done; state++ {
		m := Machine{state: state, facts: asked}
		if v, ok := m.Step(Answered{Text: secret.New("123456")})[0].(Verdict); !ok || v.Decision != Deny || v.Reason != ReasonProtocol {
			t.Errorf("%s: %+v", state, v)
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if (Verdict{}).Decision != Deny || Decision(0).String() != "deny" {
		t.Error("the zero verdict does not deny")
	}
	if v := Judge(factor.Outcome{}, true); v.Decision != Deny {
		t.Errorf("the zero outcome: %+v", v)
	}
	// Nothing known of the user, no decision, no outcome.
	begin(t, Begun{}).prompts("Code").types("123456").checks("123456").finds(factor.Outcome{}).denies(ReasonUnknownUser)
	// An effect from a newer policy than this engine knows asks.
	begin(t, Begun{Decision: policy.Decision{Effect: 99}, Resolved: true}).prompts("Code")
	for d, name := range map[Decision]string{Deny: "deny", Allow: "allow", Skip: "skip"} {
		if d.String() != name {
			t.Errorf("%d is %q", d, d)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, resolved := range []bool{true, false} {
		for _, ok := range []bool{true, false} {
			for _, reason := range []factor.Reason{"", factor.Accepted, factor.WrongCode, factor.AlreadyUsed, factor.Expired, factor.Locked,
				factor.Malformed, factor.PasswordTyped, factor.NotEnrolled, factor.ClockWasAhead, "new"} {
				v := Judge(factor.Outcome{OK: ok, Reason: reason, Factor: factor.TOTP}, resolved)
				want := Deny
				if ok && resolved {
					want = Allow
				}
				if v.Decision != want || v.Decision == Deny && v.Text == "" {
					t.Errorf("resolved %v, ok %v, %q: %+v", resolved, ok, reason, v)
				}
			}
		}
	}
}

// walker tries every sequence of inputs from one beginning.
type walker struct {
	t      *testing.T
	facts  Begun
	seen   map[State]bool
	logins int
	been   map[place]bool // what follows from here was tried already
	// What happened on the way here.
	trail    trail
	checkOK  bool // the vault said yes to a code or to a phone's answer, as the last input
	enrolled bool // the vault said that the new secret is in force
}

// place is all that what follows depends on, beside the facts, which stay: what
// else is in a Machine.
type place struct {
	state    State
	promptID uint32
	tries    int
	push     PushStarted
	noPush   factor.Reason
	enrolled bool
}

func (w *walker) place(m *Machine) place {
	return place{m.state, m.promptID, m.tries, m.push, m.noPush, w.enrolled}
}

// trail is what was put in so far, and in which state.
type trail []struct {
	from State
	in   Input
}

func (t trail) String() (s string) {
	for _, step := range t {
		s += fmt.Sprintf("%s %T, ", step.from, step.in)
	}
	return s
}

// maxSteps is more than the longest login takes: every prompt for a new push.
const maxSteps = 4 * maxPrompts

func (w *walker) walk(m Machine) {
	if w.been[w.place(&m)] {
		return
	}
	w.been[w.place(&m)] = true
	w.seen[m.state] = true
	if m.state == Done {
		w.logins++
		if out := m.Step(Checked{right}); out != nil {
			w.t.Errorf("%v: after the verdict comes %+v", w.trail, out)
		}
		return
	}
	if len(w.trail) > maxSteps {
		w.t.Fatalf("%v: the login does not end", w.trail)
	}
	answer := func(id uint32, text string, isPassword bool) Input {
		return Answered{PromptID: id, Text: secret.New(text), IsPassword: isPassword}
	}
	inputs := []Input{
		answer(m.promptID, "123456", false), answer(m.promptID, "", false), answer(m.promptID, "hunter2", true),
		answer(m.promptID-1, "123456", false), answer(m.promptID+1, "123456", false), answer(0, "123456", false),
		Checked{right}, Checked{wrong}, Checked{}, Checked{factor.Outcome{OK: true}}, Checked{factor.Outcome{Reason: factor.NotEnrolled}},
		Prepared{}, Prepared{"SEED", "QR"}, Enrolled{}, Enrolled{[]string{"AAAAA-AAAAA"}},
		Answered{PromptID: m.promptID, Left: time.Second},
		PushStarted{Number: "47"}, PushStarted{"48", "Pixel", time.Minute}, PushRefused{}, PushRefused{factor.PushTooMany}, PushAnswered{}, PushExpired{},
		PushChecked{approved}, PushChecked{}, PushChecked{right}, PushChecked{denied}, PushChecked{forged}, PushChecked{factor.Outcome{Reason: factor.PushApproved}},
		Challenged{}, Challenged{"K7QF-9M2X", "laptop"},
		Begun{Decision: policy.Decision{Effect: policy.Skip}, Resolved: true, Enrolled: true}, asked, mayEnrol,
		Cancelled{}, TimedOut{}, Failed{}, Failed{"vault_unavailable"}, nil,
	}
	if m.promptID < 3 { // later on it is the same with fewer prompts left
		inputs = append(inputs, answer(m.promptID, "?", false))
	}
	for _, in := range inputs {
		w.take(m, in)
	}
}

// take gives one input to a copy of the machine, checks what comes, and goes on.
func (w *walker) take(m Machine, in Input) {
	from := m.state
	out := m.Step(in)
	on := *w
	on.trail = append(w.trail[:len(w.trail):len(w.trail)], trail{{from, in}}...)
	c, isChecked := in.(Checked)
	p, isPush := in.(PushChecked)
	on.checkOK = isChecked && c.Outcome.OK && from == CheckingCode || isPush && p.Outcome.OK && from == CheckingPush
	if _, ok := in.(Enrolled); ok && from == CheckingConfirm {
		on.enrolled = true
	}
	on.check(&m, out)
	on.walk(m)
	w.logins = on.logins
}

func (w *walker) check(m *Machine, out []Output) {
	bad := func(what string) { w.t.Errorf("facts %+v, %v: %s: %+v", w.facts, w.trail, what, out) }
	if len(out) == 0 {
		bad("nothing to do")
	}
	for i, o := range out {
		switch o := o.(type) {
		case Verdict:
			if i != len(out)-1 || m.state != Done {
				bad("not the end")
			}
			switch o.Decision {
			case Allow:
				if !w.checkOK && !w.enrolled {
					bad("allowed without the vault's word")
				}
				if !w.facts.Resolved || w.facts.AccountOnly {
					bad("allowed nobody, or without asking")
				}
				if w.enrolled && (!w.facts.MayEnrol || w.facts.Enrolled) {
					bad("enrolled who may not")
				}
			case Skip:
				f := w.facts
				exempt := f.Decision.Effect == policy.Skip
				unasked := f.Decision.Effect == policy.IfEnrolled && !f.Enrolled
				remembered := f.Remembered && f.Enrolled && f.Decision.Effect != policy.Deny
				if !f.Resolved || !exempt && !unasked && !remembered || len(w.trail) != 1 {
					bad("skipped")
				}
			}
		case Prompt:
			if o.ID == 0 || o.ID != m.promptID || i != len(out)-1 || m.state == Done {
				bad("a prompt that cannot be answered")
			}
			if w.facts.AccountOnly {
				bad("the account stage prompts")
			}
			if w.facts.Decision.Effect == policy.Deny {
				bad("asks whom the policy denies")
			}
		case StartPush, VerifyPush, EndPush, Waiting:
			if f := w.facts; !Allowed(f.Decision).Has(factor.Push) || f.Offline.Reached || !f.Push || !f.Enrolled || !f.Resolved || f.AccountOnly || f.Decision.Effect == policy.Skip {
				bad("asks a phone that is not to be asked")
			}
			if _, waiting := o.(Waiting); waiting && !w.facts.Live {
				bad("Waiting for a hook that does not show it")
			}
		case ClosePrompt:
			if _, verdict := out[len(out)-1].(Verdict); !w.facts.Live || o.ID != m.promptID || !verdict {
				bad("closes a prompt")
			}
		case Prepare, Confirm, CheckEnrolCode:
			if w.facts.Offline.Reached || !w.facts.MayEnrol || !w.facts.Resolved || w.facts.Enrolled || !Allowed(w.facts.Decision).Has(factor.TOTP) {
				bad("enrols who may not")
			}
		}
	}
}

// TestEveryWalk tries every sequence of inputs from every beginning; of those that
// lead to the same machine, one. Whatever
// comes: a name that does not resolve never gets in nor past, nobody is allowed
// without the vault's word, and every login ends.
func TestEveryWalk(t *testing.T) {
	if reflect.TypeFor[Machine]().NumField() != reflect.TypeFor[place]().NumField() { // its facts, and whether somebody was enrolled
		t.Fatal("a Machine has something that a place leaves out")
	}
	seen, logins := map[State]bool{}, 0
	bits := func(n, bit int) bool { return n>>bit&1 == 1 }
	for effect := policy.Ask; effect <= policy.Deny+1; effect++ {
		for _, factors := range [][]string{nil, {"totp"}, {"push"}, {"recovery"}, {"push", "totp"}, {"bypass"}} {
			for n := range 1 << 10 {
				facts := Begun{Decision: policy.Decision{Effect: effect, Factors: factors}, Resolved: bits(n, 0), Enrolled: bits(n, 1), AccountOnly: bits(n, 2),
					MayEnrol: bits(n, 3), NeedsEnrolCode: bits(n, 4), QR: bits(n, 5), Push: bits(n, 6), Live: bits(n, 7), Remembered: bits(n, 8)}
				facts.Offline.Reached = bits(n, 9)
				// What a hook can show has nothing to do with factors, nor has being away;
				// and where something is remembered the beginning is all.
				if factors != nil && (facts.QR || facts.Offline.Reached) || facts.Remembered && (facts.QR || facts.Live) {
					continue
				}
				w := walker{t: t, facts: facts, seen: seen, been: map[place]bool{}}
				w.take(Machine{}, facts)
				logins += w.logins
			}
		}
	}
	// Nothing but a beginning begins.
	w := walker{t: t, seen: seen, been: map[place]bool{}}
	for kind, in := range oneOfEach {
		if kind != begun {
			w.take(Machine{}, in)
		}
	}
	delete(seen, Fresh)
	if len(seen) != int(lastState) {
		t.Errorf("only the states %v were reached", seen)
	}
	t.Logf("%d logins", logins)
}
