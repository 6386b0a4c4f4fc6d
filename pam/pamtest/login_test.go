package pamtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

func TestRightCodeLetsIn(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, func(s *session) {
			want := &loginv1.Begin{
				ProtocolVersion: 1,
				Hook:            loginv1.HookKind_HOOK_KIND_PAM,
				Scenario:        loginv1.Scenario_SCENARIO_REMOTE,
				Stage:           loginv1.Stage_STAGE_AUTHENTICATE,
				User:            []byte("alice"), Caller: []byte("bob"), Service: []byte("sshd"),
				RemoteHost: []byte("192.0.2.7"), Session: []byte("ssh"), Locale: []byte("de_DE.UTF-8"),
				Capabilities: &loginv1.Capabilities{Qr: true},
			}
			if s.begin.String() != want.String() {
				s.fail("Begin is %v\nwant %v", s.begin, want)
			}
			s.says(notice(loginv1.Notice_KIND_INFO, "Second factor"))
			s.says(prompt(1, loginv1.Prompt_ECHO_SECRET, "Code: "))
			s.hearsCode(1, "111111")
			s.says(notice(loginv1.Notice_KIND_ERROR, "Wrong code."))
			s.asksForCode(2)
			s.hearsCode(2, "123456")
			s.says(verdict(loginv1.Verdict_DECISION_ALLOW, "totp", "Welcome"))
		})
		p := b.sit(t, a.socket, login{
			service: "sshd",
			options: "debug",
			items:   map[pam.Item]string{pam.Ruser: "bob", pam.Rhost: "192.0.2.7", pam.Tty: "ssh"},
			env:     []string{"LANG=de_DE.UTF-8"},
		})
		p.authenticate()
		p.sees(pam.TextInfo, "Second factor")
		p.sees(pam.PromptEchoOff, "Code: ")
		p.types("111111")
		p.sees(pam.ErrorMsg, "Wrong code.")
		p.sees(pam.PromptEchoOn, "Code: ")
		p.types("123456")
		p.sees(pam.TextInfo, "Welcome")
		p.ret(success)
		p.account()
		p.ret(success)
		p.setcred(pam.EstablishCred)
		p.ret(success)
	})
}

func TestWrongCodeKeepsOut(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, codeThen(verdict(loginv1.Verdict_DECISION_DENY, "wrong_code", "That code is not right.")))
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		p.sees(pam.PromptEchoOn, "Code: ")
		p.types("123456")
		p.sees(pam.ErrorMsg, "That code is not right.")
		p.ret(authErr)
		p.logged("denied: wrong_code")
	})
}

func TestSkip(t *testing.T) {
	const behindPermit = "auth required pam_permit.so\nauth required MODULE\naccount required pam_permit.so\naccount required MODULE\n"
	for name, c := range map[string]struct {
		options, stack string
		want           int
	}{
		// libpam makes PERM_DENIED of a stack in which all ignore.
		"by default it neither opens nor closes, alone":    {"", "", permDenied},
		"by default it neither opens nor closes, with one": {"", behindPermit, success},
		"skip=ignore":  {"skip=ignore", "", permDenied},
		"skip=success": {"skip=success", "", success},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, says(skip()))
				p := b.sit(t, a.socket, login{options: c.options, stack: c.stack})
				p.authenticate()
				p.ret(c.want)
				p.account() // repeats it without asking
				p.ret(c.want)
			})
		})
	}
}

func TestNoAgent(t *testing.T) {
	dir := openDir(t)
	stale := filepath.Join(dir, "stale.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: stale}); err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd)
	file := filepath.Join(dir, "file")
	write(t, file, "")

	for name, c := range map[string]struct {
		socket string
		want   int
		says   string
	}{
		"no socket":                     {filepath.Join(dir, "none.sock"), authinfoUnavail, "the agent is not running: nobody listens at " + dir},
		"no directory":                  {filepath.Join(dir, "none", "login.sock"), authinfoUnavail, "systemctl start sallyport"},
		"a socket that nobody listens":  {stale, authinfoUnavail, "the agent is not running"},
		"a path that can't be followed": {filepath.Join(file, "login.sock"), authErr, "Not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, b := range []build{shipped, asan} {
				p := b.sit(t, c.socket, login{})
				p.authenticate()
				p.ret(c.want)
				p.logged(c.says)
				if !p.apologised {
					t.Error("the person was told nothing")
				}
				p.authenticate(pam.Silent)
				p.ret(c.want)
				if p.apologised {
					t.Error("PAM_SILENT was not obeyed")
				}
				// A denial stays one; an agent that was not there is asked again.
				p.account()
				if c.want == authErr {
					p.ret(permDenied)
				} else {
					p.ret(authinfoUnavail)
				}
			}
		})
	}
}

