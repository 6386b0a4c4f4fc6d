//go:build linux

package plugintest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/factor/push"
)

// What the context says that is no user: nobody gets in, the window says why, and
// the agent is not even asked.
func TestContextThatNamesNobody(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		for name, value := range map[string][]byte{
			"no name": nil, "empty": {}, "only NUL": {0}, "over-long": bytes.Repeat([]byte("a"), 300), "very long": bytes.Repeat([]byte("a"), 20000),
			"NUL inside": []byte(p.name + "\x00root\x00"),
		} {
			l := s.login(t, p.account, atLogin)
			if value == nil {
				l.do("uncontext username")
			} else {
				l.context("username", value)
			}
			l.runs().isTold("macOS did not say who is logging in")
			l.types("")
			l.isOut()
			if l.went(refused); t.Failed() {
				t.Fatalf("that was: %s", name)
			}
			l.closes()
		}
		wantReasons(t, office, p.account)
	})
}

// GHSA-x259-23ph-65m5: names with what does not belong into a name, or in bytes that
// are no text. None is anybody's, and none gets in.
func TestNamesOfNobody(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, sockets(office), options{})
		for _, name := range []string{"\xff\xfe\xfd", "a:b", "a\nb", "a\rb", "%s%n", "../etc", strings.Repeat("x", 255), "root\n"} {
			l := s.login(t, account{name, 4711}, atLogin).runs()
			l.isTold("")
			l.types("")
			l.isOutOrCancelled()
			l.closes()
		}
		for _, line := range strings.Split(s.log.text(), "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("the log holds what is not printable: %q", line)
			}
		}
	})
}

// A uid that is missing or short: the name alone is asked about, and is not let in by
// any list.
func TestNoUID(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, sockets(office), options{})
		for _, uid := range [][]byte{nil, {}, {1}, {1, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0}} {
			p := enrolled(t, office)
			l := s.login(t, p.account, atLogin)
			if uid == nil {
				l.do("uncontext uid")
			} else {
				l.context("uid", uid)
			}
			l.runs().isAsked(codePrompt)
			l.types(p.phone.Next())
			l.isIn()
			l.closes()
		}
	})
}

// The name of somebody who is not asked, and the uid of somebody who is: authd would log
// in the latter.
func TestNameAndUIDOfTwoPeople(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, sockets(office), options{})
		p, other := enrolled(t, office), newAccount(t, "u")
		for _, pair := range []account{{other.name, p.uid}, {p.name, other.uid}, {p.name, 0}, {p.name, 4_000_000}} {
			l := s.login(t, pair, atLogin).runs()
			l.isTold("did not say who")
			l.cancels()
			l.isOut()
			l.closes()
			s.log.says(t, "another account's")
		}
		l := s.login(t, p.account, atLogin).runs()
		l.isAsked(codePrompt)
		l.types(p.phone.Next())
		l.isIn()
	})
}

// CVE-2024-9313: the user is another at verify than at begin.
func TestUserChangedBetweenBeginAndVerify(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, other := enrolled(t, office), enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		for name, change := range map[string]func(l *login){
			"name":        func(l *login) { l.context("username", []byte(other.name)) },
			"uid":         func(l *login) { l.context("uid", uidBytes(other.uid)) },
			"both":        func(l *login) { l.context("username", []byte(other.name)); l.context("uid", uidBytes(other.uid)) },
			"no name":     func(l *login) { l.do("uncontext username") },
			"no uid":      func(l *login) { l.do("uncontext uid") },
			"root's uid":  func(l *login) { l.context("uid", uidBytes(0)) },
			"more behind": func(l *login) { l.context("username", []byte(p.name+"x")) },
		} {
			l := s.login(t, p.account, atLogin)
			l.do("step")
			l.runs()
			for _, m := range []string{"begin", "prompt"} {
				l.pausesAt(m)
				l.do("go")
			}
			l.isAsked(codePrompt)
			l.types(p.phone.Peek())
			l.pausesAt("verify")
			change(l)
			l.do("go")
			l.isOut()
			if l.went(refused); t.Failed() {
				t.Fatalf("that was: %s", name)
			}
			l.closes()
		}
		s.log.says(t, "user name or uid are others")
	})
}

