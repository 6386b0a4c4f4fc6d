package hosttest

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// The words of the tile.
const (
	useCode  = "Use a code instead"
	askPhone = "Ask my phone again"
)

// rings asks a phone, beside the prompt for a code, as the agent does.
func (s *session) rings(id, number uint32, expires time.Duration) {
	p := prompt(id, fmt.Sprintf("Type %d on your phone to approve, then press Enter here.\nOr type a code from your authenticator app: ", number))
	p.GetPrompt().EmptyAllowed = true
	s.says(&loginv1.Directive{Directive: &loginv1.Directive_Waiting{Waiting: &loginv1.Waiting{
		Number: number, Device: []byte("Alice's phone"), ExpiresInMs: uint32(expires.Milliseconds())}}}, p)
}

// phone is what the person does with it: the script waits for that.
type phone chan struct{}

func (p phone) isAnswered() { close(p) }

// approves ends the login as an approval does: the prompt is closed, and the verdict
// follows.
func (s *session) approves(id uint32) { s.says(closePrompt(id), allow()) }

func TestPushApproved(t *testing.T) {
	for _, worker := range []bool{false, true} {
		t.Run(fmt.Sprintf("worker=%v", worker), func(t *testing.T) {
			p := make(phone)
			agentPlays(t, func(s *session) {
				s.rings(1, 42, time.Minute)
				<-p
				s.approves(1)
			})
			s := sit(t, visit{people: []person{alice}, worker: worker})
			s.selects(0)
			s.types("Password", password)
			s.presses()
			if text := s.says("Type 42 on your phone (Alice's phone)"); !strings.Contains(text, "60 s left") {
				t.Errorf("the screen says %q, without the time that is left", text)
			}
			p.isAnswered()
			s.waits()
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

func TestPushNumberHasTwoDigits(t *testing.T) {
	p := make(phone)
	agentPlays(t, func(s *session) {
		s.rings(1, 7, time.Minute)
		<-p
		s.approves(1)
	})
	s := atLogon(t)
	s.types("Password", password)
	s.presses()
	s.says("Type 07 on your phone")
	p.isAnswered()
	s.waits()
	s.isIn("CORP", "alice")
	s.leaves()
}

func TestPushDenied(t *testing.T) {
	const why = "You denied this login on your phone."
	p := make(phone)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		<-p
		s.says(closePrompt(1), deny("push_denied", why))
	})
	s := atLogon(t)
	s.types("Password", password)
	s.presses()
	s.says("Type 42")
	p.isAnswered()
	s.waits()
	s.isRefused(why)
	s.leaves()
}

// TestPushTimedOut: the screen counts down; then it asks for a code, and offers to ask
// the phone again.
func TestPushTimedOut(t *testing.T) {
	p := make(phone)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, 3*time.Second)
		s.hearsCode(1, "") // once more
		s.rings(2, 43, time.Minute)
		<-p
		s.approves(2)
	})
	s := atLogon(t)
	s.types("Password", password)
	a := s.submits()
	s.isAsked("Nobody answered on the phone")
	var left []string
	for _, m := range a.Messages {
		if strings.Contains(m, "Type 42") {
			left = append(left, m)
		}
	}
	if len(left) < 3 || len(left) > 4 || !strings.Contains(left[0], "3 s left") || !strings.Contains(left[len(left)-1], "1 s left") {
		t.Errorf("the screen counts down with %q", left)
	}
	s.clicks(askPhone)
	s.reads("Type 43 on your phone")
	p.isAnswered()
	s.submits()
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestPushCancelled: Cancel is all that the screen offers while it waits; whoever
// presses it does not want to wait for the phone, and types a code.
func TestPushCancelledUseACode(t *testing.T) {
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		s.hearsCode(1, "123456")
		s.says(allow())
	})
	s := atLogon(t)
	s.types("Password", password)
	if a := s.submits("cancel-on", "Type 42"); !a.Cancelled || a.ConnectMS > 5000 {
		t.Errorf("cancelled: %v, after %d ms", a.Cancelled, a.ConnectMS)
	}
	s.isAsked("Type a code from your authenticator app")
	s.reads("Typing 42")
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestPushResent: from the field for a code back to the phone, which is asked anew.
func TestPushResent(t *testing.T) {
	p := make(phone)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		s.hearsCode(1, "")
		s.rings(2, 42, 50*time.Second)
		<-p
		s.approves(2)
	})
	s := atLogon(t)
	s.types("Password", password)
	s.submits("cancel-on", "Type 42")
	s.isAsked("Type a code")
	s.clicks(askPhone)
	s.reads("Type 42 on your phone")
	if s.sees("Code") {
		t.Errorf("the field for a code is still there: %s", s.look())
	}
	s.clicks(useCode) // and back
	if !s.sees("Code") {
		t.Errorf("there is no field for a code: %s", s.look())
	}
	s.presses() // without a code: "I have approved it"
	s.says("Type 42")
	p.isAnswered()
	s.waits()
	s.isIn("CORP", "alice")
	s.leaves()
}