// TestErrorsDeny is CVE-2025-23013, CVE-2025-53013: an error of whatever class is
// neither ignored nor 'the agent is not there'.
func TestErrorsDeny(t *testing.T) {
	for _, code := range []codes.Code{codes.Unknown, codes.Unavailable, codes.Unimplemented, codes.PermissionDenied,
		codes.ResourceExhausted, codes.DeadlineExceeded, codes.Canceled, codes.Internal} {
		t.Run(code.String(), func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t,
					func(s *session) { s.err = status.Error(code, "50% für\nalle") },
					func(s *session) {
						s.asksForCode(1)
						s.hearsCode(1, "123456")
						s.err = status.Error(code, "")
					})
				p := b.sit(t, a.socket, login{options: "debug"})
				p.authenticate()
				p.ret(authErr)
				p.logged(fmt.Sprintf("denied: the agent at %s: the agent ended the login without a verdict: gRPC status %d", a.socket, code))
				p.logged("the agent said: 50% f??r?alle")

				p.authenticate()
				p.sees(pam.PromptEchoOn, "Code: ")
				p.types("123456")
				p.ret(authErr)
				p.account()
				p.ret(permDenied)
			})
		})
	}
}

// TestZeroValuedSuccess: nothing that is empty, cut off, or unknown may read as
// a verdict that lets in.
func TestZeroValuedSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		directive *loginv1.Directive
		says      string
	}{
		"verdict 0":        {verdict(0, "", ""), "verdict 0"},
		"empty verdict":    {&loginv1.Directive{Directive: &loginv1.Directive_Verdict{}}, "verdict 0"},
		"unknown verdict":  {verdict(4, "", ""), "verdict 4"},
		"negative verdict": {verdict(-1, "", ""), "denied"},
		"empty directive":  {&loginv1.Directive{}, "empty or unknown directive"},
		"prompt 0":         {prompt(0, loginv1.Prompt_ECHO_VISIBLE, "Code: "), "prompt without an id"},
		"text too long":    {notice(loginv1.Notice_KIND_INFO, strings.Repeat("x", 6145)), "no directive"},
		"prompt too long":  {prompt(1, loginv1.Prompt_ECHO_VISIBLE, strings.Repeat("x", 513)), "no directive"},
		"reason too long":  {verdict(loginv1.Verdict_DECISION_ALLOW, strings.Repeat("x", 65), ""), "no directive"},
		"oversize message": {notice(loginv1.Notice_KIND_INFO, strings.Repeat("x", 100_000)), "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, says(c.directive))
				p := b.sit(t, a.socket, login{})
				p.authenticate()
				p.ret(authErr)
				p.logged(c.says)
			})
		})
	}
	t.Run("an end without a verdict", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, func(*session) {}, func(s *session) {
				s.asksForCode(1)
				s.hearsCode(1, "123456")
			})
			p := b.sit(t, a.socket, login{})
			p.authenticate()
			p.ret(authErr)
			p.logged("without a verdict: gRPC status 0")
			p.authenticate()
			p.sees(pam.PromptEchoOn, "Code: ")
			p.types("123456")
			p.ret(authErr)
		})
	})
}

// TestUserChangedMidway is CVE-2024-9313: the factor was Alice's, so nobody else
// gets in with it.
func TestUserChangedMidway(t *testing.T) {
	for _, other := range []string{"root", "alicea", "alic", "Alice"} {
		for name, d := range map[string]*loginv1.Directive{"allow": allow(), "skip": skip()} {
			t.Run(name+" "+other, func(t *testing.T) {
				eachBuild(t, func(t *testing.T, b build) {
					a := startAgent(t, codeThen(d))
					p := b.sit(t, a.socket, login{options: "skip=success"})
					p.authenticate()
					p.sees(pam.PromptEchoOn, "Code: ")
					p.say("item %d %s", pam.User, toHex(other))
					p.types("123456")
					p.ret(authErr)
					p.logged("the user's name changed")
					p.account()
					p.ret(permDenied)
				})
			})
		}
	}
}

