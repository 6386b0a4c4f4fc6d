package hosttest

import (
	"testing"
	"time"
)

// TestPasswordIsWiped at each way out of a login; leaves() looks once more, with the
// DLL gone.
func TestPasswordIsWiped(t *testing.T) {
	for name, c := range map[string]struct {
		play script
		out  func(s *screen)
	}{
		"typed and erased": {nil, func(s *screen) { s.types("Password", "") }},
		"typed and left":   {nil, func(s *screen) { s.do("deselect") }},
		"screen taken away": {nil, func(s *screen) {
			s.do("close")
		}},
		"refused": {says(deny("wrong_password", "No.")), func(s *screen) { s.submits() }},
		"in, once Windows has it": {says(skip()), func(s *screen) {
			s.submits()
			s.isIn("CORP", "alice")
		}},
		"refused by Windows": {says(skip()), func(s *screen) {
			s.submits()
			s.do("result", 0xC000006D)
		}},
		"in, and Windows never says": {says(skip()), func(s *screen) { s.submits() }},
		"cancelled": {func(s *session) { s.hearsNoMore() }, func(s *screen) {
			s.submits("cancel-after", 300)
		}},
		"left in the middle": {func(s *session) {
			s.says(prompt(1, codePrompt))
			s.hearsNoMore()
		}, func(s *screen) {
			s.submits()
			s.isAsked(codePrompt)
			s.finds(password) // kept for Windows, in one place
			s.do("deselect")
		}},
		"disconnected in the middle": {func(s *session) {
			s.says(prompt(1, codePrompt))
			s.hearsNoMore()
		}, func(s *screen) {
			s.submits()
			s.do("disconnect")
		}},
		"the screen goes in the middle": {func(s *session) {
			s.says(prompt(1, codePrompt))
			s.hearsNoMore()
		}, func(s *screen) {
			s.submits()
			s.do("close")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.play != nil {
				agentPlays(t, c.play)
			}
			s := atLogon(t)
			s.types("Password", password)
			s.finds(password)
			c.out(s)
			s.findsNo(password)
			s.findsNo(password[:12]) // what was typed key by key
			s.leaves()
		})
	}
}

// TestCodeIsWiped: a recovery code is good for long.
func TestCodeIsWiped(t *testing.T) {
	const recovery = "KANA-RIEN-VOGL-7351"
	agentPlays(t, func(s *session) {
		s.says(prompt(1, codePrompt))
		s.hearsCode(1, recovery)
		s.says(deny("wrong_code", "That code is not right."))
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(codePrompt)
	s.types("Code", recovery)
	s.finds(recovery)
	s.submits()
	s.isRefused("That code is not right.")
	s.findsNo(recovery)
	s.leaves()
}

// TestTheNewSecretIsWiped: at enrolment the prompt itself is one.
func TestTheNewSecretIsWiped(t *testing.T) {
	const seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	agentPlays(t, func(s *session) {
		s.says(prompt(1, "Your account needs a second factor. Type this key into your authenticator app: "+seed+"\nCode the app shows now: "))
		s.hearsCode(1, "123456")
		s.says(allow())
	})
	s := atLogon(t)
	s.typesPassword()
	s.isAsked(seed)
	s.finds(seed)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
	s.findsNo(seed)
}

// Of a thousand logins, what the last eight hundred may leave behind altogether. Wine
// itself keeps a little.
const (
	handlesMax = 4
	blocksMax  = 200
	bytesMax   = 64 << 10
	commitMax  = 1 << 20
)

// TestAThousandLogins at one screen leave no handle and no memory behind.
func TestAThousandLogins(t *testing.T) {
	const warm, logins = 200, 1000
	var scripts []script
	for i := range logins {
		switch i % 4 {
		case 0:
			scripts = append(scripts, says(skip()))
		case 1:
			scripts = append(scripts, codeThen(allow()))
		case 2:
			scripts = append(scripts, codeThen(deny("wrong_code", "That code is not right.")))
		case 3:
			scripts = append(scripts, func(s *session) {
				s.says(prompt(1, codePrompt))
				s.hearsNoMore()
			})
		}
	}
	agentPlays(t, scripts...)
	s := sit(t, visit{people: []person{alice, bob}})
	var before figures
	var began time.Time
	for i := range logins {
		if i == warm {
			before, began = s.do("figures").figures, time.Now()
		}
		s.selects(0)
		s.typesPassword()
		switch i % 4 {
		case 0:
			s.isIn("CORP", "alice")
		case 1:
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isIn("CORP", "alice")
		case 2:
			s.isAsked(codePrompt)
			s.typesCode("123456")
			s.isRefused("That code is not right.")
		case 3:
			s.isAsked(codePrompt)
			s.selects(1) // and away
		}
	}
	took := time.Since(began)
	after := s.do("figures").figures
	t.Logf("%d logins in %v: before %+v, after %+v", logins-warm, took, before, after)
	for _, f := range []struct {
		name             string
		from, to, growth int
	}{
		{"handles", before.Handles, after.Handles, handlesMax},
		{"blocks on the heap", before.HeapBlocks, after.HeapBlocks, blocksMax},
		{"bytes on the heap", before.HeapBytes, after.HeapBytes, bytesMax},
		{"committed bytes", before.Committed, after.Committed, commitMax},
	} {
		if f.to-f.from > f.growth {
			t.Errorf("%s: %d, and %d logins later %d", f.name, f.from, logins-warm, f.to)
		}
	}
	s.leaves()
}

// TestAHundredScreens: the DLL is loaded and unloaded each time.
func TestAHundredScreens(t *testing.T) {
	const warm, visits = 20, 100
	var scripts []script
	for range visits {
		scripts = append(scripts, codeThen(allow()))
	}
	agentPlays(t, scripts...)
	s := turnOn(t)
	s.visit = visit{people: []person{alice}}
	var before figures
	for i := range visits {
		if i == warm {
			before = s.do("figures").figures
		}
		s.sitDown()
		s.selects(0)
		s.typesPassword()
		s.isAsked(codePrompt)
		s.typesCode("123456")
		s.isIn("CORP", "alice")
		if end := s.do("close"); end.ProviderReferences != 0 || !end.Unloaded {
			t.Fatalf("visit %d: %d references, unloaded: %v", i, end.ProviderReferences, end.Unloaded)
		}
	}
	after := s.do("figures").figures
	t.Logf("%d visits: before %+v, after %+v", visits-warm, before, after)
	if after.Handles-before.Handles > handlesMax || after.HeapBlocks-before.HeapBlocks > blocksMax || after.HeapBytes-before.HeapBytes > bytesMax {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