// refreshes are the ways in which a screen may take leave of its old tiles.
var refreshes = map[string][]any{
	"old tiles first":                     nil,
	"old tiles first, without a word":     {"silently"},
	"new tiles first":                     {"new-first"},
	"new tiles first, and without a word": {"new-first", "silently"},
}

// TestPushApprovedWhileNothingIsPressed: the provider has the screen look again, and
// the tile logs in by itself.
func TestPushApprovedWhileNothingIsPressed(t *testing.T) {
	for name, how := range refreshes {
		t.Run(name, func(t *testing.T) {
			p := make(phone)
			agentPlays(t, func(s *session) {
				s.rings(1, 42, time.Minute)
				<-p
				s.approves(1)
			})
			s := sit(t, visit{people: []person{bob, alice}})
			s.selects(1)
			s.types("Password", password)
			s.submits("cancel-on", "Type 42")
			s.isAsked("Type a code")
			p.isAnswered()
			s.do("await", 20_000)
			a := s.do("refresh", how...)
			if a.Default == nil || *a.Default != 1 || !a.Automatic {
				t.Fatalf("the screen is to log in with the tile %v by itself: %v", a.Default, a.Automatic)
			}
			s.selects(1)
			s.submits()
			s.isIn("CORP", "alice")
			if a := s.do("refresh"); a.Automatic {
				t.Error("the tile would log in by itself again")
			}
			s.leaves()
		})
	}
}

// TestPushDeniedWhileNothingIsPressed: the tile comes back blank, and says why.
func TestPushDeniedWhileNothingIsPressed(t *testing.T) {
	const why = "You denied this login on your phone."
	for name, how := range refreshes {
		t.Run(name, func(t *testing.T) {
			p := make(phone)
			agentPlays(t, func(s *session) {
				s.rings(1, 42, time.Minute)
				<-p
				s.says(closePrompt(1), deny("push_denied", why))
			})
			s := atLogon(t)
			s.types("Password", password)
			s.submits("cancel-on", "Type 42")
			p.isAnswered()
			s.do("await", 20_000)
			if a := s.do("refresh", how...); a.Automatic {
				t.Error("the screen is to log in by itself")
			}
			s.selects(0)
			s.isBlank()
			s.reads(why)
			s.leaves()
		})
	}
}

// TestAnApprovalThatNobodyFetches is worth nothing after some seconds: a screen that
// showed something else meanwhile must not open later.
func TestAnApprovalThatNobodyFetches(t *testing.T) {
	p := make(phone)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		<-p
		s.approves(1)
	})
	s := atLogon(t)
	s.types("Password", password)
	s.submits("cancel-on", "Type 42")
	p.isAnswered()
	s.do("await", 20_000)
	s.finds(password) // for Windows, when the screen comes for it
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); len(s.do("scan", hex.EncodeToString([]byte(password))).Found) > 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("the password is still there %v after the approval", patience)
		}
	}
	if a := s.do("refresh"); a.Automatic {
		t.Error("the screen is to log in by itself")
	}
	s.selects(0)
	s.isBlank()
	s.reads("That took too long")
	s.leaves()
}

// TestCancelBeforeAnyQuestion: the agent takes long over the password.
func TestCancelBeforeAnyQuestion(t *testing.T) {
	agentPlays(t, func(s *session) { s.hearsNoMore() })
	s := atLogon(t)
	s.types("Password", password)
	a := s.submits("cancel-after", 1500)
	if !a.Cancelled || a.ConnectMS > 5000 || a.Response != "not finished" || a.Credential != nil {
		t.Errorf("%+v", a)
	}
	s.isBlank()
	s.findsNo(password)
	s.leaves()
}