// TestHostileNames is GHSA-x259-23ph-65m5: a name reaches the agent byte for
// byte, or nobody. (NUL cannot be in a name here: PAM's are C strings.)
func TestHostileNames(t *testing.T) {
	for name, user := range map[string]string{
		"colon":         "alice:0:0",
		"newline":       "alice\nroot",
		"CR":            "alice\rroot",
		"percent":       "%s%n%d%",
		"slash":         "../../etc/passwd",
		"non-UTF-8":     "\xff\xfe\x80alice",
		"UTF-8":         "Zoë",
		"escape":        "\x1b[2J\a",
		"dash":          "-rf",
		"space":         " alice ",
		"realm":         `CORP\alice@corp`,
		"300 bytes":     strings.Repeat("a", 300),
		"1024 bytes":    strings.Repeat("\n", 1024),
		"like a switch": "socket=/x",
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, func(s *session) {
					if string(s.begin.User) != user {
						s.fail("the user is %q, want %q", s.begin.User, user)
					}
					s.says(deny())
				})
				p := b.sit(t, a.socket, login{user: user, options: "debug"})
				p.authenticate()
				p.ret(authErr)
			})
		})
	}
	t.Run("1025 bytes", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t)
			p := b.sit(t, a.socket, login{user: strings.Repeat("a", 1025)})
			p.authenticate()
			p.ret(authErr)
			p.logged("more than 1024 bytes")
			p.account()
			p.ret(permDenied)
		})
	})
	t.Run("none", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t)
			p := b.sit(t, a.socket, login{unnamed: true})
			p.authenticate()
			p.sees(pam.PromptEchoOn, "login:")
			p.types("")
			p.ret(userUnknown)
			p.account()
			p.ret(userUnknown)

			p = b.sit(t, a.socket, login{unnamed: true})
			p.authenticate()
			p.sees(pam.PromptEchoOn, "login:")
			p.say("fail %d", convErr)
			p.ret(authErr)
		})
	})
}

// TestNameIsNotLogged: what is typed as a name may be a password.
func TestNameIsNotLogged(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, says(deny()), says(verdict(0, "", "")))
		p := b.sit(t, a.socket, login{user: "correct-horse", items: map[pam.Item]string{pam.Ruser: "battery"}})
		p.typed = []string{"correct-horse", "battery"} // leave looks for them
		p.authenticate()
		p.ret(authErr)
		p.authenticate()
		p.ret(authErr)
		p.say("item %d %s", pam.User, toHex(strings.Repeat("correct-horse", 80)))
		p.authenticate()
		p.ret(authErr)
	})
}

func TestOverlongItems(t *testing.T) {
	long := strings.Repeat("x", 400)
	for name, c := range map[string]struct {
		login login
		says  string
	}{
		"PAM_RHOST":   {login{items: map[pam.Item]string{pam.Rhost: long[:256]}}, "PAM_RHOST has more than 255 bytes"},
		"PAM_RUSER":   {login{items: map[pam.Item]string{pam.Ruser: long[:321]}}, "PAM_RUSER has more than 320 bytes"},
		"PAM_SERVICE": {login{service: long[:129]}, "PAM_SERVICE has more than 128 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t)
				p := b.sit(t, a.socket, c.login)
				p.authenticate()
				p.ret(authErr)
				p.logged(c.says)
			})
		})
	}
	t.Run("terminal and language are left out", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, func(s *session) {
				if len(s.begin.Session) != 0 || len(s.begin.Locale) != 0 {
					s.fail("session %q, locale %q", s.begin.Session, s.begin.Locale)
				}
				if len(s.begin.RemoteHost) != 255 || len(s.begin.Caller) != 320 {
					s.fail("host of %d bytes, caller of %d", len(s.begin.RemoteHost), len(s.begin.Caller))
				}
				s.says(allow())
			})
			p := b.sit(t, a.socket, login{
				items: map[pam.Item]string{pam.Tty: "/dev/" + long, pam.Rhost: long[:255], pam.Ruser: long[:320]},
				env:   []string{"LANG=" + long},
			})
			p.authenticate()
			p.ret(success)
		})
	})
	t.Run("the program's own language", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, func(s *session) {
				if string(s.begin.Locale) != "fr_FR.UTF-8" {
					s.fail("locale %q", s.begin.Locale)
				}
				s.says(allow())
			})
			p := b.sit(t, a.socket, login{environ: []string{"LANG=fr_FR.UTF-8"}})
			p.authenticate()
			p.ret(success)
		})
	})
}