func (l *login) pausesAt(mechanism string) {
	l.t.Helper()
	if f := l.until("pause"); f[1] != mechanism {
		l.t.Fatalf("the list pauses at %s, want %s; %s", f[1], mechanism, l.story())
	}
}

// value reads a hint or a context value of the evaluation.
func (l *login) value(what, key string) []byte {
	l.t.Helper()
	l.do("get %s %s", what, key)
	f := l.until("value")
	if f[1] == "none" {
		return nil
	}
	return []byte(fromHex(l.t, f[1]))
}

const (
	screenHint = "sallyport.screen"
	answerHint = "sallyport.answer"
)

// stepTo runs a list up to the pause before a mechanism, with this typed at the window.
func (l *login) stepTo(mechanism, typed string) {
	l.t.Helper()
	l.do("step")
	l.runs()
	for _, m := range []string{"begin", "prompt", "verify"} {
		l.pausesAt(m)
		if m == mechanism {
			return
		}
		l.do("go")
		if m == "prompt" {
			l.isAsked("")
			l.types(typed)
		}
	}
}

// Other plug-ins can write any hint. A screen that is damaged is not shown, or is
// shown and answered; either way nobody gets in by it.
func TestHostileScreens(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		for name, change := range map[string]func(screen []byte) []byte{
			"gone":              func([]byte) []byte { return nil },
			"empty":             func([]byte) []byte { return []byte{} },
			"truncated":         func(s []byte) []byte { return s[:len(s)-1] },
			"longer":            func(s []byte) []byte { return append(s, 0) },
			"of another kind":   func(s []byte) []byte { s[4] = 77; return s },
			"another version":   func(s []byte) []byte { s[0]++; return s },
			"nothing to ask":    func(s []byte) []byte { s[4] = 0; return s },
			"all ones":          func(s []byte) []byte { return bytes.Repeat([]byte{0xff}, len(s)) },
			"all zero":          func(s []byte) []byte { return make([]byte, len(s)) },
			"texts without NUL": func(s []byte) []byte { return append(s[:56], bytes.Repeat([]byte("x"), len(s)-56)...) },
			"another login":     func(s []byte) []byte { s[8] ^= 1; return s },
		} {
			l := s.login(t, p.account, atLogin)
			l.stepTo("prompt", "")
			screen := change(l.value("hint", screenHint))
			if screen == nil {
				l.do("unhint %s", screenHint)
			} else {
				l.hint(screenHint, screen)
			}
			l.do("go")
			l.endsWithoutEntry(name, "")
		}
		wantOnly(t, attemptsOf(t, p), "deny")
	})
}

// endsWithoutEntry types at every window, cancels after the first, and passes pauses.
func (l *login) endsWithoutEntry(name, typed string) {
	l.t.Helper()
	for first := true; ; {
		switch f := l.until("shown", "pause", "ended"); f[0] {
		case "pause":
			l.do("go")
		case "shown":
			if first && typed != "" {
				l.types(typed)
			} else {
				l.cancels()
			}
			first = false
		case "ended":
			if f[1] == "allow" {
				l.t.Errorf("%s: let in; %s", name, l.story())
			}
			l.closes()
			return
		}
	}
}

func attemptsOf(t *testing.T, who *person) (verdicts []string) {
	t.Helper()
	for _, e := range attempts(t, who.at, who.account) {
		verdicts = append(verdicts, e.Verdict)
	}
	return verdicts
}

func wantOnly(t *testing.T, verdicts []string, want string) {
	t.Helper()
	for _, v := range verdicts {
		if v != want {
			t.Errorf("the agent's verdicts are %v, want only %s", verdicts, want)
		}
	}
}

