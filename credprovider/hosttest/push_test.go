package hosttest

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// rings asks a phone, beside the prompt for a code, as the agent does.
func (s *session) rings(id, number uint32, expires time.Duration) {
	p := prompt(id, fmt.Sprintf("Type %d on your phone to approve, then press Enter here.\nOr type a code from your authenticator app: ", number))
	p.GetPrompt().EmptyAllowed = true
	s.says(&loginv1.Directive{Directive: &loginv1.Directive_Waiting{Waiting: &loginv1.Waiting{
		Number: number, Device: []byte("Alice's phone"), ExpiresInMs: uint32(expires.Milliseconds())}}}, p)
}

// tap is what the person does on the phone: the script waits for that.
type tap chan struct{}

func (p tap) isAnswered() { close(p) }

// approves ends the login as an approval does: the prompt is closed, and the verdict
// follows.
func (s *session) approves(id uint32) { s.says(closePrompt(id), allow()) }

// comesBack waits until the provider has the screen look again, which it does.
func (s *screen) comesBack(how ...any) answer {
	s.t.Helper()
	s.do("await", awaitMS)
	return s.do("refresh", how...)
}

// goesOnByItself wants a screen that looks again to log in with the tile.
func (s *screen) goesOnByItself(tile int, how ...any) {
	s.t.Helper()
	if a := s.comesBack(how...); a.Default == nil || *a.Default != tile || !a.Automatic {
		s.t.Fatalf("the screen is to log in with the tile %v by itself: %v", a.Default, a.Automatic)
	}
	s.selects(tile)
	s.submits()
}

// TestPushShowsNumberAndCode: one tile, which is there as soon as the phone rings, for
// both; nobody has to choose first, or to cancel anything.
func TestPushShowsNumberAndCode(t *testing.T) {
	for _, worker := range []bool{false, true} {
		t.Run(fmt.Sprintf("worker=%v", worker), func(t *testing.T) {
			p := make(tap)
			agentPlays(t, func(s *session) {
				s.rings(1, 7, time.Minute)
				<-p
				s.approves(1)
			})
			s := sit(t, visit{people: []person{alice}, worker: worker})
			s.selects(0)
			s.typesPassword()
			s.isAsked("Type 07 on your phone (Alice's phone) to approve, until ")
			if f := s.find("What to do", "small"); !regexp.MustCompile(`until \d+:\d\d:\d\d`).MatchString(f.Text) {
				t.Errorf("the tile does not say until when: %q", f.Text)
			}
			if f := s.find("Code", "edit"); f.Interactive != "focused" {
				t.Errorf("the field for the code is %s", f.Interactive)
			}
			p.isAnswered()
			s.goesOnByItself(0)
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

// TestPushAndACode: whoever has no phone at hand types a code while it rings.
func TestPushAndACode(t *testing.T) {
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		s.hearsCode(1, "123456")
		s.says(allow())
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked("Type 42 on your phone")
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestPushEnterTooEarly: Enter without a code asks whether it was approved.
func TestPushEnterTooEarly(t *testing.T) {
	p := make(tap)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		s.hearsCode(1, "")
		s.rings(2, 42, 50*time.Second)
		<-p
		s.approves(2)
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked("Type 42")
	s.submits()
	s.isAsked("Not approved yet. Type 42 on your phone")
	p.isAnswered()
	s.goesOnByItself(0)
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestPushTimedOut: the screen asks for a code, and Enter without one asks the phone
// again.
func TestPushTimedOut(t *testing.T) {
	p := make(tap)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, 0)
		s.hearsCode(1, "") // once more
		s.rings(2, 43, time.Minute)
		<-p
		s.approves(2)
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked("Nobody answered on the phone")
	s.submits()
	s.isAsked("Type 43 on your phone")
	if f := s.find("What to do", "small"); strings.Contains(f.Text, "Not approved yet") {
		t.Errorf("of a phone that rings anew the tile says %q", f.Text)
	}
	p.isAnswered()
	s.goesOnByItself(0)
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestPushApprovedAndEnterPressed: where a screen does not look again, Enter fetches the
// verdict, whatever is in the field.
func TestPushApprovedAndEnterPressed(t *testing.T) {
	p := make(tap)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		<-p
		s.approves(1)
	})
	s := atLogon(t)
	s.typesPassword()
	s.types("Code", "123")
	p.isAnswered()
	s.do("await", awaitMS)
	s.submits()
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
			p := make(tap)
			agentPlays(t, func(s *session) {
				s.rings(1, 42, time.Minute)
				<-p
				s.approves(1)
			})
			s := sit(t, visit{people: []person{bob, alice}})
			s.selects(1)
			s.types("Password", password)
			s.submits()
			s.isAsked("Type 42")
			s.types("Code", "123") // and then looks at the phone
			p.isAnswered()
			s.goesOnByItself(1, how...)
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
			p := make(tap)
			agentPlays(t, func(s *session) {
				s.rings(1, 42, time.Minute)
				<-p
				s.says(closePrompt(1), deny("push_denied", why))
			})
			s := atLogon(t)
			s.types("Password", password)
			s.submits()
			s.isAsked("Type 42")
			p.isAnswered()
			if a := s.comesBack(how...); a.Automatic {
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
	besideOthers(t)
	p := make(tap)
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		<-p
		s.approves(1)
	})
	s := atLogon(t)
	s.types("Password", password)
	s.submits()
	p.isAnswered()
	s.do("await", awaitMS)
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
	begun := make(chan struct{})
	agentPlays(t, func(s *session) {
		close(begun)
		s.hearsNoMore()
	})
	s := atLogon(t)
	s.types("Password", password)
	a := s.cancels(begun)
	if !a.Cancelled || a.ConnectMS > soonMS || a.Response != "not finished" || a.Credential != nil {
		t.Errorf("%+v", a)
	}
	s.isBlank()
	s.findsNo(password)
	s.leaves()
}