// TestEmptyAndNullReplies is CVE-2021-31924, and a cancelled prompt that falls
// through the stack.
func TestEmptyAndNullReplies(t *testing.T) {
	for name, c := range map[string]struct{ reply, says string }{
		"empty":              {"reply -", "left empty"},
		"no text":            {"null", "no reply"},
		"no response":        {"none", "no reply"},
		"an error":           {fmt.Sprintf("fail %d", convErr), "the prompt was not answered"},
		"a program of event": {fmt.Sprintf("fail %d", convAgain), "the prompt was not answered"},
		"too long":           {"reply " + toHex(strings.Repeat("1", 129)), "more than 128 bytes"},
		"far too long":       {"reply " + toHex(strings.Repeat("1", 10_000)), "more than 128 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, func(s *session) {
					s.asksForCode(1)
					s.hearsNoMore()
				})
				p := b.sit(t, a.socket, login{stack: "auth required MODULE\nauth optional pam_permit.so\naccount required MODULE\n"})
				p.authenticate()
				p.sees(pam.PromptEchoOn, "Code: ")
				p.say("%s", c.reply)
				p.ret(authErr)
				p.logged(c.says)
				p.account()
				p.ret(permDenied)
			})
		})
	}
	t.Run("empty where that is an answer", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, func(s *session) {
				d := prompt(7, loginv1.Prompt_ECHO_VISIBLE, "Enter: ")
				d.GetPrompt().EmptyAllowed = true
				s.says(d)
				s.hearsCode(7, "")
				s.says(allow())
			})
			p := b.sit(t, a.socket, login{})
			p.authenticate()
			p.sees(pam.PromptEchoOn, "Enter: ")
			p.types("")
			p.ret(success)
		})
	})
	t.Run("128 bytes", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			long := strings.Repeat("1", 127) + "\xff"
			a := startAgent(t, func(s *session) {
				s.asksForCode(1)
				s.hearsCode(1, long)
				s.says(allow())
			})
			p := b.sit(t, a.socket, login{})
			p.authenticate()
			p.sees(pam.PromptEchoOn, "Code: ")
			p.types(long)
			p.ret(success)
		})
	})
}

// TestPasswordAsCode: sshd's password method answers every prompt with the
// password. The agent learns that it was, not what it was.
func TestPasswordAsCode(t *testing.T) {
	// pam_exec asks for the password and leaves it in PAM_AUTHTOK.
	const stack = "auth optional pam_exec.so expose_authtok quiet /bin/true\nauth required MODULE\n"
	long := strings.Repeat("correct horse ", 15)
	for name, c := range map[string]struct {
		password, answer string
		same             bool
	}{
		"the same":              {"123456", "123456", true},
		"the same, and long":    {long, long, true},
		"another":               {"hunter22", "123456", false},
		"longer":                {"123456", "1234567", false},
		"shorter":               {"1234567", "123456", false},
		"one letter":            {"123457", "123456", false},
		"no password":           {"", "123456", false},
		"both empty are no one": {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, func(s *session) {
					d := prompt(1, loginv1.Prompt_ECHO_VISIBLE, "Code: ")
					d.GetPrompt().EmptyAllowed = true
					s.says(d)
					want := c.answer
					if c.same {
						want = ""
					}
					if got := s.hearsAnswer(1); got.IsPassword != c.same || string(got.Text) != want {
						s.fail("password %v, text %q", got.IsPassword, got.Text)
					}
					s.says(deny())
				})
				p := b.sit(t, a.socket, login{stack: stack, options: "debug"})
				p.authenticate()
				p.sees(pam.PromptEchoOff, "Password: ")
				p.types(c.password)
				p.sees(pam.PromptEchoOn, "Code: ")
				p.types(c.answer)
				p.ret(authErr)
			})
		})
	}
}

