package hosttest

import (
	"slices"
	"testing"
	"time"
)

// What every visit checks besides (in the host, as breaches): references, allocators,
// threads, fields that are as their events had them, what unknown interfaces and
// indexes give.

// TestProvidersGoFirst: the order in which the screen lets go is not ours to choose.
func TestProvidersGoFirst(t *testing.T) {
	t.Run("at rest", func(t *testing.T) {
		s := atLogon(t)
		s.types("Password", password)
		s.leaves("providers-first")
	})
	t.Run("in the middle of a login", func(t *testing.T) {
		agentPlays(t, func(s *session) {
			s.says(prompt(1, codePrompt))
			s.hearsNoMore()
		})
		s := atLogon(t)
		s.typesPassword()
		s.isAsked(codePrompt)
		s.leaves("providers-first")
	})
}

// TestNoConnect: a screen that knows no Connect gets through with GetSerialization.
func TestNoConnect(t *testing.T) {
	besideOthers(t)
	t.Run("code", func(t *testing.T) {
		agentPlays(t, codeThen(allow()))
		s := atLogon(t)
		s.types("Password", password)
		s.submits("unconnected")
		s.isAsked(codePrompt)
		s.types("Code", "123456")
		s.submits("unconnected")
		s.isIn("CORP", "alice")
		s.leaves()
	})
	t.Run("phone", func(t *testing.T) {
		p := make(tap)
		agentPlays(t, func(s *session) {
			s.rings(1, 42, time.Minute)
			<-p
			s.approves(1)
		})
		s := atLogon(t)
		s.types("Password", password)
		s.submits("unconnected")
		s.reads("Type 42 on your phone")
		p.isAnswered()
		s.do("await", 20_000)
		if a := s.do("refresh"); a.Default == nil || *a.Default != 0 || !a.Automatic {
			t.Fatalf("default %v, by itself: %v", a.Default, a.Automatic)
		}
		s.selects(0)
		s.submits("unconnected")
		s.isIn("CORP", "alice")
		s.leaves()
	})
	t.Run("nobody there", func(t *testing.T) {
		s := atLogon(t)
		s.types("Password", password)
		s.submits("unconnected")
		s.isRefused(notRunning)
		s.leaves()
	})
}

// TestTilesAreMadeAgain as often as the screen likes, also in the middle of a login.
func TestTilesAreMadeAgain(t *testing.T) {
	for name, how := range refreshes {
		t.Run(name, func(t *testing.T) {
			agentPlays(t, codeThen(allow()))
			s := sit(t, visit{people: []person{alice, bob}})
			for range 3 {
				if a := s.do("refresh", how...); len(a.Tiles) != 2 || a.Automatic {
					t.Errorf("%d tiles, by itself: %v", len(a.Tiles), a.Automatic)
				}
			}
			s.selects(0)
			s.types("Password", password)
			s.do("refresh", how...)
			s.selects(0)
			s.isBlank()
			s.findsNo(password)
			s.typesPassword()
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
			s.leaves()
		})
	}
}

// TestSubmitTwice: after the end of a login its tile begins another.
func TestSubmitAgainAfterSuccess(t *testing.T) {
	agentPlays(t, says(skip()), codeThen(allow()))
	s := atLogon(t)
	s.typesPassword()
	s.isIn("CORP", "alice")
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestTheVerdictIsForOneLogin: a password changed behind the agent's back is not what
// Windows gets.
func TestTheVerdictIsOfWhatWasChecked(t *testing.T) {
	agentPlays(t, codeThen(allow()))
	s := atOther(t)
	s.types("User name", `CORP\alice`)
	s.typesPassword()
	s.isAsked(codePrompt)
	// The fields are not to be used now; whatever a screen does, they change nothing.
	for label, text := range map[string]string{"User name": `CORP\bob`, "Password": "another"} {
		for _, f := range s.fields {
			if f.Label == label && (f.Type == "edit" || f.Type == "password") {
				if a := s.try("type", f.ID, text, "anyway"); a.Error != "" {
					t.Fatalf("type: %s", a.Error)
				}
			}
		}
	}
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestNarrator reads labels: every field that one uses has one, in every state of the
// tile, and the focus is where the person is to type.
func TestNarrator(t *testing.T) {
	check := func(s *screen, focus string) {
		t.Helper()
		for _, f := range s.fields {
			if slices.Contains([]string{"edit", "password", "link", "submit", "image"}, f.Type) && f.Label == "" {
				t.Errorf("the field %d (%s) has no label", f.ID, f.Type)
			}
			if f.Shown && f.Type == "link" && f.Text == "" {
				t.Errorf("the link %q has no text", f.Label)
			}
			if f.Shown && f.Interactive == "focused" && f.Label != focus {
				t.Errorf("the focus is on %q, want %q", f.Label, focus)
			}
		}
		if f := s.find(focus, "edit", "password"); f.Interactive != "focused" {
			t.Errorf("the focus is not on %q; on the screen: %s", focus, s.look())
		}
		button, beside := s.find("Log in", "submit"), s.find(focus, "edit", "password")
		if last := s.find(map[string]string{"User name": "Password"}[focus]+map[bool]string{true: focus}[focus != "User name"], "edit", "password"); button.Beside != last.ID {
			t.Errorf("the button is beside the field %d, the focus on %d", button.Beside, beside.ID)
		}
	}
	agentPlays(t, func(s *session) {
		s.rings(1, 42, time.Minute)
		s.hearsCode(1, "111111")
		p := prompt(2, "Once more: ")
		p.GetPrompt().Echo = 1 // secret
		s.says(p)
		s.hearsCode(2, "222222")
		s.says(deny("wrong_code", "That code is not right."))
	})
	s := atOther(t)
	check(s, "User name")
	s.types("User name", `CORP\alice`)
	s.types("Password", password)
	s.submits()
	check(s, "Code")
	if s.find("Code", "edit").Text != "" {
		t.Error("there is a code in the field")
	}
	s.typesCode("111111")
	check(s, "Code")
	if f := s.find("Code", "password"); !f.Shown {
		t.Error("a secret answer is shown as it is typed")
	}
	s.typesCode("222222")
	s.isRefused("That code is not right.")
	check(s, "User name")
	s.leaves()
}