// An answer that was damaged on its way is none.
func TestHostileAnswers(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		for name, change := range map[string]func(answer []byte) []byte{
			"gone":            func([]byte) []byte { return nil },
			"empty":           func([]byte) []byte { return []byte{} },
			"truncated":       func(a []byte) []byte { return a[:len(a)-1] },
			"longer":          func(a []byte) []byte { return append(a, 0) },
			"another version": func(a []byte) []byte { a[0]++; return a },
			"another kind":    func(a []byte) []byte { a[4] = 9; return a },
			"no answer":       func(a []byte) []byte { a[4] = 0; return a },
			"cancelled":       func(a []byte) []byte { a[4] = 2; return a },
			"another login":   func(a []byte) []byte { a[8] ^= 1; return a },
			"another prompt":  func(a []byte) []byte { a[24]++; return a },
			"over-long":       func(a []byte) []byte { a[28] = 129; return a },
			"4 GiB":           func(a []byte) []byte { copy(a[28:], "\xff\xff\xff\xff"); return a },
			"all ones":        func(a []byte) []byte { return bytes.Repeat([]byte{0xff}, len(a)) },
			"all zero":        func(a []byte) []byte { return make([]byte, len(a)) },
		} {
			l := s.login(t, p.account, atLogin)
			l.stepTo("verify", p.phone.Peek())
			answer := l.value("hint", answerHint)
			if len(answer) != 32+128 {
				t.Fatalf("an answer has %d bytes", len(answer))
			}
			if answer = change(answer); answer == nil {
				l.do("unhint %s", answerHint)
			} else {
				l.hint(answerHint, answer)
			}
			l.do("go")
			l.endsWithoutEntry(name, "")
		}
		wantOnly(t, attemptsOf(t, p), "deny")
	})
}

// An answer, or a screen, of another login: one that is over, one that is open beside
// it, one of the same person. Neither lets in whoever holds it.
func TestAnswersOfOtherLogins(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p, mallory := enrolled(t, office), enrolled(t, office)
		s := b.start(t, sockets(office), options{})

		l := s.login(t, p.account, atLogin)
		l.stepTo("verify", p.phone.Next())
		screen, answer := l.value("hint", screenHint), l.value("hint", answerHint)
		l.do("go")
		l.isIn()
		l.closes()
		for _, who := range []*person{mallory, p} { // the login is over
			l = s.login(t, who.account, atLogin)
			l.stepTo("verify", "000000")
			l.hint(answerHint, answer)
			l.hint(screenHint, screen)
			l.do("go")
			l.endsWithoutEntry("replayed", "")
		}

		victim := s.login(t, p.account, atLogin) // and now one that is open
		victim.stepTo("verify", p.phone.Next())
		screen, answer = victim.value("hint", screenHint), victim.value("hint", answerHint)
		l = s.login(t, mallory.account, atLogin)
		l.stepTo("verify", "000000")
		l.hint(answerHint, answer)
		l.hint(screenHint, screen)
		l.do("go")
		l.endsWithoutEntry("somebody else's", "")
		victim.do("go") // who is not let in on it either: that login was touched
		victim.until("ended")
		wantOnly(t, attemptsOf(t, mallory), "deny")
	})
}

// Mallory's list is given the name of a login that the phone of somebody else has
// approved already: it does not open.
func TestSomebodyElsesApproval(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := withPhone(t)
		mallory := enrolled(t, p.at)
		s := b.start(t, sockets(p.at), options{})
		victim := s.login(t, p.account, atLogin)
		victim.stepTo("prompt", "")
		victim.do("go")
		p.decides(t, push.Approve, victim.isRung().digits(), "approved")
		victim.pausesAt("begin")
		victim.do("go")
		victim.pausesAt("prompt")
		screen := victim.value("hint", screenHint)

		l := s.login(t, mallory.account, atLogin)
		l.stepTo("prompt", "")
		l.hint(screenHint, screen)
		l.do("go")
		l.endsWithoutEntry("approved for somebody else", "")
		wantOnly(t, attemptsOf(t, mallory), "deny")
		victim.do("go")
		victim.endsAnyhow()
	})
}

func (l *login) endsAnyhow() string {
	l.t.Helper()
	for {
		switch f := l.until("shown", "pause", "again", "ended"); f[0] {
		case "pause":
			l.do("go")
		case "again":
			l.do("stop")
		case "shown":
			l.cancels()
		case "ended":
			return f[1]
		}
	}
}

// verify without prompt, prompt without begin, verify alone: whoever edits the rights
// database wrongly locks out, and lets nobody in.
func TestMechanismsLeftOut(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		s := b.start(t, sockets(office), options{})
		for _, list := range []string{
			"verify,privileged", "prompt verify,privileged", "begin,privileged verify,privileged",
			"verify,privileged begin,privileged prompt", "begin prompt verify,privileged", // begin in the wrong process
		} {
			l := s.login(t, p.account, list).runs()
			l.endsWithoutEntry(list, "")
		}
		l := s.login(t, p.account, "nonsense,privileged").runs()
		l.ends("undefined")
		l.went("uncreated nonsense")
	})
}

