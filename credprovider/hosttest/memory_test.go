package hosttest

import "testing"

// TestPasswordIsWiped at each way out of a login; leaves() looks once more, with the
// DLL gone.
func TestPasswordIsWiped(t *testing.T) {
	begun := make(chan struct{})
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
		"cancelled": {func(s *session) {
			close(begun)
			s.hearsNoMore()
		}, func(s *screen) {
			s.cancels(begun)
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

// exactHeap has Windows keep each allocation of the host apart and check what is
// around it (tail and free checking), so that the figures are exact and an overrun is
// found. Freed memory is filled: nothing can be said about wiping.
func exactHeap(t *testing.T) {
	t.Helper()
	setValue(t, `HKLM\Software\Microsoft\Windows NT\CurrentVersion\Image File Execution Options\logonui-host.exe`, "GlobalFlag", uint32(0x70))
}

// grewBeyond compares what the host holds before and after many logins. What is left
// of the bounds is Wine's own: one lost allocation in each login would be far beyond.
func grewBeyond(t *testing.T, logins int, before, after figures) {
	t.Helper()
	t.Logf("before: %+v; %d logins later: %+v", before, logins, after)
	for _, f := range []struct {
		name             string
		from, to, growth int
	}{
		{"handles", before.Handles, after.Handles, 2},
		{"GDI objects", before.GDI, after.GDI, 0},
		{"USER objects", before.User, after.User, 0},
		{"blocks on the heap", before.HeapBlocks, after.HeapBlocks, 10 + logins/100},
		{"bytes on the heap", before.HeapBytes, after.HeapBytes, 64 << 10},
		{"committed bytes", before.Committed, after.Committed, 256 << 10},
	} {
		if f.to-f.from > f.growth {
			t.Errorf("%s: %d, and %d logins later %d", f.name, f.from, logins, f.to)
		}
	}
}

// TestAThousandLogins at one screen leave no handle and no memory behind.
func TestAThousandLogins(t *testing.T) {
	besideOthers(t)
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
	exactHeap(t)
	s := sit(t, visit{people: []person{alice, bob}})
	var before figures
	for i := range logins {
		if i == warm {
			before = s.do("figures").figures
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
	grewBeyond(t, logins-warm, before, s.do("figures").figures)
	s.leaves()
}

// TestAHundredScreens: the DLL is loaded and unloaded each time.
func TestAHundredScreens(t *testing.T) {
	besideOthers(t)
	const warm, visits = 50, 150
	var scripts []script
	for range visits {
		scripts = append(scripts, codeThen(allow()))
	}
	agentPlays(t, scripts...)
	exactHeap(t)
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
	grewBeyond(t, visits-warm, before, s.do("figures").figures)
}