func TestAccount(t *testing.T) {
	stage := func(want loginv1.Stage, user string, d *loginv1.Directive) script {
		return func(s *session) {
			if s.begin.Stage != want || string(s.begin.User) != user {
				s.fail("stage %v for %q, want %v for %q", s.begin.Stage, s.begin.User, want, user)
			}
			s.says(d)
		}
	}
	const auth, account = loginv1.Stage_STAGE_AUTHENTICATE, loginv1.Stage_STAGE_ACCOUNT
	say := func(d loginv1.Verdict_Decision) *loginv1.Directive { return verdict(d, "reason", "") }

	t.Run("alone: the agent decides", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, stage(account, "alice", skip()), stage(account, "alice", deny()),
				stage(account, "alice", say(loginv1.Verdict_DECISION_ALLOW)),
				stage(account, "alice", say(0)), stage(account, "alice", say(9)),
				func(s *session) { s.asksForCode(1); s.hearsNoMore() })
			p := b.sit(t, a.socket, login{options: "skip=success"})
			p.account()
			p.ret(success)
			p.account()
			p.ret(permDenied)
			p.logged("AuthenticationMethods publickey,keyboard-interactive")
			p.account() // ALLOW is no answer to this question
			p.ret(permDenied)
			p.account()
			p.ret(permDenied)
			p.account()
			p.ret(permDenied)
			p.account()
			p.ret(permDenied)
			p.logged("asks in the account stage")
		})
	})
	t.Run("alone: no agent", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			p := b.sit(t, filepath.Join(openDir(t), "none"), login{})
			p.account()
			p.ret(authinfoUnavail)
		})
	})
	t.Run("a denial stays one", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, stage(auth, "alice", deny()))
			p := b.sit(t, a.socket, login{options: "skip=success"})
			p.authenticate()
			p.ret(authErr)
			p.account()
			p.ret(permDenied)
			// also when the user changes
			p.say("item %d %s", pam.User, toHex("bob"))
			p.account()
			p.ret(permDenied)
		})
	})
	t.Run("a later login counts, not an earlier one", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, stage(auth, "alice", allow()), stage(auth, "alice", deny()), stage(auth, "alice", allow()))
			p := b.sit(t, a.socket, login{})
			for _, want := range []struct{ auth, account int }{{success, success}, {authErr, permDenied}, {success, success}} {
				p.authenticate()
				p.ret(want.auth)
				p.account()
				p.ret(want.account)
			}
		})
	})
	t.Run("another user has proven nothing", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, stage(auth, "alice", allow()), stage(account, "bob", deny()))
			p := b.sit(t, a.socket, login{})
			p.authenticate()
			p.ret(success)
			p.say("item %d %s", pam.User, toHex("bob"))
			p.account()
			p.ret(permDenied)
			p.say("item %d %s", pam.User, toHex("alice"))
			p.account()
			p.ret(success)
		})
	})
	t.Run("broken agent", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startAgent(t, func(s *session) { s.err = status.Error(codes.Unavailable, "") })
			p := b.sit(t, a.socket, login{})
			p.account()
			p.ret(permDenied)
		})
	})
}

// TestSilent: PAM_SILENT, which sudo always passes, leaves out only what the
// person can do without.
func TestSilent(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		play := func(s *session) {
			s.says(notice(loginv1.Notice_KIND_INFO, "Info"))
			s.says(notice(0, "Info too"))
			s.says(notice(loginv1.Notice_KIND_ERROR, "Wrong code."))
			s.says(notice(loginv1.Notice_KIND_QR, "##\n##\n"))
			s.says(waiting(42, "Pixel", time.Second))
			s.asksForCode(1)
			s.hearsCode(1, "123456")
			s.says(verdict(loginv1.Verdict_DECISION_DENY, "wrong_code", "Sorry."))
		}
		a := startAgent(t, play, play)
		p := b.sit(t, a.socket, login{})
		for _, silent := range []bool{false, true} {
			if silent {
				p.authenticate(pam.Silent)
			} else {
				p.authenticate()
				p.sees(pam.TextInfo, "Info")
				p.sees(pam.TextInfo, "Info too")
			}
			p.sees(pam.ErrorMsg, "Wrong code.")
			p.sees(pam.TextInfo, "##")
			p.sees(pam.TextInfo, "##")
			p.sees(pam.TextInfo, "Enter 42 on your phone (Pixel).")
			p.sees(pam.PromptEchoOn, "Code: ")
			p.types("123456")
			if !silent {
				p.sees(pam.ErrorMsg, "Sorry.")
			}
			p.ret(authErr)
		}
	})
}

