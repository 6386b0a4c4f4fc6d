package hosttest

import (
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
		s.do("await", awaitMS)
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

// TestSubmitAgainAfterSuccess: after the end of a login its tile begins another.
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

// TestTheVerdictIsOfWhatWasChecked: a password changed behind the agent's back is not what
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

// TestNarrator reads the label of what has the focus; the focus is where the person is to
// type, and nowhere else, and the button beside the last field. (That every field has a
// label is checked in each visit.)
func TestNarrator(t *testing.T) {
	check := func(s *screen, focus, last string) {
		t.Helper()
		for _, f := range s.fields {
			if f.Shown && (f.Interactive == "focused") != (f.Label == focus) {
				t.Errorf("the field %q is %q, the focus should be on %q", f.Label, f.Interactive, focus)
			}
		}
		if button, field := s.find("Log in", "submit"), s.find(last, "edit", "password"); button.Beside != field.ID {
			t.Errorf("the button is beside the field %d, want %q", button.Beside, last)
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
	check(s, "User name", "Password")
	s.types("User name", `CORP\alice`)
	s.types("Password", password)
	s.submits()
	check(s, "Code", "Code")
	s.typesCode("111111")
	check(s, "Code", "Code")
	s.find("Code", "password") // which shows dots
	s.typesCode("222222")
	s.isRefused("That code is not right.")
	check(s, "User name", "Password")
	s.leaves()
}