// Somebody else's mechanisms before and behind ours, as with other products.
func TestBesideOtherPlugIns(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		p := enrolled(t, office)
		l := b.start(t, sockets(office), options{}).login(t, p.account, "other:a "+atLogin+" other:b,privileged").runs()
		l.isAsked(codePrompt)
		l.types(p.phone.Next())
		l.isIn()
	})
}

// writeList writes the break-glass list of a stand-in's computer.
func (s *standin) writeList(text string, mode os.FileMode) string {
	s.t.Helper()
	path := filepath.Join(s.library, "break-glass")
	must(s.t, os.WriteFile(path, []byte(text), mode))
	must(s.t, os.Chmod(path, mode))
	return path
}

// With the agent dead whoever is on the list gets in, unlocks and elevates by the
// password alone, and the log says so; nobody else.
func TestBreakGlass(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		dead := t.TempDir()
		listed, other := newAccount(t, "glass"), newAccount(t, "none")
		s := b.start(t, dead, options{})
		s.writeList("# the safe's\n"+uidText(listed)+"\n", 0o644)
		for _, where := range []struct{ list, right, service string }{
			{atLogin, "system.login.console", "loginwindow"},
			{session, "system.login.screensaver", "screensaver"},
			{session, "system.preferences", "authorization"},
		} {
			l := s.login(t, listed, where.list)
			l.hint("authorize-right", []byte(where.right))
			l.runs().isIn()
			l.went(strings.Replace(asked, "begin ", strings.TrimSuffix(strings.Fields(where.list)[0], ",privileged")+" ", 1))
			if l.shown != nil {
				t.Errorf("a window was shown: %+v", l.shown)
			}
			s.log.says(t, fmt.Sprintf("BREAK-GLASS: %s (uid %d) was let through with the password alone (%s).", listed.name, listed.uid, where.service))
		}
		out := []*login{s.login(t, other, atLogin), s.login(t, other, session), s.login(t, account{listed.name, 0}, atLogin), s.login(t, listed, atLogin)}
		out[3].do("uncontext uid")
		for _, l := range out {
			l.runs()
		}
		for i, l := range out {
			if i == 2 {
				l.isTold("macOS did not say who is logging in")
			} else {
				l.isTold("Sallyport is not running")
			}
			l.cancels()
			l.isOutOrCancelled()
		}
	})
}

func uidText(a account) string { return fmt.Sprintf("uid:%d", a.uid) }

// A list that others than root can write, or that is malformed, names nobody. And who
// is taken off between begin and verify is off.
func TestBreakGlassListThatCountsForNobody(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		dead, listed := t.TempDir(), newAccount(t, "glass")
		line := uidText(listed) + "\n"
		for name, change := range map[string]func(path string) error{
			"writable by all":       func(path string) error { return os.Chmod(path, 0o666) },
			"writable by the group": func(path string) error { return os.Chmod(path, 0o664) },
			"somebody else's":       func(path string) error { return os.Chown(path, int(listed.uid), 0) },
			"malformed":             func(path string) error { return os.WriteFile(path, []byte(line+"everybody\n"), 0o644) },
			"a link": func(path string) error {
				if err := os.Rename(path, path+".real"); err != nil {
					return err
				}
				return os.Symlink(path+".real", path)
			},
			"a directory that all can write": func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
			"endless": func(path string) error {
				return os.WriteFile(path, bytes.Repeat([]byte(line), 20000), 0o644)
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := b.start(t, dead, options{})
				must(t, change(s.writeList(line, 0o644)))
				l := s.login(t, listed, atLogin).runs()
				l.isTold("Sallyport is not running")
				l.cancels()
				l.isOut()
				s.log.says(t, "The break-glass list counts for nobody")
			})
		}
		t.Run("taken off", func(t *testing.T) {
			t.Parallel()
			s := b.start(t, dead, options{})
			path := s.writeList(line, 0o644)
			l := s.login(t, listed, atLogin)
			l.do("step")
			l.runs()
			for _, m := range []string{"begin", "prompt"} {
				l.pausesAt(m)
				l.do("go")
			}
			l.pausesAt("verify")
			must(t, os.Remove(path))
			l.do("go")
			l.isOut()
			l.went(refused)
		})
	})
}