func TestShownText(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, func(s *session) {
			s.says(notice(loginv1.Notice_KIND_INFO, "one\n\nthree\n"))
			s.says(notice(loginv1.Notice_KIND_INFO, ""))
			s.says(notice(loginv1.Notice_KIND_INFO, "\x1b[31mred\x07\r\t\x7f\u0085%s%n"))
			s.says(notice(loginv1.Notice_KIND_INFO, "ë€😀█ \xff\xc0\xaf\xed\xa0\x80\xf5 \xe2\x82"))
			s.says(notice(loginv1.Notice_KIND_INFO, "a\u202eb\u2066c\u2028d"))
			s.says(notice(loginv1.Notice_KIND_INFO, strings.Repeat("█", 2048)))
			s.says(waiting(7, "", 0))
			s.says(waiting(123456, "\x1b\n", 0))
			s.says(&loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: 1}}})
			s.says(prompt(1, 0, "two\nlines\x1b: "))
			s.hearsCode(1, "123456")
			s.says(prompt(2, 9, strings.Repeat("y", 512)))
			s.hearsCode(2, "123456")
			s.says(allow())
		})
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		for _, text := range []string{
			"one", "", "three",
			"?[31mred?????%s%n",
			"ë€😀█ ??????? ??",
			"a?b?c?d",
			strings.Repeat("█", 2048),
			"Enter 07 on your phone.",
			"Enter 123456 on your phone (?",
			").",
		} {
			p.sees(pam.TextInfo, text)
		}
		// Unspecified and unknown echo hide the answer.
		p.sees(pam.PromptEchoOff, "two\nlines?: ")
		p.types("123456")
		p.sees(pam.PromptEchoOff, strings.Repeat("y", 512))
		p.types("123456")
		p.ret(success)
	})
}

// TestNoticeThatCannotBeShown: some lockers fail for whatever is no prompt.
func TestNoticeThatCannotBeShown(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, func(s *session) {
			s.says(notice(loginv1.Notice_KIND_INFO, "Hello"))
			codeThen(allow())(s)
		})
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		p.next("msg")
		p.say("fail %d", convErr)
		p.sees(pam.PromptEchoOn, "Code: ")
		p.types("123456")
		p.ret(success)
	})
}

// TestStackKeepsNoShownSecret: during enrolment the prompts and notices hold the
// new key and the recovery codes. sshd and sudo live on after the login.
func TestStackKeepsNoShownSecret(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		const key, code = "KEYGEZDGNBVGY3TQOJQ", "RECOVERYABCDEFGHJK"
		// libc's own buffer for formatting may keep the beginning of a text.
		padding := strings.Repeat("x", 300)
		a := startAgent(t, func(s *session) {
			s.says(notice(loginv1.Notice_KIND_QR, padding+"\n"+padding+code))
			s.says(prompt(1, loginv1.Prompt_ECHO_VISIBLE, padding+key))
			s.hearsAnswer(1)
			s.says(allow())
		})
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		p.sees(pam.TextInfo, padding)
		p.sees(pam.TextInfo, padding+code)
		p.sees(pam.PromptEchoOn, padding+key)
		if stack := p.stack(); !strings.Contains(stack, key) {
			t.Fatal("the key is not found on the stack even while it is shown: the search is blind")
		}
		p.types("123456")
		p.ret(success)
		stack := p.stack()
		for _, secret := range []string{key, code} {
			if strings.Contains(stack, secret) {
				t.Errorf("%s... is still on the stack", secret[:8])
			}
		}
	})
}

func TestScenarios(t *testing.T) {
	const (
		login_  = loginv1.Scenario_SCENARIO_LOGIN
		unlock  = loginv1.Scenario_SCENARIO_UNLOCK
		elevate = loginv1.Scenario_SCENARIO_ELEVATE
		remote  = loginv1.Scenario_SCENARIO_REMOTE
	)
	for _, c := range []struct {
		service, rhost, tty string
		want                loginv1.Scenario
		live, qr            bool
	}{
		{"sshd", "192.0.2.7", "ssh", remote, false, true},
		{"sshd", "", "ssh", remote, false, true},
		{"xrdp-sesman", "", "xrdp-sesman", remote, true, false},
		{"cockpit", "", "", remote, true, false},
		{"cockpit", "192.0.2.7", "", remote, true, false},
		{"sudo", "", "/dev/pts/0", elevate, true, true},
		{"sudo-i", "", "/dev/pts/0", elevate, true, true},
		{"sudo", "192.0.2.7", "", elevate, true, false},
		{"su", "", "/dev/pts/0", elevate, true, true},
		{"su-l", "", "/dev/pts/0", elevate, true, true},
		{"polkit-1", "", "", elevate, true, false},
		{"login", "", "/dev/tty1", login_, true, true},
		{"login", "192.0.2.7", "/dev/pts/1", remote, true, true},
		{"gdm-password", "", "/dev/tty1", login_, true, false},
		{"lightdm", "", ":0", login_, true, false},
		{"lightdm", "192.0.2.7", ":1", remote, true, false},
		{"sddm", "", "/dev/tty2", login_, true, false},
		{"i3lock", "", ":0", unlock, true, false},
		{"swaylock", "", "/dev/tty1", unlock, true, false},
		{"vlock", "", "/dev/tty1", unlock, true, true},
		{"xscreensaver", "", ":0", unlock, true, false},
		{"something", "", "", login_, true, false},
		{"something", "host.example", "/dev/pts/9", remote, true, true},
		{"something", "", "tty/dev/", login_, true, false},
	} {
		t.Run(c.service+" "+c.rhost, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t, func(s *session) {
				caps := s.begin.Capabilities
				if s.begin.Scenario != c.want || caps.GetLiveNotices() != c.live || caps.GetQr() != c.qr {
					s.fail("%v %v, want %v live %v qr %v", s.begin.Scenario, caps, c.want, c.live, c.qr)
				}
				if caps.GetCancelPrompt() || caps.GetChoices() {
					s.fail("announces what it cannot do: %v", caps)
				}
				s.says(allow())
			})
			items := map[pam.Item]string{}
			if c.rhost != "" {
				items[pam.Rhost] = c.rhost
			}
			if c.tty != "" {
				items[pam.Tty] = c.tty
			}
			p := shipped.sit(t, a.socket, login{service: c.service, items: items})
			p.authenticate()
			p.ret(success)
		})
	}
}

// TestBadOptions: a configuration that is not understood lets nobody in.
func TestBadOptions(t *testing.T) {
	for _, option := range []string{
		"timeout=", "timeout=0", "timeout=61", "timeout=99999999999999999999", "timeout=-1", "timeout=1s", "timeout=+5", "timeout",
		"socket=", "socket=login.sock", "socket=/" + strings.Repeat("x", 107), "socket",
		"skip=", "skip=allow", "skip", "skip=successful", "debug=1", "Debug", "nullok", "use_first_pass", "",
	} {
		if option == "" {
			option = "[ ]" // how a PAM file spells an argument with a space
		}
		t.Run(option, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t)
				p := b.sit(t, a.socket, login{options: "skip=success " + option})
				p.authenticate()
				p.ret(serviceErr)
				p.logged("is unknown or malformed")
				p.account()
				p.ret(serviceErr)
			})
		})
	}
	for _, option := range []string{"timeout=1", "timeout=60", "timeout=007", "skip=ignore", "debug"} {
		t.Run(option, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				a := startAgent(t, says(allow()))
				p := b.sit(t, a.socket, login{options: option})
				p.authenticate()
				p.ret(success)
			})
		})
	}
}

// TestInterrupted: Ctrl-C, which sudo holds back during PAM, ends the wait and
// does not fall through the stack.
func TestInterrupted(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{
		"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGHUP": syscall.SIGHUP, "SIGQUIT": syscall.SIGQUIT,
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				asked := make(chan struct{})
				a := startAgent(t, func(s *session) {
					close(asked)
					s.hearsNoMore()
				})
				p := b.sit(t, a.socket, login{options: "timeout=60"})
				p.say("block")
				p.authenticate()
				<-asked
				p.signal(sig)
				p.ret(authErr)
				p.logged("interrupted by a signal")
				p.account()
				p.ret(permDenied)
			})
		})
	}
}

// The agent's time in tests where a person takes more than that: a loaded machine
// must not pass it between two words.
const agentsTime, personsTime = "timeout=5", 5200 * time.Millisecond

// TestPersonsTimeIsTheirs: timeout= bounds the agent only.
func TestPersonsTimeIsTheirs(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, codeThen(allow()))
		p := b.sit(t, a.socket, login{options: agentsTime})
		p.authenticate()
		p.sees(pam.PromptEchoOn, "Code: ")
		<-time.After(personsTime) // somebody looks for their phone
		p.types("123456")
		p.ret(success)
	})
}

// TestApprovalIsWaitedFor: a pending approval has its own time, on top.
func TestApprovalIsWaitedFor(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, func(s *session) {
			s.says(waiting(42, "Pixel", 20*time.Second))
			s.says(notice(loginv1.Notice_KIND_INFO, "Still waiting"))
			<-time.After(personsTime) // somebody looks at their phone
			s.says(allow())
		})
		p := b.sit(t, a.socket, login{options: agentsTime})
		p.authenticate()
		p.sees(pam.TextInfo, "Enter 42 on your phone (Pixel).")
		p.sees(pam.TextInfo, "Still waiting")
		p.ret(success)
	})
}

// TestApprovedWhileAsked: the approval on the phone comes while the prompt for
// the code is still open; whatever is typed then, the verdict stands.
func TestApprovedWhileAsked(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		approve := func(d *loginv1.Directive) script {
			return func(s *session) {
				s.asksForCode(1)
				s.says(&loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: 1}}})
				s.says(d)
			}
		}
		a := startAgent(t, approve(allow()), approve(verdict(loginv1.Verdict_DECISION_DENY, "push_denied", "Denied on the phone.")))
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		p.sees(pam.PromptEchoOn, "Code: ")
		p.types("123456")
		p.ret(success)
		p.authenticate()
		p.sees(pam.PromptEchoOn, "Code: ")
		p.types("123456")
		p.sees(pam.ErrorMsg, "Denied on the phone.")
		p.ret(authErr)
	})
}

// TestEndlessAgent: an agent that never comes to a verdict does not hold a login
// for ever.
func TestEndlessAgent(t *testing.T) {
	endless := func(d *loginv1.Directive) script {
		return func(s *session) {
			for s.stream.Send(d) == nil {
			}
		}
	}
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, endless(waiting(1, "", 0)), endless(notice(loginv1.Notice_KIND_INFO, strings.Repeat("x", 6000))))
		p := b.sit(t, a.socket, login{})
		p.authenticate()
		for range 256 {
			p.sees(pam.TextInfo, "Enter 01 on your phone.")
		}
		p.ret(authErr)
		p.logged("the agent sent more than 256 directives")
		p.authenticate(pam.Silent)
		p.ret(authErr)
		p.logged("the agent sent more than 1048576 bytes")
	})
}

// TestInducedFailOpen: what surrounds the login program decides nothing.
func TestInducedFailOpen(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		a := startAgent(t, codeThen(allow()), codeThen(deny()))
		p := b.sit(t, a.socket, login{environ: []string{
			"http_proxy=http://192.0.2.1:1", "https_proxy=http://192.0.2.1:1", "all_proxy=socks5://192.0.2.1:1",
			"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=/nonexistent", "SALLYPORT_SOCKET=/nonexistent", "HOME=/nonexistent",
		}})
		for _, want := range []int{success, authErr} {
			p.authenticate()
			p.sees(pam.PromptEchoOn, "Code: ")
			p.types("123456")
			p.ret(want)
		}
	})
}

// TestGuestInTheProgram: inside sshd and sudo the module leaves no thread, no
// child, no signal handler, and no descriptor that a child would inherit.
func TestGuestInTheProgram(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		const closeOnExec = 0o2000000
		signals := func(pid int) string {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for line := range strings.Lines(string(text)) {
				for _, name := range []string{"SigBlk:", "SigIgn:", "SigCgt:", "Threads:"} {
					if strings.HasPrefix(line, name) {
						found = append(found, strings.Join(strings.Fields(line), " "))
					}
				}
			}
			return strings.Join(found, ", ")
		}
		descriptors := func(pid int) map[string]string {
			dir := fmt.Sprintf("/proc/%d/fd", pid)
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]string{}
			for _, e := range entries {
				found[e.Name()], _ = os.Readlink(filepath.Join(dir, e.Name()))
			}
			return found
		}

		a := startAgent(t, codeThen(allow()))
		p := b.sit(t, a.socket, login{})
		pid := p.cmd.Process.Pid
		wantSignals, before := signals(pid), descriptors(pid)
		p.authenticate()
		p.sees(pam.PromptEchoOn, "Code: ")
		if got := signals(pid); got != wantSignals {
			t.Errorf("during the login: %s; before: %s", got, wantSignals)
		}
		during := descriptors(pid)
		if len(during) != len(before)+1 {
			t.Errorf("descriptors during the login: %v; before: %v", during, before)
		}
		for fd, what := range during {
			if _, old := before[fd]; old {
				continue
			}
			info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
			if err != nil {
				t.Fatal(err)
			}
			var pos, flags int
			if _, err := fmt.Sscanf(string(info), "pos: %d\nflags: %o", &pos, &flags); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(what, "socket:") || flags&closeOnExec == 0 || flags&syscall.O_NONBLOCK == 0 {
				t.Errorf("descriptor %s is %s with flags %o", fd, what, flags)
			}
		}
		p.types("123456")
		p.ret(success)
		if got := descriptors(pid); len(got) != len(before) {
			t.Errorf("descriptors after the login: %v; before: %v", got, before)
		}
		if got := signals(pid); got != wantSignals {
			t.Errorf("after the login: %s; before: %s", got, wantSignals)
		}
	})
}
